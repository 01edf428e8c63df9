//! Commands in, queries out: the HTTP API.
//!
//! `commands/` holds what changes something and ends in an append to the log, `queries/` what reads
//! a read model. A request passes `http` (ids, traces, errors), then `auth`, then its operation.

mod app;
mod auth;
mod body;
mod code;
mod commands;
mod cors;
mod error;
mod following;
mod header;
mod http;
mod if_match;
mod limits;
mod merged;
mod openapi;
mod owned;
mod page;
mod queries;
mod replies;
mod request_id;

use std::time::Duration;

use anyhow::Context;
use companion_adapters::cancellation::Asked;
use companion_adapters::core::Core;
use companion_adapters::vectors::models;
use companion_adapters::{cancellation, metrics, progress};
use poem::Server;
use poem::listener::TcpAcceptor;
use tokio_util::sync::CancellationToken;

use crate::app::App;

/// How long running replies may take to finish when the process stops.
const STOP_WITHIN: Duration = Duration::from_secs(30);
/// How long their last events may take to reach the clients after that.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// How long a connection may be without a byte either way. A whole reply may take long to come.
const IDLE: Duration = Duration::from_mins(15);
/// How often the process says that it lives: it holds the leases of its running replies.
const HEARTBEAT: Duration = Duration::from_secs(5);
const HEARTBEAT_RETRY: Duration = Duration::from_millis(250);

/// Binds the address that the API listens on. Small pieces of a stream leave at once.
///
/// # Errors
/// A sentence that says what to do, when the address can't be had.
pub fn bind(address: std::net::SocketAddr) -> anyhow::Result<tokio::net::TcpListener> {
    let bind = || {
        let socket = if address.is_ipv4() {
            tokio::net::TcpSocket::new_v4()?
        } else {
            tokio::net::TcpSocket::new_v6()?
        };
        socket.set_reuseaddr(true)?;
        // Accepted connections inherit it.
        socket.set_nodelay(true)?;
        socket.bind(address)?;
        socket.listen(1024)
    };
    bind().map_err(|error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AddrInUse => anyhow::anyhow!(
            "port {} of {} is taken; stop what uses it or choose another, for example PORT={}",
            address.port(),
            address.ip(),
            if address.port() == u16::MAX {
                8000
            } else {
                address.port() + 1
            },
        ),
        _ => anyhow::anyhow!("{address} can't be listened on: {error}; check HOST and PORT"),
    })
}

/// Serves the API until `shutdown`, then lets running replies finish.
///
/// # Errors
/// When the client for the LLM can't be made or the listener fails.
pub async fn serve(
    core: Core,
    listener: tokio::net::TcpListener,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    metrics::init()?;
    let app = App::new(core.clone())?;
    progress::heartbeat(&core.pool, app.process)
        .await
        .context("the database does not answer")?;
    let heart = tokio::spawn(beat(app.clone()));
    let ear = tokio::spawn(hear(app.clone()));
    let acceptor = TcpAcceptor::from_tokio(listener)?;
    let stop = shutdown.clone();
    let replies = app.replies.clone();
    tokio::spawn(async move {
        stop.cancelled().await;
        replies.stop_within(STOP_WITHIN).await;
    });
    let served = Server::new_with_acceptor(acceptor)
        .idle_timeout(IDLE)
        .run_with_graceful_shutdown(
            http::routes(app.clone()),
            shutdown.cancelled_owned(),
            Some(STOP_WITHIN + LAST_WORDS),
        )
        .await;
    app.replies.stop_within(STOP_WITHIN).await;
    heart.abort();
    ear.abort();
    if let Err(error) = progress::farewell(&core.pool, app.process).await {
        tracing::warn!("the process could not say farewell: {error}");
    }
    Ok(served?)
}

async fn beat(app: App) {
    let mut pause = HEARTBEAT;
    let mut told = false;
    loop {
        tokio::time::sleep(pause).await;
        let former = models::tell_if_former(&app.core.pool, &app.core.config, told).await;
        // When the database is away, what comes next says so.
        told = former.unwrap_or(told);
        pause = match progress::heartbeat(&app.core.pool, app.process).await {
            Ok(()) => HEARTBEAT,
            Err(error) => {
                tracing::warn!("the process could not say that it lives: {error}");
                HEARTBEAT_RETRY
            }
        };
        if let Err(error) = commands::reply::end_own_lost(&app).await {
            tracing::warn!("lost replies could not be ended: {error}");
        }
        app.limits.tidy();
        metrics::upkeep();
    }
}

/// Stops replies of this process that another process is asked to stop.
async fn hear(app: App) {
    loop {
        let heard = |asked| match asked {
            None => app.core.forget_all(),
            Some(Asked::Reply(reply)) => {
                if let Some(running) = app.replies.find(reply) {
                    running.cancel();
                }
            }
            Some(Asked::User(user)) => {
                app.replies.cancel_of(user);
                let core = app.core.clone();
                tokio::spawn(async move { core.forget(user).await });
            }
            Some(Asked::Loaded(user)) => {
                let indexes = app.core.indexes.clone();
                tokio::spawn(async move {
                    match user {
                        Some(user) => indexes.forget(user).await,
                        None => indexes.forget_all(),
                    }
                });
            }
        };
        if let Err(error) = cancellation::listen(&app.core.pool, heard).await {
            tracing::warn!("cancelled replies of other processes are not heard of: {error}");
        }
        tokio::time::sleep(HEARTBEAT).await;
    }
}
