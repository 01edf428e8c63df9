//! `companion bench recall`: how much of what answers a question is found, and how fast.
//!
//! A whole service is started on a scratch database. What was said is imported and asked for through
//! the public API, so that everything is measured that a client would see.

mod figures;
mod large;
mod service;
mod sets;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use companion_adapters::recall;
use companion_domain::ids::{ExternalUserId, UserId};
use companion_domain::recall::Arm;
use serde_json::{Value, json};

use self::figures::{Figures, Scored};
use self::service::Service;
use self::sets::{Person, Set};
use crate::output::{line, note};

/// How many results are asked for: the figures look at no more.
const TOP_K: usize = 20;

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The folder of the LoCoMo turn-retrieval set (`*.corpus.jsonl` and `*.queries.jsonl`)
    #[arg(long, env = "LOCOMO_DIR", value_name = "DIR")]
    locomo: Option<PathBuf>,
    /// Chats with an assistant, one JSON object a line; without it those that come with the program
    #[arg(long, value_name = "FILE")]
    chats: Option<PathBuf>,
    /// Say nothing about the captions of pictures
    #[arg(long)]
    no_captions: bool,
    /// Also time searches of made-up users with so many messages and memories, for example 3000,100000
    #[arg(long, value_delimiter = ',', value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    items: Vec<u32>,
    /// Write what was found to this file, one JSON object `{qid, ranked, ms}` a line
    #[arg(long, value_name = "FILE")]
    run_file: Option<PathBuf>,
}

/// Measures and prints.
pub(crate) async fn run(options: Options) -> Result<()> {
    if options.locomo.is_none() && options.items.is_empty() {
        bail!(
            "say where LoCoMo is: companion bench recall --locomo DIR, or LOCOMO_DIR=DIR; it is not part of this project, see ops/docs/MEMORY.md. To time made-up users alone: companion bench recall --items 3000,100000"
        );
    }
    let mut sets = Vec::new();
    if let Some(folder) = &options.locomo {
        sets.push(sets::locomo(folder, !options.no_captions)?);
        sets.push(sets::chats(options.chats.as_deref())?);
    }
    let cant_write = |file: &Path| format!("{} can't be written", file.display());
    if let Some(file) = &options.run_file {
        // Before the long work.
        std::fs::write(file, "").with_context(|| cant_write(file))?;
    }
    let service = Service::start().await?;
    let mut run = Vec::new();
    let mut measured = Ok(());
    for set in &sets {
        measured = measure(&service, set, &mut run).await;
        if measured.is_err() {
            break;
        }
    }
    if measured.is_ok() {
        for items in &options.items {
            measured = large::measure(&service, *items).await;
            if measured.is_err() {
                break;
            }
        }
    }
    service.stop().await?;
    measured?;
    if let Some(file) = &options.run_file {
        std::fs::write(file, run.concat()).with_context(|| cant_write(file))?;
    }
    Ok(())
}

/// How long things took, one figure a question.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    /// Milliseconds within which this share of them lay.
    fn within(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = (sorted.len() as f64 * share) as usize;
        sorted.get(at).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    }
}

async fn measure(service: &Service, set: &Set, run: &mut Vec<String>) -> Result<()> {
    let messages: usize = set.people.iter().map(Person::messages).sum();
    note(format_args!("{}: importing {messages} messages", set.name));
    for person in &set.people {
        for conversation in &person.conversations {
            service.import(&person.user, conversation).await?;
        }
    }
    service.settle().await?;

    let (mut searches, mut embeddings) = (Times::default(), Times::default());
    let mut engine = Vec::new();
    let mut arms: Vec<(Arm, Vec<Scored>)> = Arm::ALL.map(|arm| (arm, Vec::new())).into();
    for person in &set.people {
        let user = UserId::of(&ExternalUserId::parse(&person.user)?);
        // The first search loads the index.
        service.search(&person.user, "", TOP_K).await?;
        for question in &person.questions {
            // Side by side, so that both have the machine's mood in common.
            let begun = Instant::now();
            service.core.embedder.embed_query(&question.text).await?;
            embeddings.0.push(begun.elapsed());
            let begun = Instant::now();
            let ranked = service.search(&person.user, &question.text, TOP_K).await?;
            let took = begun.elapsed();
            searches.0.push(took);
            run.push(format!(
                "{}\n",
                json!({"qid": question.id, "ranked": ranked, "ms": took.as_secs_f64() * 1e3})
            ));
            engine.push(Scored::of(question, &ranked));

            let index = service.core.indexes.fresh(&service.core.pool, user).await?;
            let asked = recall::ask(&service.core, user, &question.text).await?;
            for (arm, scored) in &mut arms {
                let hits =
                    recall::by_arm(&service.core, &index, &asked, &question.text, *arm, TOP_K);
                let ids = hits.await.into_iter().map(|hit| service.external(hit.id));
                scored.push(Scored::of(question, &ids.collect::<Vec<_>>()));
            }
        }
    }
    line(format_args!("\n{} ({messages} messages)", set.name));
    line(figures::heading());
    for (category, name) in &set.categories {
        let of = engine
            .iter()
            .filter(|scored| category.is_none_or(|c| scored.category == c));
        let counted = of.filter(|scored| category.is_some() || set.is_counted(scored.category));
        line(Figures::mean(counted).row(name));
    }
    for (arm, scored) in &arms {
        let counted = scored
            .iter()
            .filter(|scored| set.is_counted(scored.category));
        line(Figures::mean(counted).row(arm.name()));
    }
    line(format_args!(
        "search over HTTP: p50 {:.1} ms, p95 {:.1} ms; embedding the query alone: p50 {:.1} ms, p95 {:.1} ms",
        searches.within(0.5),
        searches.within(0.95),
        embeddings.within(0.5),
        embeddings.within(0.95),
    ));
    Ok(())
}

/// The text of a member of a JSON object.
fn text<'a>(object: &'a Value, member: &str) -> Result<&'a str> {
    let text = object.get(member).and_then(Value::as_str);
    text.with_context(|| format!("a line has no text \"{member}\""))
}
