//! `companion-api`: the HTTP API as a process of its own.

use std::net::SocketAddr;
use std::process::ExitCode;

use companion_adapters::config::{self, Config};
use companion_adapters::core::Core;
use companion_adapters::{errors, shutdown, telemetry};
use tokio_util::sync::CancellationToken;

/// Most of what a process does for an event is to take and give back small pieces of memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    config::share_with_libraries();
    started()
}

#[tokio::main]
async fn started() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("companion-api: {}", errors::in_one_line(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<()> {
    let config = Config::from_env()?;
    let telemetry = telemetry::init(&config, "companion-api").map_err(anyhow::Error::msg)?;
    telemetry::keep_texts_out_of_panics();
    let listener = companion_api::bind(SocketAddr::new(config.host, config.port))?;
    let core = Core::open(config).await?;
    let stop = CancellationToken::new();
    shutdown::on_signal(stop.clone())?;
    tracing::info!(address = %listener.local_addr()?, "the API listens");
    let result = companion_api::serve(core.clone(), listener, stop).await;
    core.close().await;
    tokio::task::spawn_blocking(move || telemetry.shutdown()).await?;
    result
}
