//! How much room is left, and what to say when something can't be written.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::anyhow;

/// The bytes that this user may still write where `path` lies.
pub(crate) fn free_bytes(path: &Path) -> std::io::Result<u64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Whether no room is left for what could not be written.
pub(crate) fn is_full(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded
    )
}

/// Why something can't be written, and what to do.
pub(crate) fn cannot_write(place: &Path, error: &std::io::Error) -> anyhow::Error {
    match error.kind() {
        _ if is_full(error) => full(place),
        ErrorKind::ReadOnlyFilesystem => unwritable(place, "it is mounted read-only"),
        ErrorKind::PermissionDenied => unwritable(place, "permission denied"),
        _ => unwritable(place, &error.to_string()),
    }
}

/// No room is left where `place` lies.
pub(crate) fn full(place: &Path) -> anyhow::Error {
    anyhow!(
        "the disk of {} is full; free at least 200 MB there, or set COMPANION_HOME to a folder on another disk",
        folder(place).display()
    )
}

/// Something can't be written for a reason.
pub(crate) fn unwritable(place: &Path, reason: &str) -> anyhow::Error {
    anyhow!(
        "{} can't be written ({reason}); make it writable, or set COMPANION_HOME to another folder",
        folder(place).display()
    )
}

/// The folder that the reader knows, not the name that only we use.
fn folder(place: &Path) -> &Path {
    place.parent().unwrap_or(place)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_room_of_a_folder_that_is_not_there_is_an_error() {
        assert!(super::free_bytes(std::path::Path::new("/")).is_ok());
        assert!(super::free_bytes(std::path::Path::new("/not/there")).is_err());
    }
}
