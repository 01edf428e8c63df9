//! `companion test-services -- COMMAND…`: a throw-away PostgreSQL and Valkey for the time of a
//! command, which finds their addresses in its environment.

mod scratch;
mod valkey;

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use companion_adapters::config::Secret;
use rustix::process::{Pid, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};
use uuid::Uuid;

pub(crate) use self::scratch::Scratch;
use self::valkey::Valkey;
use crate::embedded::cluster::Cluster;
use crate::embedded::server::Server;
use crate::embedded::{placement, software};
use crate::identity::Identity;
use crate::output::note;

const SIGINT: i32 = SignalKind::interrupt().as_raw_value();
const SIGTERM: i32 = SignalKind::terminate().as_raw_value();
/// Nothing here outlives the command, so nothing waits for the disk.
const SETTINGS: &[(&str, &str)] = &[
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("synchronous_commit", "off"),
    // A test may have two services with two pools of 16 each, and as many tests run at once as there are cores.
    ("max_connections", "1000"),
];

/// Runs the command and ends with its exit code.
pub(crate) async fn run(command: &[OsString]) -> Result<ExitCode> {
    let mut stops = Signals::new()?;
    let folder = Scratch::make()?;
    let begun = Instant::now();
    let (postgres, password) = tokio::select! {
        started = start_postgres(&folder) => started?,
        number = stops.next() => return Ok(ended_by(number)),
    };
    let result = match Valkey::start(&folder.path).await {
        Err(error) => Err(error),
        Ok(valkey) => {
            let seconds = begun.elapsed().as_secs_f64();
            note(format_args!(
                "PostgreSQL and Valkey for the tests: ready in {seconds:.1} s"
            ));
            let postgres_url = postgres.url(&password, "postgres");
            let status = run_command(command, &postgres_url, &valkey.url(), &mut stops).await;
            valkey.stop().await;
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
    let [program, arguments @ ..] = command else {
        bail!("there is no command to run")
    };
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
    let pid = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It fails when the command has just ended.
        let _ = kill_process(pid, rustix::process::Signal::TERM);
    }
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

fn ended_by(signal: i32) -> ExitCode {
    ExitCode::from(u8::try_from(128 + signal).unwrap_or(1))
}

/// Starts a PostgreSQL of its own in a folder, which doesn't wait for the disk; returns its password too.
pub(crate) async fn start_postgres(folder: &Scratch) -> Result<(Server, Secret)> {
    let identity = Identity::for_postgres()?;
    let base = || placement::system_base(identity).unwrap_or_else(|| folder.path.clone());
    let cluster = Cluster {
        software: software::runnable(identity, base)?,
        data: folder.path.join("postgres"),
        identity,
        log: folder.path.join("postgres.log"),
        settings: SETTINGS,
    };
    let password = Secret::new(format!(
        "{}{}",
        Uuid::new_v4().simple(),
        Uuid::new_v4().simple()
    ));
    cluster.create(&password, false).await?;
    Ok((cluster.start().await?, password))
}

/// SIGINT and SIGTERM, whichever comes.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.interrupt.recv() => SIGINT,
            _ = self.terminate.recv() => SIGTERM,
        }
    }
}
