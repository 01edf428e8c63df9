//! How much room is left.

use std::path::Path;

/// The bytes that this user may still write where `path` lies.
pub(crate) fn free_bytes(path: &Path) -> std::io::Result<u64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_room_of_a_folder_that_is_not_there_is_an_error() {
        assert!(super::free_bytes(std::path::Path::new("/")).is_ok());
        assert!(super::free_bytes(std::path::Path::new("/not/there")).is_err());
    }
}
