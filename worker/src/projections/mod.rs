//! The read models, built from events in one transaction with the checkpoint.
//!
//! Each file holds what one read model takes from an event; the tables and their SQL live beside
//! the queries in `companion-adapters`. Nothing here can call an LLM.

mod api_keys;
mod buffer;
mod conversations;
mod memories;
mod search;
mod users;

use companion_adapters::core::Core;
use companion_adapters::subscription::{Page, READ_MODELS};
use companion_adapters::telemetry;
use companion_domain::events::Recorded;
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::subscription::{self, Subscriber};

/// Keeps the read models up to date until shutdown.
pub(crate) async fn run(core: Core, shutdown: CancellationToken) {
    let subscriber = ReadModels { core: core.clone() };
    subscription::run(core, subscriber, shutdown).await;
}

struct ReadModels {
    core: Core,
}

impl Subscriber for ReadModels {
    const NAME: &'static str = READ_MODELS;

    async fn handle(&mut self, transaction: &mut PgConnection, page: &Page) -> anyhow::Result<()> {
        for recorded in &page.events {
            let span = tracing::info_span!(
                "project",
                stream.id = recorded.stream.as_str(),
                event.position = recorded.position,
                event.r#type = recorded.event.type_name(),
            );
            telemetry::set_parent(&span, recorded.metadata.traceparent.as_deref());
            project(transaction, recorded).instrument(span).await?;
        }
        Ok(())
    }

    async fn committed(&mut self, page: &Page) {
        buffer::project(&self.core.buffer, &page.events).await;
    }
}

/// Applies one event to every read model.
async fn project(transaction: &mut PgConnection, recorded: &Recorded) -> Result<(), sqlx::Error> {
    users::project(transaction, recorded).await?;
    api_keys::project(transaction, recorded).await?;
    // Before the rows that are stamped with the change.
    search::project(transaction, recorded).await?;
    conversations::project(transaction, recorded).await?;
    memories::project(transaction, recorded).await
}
