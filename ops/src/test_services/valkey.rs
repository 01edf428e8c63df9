//! A Redis-compatible server for tests, that keeps nothing.

use std::ffi::OsString;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use companion_adapters::parts;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::port::free_port;
use crate::server_log::open_log;
use crate::supervise::{Launch, Stop, Supervised};

/// A running server.
#[derive(Debug)]
pub(crate) struct Valkey {
    port: u16,
    supervised: Supervised,
}

impl Valkey {
    /// Starts a server on a free port; its log goes to `folder`.
    pub(crate) async fn start(folder: &Path) -> Result<Self> {
        let program = parts::valkey();
        if !program.is_file() {
            bail!(
                "Valkey is missing at {}; run: ops/fetch-parts valkey",
                program.display()
            );
        }
        let program = program.canonicalize()?;
        let log_path = folder.join("valkey.log");
        let log = open_log(&log_path)?;
        // Somebody else may take the port in between.
        for _ in 0..5 {
            let port = free_port()?;
            let launch = Launch {
                program: program.clone(),
                arguments: arguments(port, folder),
                identity: None,
                stop: Stop::Kill,
            };
            let mut supervised = Supervised::start(&launch, &log)?;
            if answers(port, &mut supervised).await {
                return Ok(Self { port, supervised });
            }
        }
        let said = fs::read_to_string(&log_path).unwrap_or_default();
        let last = said.lines().last().unwrap_or("it says nothing");
        Err(anyhow!("Valkey does not start: {last}"))
    }

    /// The URL of its first database.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Stops the server.
    pub(crate) async fn stop(self) {
        self.supervised.stop(Duration::from_secs(5)).await;
    }
}

fn arguments(port: u16, folder: &Path) -> Vec<OsString> {
    let port = port.to_string();
    let fixed = [
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
        "--port",
        &port,
        "--dir",
    ];
    fixed
        .into_iter()
        .map(OsString::from)
        .chain([folder.into()])
        .collect()
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
