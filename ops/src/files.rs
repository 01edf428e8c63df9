//! Files that are there whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use sha2::{Digest, Sha256};

use crate::disk::is_full;

/// What the name of a file ends in until it is whole.
const UNFINISHED: &str = ".part";
const BUFFER: usize = 1 << 18;

/// A file that is being written, under another name until it is whole. Dropped before that, it goes.
pub(crate) struct Writer {
    file: Option<BufWriter<File>>,
    path: PathBuf,
    unfinished: PathBuf,
    hash: Sha256,
    bytes: u64,
    /// Whether it has its name: what is called unfinished then is somebody else's.
    named: bool,
}

impl Writer {
    /// Begins a file; only its owner may read it.
    ///
    /// # Errors
    /// When it can't be written, or another command is writing it.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let unfinished = unfinished(path);
        let opened = open_alone(&unfinished);
        let file = opened.map_err(|error| cannot_write(&unfinished, &error))?;
        Ok(Self {
            file: Some(BufWriter::with_capacity(BUFFER, file)),
            path: path.to_owned(),
            unfinished,
            hash: Sha256::new(),
            bytes: 0,
            named: false,
        })
    }

    /// Writes on.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let file = self
            .file
            .as_mut()
            .ok_or_else(|| anyhow!("the file was closed"))?;
        file.write_all(bytes)
            .map_err(|error| cannot_write(&self.unfinished, &error))?;
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// The SHA-256 of what was written so far, hexadecimal.
    pub(crate) fn sha256(&self) -> String {
        hex(&self.hash.clone().finalize())
    }

    /// Gives the file its name, durably; its length in bytes and its SHA-256.
    pub(crate) fn finish(mut self) -> Result<(u64, String)> {
        let put = |file: BufWriter<File>| -> io::Result<()> {
            file.into_inner()
                .map_err(io::IntoInnerError::into_error)?
                .sync_all()?;
            fs::rename(&self.unfinished, &self.path)?;
            File::open(folder(&self.path))?.sync_all()
        };
        if let Some(file) = self.file.take() {
            put(file).map_err(|error| cannot_write(&self.path, &error))?;
        }
        self.named = true;
        Ok((self.bytes, self.sha256()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.named {
            let _ = fs::remove_file(&self.unfinished);
        }
    }
}

/// Opens a file that nobody else writes, empty and for its owner alone, whatever lies there from before.
fn open_alone(path: &Path) -> io::Result<File> {
    let taken = || io::Error::other("another command is writing it");
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(taken()),
        // Some network file systems know no locks.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // Whoever had it may have given it its name meanwhile; and a link leads elsewhere.
    let (opened, there) = (file.metadata()?, fs::symlink_metadata(path)?);
    if (opened.dev(), opened.ino()) != (there.dev(), there.ino()) {
        return Err(taken());
    }
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.set_len(0)?;
    Ok(file)
}

/// What a file is called until it is whole.
pub(crate) fn unfinished(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(UNFINISHED);
    name.into()
}

/// Where a file lies.
fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Why a file can't be written, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{} can't be written: {reason}; {advice}", path.display())]
pub(crate) struct CannotWrite {
    path: PathBuf,
    reason: String,
    advice: &'static str,
    disk: bool,
}

impl CannotWrite {
    /// Whether no other file can be written there either.
    pub(crate) fn is_of_the_disk(&self) -> bool {
        self.disk
    }
}

/// Why a file can't be written, and what to do.
pub(crate) fn cannot_write(path: &Path, error: &io::Error) -> anyhow::Error {
    let full = is_full(error);
    let reason = CannotWrite {
        path: path.to_owned(),
        reason: error.to_string(),
        advice: match full {
            true => "free some room there",
            false => "make it writable or give another folder",
        },
        disk: full || error.kind() == io::ErrorKind::ReadOnlyFilesystem,
    };
    reason.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_when_it_is_whole_and_not_before() {
        let folder = tempfile::tempdir().expect("folder");
        let names = || {
            let entries = fs::read_dir(folder.path()).expect("folder");
            let mut names: Vec<_> = entries.map(|e| e.expect("entry").file_name()).collect();
            names.sort();
            names
        };
        let one = folder.path().join("one");
        let mut broken_off = Writer::create(&one).expect("created");
        broken_off.write(b"half").expect("written");
        assert_eq!(names(), ["one.part"]);
        drop(broken_off);
        assert!(names().is_empty());
        let mut whole = Writer::create(&one).expect("created");
        whole.write(b"ab").expect("written");
        whole.write(b"c").expect("written");
        let (bytes, sha256) = whole.finish().expect("finished");
        assert_eq!((names(), bytes), (vec!["one".into()], 3));
        assert!(sha256.starts_with("ba7816bf"), "{sha256}");
    }

    #[test]
    fn a_file_has_one_writer_at_a_time_and_what_one_left_behind_is_no_hindrance() {
        let folder = tempfile::tempdir().expect("folder");
        let (one, part) = (folder.path().join("one"), folder.path().join("one.part"));
        fs::write(&part, "left behind by a crash").expect("written");
        let mut first = Writer::create(&one).expect("created");
        let mode = fs::metadata(&part).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = Writer::create(&one).err().expect("refused");
        assert!(second.to_string().contains("another command"), "{second}");
        first.write(b"whole").expect("written");
        first.finish().expect("finished");
        assert_eq!(fs::read(&one).expect("there"), b"whole");
        std::os::unix::fs::symlink(&one, &part).expect("linked");
        assert!(Writer::create(&one).is_err(), "a link leads elsewhere");
        assert_eq!(fs::read(&one).expect("there"), b"whole");
    }

    #[test]
    fn a_full_disk_is_told_from_a_file_that_can_not_be_written() {
        let of_the_disk = |kind: io::ErrorKind| {
            let error = cannot_write(Path::new("all/alice.jsonl"), &kind.into());
            let error = error.downcast::<CannotWrite>().expect("of files");
            error.is_of_the_disk()
        };
        assert!(of_the_disk(io::ErrorKind::StorageFull));
        assert!(of_the_disk(io::ErrorKind::QuotaExceeded));
        assert!(!of_the_disk(io::ErrorKind::InvalidFilename));
    }

    #[test]
    fn a_file_may_be_named_without_its_folder() {
        assert_eq!(folder(Path::new("alice.jsonl")), Path::new("."));
        assert_eq!(folder(Path::new("all/alice.jsonl")), Path::new("all"));
    }
}
