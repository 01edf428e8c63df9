//! A PostgreSQL cluster of our own: made, started on a free port of the loopback address, stopped.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail};
use companion_adapters::config::Secret;
use uuid::Uuid;

use super::pg_log;
use super::postmaster::Postmaster;
use super::server::{ROLE, Server};
use crate::disk;
use crate::identity::Identity;
use crate::port::free_port;
use crate::server_log;
use crate::supervise::{Launch, Stop, Supervised, command};

/// Recovery after a crash may have a gigabyte of log to read.
const START_WITHIN: Duration = Duration::from_secs(300);
/// How often another port is tried when somebody takes the chosen one in between.
const PORTS_TRIED: usize = 5;
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

impl Cluster {
    /// Makes the cluster: all of it, or nothing. `durable`: wait for the disk.
    pub(crate) async fn create(&self, password: &Secret, durable: bool) -> Result<()> {
        let draft = self
            .data
            .with_added_extension(format!("partial-{}", Uuid::now_v7()));
        let password_file = self
            .data
            .with_added_extension(format!("partial-{}", Uuid::now_v7()));
        let made = self
            .create_in(&draft, &password_file, password, durable)
            .await;
        let _ = fs::remove_file(&password_file);
        let made = made.and_then(|()| {
            fs::rename(&draft, &self.data)
                .with_context(|| format!("{} can't be made", self.data.display()))
        });
        if made.is_err() {
            let _ = fs::remove_dir_all(&draft);
        }
        made
    }

    async fn create_in(
        &self,
        draft: &Path,
        password_file: &Path,
        password: &Secret,
        durable: bool,
    ) -> Result<()> {
        self.prepare(draft, password_file, password)
            .map_err(|error| match error.kind() {
                // There is no such user here, or nothing may be given to it.
                ErrorKind::InvalidInput | ErrorKind::PermissionDenied
                    if self.identity.is_some() =>
                {
                    self.cannot_run(&error)
                }
                _ => disk::cannot_write(draft, &error),
            })?;
        let mut initdb = command(&self.software.join("bin/initdb"), self.identity);
        initdb
            .args([
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--username",
                ROLE,
                "--no-instructions",
            ])
            // The same on every system, whatever locales it has.
            .args([
                "--locale=C",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
            ])
            .arg("--pwfile")
            .arg(password_file)
            .arg("--pgdata")
            .arg(draft)
            .args(sync_option(durable))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = initdb
            .output()
            .await
            .map_err(|error| self.cannot_run(&error))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(pg_log::explain(&said, draft)
            .unwrap_or_else(|| anyhow!("initdb failed: {}", output.status)))
    }

    /// Makes the empty folder and the file that holds the password for `initdb`.
    fn prepare(
        &self,
        draft: &Path,
        password_file: &Path,
        password: &Secret,
    ) -> std::io::Result<()> {
        fs::DirBuilder::new().mode(0o700).create(draft)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(password_file)?;
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
            (ErrorKind::PermissionDenied | ErrorKind::InvalidInput, Some(_)) => {
                anyhow!(
                    "PostgreSQL refuses to run as root and can't be run as 'nobody' ({error}); run this as another \
                     user, or set POSTGRES_URL"
                )
            }
            _ => anyhow!(
                "PostgreSQL's programs in {path} can't be run: {error}; fetch them anew: ops/fetch-parts postgres"
            ),
        }
    }

    /// Starts the server and waits until it accepts connections.
    pub(crate) async fn start(&self) -> Result<Server> {
        for tried in 1.. {
            let port = free_port()?;
            let log = server_log::open_log(&self.log)
                .map_err(|error| disk::cannot_write(&self.log, &error))?;
            let before = server_log::length(&self.log);
            let supervised = Supervised::start(&self.launch(port), &log)
                .map_err(|error| self.cannot_run(&error))?;
            let mut server = Server {
                port,
                log: self.log.clone(),
                supervised,
            };
            match self.wait_for(&mut server, before).await {
                Err(error) if tried < PORTS_TRIED && pg_log::is_port_taken(&error) => {}
                Err(error) => return Err(error),
                Ok(()) => return Ok(server),
            }
        }
        bail!("no free port was found for PostgreSQL")
    }

    fn launch(&self, port: u16) -> Launch {
        let mut arguments = vec![
            "-D".into(),
            self.data.clone().into(),
            "-p".into(),
            port.to_string().into(),
        ];
        for (name, value) in SETTINGS.iter().chain(self.settings) {
            arguments.extend(["-c".into(), format!("{name}={value}").into()]);
        }
        let program = self.software.join("bin/postgres");
        Launch {
            program,
            arguments,
            identity: self.identity,
            stop: Stop::Interrupt,
        }
    }

    async fn wait_for(&self, server: &mut Server, log_before: u64) -> Result<()> {
        let begun = Instant::now();
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |now| now.as_secs());
        loop {
            let postmaster = Postmaster::read(&self.data);
            if postmaster
                .is_some_and(|it| it.ready && it.port == server.port && it.started + 1 >= since)
            {
                return Ok(());
            }
            if server.supervised.has_ended() {
                let said = server_log::read_from(&self.log, log_before);
                return Err(pg_log::explain(&said, &self.data).unwrap_or_else(|| {
                    anyhow!(
                        "PostgreSQL ended as soon as it was started; its messages are in {}",
                        self.log.display()
                    )
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

/// One call for the whole file system is five times as fast as one for each of a thousand files.
fn sync_option(durable: bool) -> Option<&'static str> {
    match durable {
        false => Some("--no-sync"),
        true => cfg!(target_os = "linux").then_some("--sync-method=syncfs"),
    }
}
