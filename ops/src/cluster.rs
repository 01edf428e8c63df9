//! A PostgreSQL cluster of our own: made, started on a free port of the loopback address, stopped.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail};
use companion_adapters::config::Secret;
use uuid::Uuid;

use crate::identity::Identity;
use crate::pg_log;
use crate::supervise::{Launch, Stop, Supervised, command};

/// The cluster's one role and owner of everything in it.
pub(crate) const ROLE: &str = "companion";
/// Recovery after a crash may have a gigabyte of log to read.
const START_WITHIN: Duration = Duration::from_secs(300);
/// A fast shutdown writes what is in memory.
const STOP_WITHIN: Duration = Duration::from_secs(60);
/// How often another port is tried when somebody takes the chosen one in between.
const PORTS_TRIED: usize = 5;
/// A log that has grown beyond this is begun anew at the next start.
const MAX_LOG_BYTES: u64 = 10_000_000;

/// Settings of every cluster. No text of a message may get into the log: neither statements nor
/// their parameters nor the details of an error.
const SETTINGS: &[(&str, &str)] = &[
    ("listen_addresses", "127.0.0.1"),
    ("unix_socket_directories", ""),
    ("shared_buffers", "128MB"),
    ("jit", "off"),
    ("log_checkpoints", "off"),
    ("log_statement", "none"),
    ("log_min_error_statement", "panic"),
    ("log_min_duration_statement", "-1"),
    ("log_parameter_max_length", "0"),
    ("log_parameter_max_length_on_error", "0"),
    ("log_error_verbosity", "terse"),
    ("log_timezone", "UTC"),
    ("timezone", "UTC"),
];

/// Where a cluster lies and how it is run.
#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    /// The folder that holds `bin`.
    pub(crate) software: PathBuf,
    /// The cluster's own folder.
    pub(crate) data: PathBuf,
    /// Who runs it.
    pub(crate) identity: Option<Identity>,
    /// Where its messages go.
    pub(crate) log: PathBuf,
    /// Settings beside those of every cluster.
    pub(crate) settings: &'static [(&'static str, &'static str)],
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    /// Its port on 127.0.0.1.
    pub(crate) port: u16,
    log: PathBuf,
    supervised: Supervised,
}

impl Cluster {
    /// Makes the cluster: all of it, or nothing. `durable`: wait for the disk.
    pub(crate) async fn create(&self, password: &Secret, durable: bool) -> Result<()> {
        let draft = self.data.with_added_extension(format!("partial-{}", Uuid::now_v7()));
        let password_file = self.data.with_added_extension(format!("partial-{}", Uuid::now_v7()));
        let made = self.create_in(&draft, &password_file, password, durable).await;
        let _ = fs::remove_file(&password_file);
        let made = made.and_then(|()| {
            fs::rename(&draft, &self.data).with_context(|| format!("{} can't be made", self.data.display()))
        });
        if made.is_err() {
            let _ = fs::remove_dir_all(&draft);
        }
        made
    }

    async fn create_in(&self, draft: &Path, password_file: &Path, password: &Secret, durable: bool) -> Result<()> {
        self.prepare(draft, password_file, password)
            .map_err(|error| pg_log::cannot_write(draft, &error))?;
        let mut initdb = command(&self.software.join("bin/initdb"), self.identity);
        initdb
            .args(["--auth=scram-sha-256", "--encoding=UTF8", "--username", ROLE, "--no-instructions"])
            // The same on every system, whatever locales it has.
            .args(["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"])
            .arg("--pwfile")
            .arg(password_file)
            .arg("--pgdata")
            .arg(draft)
            .args(sync_option(durable))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = initdb.output().await.map_err(|error| self.cannot_run(&error))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(pg_log::explain(&said, draft).unwrap_or_else(|| anyhow!("initdb failed: {}", output.status)))
    }

    /// Makes the empty folder and the file that holds the password for `initdb`.
    fn prepare(&self, draft: &Path, password_file: &Path, password: &Secret) -> std::io::Result<()> {
        fs::DirBuilder::new().mode(0o700).create(draft)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(password_file)?;
        std::io::Write::write_all(&mut file, password.expose().as_bytes())?;
        if let Some(Identity { uid, gid }) = self.identity {
            chown(draft, Some(uid), Some(gid))?;
            chown(password_file, Some(uid), Some(gid))?;
        }
        Ok(())
    }

    fn cannot_run(&self, error: &std::io::Error) -> anyhow::Error {
        let path = self.software.join("bin").display().to_string();
        match (error.kind(), self.identity) {
            (std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::InvalidInput, Some(_)) => anyhow!(
                "PostgreSQL refuses to run as root and can't be run as 'nobody' ({error}); run this as another \
                 user, or set POSTGRES_URL"
            ),
            _ => anyhow!("PostgreSQL's programs in {path} can't be run: {error}; fetch them anew: ops/fetch-parts postgres"),
        }
    }

    /// Starts the server and waits until it accepts connections.
    pub(crate) async fn start(&self) -> Result<Server> {
        for tried in 1.. {
            let port = free_port()?;
            let log = open_log(&self.log).map_err(|error| pg_log::cannot_write(&self.log, &error))?;
            let before = log.metadata().map_or(0, |found| found.len());
            let supervised = Supervised::start(&self.launch(port), &log).map_err(|error| self.cannot_run(&error))?;
            let mut server = Server { port, log: self.log.clone(), supervised };
            match self.wait_for(&mut server, before).await {
                Err(error) if tried < PORTS_TRIED && pg_log::is_port_taken(&error) => {}
                Err(error) => return Err(error),
                Ok(()) => return Ok(server),
            }
        }
        bail!("no free port was found for PostgreSQL")
    }

    fn launch(&self, port: u16) -> Launch {
        let mut arguments = vec!["-D".into(), self.data.clone().into(), "-p".into(), port.to_string().into()];
        for (name, value) in SETTINGS.iter().chain(self.settings) {
            arguments.extend(["-c".into(), format!("{name}={value}").into()]);
        }
        let program = self.software.join("bin/postgres");
        Launch { program, arguments, identity: self.identity, stop: Stop::Interrupt }
    }

    async fn wait_for(&self, server: &mut Server, log_before: u64) -> Result<()> {
        let begun = Instant::now();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        loop {
            let postmaster = Postmaster::read(&self.data);
            if postmaster.is_some_and(|it| it.ready && it.port == server.port && it.started + 1 >= since) {
                return Ok(());
            }
            if server.supervised.has_ended() {
                let said = read_from(&self.log, log_before);
                return Err(pg_log::explain(&said, &self.data).unwrap_or_else(|| {
                    anyhow!("PostgreSQL ended as soon as it was started; its messages are in {}", self.log.display())
                }));
            }
            if begun.elapsed() > START_WITHIN {
                bail!(
                    "PostgreSQL has not come up within {} s; its messages are in {}",
                    START_WITHIN.as_secs(),
                    self.log.display()
                );
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Server {
    /// The URL of a database of this server.
    pub(crate) fn url(&self, password: &Secret, database: &str) -> Secret {
        url(self.port, password, database)
    }

    /// Waits until the server ends without having been asked to, and says why.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        let before = fs::metadata(&self.log).map_or(0, |found| found.len().saturating_sub(10_000));
        let ended = self.supervised.ended().await;
        let said = read_from(&self.log, before);
        let status = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
        let reason = pg_log::last_useful(&said).map_or(status, str::to_owned);
        anyhow!("PostgreSQL has stopped: {reason}; its messages are in {}", self.log.display())
    }

    /// Stops the server and waits until it has written everything.
    pub(crate) async fn stop(self) {
        if !self.supervised.stop(STOP_WITHIN).await {
            crate::output::note("PostgreSQL still writes its last changes; it ends by itself.");
        }
    }
}

/// One call for the whole file system is five times as fast as one for each of a thousand files.
fn sync_option(durable: bool) -> Option<&'static str> {
    match durable {
        false => Some("--no-sync"),
        true => cfg!(target_os = "linux").then_some("--sync-method=syncfs"),
    }
}

/// The URL of a database of a server on the loopback address.
pub(crate) fn url(port: u16, password: &Secret, database: &str) -> Secret {
    Secret::new(format!("postgres://{ROLE}:{}@127.0.0.1:{port}/{database}", password.expose()))
}

/// What `postmaster.pid` says.
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
        let [pid, _, started, port, ..] = lines.as_slice() else { return None };
        Some(Self {
            pid: pid.parse().ok()?,
            started: started.parse().ok()?,
            port: port.parse().ok()?,
            ready: lines.get(7) == Some(&"ready"),
        })
    }
}

/// A port that is free now.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port is left on 127.0.0.1")?;
    Ok(listener.local_addr()?.port())
}

/// Opens a server's log for its next run.
pub(crate) fn open_log(path: &Path) -> std::io::Result<File> {
    let log = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    if log.metadata()?.len() > MAX_LOG_BYTES {
        log.set_len(0)?;
    }
    Ok(log)
}

fn read_from(path: &Path, offset: u64) -> String {
    let mut bytes = Vec::new();
    if let Ok(mut file) = File::open(path)
        && file.seek(SeekFrom::Start(offset)).is_ok()
    {
        // What can be read is enough.
        let _ = file.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_server_is_read_from_its_pid_file() {
        let text = "4711\n/data\n1700000000\n54321\n\n127.0.0.1\n  1234  5\nready   \n";
        let ready = Postmaster { pid: 4711, started: 1_700_000_000, port: 54321, ready: true };
        assert_eq!(Postmaster::parse(text), Some(ready));
        let starting = text.replace("ready   ", "starting");
        assert_eq!(Postmaster::parse(&starting), Some(Postmaster { ready: false, ..ready }));
        assert_eq!(Postmaster::parse("4711\n/da"), None);
        assert_eq!(Postmaster::parse(""), None);
    }

    #[test]
    fn a_url_names_only_the_loopback_address() {
        let url = url(5000, &Secret::new("abc"), "companion");
        assert_eq!(url.expose(), "postgres://companion:abc@127.0.0.1:5000/companion");
    }

    #[test]
    fn a_log_that_has_grown_too_long_is_begun_anew() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("log");
        fs::write(&path, vec![b'x'; 10_000_001]).expect("written");
        assert_eq!(open_log(&path).expect("opened").metadata().expect("found").len(), 0);
    }
}
