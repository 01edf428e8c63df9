//! Shows what a run would change: counts, and some of it in words.

use std::collections::BTreeMap;

use anyhow::Result;
use companion_adapters::reextractions::{self, Reader, Run, RunState};
use companion_domain::events::MemoryRecorded;
use companion_domain::ids::UserId;
use companion_domain::reextraction::Difference;
use serde::Serialize;

use super::Reextraction;
use super::comparing::Counts;
use crate::operator::{Interrupted, Manner, Operator, Progress};
use crate::output::{line, note};
use crate::printable::printable;

/// How many of each kind are shown in words.
const SAMPLES: usize = 10;

#[derive(Debug, Default, Serialize)]
struct Shown {
    run: String,
    state: &'static str,
    users: usize,
    messages: usize,
    portions: usize,
    read_by: BTreeMap<String, usize>,
    unusable: BTreeMap<String, usize>,
    kept: usize,
    untouched: usize,
    added: usize,
    changed: usize,
    gone: usize,
    left_out: BTreeMap<&'static str, u32>,
    samples: Samples,
}

#[derive(Debug, Default, Serialize)]
struct Samples {
    added: Vec<Sample>,
    changed: Vec<Sample>,
    gone: Vec<Sample>,
}

#[derive(Debug, Serialize)]
struct Sample {
    user: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    was: Option<Statement>,
    #[serde(skip_serializing_if = "Option::is_none")]
    becomes: Option<Statement>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

#[derive(Debug, Serialize)]
struct Statement {
    memory_id: String,
    content: String,
    kind: &'static str,
    importance: f64,
}

impl From<&MemoryRecorded> for Statement {
    fn from(memory: &MemoryRecorded) -> Self {
        Self {
            memory_id: memory.memory_id.to_string(),
            content: memory.content.clone(),
            kind: memory.kind.as_str(),
            importance: memory.importance,
        }
    }
}

pub(super) async fn show(work: &Reextraction<'_>, manner: Manner) -> Result<()> {
    let (operator, run) = (work.operator, &work.run);
    let users = reextractions::users(&operator.pool, &run.name).await?;
    let mut shown = Shown {
        run: run.name.clone(),
        state: run.state.as_str(),
        ..Shown::default()
    };
    let mut counts = Counts::default();
    let mut progress = Progress::new("users", users.len() as u64);
    for reader in &users {
        if operator.stop.is_cancelled() {
            return Err(Interrupted::with(
                "Nothing was changed; what was read is kept.",
            ));
        }
        if let Some(compared) = work.compare(reader.user).await? {
            shown.users += 1;
            counts.add(compared.counts);
            shown.take(reader, &compared.difference);
            let version = compared.beliefs.version;
            reextractions::note_shown(&operator.pool, &run.name, reader.user, version).await?;
        }
        progress.advance(1);
    }
    progress.finish();
    shown.messages = counts.messages;
    shown.portions = counts.portions;
    shown.read_by = counts.by;
    shown.unusable = counts.unusable;
    manner.print(&shown, || shown.told())
}

impl Shown {
    fn take(&mut self, reader: &Reader, difference: &Difference) {
        let user = reader.external_id.clone();
        let user = user.unwrap_or_else(|| reader.user.to_string());
        let sample = |was: Option<&MemoryRecorded>,
                      becomes: Option<&MemoryRecorded>,
                      why: Option<&String>| Sample {
            user: user.clone(),
            was: was.map(Statement::from),
            becomes: becomes.map(Statement::from),
            why: why.cloned(),
        };
        self.kept += difference.kept;
        self.untouched += difference.untouched;
        self.added += difference.added.len();
        self.changed += difference.changed.len();
        self.gone += difference.gone.len();
        for (why, count) in &difference.left_out {
            *self.left_out.entry(why).or_default() += count;
        }
        let samples = &mut self.samples;
        let added = difference
            .added
            .iter()
            .map(|a| sample(None, Some(&a.memory), None));
        samples.added.extend(added);
        let changed = difference.changed.iter();
        let changed = changed.map(|c| sample(Some(&c.old), Some(&c.memory), None));
        samples.changed.extend(changed);
        let gone = difference
            .gone
            .iter()
            .map(|g| sample(Some(&g.old), None, Some(&g.why)));
        samples.gone.extend(gone);
        for samples in [&mut samples.added, &mut samples.changed, &mut samples.gone] {
            samples.truncate(SAMPLES);
        }
    }

    fn told(&self) -> String {
        let list = |counts: &BTreeMap<String, usize>| {
            let count = |(name, count): (&String, &usize)| format!("{name} {count}");
            counts.iter().map(count).collect::<Vec<_>>().join(", ")
        };
        let Self { run, .. } = self;
        let mut lines = vec![format!(
            "run {run}: {} messages of {} users in {} portions, read by: {}",
            self.messages,
            self.users,
            self.portions,
            list(&self.read_by)
        )];
        if !self.unusable.is_empty() {
            lines.push(format!(
                "portions in which the LLM gave nothing usable: {}",
                list(&self.unusable)
            ));
        }
        lines.push(format!(
            "{} kept, {} added, {} changed, {} gone; {} not touched",
            self.kept, self.added, self.changed, self.gone, self.untouched
        ));
        for (why, count) in &self.left_out {
            lines.push(format!("{count} left out: {why}"));
        }
        let samples = &self.samples;
        for (name, samples) in [
            ("added", &samples.added),
            ("changed", &samples.changed),
            ("gone", &samples.gone),
        ] {
            for Sample {
                user, was, becomes, ..
            } in samples
            {
                let text = |s: &Option<Statement>| s.as_ref().map(|s| printable(&s.content));
                let texts = [text(was), text(becomes)].into_iter().flatten();
                let texts = texts.collect::<Vec<_>>().join("  ->  ");
                lines.push(format!("  {name:<8} {user}  {texts}"));
            }
        }
        lines.push(format!("make it so:    companion reextract --apply {run}"));
        lines.push(format!(
            "throw it away: companion reextract --discard {run}"
        ));
        lines.join("\n")
    }
}

#[derive(Debug, Serialize)]
struct Listed<'a> {
    run: &'a str,
    state: RunState,
    made_at: String,
    applied_at: Option<String>,
    method: &'a str,
    prompt: Option<&'a str>,
    prompt_hash: Option<&'a str>,
    model: Option<&'a str>,
    endpoint: Option<&'a str>,
    /// The user's id in the log; `null` for all.
    user_id: Option<UserId>,
    since: Option<String>,
}

impl<'a> From<&'a Run> for Listed<'a> {
    fn from(run: &'a Run) -> Self {
        let settings = &run.settings;
        Self {
            run: &run.name,
            state: run.state,
            made_at: run.made_at.to_rfc3339(),
            applied_at: run.applied_at.map(|at| at.to_rfc3339()),
            method: &settings.method,
            prompt: settings.prompt_id.as_deref(),
            prompt_hash: settings.prompt_hash.as_deref(),
            model: settings.model.as_deref(),
            endpoint: settings.endpoint.as_deref(),
            user_id: settings.user,
            since: settings.since.map(|at| at.to_rfc3339()),
        }
    }
}

pub(super) async fn list(operator: &Operator, manner: Manner) -> Result<()> {
    let runs = reextractions::list(&operator.pool).await?;
    let listed: Vec<Listed<'_>> = runs.iter().map(Listed::from).collect();
    if manner.report.json {
        line(serde_json::to_string(&listed)?);
        return Ok(());
    }
    if listed.is_empty() {
        note("There is no run yet.");
    }
    for run in listed {
        line(format_args!(
            "{}  {:<11}  {}  prompt {}  model {} at {}  of {}{}",
            run.run,
            run.state.as_str().replace('_', " "),
            run.method,
            printable(run.prompt.unwrap_or("-")),
            printable(run.model.unwrap_or("-")),
            printable(run.endpoint.unwrap_or("-")),
            run.user_id
                .map_or_else(|| "all".to_owned(), |user| format!("user {user}")),
            run.since
                .map_or_else(String::new, |at| format!(" since {at}")),
        ));
    }
    Ok(())
}
