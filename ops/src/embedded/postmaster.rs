//! What PostgreSQL says of itself in `postmaster.pid`.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process;

/// How long the server of a killed process may take to stop.
const FORMER_WITHIN: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(50);

/// A server as its file tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Postmaster {
    /// The process.
    pub(crate) pid: u32,
    /// When it was started, Unix time.
    pub(crate) started: u64,
    /// Its port.
    pub(crate) port: u16,
    /// Whether it accepts connections.
    pub(crate) ready: bool,
}

impl Postmaster {
    /// Reads the file of a cluster; `None` when there is none, or only a part of it yet.
    pub(crate) fn read(data: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(data.join("postmaster.pid")).ok()?)
    }

    /// Lines: pid, folder, start time, port, socket folder, address, shared memory, status.
    fn parse(text: &str) -> Option<Self> {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let [pid, _, started, port, ..] = lines.as_slice() else {
            return None;
        };
        Some(Self {
            pid: pid.parse().ok()?,
            started: started.parse().ok()?,
            port: port.parse().ok()?,
            ready: lines.get(7) == Some(&"ready"),
        })
    }
}

/// Waits for the end of a former server of a cluster that nobody uses any more: a killed process
/// leaves one that is about to stop, a crash of the machine only its file.
pub(crate) async fn wait_for_former(data: &Path) -> Result<()> {
    let begun = Instant::now();
    while let Some(former) = Postmaster::read(data).filter(|former| process::is_alive(former.pid)) {
        if !process::runs(former.pid, "postgres") {
            // After a restart of the machine its number belongs to another process, which would
            // keep PostgreSQL from starting. The caller knows that nobody uses the cluster.
            return fs::remove_file(data.join("postmaster.pid"))
                .context("postmaster.pid can't be removed");
        }
        if begun.elapsed() > FORMER_WITHIN {
            bail!(
                "a PostgreSQL of an earlier run (process {}) still uses {}; stop it with: kill -INT {0}",
                former.pid,
                data.display()
            );
        }
        tokio::time::sleep(STEP).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_server_is_read_from_its_pid_file() {
        let text = "4711\n/data\n1700000000\n54321\n\n127.0.0.1\n  1234  5\nready   \n";
        let ready = Postmaster {
            pid: 4711,
            started: 1_700_000_000,
            port: 54321,
            ready: true,
        };
        assert_eq!(Postmaster::parse(text), Some(ready));
        let starting = text.replace("ready   ", "starting");
        assert_eq!(
            Postmaster::parse(&starting),
            Some(Postmaster {
                ready: false,
                ..ready
            })
        );
        assert_eq!(Postmaster::parse("4711\n/da"), None);
        assert_eq!(Postmaster::parse(""), None);
    }

    #[tokio::test]
    async fn a_file_that_names_another_process_is_removed() {
        let data = tempfile::tempdir().expect("folder");
        let file = data.path().join("postmaster.pid");
        // The number of a living process that is no PostgreSQL.
        fs::write(&file, format!("{}\n/data\n1\n5432\n", std::process::id())).expect("written");
        wait_for_former(data.path())
            .await
            .expect("nobody is waited for");
        assert!(!file.exists());
        wait_for_former(data.path())
            .await
            .expect("nobody was there");
    }
}
