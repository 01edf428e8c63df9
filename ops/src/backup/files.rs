//! The files of a backup: the lock on their folder, what was left behind in it, and reading them with their
//! checksums.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use sha2::{Digest, Sha256};

use super::manifest;
use crate::files::{cannot_write, hex, unfinished};

const BUFFER: usize = 1 << 18;

/// The right to write into a folder. The system takes it back when the process ends, whichever way.
pub(crate) struct Lock(#[expect(dead_code, reason = "held, not read")] File);

impl Lock {
    /// Takes it.
    pub(crate) fn take(folder: &Path) -> Result<Self> {
        let path = folder.join("lock");
        let file = File::options()
            .append(true)
            .create(true)
            .open(&path)
            .map_err(|error| cannot_write(&path, &error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => bail!(
                "another backup is being written to {}; wait for its end",
                folder.display()
            ),
            Err(TryLockError::Error(error)) => Err(cannot_write(&path, &error)),
        }
    }
}

/// The name of a piece of the log, from 1.
pub(crate) fn piece(number: usize) -> String {
    format!("log-{number:06}.copy")
}

/// Removes what a run that was killed left of the next piece and of the list of pieces; nothing else, whatever
/// else lies in the folder.
pub(crate) fn clear_away(folder: &Path, next: usize) -> Result<()> {
    for name in [piece(next), manifest::FILE.to_owned()] {
        let path = unfinished(&folder.join(name));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(cannot_write(&path, &error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// A file that is read from the beginning to the end, with its hash.
pub(crate) struct Reader {
    file: File,
    path: PathBuf,
    hash: Sha256,
    bytes: u64,
}

impl Reader {
    pub(crate) fn open(folder: &Path, name: &str) -> Result<Self> {
        let path = folder.join(name);
        let file = File::open(&path).map_err(|error| {
            anyhow!(
                "{} can't be read: {error}; take it from another copy of the backup",
                path.display()
            )
        })?;
        Ok(Self {
            file,
            path,
            hash: Sha256::new(),
            bytes: 0,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The next bytes; `None` at the end, where length and hash must be those that were noted.
    pub(crate) fn next(&mut self, bytes: u64, sha256: &str) -> Result<Option<Vec<u8>>> {
        let mut chunk = vec![0; BUFFER];
        let read = self
            .file
            .read(&mut chunk)
            .map_err(|error| anyhow!("{} can't be read: {error}", self.path.display()))?;
        chunk.truncate(read);
        self.hash.update(&chunk);
        self.bytes += read as u64;
        if read > 0 {
            return Ok(Some(chunk));
        }
        if self.bytes != bytes || hex(&self.hash.clone().finalize()) != sha256 {
            bail!(
                "{} is damaged: it is not what the backup wrote. Take it from another copy of the backup",
                self.path.display()
            );
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Writer;

    #[test]
    fn a_file_that_is_not_what_was_written_is_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("one");
        let mut writer = Writer::create(&path).expect("created");
        writer.write(b"abc").expect("written");
        let (_, sha256) = writer.finish().expect("finished");
        let mut reader = Reader::open(folder.path(), "one").expect("opens");
        assert_eq!(
            reader.next(3, &sha256).expect("reads"),
            Some(b"abc".to_vec())
        );
        assert_eq!(reader.next(3, &sha256).expect("is whole"), None);
        fs::write(path, b"abd").expect("damaged");
        let mut reader = Reader::open(folder.path(), "one").expect("opens");
        reader.next(3, &sha256).expect("reads");
        let error = reader.next(3, &sha256).expect_err("damaged").to_string();
        assert!(error.contains("one is damaged"), "{error}");
    }

    #[test]
    fn one_backup_at_a_time_is_written_to_a_folder() {
        let folder = tempfile::tempdir().expect("folder");
        let first = Lock::take(folder.path()).expect("free");
        assert!(Lock::take(folder.path()).is_err());
        drop(first);
        assert!(Lock::take(folder.path()).is_ok());
    }

    #[test]
    fn only_what_a_backup_left_unfinished_is_cleared_away() {
        let folder = tempfile::tempdir().expect("folder");
        let of = |name: &str| folder.path().join(name);
        for name in [
            "film.mkv.part",
            "log-000001.copy",
            "log-000002.copy.part",
            "backup.json.part",
        ] {
            fs::write(of(name), b"some").expect("written");
        }
        clear_away(folder.path(), 2).expect("cleared");
        assert!(of("film.mkv.part").exists() && of("log-000001.copy").exists());
        assert!(!of("log-000002.copy.part").exists() && !of("backup.json.part").exists());
        clear_away(folder.path(), 2).expect("nothing to clear");
    }
}
