//! What killed processes and deleted homes leave behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::placement::owner_file;
use super::postmaster::Postmaster;
use crate::process;

/// In a folder that several processes use, a younger draft may still be worked on.
pub(crate) const ABANDONED_AFTER: Duration = Duration::from_secs(600);

/// How long a cluster has to be unused to count as abandoned.
const UNUSED_FOR: Duration = Duration::from_secs(3600);

/// Deletes the drafts in a folder that are at least so old.
pub(crate) fn remove_partial(folder: &Path, age: Duration) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let draft = entry.file_name().to_string_lossy().contains(".partial-");
        if draft && is_older(&entry.path(), age) {
            delete(&entry.path());
        }
    }
}

fn is_older(path: &Path, age: Duration) -> bool {
    let changed = fs::symlink_metadata(path).and_then(|found| found.modified());
    changed.is_ok_and(|at| at.elapsed().is_ok_and(|elapsed| elapsed >= age))
}

/// Deletes the clusters of homes that were in a folder for temporary files and are gone, some time
/// after their last use. Others are kept: a home elsewhere may be on a disk that is not mounted now.
pub(crate) fn remove_orphans(clusters: &Path) {
    remove_partial(clusters, ABANDONED_AFTER);
    for data in orphans(clusters, &[std::env::temp_dir(), PathBuf::from("/tmp")]) {
        let runs = Postmaster::read(&data).is_some_and(|former| process::is_alive(former.pid));
        // A home may have been moved out of there; it tells so at its next start.
        if !runs && is_older(&data.join("global/pg_control"), UNUSED_FOR) {
            delete(&data);
            delete(&owner_file(&data));
        }
    }
}

fn orphans(clusters: &Path, temporary: &[PathBuf]) -> Vec<PathBuf> {
    let entries = fs::read_dir(clusters)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let is_orphan = |data: &PathBuf| {
        let Ok(home) = fs::read_to_string(owner_file(data)) else {
            return false;
        };
        let home = Path::new(&home);
        temporary.iter().any(|folder| home.starts_with(folder)) && !home.exists()
    };
    entries
        .filter(|data| data.is_dir())
        .filter(is_orphan)
        .collect()
}

/// What can't be deleted now is tried again another time.
fn delete(path: &Path) {
    let _ = fs::remove_dir_all(path).or_else(|_| fs::remove_file(path));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clusters_of_temporary_homes_that_are_gone_are_orphans() {
        let folder = tempfile::tempdir().expect("folder");
        let (clusters, kept) = (folder.path().join("clusters"), folder.path().join("kept"));
        fs::create_dir(&kept).expect("home");
        let homes = [
            ("a", folder.path().join("gone")),
            ("b", kept),
            ("c", PathBuf::from("/mnt/away/home")),
        ];
        for (name, home) in &homes {
            let data = clusters.join(name);
            fs::create_dir_all(&data).expect("cluster");
            fs::write(owner_file(&data), home.as_os_str().as_encoded_bytes()).expect("written");
        }
        fs::create_dir(clusters.join("d")).expect("cluster");
        assert_eq!(
            orphans(&clusters, &[folder.path().to_owned()]),
            [clusters.join("a")]
        );
    }

    #[test]
    fn a_draft_that_may_still_be_worked_on_is_kept() {
        let folder = tempfile::tempdir().expect("folder");
        fs::create_dir(folder.path().join("postgres.partial-1")).expect("draft");
        remove_partial(folder.path(), ABANDONED_AFTER);
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 1);
        remove_partial(folder.path(), Duration::ZERO);
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 0);
    }
}
