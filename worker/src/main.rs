//! `companion-worker`: the background work as a process of its own.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context;
use companion_adapters::config::{self, Config};
use companion_adapters::core::Core;
use companion_adapters::{errors, metrics, shutdown, telemetry};
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
            eprintln!("companion-worker: {}", errors::in_one_line(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<()> {
    let config = Config::from_env()?;
    let telemetry = telemetry::init(&config, "companion-worker").map_err(anyhow::Error::msg)?;
    telemetry::keep_texts_out_of_panics();
    if let Some(port) = config.worker_metrics_port {
        let address = SocketAddr::new(config.host, port);
        metrics::serve(address).with_context(|| {
            format!("{address} can't be listened on; check HOST and WORKER_METRICS_PORT")
        })?;
    }
    let core = Core::open(config).await?;
    let stop = CancellationToken::new();
    shutdown::on_signal(stop.clone())?;
    tracing::info!("the worker runs");
    let result = companion_worker::run_alone(core.clone(), stop).await;
    core.close().await;
    tokio::task::spawn_blocking(move || telemetry.shutdown()).await?;
    result
}
