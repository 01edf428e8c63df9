//! `companion test-services -- COMMAND…`: a throw-away PostgreSQL and Valkey for the time of a
//! command, which finds their addresses in its environment.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Permissions};
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use companion_adapters::config::Secret;
use companion_adapters::parts;
use rustix::process::{Pid, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};
use uuid::Uuid;

use crate::cluster::{Cluster, Server, free_port, open_log};
use crate::identity::Identity;
use crate::output::note;
use crate::supervise::{Launch, Stop, Supervised};
use crate::{placement, software};

const SIGINT: i32 = SignalKind::interrupt().as_raw_value();
const SIGTERM: i32 = SignalKind::terminate().as_raw_value();
const PREFIX: &str = "companion-test-";
/// Nothing here outlives the command, so nothing waits for the disk.
const SETTINGS: &[(&str, &str)] = &[
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("synchronous_commit", "off"),
    ("max_connections", "300"),
];

/// Runs the command and ends with its exit code.
pub(crate) async fn run(command: &[OsString]) -> Result<ExitCode> {
    let mut stops = Signals::new()?;
    let folder = Folder::make()?;
    let begun = Instant::now();
    let (postgres, password) = tokio::select! {
        started = start_postgres(&folder) => started?,
        number = stops.next() => return Ok(ended_by(number)),
    };
    let valkey = start_valkey(&folder).await;
    let result = match valkey {
        Err(error) => Err(error),
        Ok((valkey, redis_url)) => {
            note(format_args!("PostgreSQL and Valkey for the tests: ready in {:.1} s", begun.elapsed().as_secs_f64()));
            let postgres_url = postgres.url(&password, "postgres");
            let status = run_command(command, &postgres_url, &redis_url, &mut stops).await;
            valkey.stop(Duration::from_secs(5)).await;
            status
        }
    };
    postgres.stop().await;
    drop(folder);
    result
}

async fn run_command(
    command: &[OsString],
    postgres_url: &Secret,
    redis_url: &str,
    stops: &mut Signals,
) -> Result<ExitCode> {
    let [program, arguments @ ..] = command else { bail!("there is no command to run") };
    let mut child = Command::new(program)
        .args(arguments)
        .env("COMPANION_TEST_POSTGRES_URL", postgres_url.expose())
        .env("COMPANION_TEST_REDIS_URL", redis_url)
        .spawn()
        .with_context(|| format!("{} can't be run", program.display()))?;
    for signals in 0.. {
        tokio::select! {
            status = child.wait() => return Ok(exit_code(status?)),
            number = stops.next() => match number {
                // It has had its chance.
                _ if signals > 0 => child.start_kill()?,
                SIGTERM => terminate(&child),
                // Ctrl-C in a terminal has reached the command too.
                _ => {}
            },
        }
    }
    bail!("the command did not end")
}

fn terminate(child: &Child) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It fails when the command has just ended.
        let _ = kill_process(pid, rustix::process::Signal::TERM);
    }
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

fn ended_by(signal: i32) -> ExitCode {
    ExitCode::from(u8::try_from(128 + signal).unwrap_or(1))
}

async fn start_postgres(folder: &Folder) -> Result<(Server, Secret)> {
    let identity = Identity::for_postgres()?;
    let base = || placement::system_base(identity).unwrap_or_else(|| folder.path.clone());
    let cluster = Cluster {
        software: software::runnable(identity, base)?,
        data: folder.path.join("postgres"),
        identity,
        log: folder.path.join("postgres.log"),
        settings: SETTINGS,
    };
    let password = Secret::new(format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()));
    cluster.create(&password, false).await?;
    Ok((cluster.start().await?, password))
}

async fn start_valkey(folder: &Folder) -> Result<(Supervised, String)> {
    let program = parts::valkey();
    if !program.is_file() {
        bail!("Valkey is missing at {}; run: ops/fetch-parts valkey", program.display());
    }
    let log_path = folder.path.join("valkey.log");
    let log = open_log(&log_path)?;
    for _ in 0..5 {
        let port = free_port()?;
        let mut arguments: Vec<OsString> = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"]
            .map(OsString::from)
            .into();
        arguments.extend([port.to_string().into(), "--dir".into(), folder.path.clone().into()]);
        let program = program.canonicalize()?;
        let launch = Launch { program, arguments, identity: None, stop: Stop::Kill };
        let mut valkey = Supervised::start(&launch, &log)?;
        if answers(port, &mut valkey).await {
            return Ok((valkey, format!("redis://127.0.0.1:{port}/0")));
        }
    }
    let said = fs::read_to_string(&log_path).unwrap_or_default();
    Err(anyhow!("Valkey does not start: {}", said.lines().last().unwrap_or("it says nothing")))
}

/// Waits for the answer to a PING; `false` when the server ends instead.
async fn answers(port: u16, valkey: &mut Supervised) -> bool {
    for _ in 0..1000 {
        if ping(port).await.is_ok_and(|answer| answer == *b"+PONG\r\n") {
            return true;
        }
        if valkey.has_ended() {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

async fn ping(port: u16) -> std::io::Result<[u8; 7]> {
    let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    connection.write_all(b"PING\r\n").await?;
    let mut answer = [0; 7];
    connection.read_exact(&mut answer).await?;
    Ok(answer)
}

/// SIGINT and SIGTERM, whichever comes.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.interrupt.recv() => SIGINT,
            _ = self.terminate.recv() => SIGTERM,
        }
    }
}

/// The folder of one run, deleted when it is dropped, or by a later run if this one is killed.
struct Folder {
    path: PathBuf,
    /// Held locked while the run lasts.
    _lock: File,
}

impl Folder {
    fn make() -> Result<Self> {
        let parent = std::env::temp_dir();
        let parent = match Identity::for_postgres()? {
            Some(identity) if !identity.can_enter(&parent) => PathBuf::from("/tmp"),
            _ => parent,
        };
        remove_leftovers(&parent);
        let path = parent.join(format!("{PREFIX}{}", Uuid::new_v4().simple()));
        let made = || -> std::io::Result<File> {
            DirBuilder::new().mode(0o700).create(&path)?;
            let lock = File::create(path.join("lock"))?;
            lock.lock()?;
            // Others may pass to the cluster, which is closed itself, but not look around.
            fs::set_permissions(&path, Permissions::from_mode(0o711))?;
            Ok(lock)
        };
        let lock = made().with_context(|| format!("{} can't be made; set TMPDIR to another folder", path.display()))?;
        Ok(Self { path, _lock: lock })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // PostgreSQL may still be at its last file when it was told to stop early.
        for _ in 0..50 {
            if fs::remove_dir_all(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Deletes what runs left that were killed: nobody holds their lock.
fn remove_leftovers(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX)
            && entry.metadata().is_ok_and(|found| found.uid() == rustix::process::geteuid().as_raw());
        if ours && File::open(entry.path().join("lock")).is_ok_and(|lock| lock.try_lock().is_ok()) {
            // What can't be deleted now is tried again by the next run.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
