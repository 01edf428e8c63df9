//! Files that are there whole or not at all, and the lock on a folder of them.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use sha2::{Digest, Sha256};

/// What a file is called until it is whole.
const UNFINISHED: &str = ".part";
const BUFFER: usize = 1 << 18;

/// The right to write into a folder. The system takes it back when the process ends, whichever way.
pub(crate) struct Lock(#[expect(dead_code, reason = "held, not read")] File);

impl Lock {
    /// Takes it, and clears away what an interrupted run left.
    pub(crate) fn take(folder: &Path) -> Result<Self> {
        let path = folder.join("lock");
        let file = File::options()
            .append(true)
            .create(true)
            .open(&path)
            .map_err(|error| cannot_write(&path, &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!(
                "another backup is being written to {}; wait for its end",
                folder.display()
            ),
            Err(TryLockError::Error(error)) => return Err(cannot_write(&path, &error)),
        }
        for entry in fs::read_dir(folder)?.flatten() {
            if entry
                .path()
                .extension()
                .is_some_and(|end| end == &UNFINISHED[1..])
            {
                fs::remove_file(entry.path())
                    .map_err(|error| cannot_write(&entry.path(), &error))?;
            }
        }
        Ok(Self(file))
    }
}

/// A file that is being written, under another name until it is whole. Dropped before that, it goes.
pub(crate) struct Writer {
    file: Option<BufWriter<File>>,
    path: PathBuf,
    unfinished: PathBuf,
    hash: Sha256,
    bytes: u64,
}

impl Writer {
    /// Begins a file of a folder; only its owner may read it.
    pub(crate) fn create(folder: &Path, name: &str) -> Result<Self> {
        let unfinished = folder.join(format!("{name}{UNFINISHED}"));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options
            .open(&unfinished)
            .map_err(|error| cannot_write(&unfinished, &error))?;
        Ok(Self {
            file: Some(BufWriter::with_capacity(BUFFER, file)),
            path: folder.join(name),
            unfinished,
            hash: Sha256::new(),
            bytes: 0,
        })
    }

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
            let folder = self.path.parent().unwrap_or(Path::new("."));
            File::open(folder)?.sync_all()
        };
        if let Some(file) = self.file.take() {
            put(file).map_err(|error| cannot_write(&self.path, &error))?;
        }
        Ok((self.bytes, self.sha256()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // One that has its name is not found any more.
        let _ = fs::remove_file(&self.unfinished);
    }
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
        let file = File::open(&path)
            .map_err(|error| anyhow!("{} can't be read: {error}", path.display()))?;
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

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Why a backup can't be written, and what to do.
pub(crate) fn cannot_write(path: &Path, error: &io::Error) -> anyhow::Error {
    let advice = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some room there",
        _ => "make it writable or give another folder",
    };
    anyhow!("{} can't be written: {error}; {advice}", path.display())
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
        let mut broken_off = Writer::create(folder.path(), "one").expect("created");
        broken_off.write(b"half").expect("written");
        assert_eq!(names(), ["one.part"]);
        drop(broken_off);
        assert!(names().is_empty());
        let mut whole = Writer::create(folder.path(), "one").expect("created");
        whole.write(b"ab").expect("written");
        whole.write(b"c").expect("written");
        let (bytes, sha256) = whole.finish().expect("finished");
        assert_eq!((names(), bytes), (vec!["one".into()], 3));
        assert!(sha256.starts_with("ba7816bf"), "{sha256}");

        let mut reader = Reader::open(folder.path(), "one").expect("opens");
        assert_eq!(
            reader.next(3, &sha256).expect("reads"),
            Some(b"abc".to_vec())
        );
        assert_eq!(reader.next(3, &sha256).expect("is whole"), None);
        fs::write(folder.path().join("one"), b"abd").expect("damaged");
        let mut reader = Reader::open(folder.path(), "one").expect("opens");
        reader.next(3, &sha256).expect("reads");
        let error = reader.next(3, &sha256).expect_err("damaged").to_string();
        assert!(error.contains("one is damaged"), "{error}");
    }

    #[test]
    fn one_backup_at_a_time_is_written_to_a_folder() {
        let folder = tempfile::tempdir().expect("folder");
        fs::write(folder.path().join("log-000001.copy.part"), b"left").expect("written");
        let first = Lock::take(folder.path()).expect("free");
        assert!(!folder.path().join("log-000001.copy.part").exists());
        assert!(Lock::take(folder.path()).is_err());
        drop(first);
        assert!(Lock::take(folder.path()).is_ok());
    }
}
