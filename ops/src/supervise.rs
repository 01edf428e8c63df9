//! A server as a child process that stops with this one, however this one ends.
//!
//! Nothing can be done on the way out of a `kill -9`, and a death signal exists on Linux only. So a
//! small shell stands between: it reads a pipe that only this process holds open, and when the pipe
//! closes it stops the server.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, ChildStdin, Command};

use crate::identity::Identity;

/// Arguments: the signal that stops the server, then its command line. The shell ends with the
/// server and its status. It ignores the signals that a whole session gets (a closing terminal, a
/// service manager): the order to stop comes through the pipe, after this process has finished.
const SCRIPT: &str = r#"trap '' INT TERM HUP
signal=$1
shift
exec 3<&0 </dev/null
"$@" 3<&- &
server=$!
{ read -r _ <&3; kill -s "$signal" "$server"; } 2>/dev/null &
watcher=$!
exec 3<&-
wait "$server"
status=$?
kill -s KILL "$watcher" 2>/dev/null
exit "$status""#;

/// How a server is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// SIGINT: PostgreSQL's fast shutdown.
    Interrupt,
    /// SIGKILL: for what has nothing to save.
    Kill,
}

/// What is to be run, and how.
#[derive(Debug)]
pub(crate) struct Launch {
    /// The server's binary.
    pub(crate) program: PathBuf,
    /// Its arguments.
    pub(crate) arguments: Vec<OsString>,
    /// Who runs it; `None`: whoever runs this process.
    pub(crate) identity: Option<Identity>,
    /// How it is stopped.
    pub(crate) stop: Stop,
}

/// A running server. Dropping it stops the server; [`Supervised::stop`] also waits.
#[derive(Debug)]
pub(crate) struct Supervised {
    shell: Child,
    pipe: Option<ChildStdin>,
}

impl Supervised {
    /// Starts the server; what it prints goes to `log`.
    pub(crate) fn start(launch: &Launch, log: &File) -> std::io::Result<Self> {
        let mut command = command(Path::new("/bin/sh"), launch.identity);
        command
            .args(["-c", SCRIPT, "supervise"])
            .arg(match launch.stop {
                Stop::Interrupt => "INT",
                Stop::Kill => "KILL",
            })
            .arg(&launch.program)
            .args(&launch.arguments)
            // Ctrl-C in a terminal goes to the whole group: it is meant for this process alone.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log.try_clone()?);
        let mut shell = command.spawn()?;
        // Taken out: waiting for a child closes its standard input first.
        let pipe = shell.stdin.take();
        Ok(Self { shell, pipe })
    }

    /// Whether the server has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.shell.try_wait(), Ok(None))
    }

    /// Waits until the server ends by itself.
    pub(crate) async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        self.shell.wait().await
    }

    /// Stops the server and waits for its end, `patience` at most. Returns whether it has ended.
    pub(crate) async fn stop(mut self, patience: Duration) -> bool {
        drop(self.pipe.take());
        tokio::time::timeout(patience, self.shell.wait())
            .await
            .is_ok()
    }
}

/// A command for a helper program that is run as `identity`. It sees nothing of the environment but
/// the search path: there may be secrets in it, and settings meant for clients.
pub(crate) fn command(program: &Path, identity: Option<Identity>) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("LC_ALL", "C")
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    // The current folder may be closed to the other user.
    command.current_dir("/");
    if let Some(Identity { uid, gid }) = identity {
        command.uid(uid).gid(gid);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek};

    fn launch(script: &str) -> Launch {
        Launch {
            program: PathBuf::from("/bin/sh"),
            arguments: vec!["-c".into(), script.into()],
            identity: None,
            stop: Stop::Kill,
        }
    }

    #[tokio::test]
    async fn a_server_stops_when_its_pipe_closes() {
        let mut log = tempfile::tempfile().expect("file");
        let script = "echo $$; exec sleep 60";
        let server = Supervised::start(&launch(script), &log).expect("starts");
        let mut pid = String::new();
        while !pid.ends_with('\n') {
            tokio::time::sleep(Duration::from_millis(5)).await;
            log.rewind().expect("rewinds");
            pid.clear();
            log.read_to_string(&mut pid).expect("reads");
        }
        assert!(server.stop(Duration::from_secs(10)).await);
        let pid = rustix::process::Pid::from_raw(pid.trim().parse().expect("a number"));
        assert!(rustix::process::test_kill_process(pid.expect("not 0")).is_err());
    }

    #[tokio::test]
    async fn the_end_of_a_server_is_noticed_with_its_status() {
        let log = tempfile::tempfile().expect("file");
        let mut server = Supervised::start(&launch("exit 7"), &log).expect("starts");
        assert_eq!(server.ended().await.expect("status").code(), Some(7));
        assert!(server.has_ended());
    }
}
