//! Which messages a run reads, and reading them, portion by portion; each is kept before the next is read.

use std::collections::HashSet;
use std::process::ExitCode;

use anyhow::Result;
use chrono_tz::Tz;
use companion_adapters::llm::Llm;
use companion_adapters::log::event_store::EventStore;
use companion_adapters::reextractions::{self, Found, PortionRow, Run, RunState, Settings};
use companion_adapters::vault::{DataKey, VaultError};
use companion_adapters::{messages, vectors};
use companion_domain::extraction::{SaidMessage, said_messages};
use companion_domain::ids::{MessageId, StreamId, UserId};
use companion_domain::reextraction::{self, Beliefs, Portion, Read, Said, Shadow, portions};
use serde_json::json;

use super::Reextraction;
use crate::operator::{Interrupted, Manner, Operator, Progress};

/// Events of a conversation that are read at once.
const PAGE: i64 = 500;
/// How many known memories the LLM is told, and how many for each message.
const MAX_KNOWN: usize = 20;
const KNOWN_EACH: usize = 8;

/// What is believed of a user.
pub(super) async fn beliefs(store: &EventStore, user: UserId) -> Result<Beliefs> {
    let events = store.read_stream(&StreamId::memory(user), 0).await?;
    Ok(Beliefs::of(&events))
}

/// The key of a user; `None` for one who was erased.
pub(super) async fn key(operator: &Operator, user: UserId) -> Result<Option<DataKey>> {
    match operator.store.vault().key(&operator.pool, user).await {
        Ok(key) => Ok(Some(key)),
        Err(VaultError::NoKey) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What a run with these settings reads of a user: what the user said, was read for facts before, and has
/// not cleared.
async fn to_read(operator: &Operator, settings: &Settings, user: UserId) -> Result<Vec<Portion>> {
    let beliefs = beliefs(&operator.store, user).await?;
    let zone = messages::timezone(&operator.pool, user).await?;
    let mut all: Vec<Said> = Vec::new();
    for (conversation, cursor) in &beliefs.cursors {
        let mut from = beliefs.cleared.get(conversation).copied().unwrap_or(0);
        while from < *cursor {
            let stream = StreamId::conversation(*conversation);
            let events = operator.store.read_some(&stream, from, PAGE).await?;
            let Some(last) = events.last() else { break };
            from = last.version;
            for recorded in events.iter().filter(|event| event.version <= *cursor) {
                let said = said_messages(recorded, zone);
                let recent =
                    |message: &SaidMessage| settings.since.is_none_or(|since| message.at >= since);
                all.extend(said.into_iter().filter(recent).map(|message| Said {
                    message,
                    conversation: *conversation,
                    version: recorded.version,
                    position: recorded.position,
                }));
            }
        }
    }
    Ok(portions(all))
}

/// Says what a new run would read, or one that was interrupted would go on to read, and reads nothing.
pub(super) async fn foresee(
    operator: &Operator,
    settings: &Settings,
    begun: Option<&Run>,
    manner: Manner,
) -> Result<ExitCode> {
    let (pool, name) = (&operator.pool, begun.map_or("", |run| &run.name));
    let new = reextractions::not_planned(pool, name, settings.user).await?;
    let (mut users, mut read, mut portions) = (new.len(), 0, 0);
    for user in new {
        if operator.stop.is_cancelled() {
            return Err(Interrupted::with("Nothing was changed."));
        }
        for portion in to_read(operator, settings, user).await? {
            read += portion.messages.len();
            portions += 1;
        }
    }
    if begun.is_some() {
        for reader in reextractions::users(pool, name).await? {
            let planned = reextractions::portions(pool, name, reader.user).await?;
            let left: Vec<&PortionRow> = planned.iter().filter(|row| !row.is_read()).collect();
            users += usize::from(!left.is_empty());
            read += left.iter().map(|row| row.messages().count()).sum::<usize>();
            portions += left.len();
        }
    }
    let result = json!({ "users": users, "messages": read, "portions": portions });
    manner.print(&result, || {
        let goes_on = match begun {
            Some(run) => format!(" as run {} goes on", run.name),
            None => String::new(),
        };
        format!(
            "{users} users, {read} messages in {portions} portions would be read{goes_on}; nothing was done"
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

impl Reextraction<'_> {
    /// Reads what is not read yet; `false` when it was told to stop.
    pub(super) async fn read(&mut self, llm: &Llm) -> Result<bool> {
        let (operator, run) = (self.operator, &self.run);
        let (pool, stop) = (&operator.pool, &operator.stop);
        let users = reextractions::not_planned(pool, &run.name, run.settings.user).await?;
        let mut progress = Progress::new("users looked at", users.len() as u64);
        for user in users {
            if stop.is_cancelled() {
                return Ok(false);
            }
            let portions = to_read(operator, &run.settings, user).await?;
            reextractions::plan(pool, &run.name, user, &portions).await?;
            progress.advance(1);
        }
        progress.finish();
        let left = reextractions::unread(pool, &run.name).await?;
        let mut progress = Progress::new("portions", left.unsigned_abs());
        let users = reextractions::users(pool, &run.name).await?;
        for reader in users {
            if !self.read_user(llm, reader.user, &mut progress).await? {
                return Ok(false);
            }
        }
        progress.finish();
        reextractions::set_state(pool, &self.run.name, RunState::Read).await?;
        self.run.state = RunState::Read;
        Ok(true)
    }

    async fn read_user(&self, llm: &Llm, user: UserId, progress: &mut Progress) -> Result<bool> {
        let (operator, run) = (self.operator, &self.run.name);
        let portions = reextractions::portions(&operator.pool, run, user).await?;
        if portions.iter().all(PortionRow::is_read) {
            return Ok(true);
        }
        let Some(key) = key(operator, user).await? else {
            return Ok(true);
        };
        let zone = messages::timezone(&operator.pool, user).await?;
        let beliefs = beliefs(&operator.store, user).await?;
        let all: HashSet<MessageId> = portions.iter().flat_map(PortionRow::messages).collect();
        let mut shadow = self.shadow(user, &beliefs, &all).await?;
        for portion in &portions {
            let found = if portion.is_read() {
                portion.open(run, user, &key)?
            } else {
                if operator.stop.is_cancelled() {
                    return Ok(false);
                }
                // Nothing of somebody who was erased meanwhile goes to an LLM.
                let vault = operator.store.vault();
                if !vault.is_in_force(&operator.pool, user, &key).await? {
                    return Ok(true);
                }
                let found = self
                    .read_portion(llm, user, zone, portion, &mut shadow)
                    .await?;
                let kept = found.as_ref().map_err(|reason| *reason);
                reextractions::keep(&operator.pool, run, user, &key, portion, kept).await?;
                progress.advance(1);
                found.ok()
            };
            if let Some(found) = found {
                self.take(user, &mut shadow, portion, found).await?;
            }
        }
        Ok(true)
    }

    async fn read_portion(
        &self,
        llm: &Llm,
        user: UserId,
        zone: Tz,
        portion: &PortionRow,
        shadow: &mut Shadow,
    ) -> Result<Result<Found, &'static str>> {
        let stream = StreamId::conversation(portion.conversation());
        let store = &self.operator.store;
        let events = store.read_versions(&stream, &portion.versions).await?;
        let wanted: HashSet<MessageId> = portion.messages().collect();
        let messages: Vec<SaidMessage> = events
            .iter()
            .flat_map(|recorded| said_messages(recorded, zone))
            .filter(|message| wanted.contains(&message.id))
            .collect();
        let mut known = Vec::new();
        if self.run.settings.model.is_some() {
            let texts = messages.iter().map(|m| m.content.clone()).collect();
            let vectors = vectors::of(&self.operator.pool, &self.embedder, user, texts).await?;
            for statement in vectors.iter().flat_map(|v| shadow.nearest(v, KNOWN_EACH)) {
                if known.len() < MAX_KNOWN && !known.contains(&statement) {
                    known.push(statement);
                }
            }
        }
        self.find(llm, user, &messages, &known).await
    }

    /// The shadow before anything of these messages is read.
    pub(super) async fn shadow(
        &self,
        user: UserId,
        beliefs: &Beliefs,
        read: &HashSet<MessageId>,
    ) -> Result<Shadow> {
        let statements = reextraction::statements(beliefs)
            .map(str::to_owned)
            .collect();
        let vectors = self.vectors(user, statements).await?;
        Ok(Shadow::new(
            user,
            beliefs,
            read,
            vectors.into_iter().collect(),
        ))
    }

    /// Takes what was found in a portion into the shadow.
    pub(super) async fn take(
        &self,
        user: UserId,
        shadow: &mut Shadow,
        portion: &PortionRow,
        found: Found,
    ) -> Result<()> {
        let statements = found.candidates.iter().map(|c| c.content.clone()).collect();
        shadow.learn(self.vectors(user, statements).await?);
        shadow.take(&Read {
            conversation: portion.conversation(),
            candidates: found.candidates,
        });
        Ok(())
    }

    async fn vectors(
        &self,
        user: UserId,
        statements: Vec<String>,
    ) -> Result<Vec<(String, Vec<f32>)>> {
        let pool = &self.operator.pool;
        let vectors = vectors::of(pool, &self.embedder, user, statements.clone()).await?;
        let pairs = statements.into_iter().zip(vectors);
        Ok(pairs
            .map(|(text, vector)| (text, vector.to_vec()))
            .collect())
    }
}
