//! The files that servers write their messages to.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A log that has grown beyond this is begun anew at the next start.
const MAX_LOG_BYTES: u64 = 10_000_000;

/// Opens a server's log for its next run.
pub(crate) fn open_log(path: &Path) -> std::io::Result<File> {
    let log = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    if log.metadata()?.len() > MAX_LOG_BYTES {
        log.set_len(0)?;
    }
    Ok(log)
}

/// What a log says from an offset on; as much as can be read.
pub(crate) fn read_from(path: &Path, offset: u64) -> String {
    let mut bytes = Vec::new();
    if let Ok(mut file) = File::open(path)
        && file.seek(SeekFrom::Start(offset)).is_ok()
    {
        // What can be read is enough.
        let _ = file.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The length of a log now.
pub(crate) fn length(path: &Path) -> u64 {
    path.metadata().map_or(0, |found| found.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_has_grown_too_long_is_begun_anew() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("log");
        std::fs::write(&path, vec![b'x'; 10_000_001]).expect("written");
        assert_eq!(
            open_log(&path)
                .expect("opened")
                .metadata()
                .expect("found")
                .len(),
            0
        );
    }

    #[test]
    fn only_what_was_said_since_is_read() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("log");
        std::fs::write(&path, "before\n").expect("written");
        let before = length(&path);
        std::fs::write(&path, "before\nafter\n").expect("written");
        assert_eq!(read_from(&path, before), "after\n");
        assert_eq!(read_from(&folder.path().join("none"), 0), "");
    }
}
