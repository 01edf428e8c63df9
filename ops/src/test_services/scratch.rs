//! A folder for the time of a command.

use std::fs::{self, DirBuilder, File, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use uuid::Uuid;

use crate::identity::Identity;

const PREFIX: &str = "companion-test-";

/// The folder of one run of the tests, deleted when it is dropped, or by a later run if this one is killed.
pub(crate) struct Scratch {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Held locked while the run lasts.
    _lock: File,
}

impl Scratch {
    /// Makes a new one.
    pub(crate) fn make() -> Result<Self> {
        let parent = std::env::temp_dir();
        let parent = match Identity::for_postgres()? {
            Some(identity) if !identity.can_enter(&parent) => PathBuf::from("/tmp"),
            _ => parent,
        };
        remove_leftovers(&parent);
        let path = parent.join(format!("{PREFIX}{}", Uuid::new_v4().simple()));
        let made = || -> std::io::Result<File> {
            DirBuilder::new().mode(0o700).create(&path)?;
            let lock = File::create(path.join("lock"))?;
            lock.lock()?;
            // Others may pass to the cluster, which is closed itself, but not look around.
            fs::set_permissions(&path, Permissions::from_mode(0o711))?;
            Ok(lock)
        };
        let lock = made().with_context(|| {
            format!(
                "{} can't be made; set TMPDIR to another folder",
                path.display()
            )
        })?;
        Ok(Self { path, _lock: lock })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // PostgreSQL may still be at its last file when it was told to stop early.
        for _ in 0..50 {
            if fs::remove_dir_all(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Deletes what runs left that were killed: nobody holds their lock.
fn remove_leftovers(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX)
            && entry
                .metadata()
                .is_ok_and(|found| found.uid() == rustix::process::geteuid().as_raw());
        if ours && File::open(entry.path().join("lock")).is_ok_and(|lock| lock.try_lock().is_ok()) {
            // What can't be deleted now is tried again by the next run.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
