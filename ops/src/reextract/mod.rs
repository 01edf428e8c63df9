//! `companion reextract`: the same messages, read again with another prompt, model or method. A run reads
//! into a shadow and shows what would change; applying it appends events that supersede, and rolling it back
//! appends others.

mod acting;
mod asking;
mod comparing;
mod reading;
mod report;
mod settings;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use chrono::{DateTime, Utc};
use clap::ValueEnum;
use companion_adapters::config::ExtractionMode;
use companion_adapters::database;
use companion_adapters::embedder::Embedder;
use companion_adapters::reextractions::{self, Run, RunState, Settings};
use companion_domain::ids::ExternalUserId;
use sqlx::PgConnection;

use crate::moment::moment;
use crate::operator::{Interrupted, Manner, Operator, user};
use crate::output::note;

/// What is done, and to which run.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    asked: Asked,
    #[command(flatten)]
    manner: Manner,
    /// Append what a run would change: with its name, or with the settings it was made with
    #[arg(long, value_name = "RUN", num_args = 0..=1, default_missing_value = "")]
    apply: Option<String>,
    /// Take back what a run has appended
    #[arg(long, value_name = "RUN", conflicts_with_all = ["Asked", "apply"])]
    rollback: Option<String>,
    /// Throw away what a run has found
    #[arg(long, value_name = "RUN", conflicts_with_all = ["Asked", "apply", "rollback"])]
    discard: Option<String>,
    /// Show again what a run would change
    #[arg(long, value_name = "RUN", conflicts_with_all = ["Asked", "apply", "rollback", "discard"])]
    show: Option<String>,
    /// List the runs
    #[arg(long, conflicts_with_all = ["Asked", "apply", "rollback", "discard", "show"])]
    list: bool,
}

/// What a run is to read, and how. A run that is there has been made with settings, which hold for all that is
/// done with it.
#[derive(Debug, clap::Args)]
struct Asked {
    /// The instructions for the LLM: a text file, or "builtin" for those of this version
    #[arg(long, value_name = "FILE|builtin")]
    prompt: Option<String>,
    /// The model to ask instead of EXTRACTION_MODEL_NAME
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// The LLM to ask instead of EXTRACTION_BASE_URL; no key is sent there
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// Who reads instead of MEMORY_EXTRACTION_METHOD
    #[arg(long, value_enum)]
    method: Option<Method>,
    /// Read only what was said since then: 2026-01-31, '2026-01-31 12:00' (UTC), or how long ago: 7d
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<DateTime<Utc>>,
    /// Only this user
    #[arg(long, value_name = "ID", value_parser = user)]
    user: Option<ExternalUserId>,
    /// All users
    #[arg(long, conflicts_with = "user")]
    all: bool,
}

impl Asked {
    /// Whether anything was asked for.
    fn anything(&self) -> bool {
        let Self {
            prompt,
            model,
            endpoint,
            method,
            since,
            user,
            all,
        } = self;
        let said = [prompt, model, endpoint].into_iter().any(Option::is_some);
        said || method.is_some() || since.is_some() || user.is_some() || *all
    }
}

/// Who reads.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Method {
    /// The LLM
    Llm,
    /// Patterns
    Heuristic,
    /// The LLM, and patterns where it gives nothing
    Hybrid,
}

impl From<Method> for ExtractionMode {
    fn from(method: Method) -> Self {
        match method {
            Method::Llm => Self::Llm,
            Method::Heuristic => Self::Heuristic,
            Method::Hybrid => Self::Hybrid,
        }
    }
}

/// A run, and what working on it needs.
struct Reextraction<'a> {
    operator: &'a Operator,
    run: Run,
    embedder: Embedder,
}

pub(crate) async fn run(options: Options) -> Result<ExitCode> {
    let operator = Operator::open("reextract").await?;
    let done = perform(&operator, &options).await;
    operator.close().await;
    done
}

async fn perform(operator: &Operator, options: &Options) -> Result<ExitCode> {
    let manner = options.manner;
    if options.list {
        report::list(operator, manner).await?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(name) = &options.rollback {
        let _alone = alone(operator, name).await?;
        let run = named(operator, name).await?;
        return acting::roll_back(operator, &run, manner).await;
    }
    if let Some(name) = &options.discard {
        let _alone = alone(operator, name).await?;
        let run = named(operator, name).await?;
        return acting::discard(operator, &run, manner).await;
    }
    let named_run = [&options.show, &options.apply]
        .into_iter()
        .flatten()
        .find(|name| !name.is_empty());
    let apply = options.apply.is_some();
    let wanted = match named_run {
        Some(name) if options.asked.anything() => bail!(
            "run {name} has the settings that it was made with, and is applied to all whom it has read; give its name \
             alone, or the settings alone"
        ),
        Some(_) => None,
        None => Some(settings::of(&options.asked, &operator.config)?),
    };
    if let Some(user) = &options.asked.user {
        operator.known(user).await?;
    }
    let run = match (named_run, &wanted) {
        (Some(name), _) => Some(named(operator, name).await?),
        (None, Some(wanted)) => unfinished(operator, &wanted.settings).await?,
        (None, None) => None,
    };
    let is_read = |run: &Run| run.state != RunState::Reading;
    if let Some(wanted) = &wanted
        && manner.dry_run
        && !run.as_ref().is_some_and(is_read)
    {
        return reading::foresee(operator, &wanted.settings, run.as_ref(), manner).await;
    }
    let embedder = Embedder::load(&operator.config).await?;
    database::check_model(&operator.pool, &operator.config, &embedder).await?;
    let new = run.is_none();
    let run = match (run, &wanted) {
        (Some(run), _) => run,
        (None, Some(wanted)) => make(operator, &wanted.settings).await?,
        (None, None) => bail!("say which run, or what to read; see: companion reextract --help"),
    };
    let _alone = alone(operator, &run.name).await?;
    // As it is now that nobody else works on it.
    let run = named(operator, &run.name).await?;
    let mut work = Reextraction {
        operator,
        run,
        embedder,
    };
    let name = work.run.name.clone();
    if new {
        note(format_args!("Run {name} is made."));
    } else if wanted.is_some() {
        note(format_args!(
            "Run {name} has these settings and goes on; for another one, first: companion reextract --discard {name}"
        ));
    }
    match work.run.state {
        RunState::Reading => {
            let Some(wanted) = wanted else {
                bail!(
                    "run {name} has not read everything yet; give the settings that it was made with to go on"
                );
            };
            if !work.read(&wanted.llm(&operator.config)?).await? {
                let since = work.run.settings.since;
                return Err(Interrupted::with(match since {
                    None => {
                        "What was read is kept; the same command goes on from there.".to_owned()
                    }
                    Some(at) => format!(
                        "What was read is kept; the same command goes on from there with --since {}.",
                        at.to_rfc3339()
                    ),
                }));
            }
        }
        RunState::Read | RunState::Applying => {}
        state => bail!(
            "run {name} is {}; see: companion reextract --list",
            state.as_str().replace('_', " ")
        ),
    }
    if apply && !manner.dry_run {
        acting::apply(&work, manner).await
    } else {
        report::show(&work, manner).await?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Makes sure that no other command works on a run, as long as what is returned lives.
async fn alone(operator: &Operator, run: &str) -> Result<PgConnection> {
    let alone = reextractions::alone(&operator.pool, run).await?;
    alone.with_context(|| format!("another command works on run {run}; wait for it, or stop it"))
}

async fn named(operator: &Operator, name: &str) -> Result<Run> {
    let runs = reextractions::list(&operator.pool).await?;
    runs.into_iter()
        .find(|run| run.name == name)
        .with_context(|| format!("there is no run {name}; see: companion reextract --list"))
}

/// The latest run with these settings that is neither applied nor thrown away.
async fn unfinished(operator: &Operator, settings: &Settings) -> Result<Option<Run>> {
    let runs = reextractions::list(&operator.pool).await?;
    let open = |run: &Run| {
        matches!(
            run.state,
            RunState::Reading | RunState::Read | RunState::Applying
        )
    };
    Ok(runs
        .into_iter()
        .find(|run| open(run) && run.settings == *settings))
}

async fn make(operator: &Operator, settings: &Settings) -> Result<Run> {
    loop {
        let now = Utc::now();
        let name = now.format("%Y%m%dT%H%M%S%3fZ").to_string();
        if reextractions::make(&operator.pool, &name, settings).await? {
            return Ok(Run {
                name,
                settings: settings.clone(),
                state: RunState::Reading,
                made_at: now,
                applied_at: None,
            });
        }
    }
}
