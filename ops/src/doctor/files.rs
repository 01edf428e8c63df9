//! The home folder, the room on its disk, the master key.

use std::path::{Path, PathBuf};

use companion_adapters::config::{Config, Environment};
use companion_adapters::vault::{self, Vault};

use super::Finding;
use crate::disk;

/// Below this the service is about to fail.
const LITTLE_ROOM: u64 = 1_000_000_000;
const NO_ROOM: u64 = 150_000_000;

/// Checks what lies in files.
pub(super) fn check(config: &Config) -> Vec<Finding> {
    let home = &config.companion_home;
    vec![writable(home), room(home), master_key(config)]
}

/// The folder itself, or the nearest one above it that exists.
fn existing(home: &Path) -> PathBuf {
    let home = std::path::absolute(home).unwrap_or_else(|_| home.to_owned());
    home.ancestors()
        .find(|folder| folder.exists())
        .unwrap_or(&home)
        .to_owned()
}

fn writable(home: &Path) -> Finding {
    let folder = existing(home);
    match tempfile::tempfile_in(&folder) {
        Ok(_) if home.exists() => Finding::ok(
            "COMPANION_HOME",
            format!("{} can be written", home.display()),
        ),
        Ok(_) => Finding::ok(
            "COMPANION_HOME",
            format!("{} will be made at the first start", home.display()),
        ),
        Err(error) => Finding::problem(
            "COMPANION_HOME",
            format!(
                "{} can't be written ({}); make it writable, or set COMPANION_HOME to another folder",
                folder.display(),
                error.kind()
            ),
        ),
    }
}

fn room(home: &Path) -> Finding {
    // The database may lie elsewhere, where a link leads.
    let folder = existing(&home.join("postgres"));
    let free = match disk::free_bytes(&folder) {
        Ok(free) => free,
        Err(error) => {
            return Finding::warning("disk", format!("the free space can't be read: {error}"));
        }
    };
    let text = format!("{:.1} GB free at {}", free as f64 / 1e9, folder.display());
    if free < NO_ROOM {
        Finding::problem(
            "disk",
            format!("{text}; free some, or set COMPANION_HOME to a folder on another disk"),
        )
    } else if free < LITTLE_ROOM {
        Finding::warning("disk", format!("{text}; it will be full before long"))
    } else {
        Finding::ok("disk", text)
    }
}

/// Looks at the key without making one.
fn master_key(config: &Config) -> Finding {
    let kept = config.companion_home.join("master.key");
    let (from, there) = match config.master_key {
        Some(_) => ("COMPANION_MASTER_KEY".to_owned(), true),
        None => (kept.display().to_string(), kept.exists()),
    };
    if !there {
        return match config.environment {
            Environment::Production => Finding::problem(
                "master key",
                "COMPANION_MASTER_KEY is missing; make one with: openssl rand -base64 32",
            ),
            Environment::Development => Finding::ok(
                "master key",
                format!("will be made in {from} at the first start"),
            ),
        };
    }
    match vault::master_key(config).and_then(|key| Vault::new(&key)) {
        Ok(_) if config.master_key.is_none() => Finding::ok(
            "master key",
            format!("in {from}; keep a copy: without it nothing that was said can be read again"),
        ),
        Ok(_) => Finding::ok("master key", format!("from {from}")),
        Err(error) => Finding::problem("master key", format!("{error} (from {from})")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    fn config(home: &Path, pairs: &[(&str, &str)]) -> Config {
        let home = ("COMPANION_HOME", home.to_str().expect("text"));
        let pairs = pairs
            .iter()
            .chain([&home])
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::from_variables(pairs.collect()).expect("config")
    }

    #[test]
    fn looking_at_a_home_that_is_not_there_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("folder");
        let findings = check(&config(&folder.path().join("a/b"), &[]));
        assert!(
            findings
                .iter()
                .all(|finding| finding.level < Level::Problem),
            "{findings:?}"
        );
        assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 0);
    }

    #[test]
    fn a_bad_master_key_is_a_problem_and_is_not_shown() {
        let folder = tempfile::tempdir().expect("folder");
        let finding = master_key(&config(
            folder.path(),
            &[("COMPANION_MASTER_KEY", "hunter2")],
        ));
        assert_eq!(finding.level, Level::Problem);
        assert!(finding.text.contains("openssl rand") && !finding.text.contains("hunter2"));
    }
}
