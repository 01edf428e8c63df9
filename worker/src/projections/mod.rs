//! The read models, built from events in one transaction with the checkpoint.
//!
//! Each file holds what one read model takes from an event: which rows the event touches, and what
//! becomes of them. Both are functions of what is in memory; the rows are taken in for a whole page of
//! events before, and written after ([`companion_adapters::read_models`]). A replay does the same with
//! the whole log. Nothing here can call an LLM.

mod api_keys;
mod buffer;
mod conversations;
mod memories;
mod search;
mod users;

use companion_adapters::core::Core;
use companion_adapters::log::subscription::{Page, READ_MODELS};
use companion_adapters::read_models::{self, Manner, Touched};
use companion_adapters::telemetry;
use companion_domain::events::Recorded;
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

pub use self::search::SEARCH;
use crate::subscription::{self, Subscriber};

/// How a read model is built.
#[derive(Debug, Clone, Copy)]
pub struct Projection {
    /// The name by which the operator knows it.
    pub name: &'static str,
    /// The tables that it alone writes.
    pub tables: &'static [&'static str],
    /// Whether it stamps rows with the search's count, so that it needs [`SEARCH`] beside it.
    pub stamps: bool,
    touch: fn(&Recorded, &mut Touched),
    apply: fn(&Recorded, &mut read_models::ReadModels),
}

impl Projection {
    const fn new(
        name: &'static str,
        tables: &'static [&'static str],
        touch: fn(&Recorded, &mut Touched),
        apply: fn(&Recorded, &mut read_models::ReadModels),
    ) -> Self {
        Self {
            name,
            tables,
            stamps: false,
            touch,
            apply,
        }
    }
}

/// All projections, in the order in which they take an event in: the search's count comes before those
/// that stamp their rows with it.
pub const ALL: [Projection; 5] = [
    users::USERS,
    api_keys::API_KEYS,
    SEARCH,
    conversations::CONVERSATIONS,
    memories::MEMORIES,
];

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
        let events: Vec<&Recorded> = page.events.iter().collect();
        project(transaction, &events, &ALL, Manner::Live, true).await?;
        Ok(())
    }

    async fn committed(&mut self, page: &Page) {
        buffer::project(&self.core.buffer, &page.events).await;
    }
}

/// Takes events into some of the read models, those that the connection's search path leads to. Whoever is
/// not `doubtful` relies on it that what an event brings has a new id: the keys of the tables guard that,
/// and the events have to be taken again by a doubtful one when they refuse.
///
/// # Errors
/// When the database fails.
pub async fn project(
    connection: &mut PgConnection,
    events: &[&Recorded],
    projections: &[Projection],
    manner: Manner,
    doubtful: bool,
) -> Result<(), sqlx::Error> {
    let mut touched = Touched::new(doubtful);
    for projection in projections {
        for recorded in events {
            (projection.touch)(recorded, &mut touched);
        }
    }
    let mut models = read_models::ReadModels::load(&mut *connection, &touched).await?;
    for recorded in events {
        let mut apply = || {
            projections
                .iter()
                .for_each(|p| (p.apply)(recorded, &mut models));
        };
        match manner {
            Manner::Live => span_of(recorded).in_scope(apply),
            // Of a million spans nobody would look at one.
            Manner::Replay => apply(),
        }
    }
    models.write(connection, manner).await
}

/// The span in which an event is taken in, in the trace of the request that appended it.
fn span_of(recorded: &Recorded) -> tracing::Span {
    let span = tracing::info_span!(
        "project",
        stream.id = recorded.stream.as_str(),
        event.position = recorded.position,
        event.r#type = recorded.event.type_name(),
    );
    telemetry::set_parent(&span, recorded.metadata.traceparent.as_deref());
    span
}
