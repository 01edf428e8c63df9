//! Applies a run, takes it back, or throws it away.

use std::process::ExitCode;

use anyhow::{Result, bail};
use chrono::{DateTime, Utc};
use companion_adapters::embedder::content_hash;
use companion_adapters::log::event_store::{AppendError, Expected};
use companion_adapters::reextractions::{self, Reader, Run, RunState};
use companion_adapters::vectors;
use companion_domain::events::{Event, Metadata};
use companion_domain::ids::{StreamId, UserId};
use companion_domain::reextraction;
use serde::Serialize;

use super::Reextraction;
use super::comparing::Compared;
use super::reading::beliefs;
use crate::operator::{INTERRUPTED, Manner, Operator, Progress};

/// How often an append is tried against a moving memory stream.
const TRIES: usize = 20;

/// What was appended.
#[derive(Debug, Default, Serialize)]
struct Applied {
    run: String,
    state: &'static str,
    users: usize,
    added: usize,
    changed: usize,
    gone: usize,
    /// Users of whom something else was appended since the difference was shown: for them it was decided
    /// anew.
    moved: usize,
}

pub(super) async fn apply(work: &Reextraction<'_>, manner: Manner) -> Result<ExitCode> {
    let (operator, run) = (work.operator, &work.run);
    let at = reextractions::set_state(&operator.pool, &run.name, RunState::Applying).await?;
    let at = at.unwrap_or_else(Utc::now);
    let users = reextractions::users(&operator.pool, &run.name).await?;
    let mut applied = Applied {
        run: run.name.clone(),
        ..Applied::default()
    };
    let mut progress = Progress::new("users", users.len() as u64);
    for reader in users {
        if operator.stop.is_cancelled() {
            applied.state = RunState::Applying.as_str();
            manner.print(&applied, || told(&applied))?;
            return Ok(ExitCode::from(INTERRUPTED));
        }
        if !reader.applied {
            apply_to(work, &reader, at, &mut applied).await?;
        }
        progress.advance(1);
    }
    progress.finish();
    reextractions::set_state(&operator.pool, &run.name, RunState::Applied).await?;
    reextractions::forget_found(&operator.pool, &run.name).await?;
    applied.state = RunState::Applied.as_str();
    manner.print(&applied, || told(&applied))?;
    Ok(ExitCode::SUCCESS)
}

fn told(applied: &Applied) -> String {
    let Applied {
        run,
        state,
        users,
        added,
        changed,
        gone,
        moved,
    } = applied;
    let then = if *state == RunState::Applied.as_str() {
        format!("take it back with: companion reextract --rollback {run}")
    } else {
        format!("stopped; go on with: companion reextract --apply {run}")
    };
    format!(
        "run {run}: {added} added, {changed} changed, {gone} gone, for {users} users, of whom {moved} had \
         moved on since it was shown and were compared anew\n{then}"
    )
}

async fn apply_to(
    work: &Reextraction<'_>,
    reader: &Reader,
    at: DateTime<Utc>,
    applied: &mut Applied,
) -> Result<()> {
    let (operator, run, user) = (work.operator, &work.run, reader.user);
    for _ in 0..TRIES {
        let life = match operator.store.life(user).await {
            Err(AppendError::NoUser) => return Ok(()),
            life => life?,
        };
        let Some(Compared {
            beliefs,
            difference,
            ..
        }) = work.compare(user).await?
        else {
            return Ok(());
        };
        // It was, and only the note of it is missing.
        let done = beliefs.runs.contains_key(&run.name);
        let events = difference.events(&run.name, at);
        if done || events.is_empty() {
            return Ok(reextractions::note_applied(&operator.pool, &run.name, user).await?);
        }
        let metadata = Metadata {
            prompt_id: run.settings.prompt_id.clone(),
            prompt_hash: run.settings.prompt_hash.clone(),
            model: run.settings.model.clone(),
            embedding_model: Some(operator.config.embedding_model.clone()),
            ..Metadata::default()
        };
        let new = difference.added.iter().map(|added| &added.memory);
        let new = new.chain(difference.changed.iter().map(|changed| &changed.memory));
        let statements: Vec<String> = new.map(|memory| memory.content.clone()).collect();
        let (pool, embedder) = (&operator.pool, &work.embedder);
        let made = vectors::of(pool, embedder, user, statements.clone()).await?;
        let events = events
            .into_iter()
            .map(|event| (event, metadata.clone()))
            .collect();
        let expected = Expected::Version(beliefs.version);
        let stream = StreamId::memory(user);
        match operator
            .store
            .append_in(life.clone(), &stream, user, expected, events, None)
            .await
        {
            Ok(_) => {
                let hashes = statements.iter().map(|text| content_hash(text));
                let made: Vec<_> = hashes.zip(made).collect();
                vectors::keep(pool, user, &life, &made).await?;
                reextractions::note_applied(pool, &run.name, user).await?;
                applied.users += 1;
                applied.added += difference.added.len();
                applied.changed += difference.changed.len();
                applied.gone += difference.gone.len();
                applied.moved += usize::from(reader.shown_version != Some(beliefs.version));
                return Ok(());
            }
            // Something was appended meanwhile: it is decided anew.
            Err(AppendError::Conflict { .. }) => {}
            Err(AppendError::NoUser) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    bail!(
        "the memories of one user moved on {TRIES} times while they were compared; go on with: \
         companion reextract --apply {}",
        run.name
    )
}

/// What a rollback appended.
#[derive(Debug, Default, Serialize)]
struct Restored {
    run: String,
    state: &'static str,
    dry_run: bool,
    users: usize,
    restored: usize,
    closed: usize,
    /// Memories of the run that stay, and memories that it closed and that stay closed: told again,
    /// corrected or forgotten since.
    kept: usize,
    not_restored: usize,
}

pub(super) async fn roll_back(operator: &Operator, run: &Run, manner: Manner) -> Result<ExitCode> {
    if !matches!(
        run.state,
        RunState::Applying | RunState::Applied | RunState::RolledBack
    ) {
        bail!(
            "run {} was not applied, so there is nothing to take back; throw it away with: companion reextract \
             --discard {}",
            run.name,
            run.name
        );
    }
    let users = reextractions::users(&operator.pool, &run.name).await?;
    let mut restored = Restored {
        run: run.name.clone(),
        state: run.state.as_str(),
        dry_run: manner.dry_run,
        ..Restored::default()
    };
    let at = Utc::now();
    let mut progress = Progress::new("users", users.len() as u64);
    for reader in users {
        if operator.stop.is_cancelled() {
            manner.print(&restored, || {
                let run = &run.name;
                let told = told_back(&restored);
                format!("{told}\nstopped; go on with: companion reextract --rollback {run}")
            })?;
            return Ok(ExitCode::from(INTERRUPTED));
        }
        roll_back_for(operator, run, reader.user, at, manner, &mut restored).await?;
        progress.advance(1);
    }
    progress.finish();
    if !manner.dry_run {
        reextractions::set_state(&operator.pool, &run.name, RunState::RolledBack).await?;
        reextractions::forget_found(&operator.pool, &run.name).await?;
        restored.state = RunState::RolledBack.as_str();
    }
    manner.print(&restored, || told_back(&restored))?;
    Ok(ExitCode::SUCCESS)
}

fn told_back(restored: &Restored) -> String {
    let Restored {
        run,
        users,
        restored,
        closed,
        kept,
        not_restored,
        dry_run,
        ..
    } = restored;
    let would = if *dry_run { "would be " } else { "" };
    format!(
        "run {run}: {restored} {would}believed again, {closed} {would}closed, for {users} users; {kept} of the run \
         stay and {not_restored} stay closed, as they were told again, corrected or forgotten since"
    )
}

async fn roll_back_for(
    operator: &Operator,
    run: &Run,
    user: UserId,
    at: DateTime<Utc>,
    manner: Manner,
    restored: &mut Restored,
) -> Result<()> {
    for _ in 0..TRIES {
        let life = match operator.store.life(user).await {
            Err(AppendError::NoUser) => return Ok(()),
            life => life?,
        };
        let beliefs = beliefs(&operator.store, user).await?;
        let back = reextraction::roll_back(&run.name, &beliefs);
        let events: Vec<(Event, Metadata)> = back
            .events(&run.name, at)
            .into_iter()
            .map(|event| (event, Metadata::default()))
            .collect();
        let nothing = events.is_empty();
        if !nothing && !manner.dry_run {
            let stream = StreamId::memory(user);
            let expected = Expected::Version(beliefs.version);
            match operator
                .store
                .append_in(life, &stream, user, expected, events, None)
                .await
            {
                Ok(_) => {}
                Err(AppendError::Conflict { .. }) => continue,
                Err(AppendError::NoUser) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        restored.users += usize::from(!nothing);
        restored.restored += back.restored.len();
        restored.closed += back.closed.len();
        restored.kept += back.kept;
        restored.not_restored += back.not_restored;
        return Ok(());
    }
    bail!(
        "the memories of one user moved on {TRIES} times meanwhile; give the same command again: what was \
         taken back stays so"
    )
}

pub(super) async fn discard(operator: &Operator, run: &Run, manner: Manner) -> Result<ExitCode> {
    if !matches!(run.state, RunState::Reading | RunState::Read) {
        bail!(
            "run {} is {}, so there is nothing to throw away",
            run.name,
            run.state.as_str().replace('_', " ")
        );
    }
    if !manner.dry_run {
        reextractions::set_state(&operator.pool, &run.name, RunState::Discarded).await?;
        reextractions::forget_found(&operator.pool, &run.name).await?;
    }
    let result = serde_json::json!({ "run": run.name, "dry_run": manner.dry_run });
    manner.print(&result, || match manner.dry_run {
        true => format!("run {} would be thrown away", run.name),
        false => format!("run {} is thrown away; no memory was touched", run.name),
    })?;
    Ok(ExitCode::SUCCESS)
}
