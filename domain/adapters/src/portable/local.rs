//! What the log already has of a stream that a file speaks of.

use std::collections::HashMap;

use companion_domain::events::Event;
use companion_domain::ids::{ReplyId, StreamId, UserId};
use companion_domain::portable::redaction::Redaction;
use companion_domain::portable::survey;
use futures_util::TryStreamExt;
use uuid::Uuid;

use crate::log::event_store::{self, EventRow, EventStore, Life, ReadError, select_events};

/// A stream as it is here.
#[derive(Debug, Default)]
pub(super) struct Local {
    /// The version that it is at; 0 when there is none.
    pub(super) expected: i64,
    /// The highest version that was ever given in it, also in a former life of the user.
    pub(super) last: i64,
    /// Whether it has a beginning.
    pub(super) begun: bool,
    /// Whether the user threw the conversation away.
    pub(super) deleted: bool,
    /// The reply that runs, and whether it came from a file.
    pub(super) running: Option<(ReplyId, bool)>,
    /// The events by their ids, or by those that they had where they come from, with their versions.
    pub(super) known: HashMap<Uuid, i64>,
    /// The versions of the file with those that stand for them here, from the first that differs on.
    renumbered: Vec<(i64, i64)>,
}

impl Local {
    /// Reads what there is.
    pub(super) async fn load(
        store: &EventStore,
        life: &Life,
        user: UserId,
        stream: &StreamId,
    ) -> Result<Self, ReadError> {
        let expected: Option<i64> =
            sqlx::query_scalar("SELECT version FROM streams WHERE stream_id = $1 AND user_id = $2")
                .bind(stream.as_str())
                .bind(user.0)
                .fetch_optional(store.pool())
                .await?;
        let mut local = Self {
            expected: expected.unwrap_or(0),
            ..Self::default()
        };
        let mut asked = None;
        let mut rows = sqlx::query_as::<_, (i64, Uuid, String, Option<Uuid>, bool)>(
            "SELECT version, event_id, type, (meta ->> 'origin')::uuid, key_id = $2 FROM events
             WHERE stream_id = $1 ORDER BY version",
        )
        .bind(stream.as_str())
        .bind(life.key().id)
        .fetch(store.pool());
        while let Some((version, id, type_name, origin, readable)) = rows.try_next().await? {
            local.last = version;
            if !readable {
                continue;
            }
            local.known.insert(origin.unwrap_or(id), version);
            match type_name.as_str() {
                "ConversationStarted" => local.begun = true,
                "ConversationDeleted" => local.deleted = true,
                "UserMessageReceived" | "ReplyRequested" => {
                    asked = Some((version, origin.is_some()));
                }
                "ReplyCompleted" | "ReplyFailed" | "ReplyCancelled" => asked = None,
                _ => {}
            }
        }
        drop(rows);
        if let Some((version, ours)) = asked {
            let events = store.read_versions(stream, &[version]).await?;
            local.running = events
                .first()
                .and_then(|recorded| asked_for(&recorded.event))
                .map(|reply| (reply, ours));
        }
        Ok(local)
    }

    /// The version that the next event gets: that of the file where it is free. And how many are left
    /// out before it.
    pub(super) fn give(&mut self, version: i64) -> (i64, i64) {
        let next = self.last + 1;
        let given = version.max(next);
        self.last = given;
        self.stands_for(version, given);
        (given, given - next)
    }

    /// Notes which version here stands for one of the file.
    pub(super) fn stands_for(&mut self, version: i64, here: i64) {
        if version != here || !self.renumbered.is_empty() {
            self.renumbered.push((version, here));
        }
    }

    /// What is known of how versions were given, as far as it is in the log.
    pub(super) fn renumbered(self) -> Vec<(i64, i64)> {
        let expected = self.expected;
        let mut renumbered = self.renumbered;
        renumbered.retain(|(_, here)| *here <= expected);
        renumbered
    }

    /// Takes over what was known before the stream was looked at again.
    pub(super) fn renumber(&mut self, renumbered: Vec<(i64, i64)>) {
        self.renumbered = renumbered;
    }

    /// Up to where a place of the file reaches here.
    pub(super) fn here(&self, version: i64) -> i64 {
        let before = self
            .renumbered
            .iter()
            .rev()
            .find(|(file, _)| *file <= version);
        before.map_or(version, |(_, here)| *here)
    }

    /// Takes in how an event that is appended here changes what runs.
    pub(super) fn run(&mut self, event: &Event) {
        if let Some(reply) = asked_for(event) {
            self.running = Some((reply, true));
        }
        if survey::ended(event).is_some() {
            self.running = None;
        }
    }
}

/// The reply that an event asks for.
pub(super) fn asked_for(event: &Event) -> Option<ReplyId> {
    match event {
        Event::UserMessageReceived(event) => Some(event.reply_id),
        Event::ReplyRequested(event) => Some(event.reply_id),
        _ => None,
    }
}

/// Takes in what a user has forgotten and thrown away, from the transaction `from_xid` on.
pub(super) async fn learn(
    redaction: &mut Redaction,
    store: &EventStore,
    user: UserId,
    from_xid: i64,
) -> Result<(), ReadError> {
    let mut connection = store.pool().acquire().await?;
    let rows: Vec<EventRow> = sqlx::query_as(select_events!(
        "WHERE e.user_id = $1 AND e.xid >= $2::text::xid8 AND e.type = ANY($3) ORDER BY e.xid, e.position"
    ))
    .bind(user.0)
    .bind(from_xid.to_string())
    .bind(Redaction::TYPES)
    .fetch_all(&mut *connection)
    .await?;
    let opened = event_store::open(store.vault(), &mut connection, rows).await?;
    for recorded in &opened {
        redaction.learn(recorded);
    }
    Ok(())
}

/// The oldest transaction that still runs: what later ones write is not visible yet.
pub(super) async fn oldest_running(store: &EventStore) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
        .fetch_one(store.pool())
        .await
}
