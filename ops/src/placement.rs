//! Where a home's cluster lies: in the home, or, when `nobody` has to run it and can't get there,
//! in a folder of the system that the home names by a symbolic link.

use std::path::PathBuf;

/// The system's folder for what can't lie in a home, if this process may write there.
pub(crate) fn system_base() -> Option<PathBuf> {
    let base = PathBuf::from("/var/lib/companion");
    std::fs::create_dir_all(&base).ok()?;
    tempfile::tempfile_in(&base).ok()?;
    Some(base)
}
