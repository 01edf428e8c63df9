//! `companion up`: API and worker in one process, with a PostgreSQL of their own.

mod demo_llm;
mod welcome;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use companion_adapters::config::Config;
use companion_adapters::core::Core;
use companion_adapters::llm::Llm;
use companion_adapters::{database, shutdown, telemetry};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::demo_llm::DemoLlm;
use self::welcome::Welcome;
use crate::embedded::{Embedded, KILLED_WITHIN};
use crate::home;
use crate::output::{line, note, step};

/// The API lets replies finish for 30 s and the worker its jobs, both at once.
const STOP_WITHIN: Duration = Duration::from_secs(40);

/// Runs the service until SIGTERM or SIGINT.
pub(crate) async fn run(demo_llm: bool) -> Result<()> {
    let config = Config::from_env()?;
    let telemetry = telemetry::init(&config, "companion").map_err(anyhow::Error::msg)?;
    telemetry::keep_texts_out_of_panics();
    // Before anything slow: this is what fails most often.
    let listener = bind(SocketAddr::new(config.host, config.port)).await?;
    let stop = CancellationToken::new();
    shutdown::on_signal(stop.clone())?;

    let mut helpers = Helpers::default();
    let started = tokio::select! {
        started = helpers.start(config, demo_llm) => started.map(Some),
        () = stop.cancelled() => Ok(None),
    };
    let result = match started {
        Ok(Some(core)) => serve(core, listener, &mut helpers, stop).await,
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    helpers.stop().await;
    tokio::task::spawn_blocking(move || telemetry.shutdown()).await?;
    result
}

/// Listens; waits a moment for a port that a killed process is about to lose.
async fn bind(address: SocketAddr) -> Result<TcpListener> {
    match companion_api::bind(address) {
        Ok(listener) => Ok(listener),
        Err(_) => {
            tokio::time::sleep(KILLED_WITHIN).await;
            companion_api::bind(address)
        }
    }
}

/// The servers that run beside the service and stop after it.
#[derive(Default)]
struct Helpers {
    postgres: Option<Embedded>,
    demo_llm: Option<DemoLlm>,
}

impl Helpers {
    /// Starts what the configuration asks for, and opens everything.
    async fn start(&mut self, mut config: Config, demo_llm: bool) -> Result<Core> {
        let url = match &config.postgres_url {
            Some(url) => url.clone(),
            None => {
                let embedded = step("PostgreSQL", Embedded::start_for_service(&config)).await?;
                let url = embedded.url.clone();
                self.postgres = Some(embedded);
                url
            }
        };
        config.postgres_url = Some(url.clone());
        step("migrations", database::migrate(&url, &config)).await?;
        if demo_llm {
            let home = home::open(&config)?;
            let demo = step("demo LLM", DemoLlm::start(&home)).await?;
            demo.configure(&mut config);
            self.demo_llm = Some(demo);
        }
        Ok(step("embedding model", Core::open(config)).await?)
    }

    /// Waits until one of them ends by itself, and says why; for ever if none does.
    async fn failed(&mut self) -> anyhow::Error {
        match &mut self.postgres {
            Some(postgres) => postgres.failed().await,
            None => std::future::pending().await,
        }
    }

    async fn stop(self) {
        if let Some(demo_llm) = self.demo_llm {
            demo_llm.stop().await;
        }
        if let Some(postgres) = self.postgres {
            postgres.stop().await;
        }
    }
}

/// Serves until `stop`, or until a part fails.
async fn serve(
    core: Core,
    listener: TcpListener,
    helpers: &mut Helpers,
    stop: CancellationToken,
) -> Result<()> {
    let welcome = Welcome {
        address: listener.local_addr()?,
        database: helpers
            .postgres
            .as_ref()
            .map(|postgres| postgres.elsewhere.clone()),
        demo_llm: helpers.demo_llm.is_some(),
        llm_answers: Llm::new(&core.config.llm, core.config.llm_timeout)?
            .ping()
            .await,
    };
    let mut api = tokio::spawn(companion_api::serve(core.clone(), listener, stop.clone()));
    let mut worker = tokio::spawn(companion_worker::run(core.clone(), stop.clone()));
    line(welcome.text(&core.config));

    let (mut api_ended, mut worker_ended) = (false, false);
    let result = tokio::select! {
        // Told to stop, the others end too: that is not by themselves.
        biased;
        () = stop.cancelled() => Ok(()),
        ended = &mut api => { api_ended = true; unexpected("the API", ended) }
        ended = &mut worker => { worker_ended = true; unexpected("the worker", ended) }
        error = helpers.failed() => Err(error),
    };
    if result.is_ok() {
        note("Stopping; running replies have 30 s to finish. A second Ctrl-C ends them.");
    }
    // The others stop too, whatever the reason.
    stop.cancel();
    let finish = async {
        if !api_ended {
            api.await.context("the API failed")??;
        }
        if !worker_ended {
            worker.await.context("the worker failed")??;
        }
        anyhow::Ok(())
    };
    let finished = match tokio::time::timeout(STOP_WITHIN, finish).await {
        Ok(finished) => finished,
        Err(_) => Err(anyhow!(
            "some work did not finish within {} s",
            STOP_WITHIN.as_secs()
        )),
    };
    core.close().await;
    result.and(finished)
}

/// Why a part ended that should go on until it is told to stop.
fn unexpected(part: &str, ended: Result<Result<()>, tokio::task::JoinError>) -> Result<()> {
    ended
        .with_context(|| format!("{part} failed"))?
        .with_context(|| format!("{part} failed"))?;
    Err(anyhow!("{part} ended by itself"))
}
