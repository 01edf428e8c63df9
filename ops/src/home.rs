//! `COMPANION_HOME`: made when missing, and used by one service at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use companion_adapters::config::Config;

use crate::disk;

/// Makes the home if need be. Returns its absolute path.
pub(crate) fn open(config: &Config) -> Result<PathBuf> {
    let home = &config.companion_home;
    let made = || -> std::io::Result<PathBuf> {
        fs::create_dir_all(home)?;
        home.canonicalize()
    };
    made().map_err(|error| disk::cannot_write(&home.join("any"), &error))
}

/// Who holds a lock on a home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    /// The command, for example `up`.
    pub(crate) command: String,
    /// Its process.
    pub(crate) pid: u32,
}

impl Holder {
    fn parse(text: &str) -> Option<Self> {
        let (command, pid) = text.trim().split_once(' ')?;
        Some(Self {
            command: command.to_owned(),
            pid: pid.parse().ok()?,
        })
    }
}

/// The right to run the cluster of a home. The system takes it back when the process ends,
/// whichever way.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held, not read")] File);

/// Takes the lock for a command; else says who holds it, if that can be known.
pub(crate) fn try_lock(home: &Path, command: &str) -> Result<Result<Lock, Option<Holder>>> {
    let path = home.join("lock");
    let unusable = |error: std::io::Error| disk::cannot_write(&path, &error);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0).map_err(unusable)?;
            writeln!(file, "{command} {}", std::process::id()).map_err(unusable)?;
            Ok(Ok(Lock(file)))
        }
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            // Only for a message.
            let _ = file.read_to_string(&mut text);
            Ok(Err(Holder::parse(&text)))
        }
        Err(TryLockError::Error(error)) => Err(unusable(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_locked_by_one_and_the_next_is_told_by_whom() {
        let home = tempfile::tempdir().expect("home");
        let first = try_lock(home.path(), "up").expect("usable").expect("free");
        let holder = try_lock(home.path(), "migrate")
            .expect("usable")
            .expect_err("taken");
        assert_eq!(
            holder,
            Some(Holder {
                command: "up".to_owned(),
                pid: std::process::id()
            })
        );
        drop(first);
        assert!(try_lock(home.path(), "migrate").expect("usable").is_ok());
    }

    #[test]
    fn half_a_line_in_the_lock_names_nobody() {
        assert_eq!(Holder::parse(""), None);
        assert_eq!(Holder::parse("up"), None);
        assert_eq!(Holder::parse("up x"), None);
    }
}
