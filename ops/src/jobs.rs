//! `companion jobs`: what was given up, why, and what becomes of it.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Subcommand;
use companion_adapters::dead_jobs::{self, DeadJob, Which};
use companion_adapters::queue;
use companion_domain::ids::{ExternalUserId, UserId};
use serde_json::json;

use crate::operator::{Manner, Operator, user};
use crate::output::{line, note};
use crate::printable::{excerpt, printable};

/// How many characters of a reason a line shows.
const REASON: usize = 300;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// List the jobs that were given up, and why
    Dead {
        #[command(flatten)]
        about: About,
        /// Print JSON Lines: one object a job
        #[arg(long)]
        json: bool,
    },
    /// Run dead jobs again, as if they had never been tried
    Retry {
        #[command(flatten)]
        chosen: Chosen,
        #[command(flatten)]
        manner: Manner,
    },
    /// Throw dead jobs away: what they were to do stays undone
    Drop {
        #[command(flatten)]
        chosen: Chosen,
        #[command(flatten)]
        manner: Manner,
    },
}

/// What the jobs are about.
#[derive(Debug, clap::Args)]
pub(crate) struct About {
    /// Only the jobs of this queue
    #[arg(long, value_parser = queue::ALL)]
    queue: Option<String>,
    /// Only the jobs about this user
    #[arg(long, value_name = "ID", value_parser = user)]
    user: Option<ExternalUserId>,
}

/// Which jobs: by id, or all of them.
#[derive(Debug, clap::Args)]
pub(crate) struct Chosen {
    #[command(flatten)]
    jobs: Jobs,
    #[command(flatten)]
    about: About,
}

/// Exactly one of the two must be said, as "all" is no good default.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Jobs {
    /// The jobs, as `dead` lists them
    #[arg(value_name = "JOB")]
    ids: Vec<String>,
    /// All dead jobs, or all that --queue and --user name
    #[arg(long)]
    all: bool,
}

impl About {
    fn which(&self, ids: Option<Vec<String>>) -> Which {
        Which {
            ids,
            queue: self.queue.clone(),
            user: self.user.as_ref().map(UserId::of),
        }
    }
}

impl Chosen {
    fn which(&self) -> Which {
        self.about
            .which((!self.jobs.all).then(|| self.jobs.ids.clone()))
    }
}

pub(crate) async fn run(command: Command) -> Result<ExitCode> {
    let operator = Operator::open_with_any_model("jobs").await?;
    let done = perform(&operator, command).await;
    operator.close().await;
    done
}

async fn perform(operator: &Operator, command: Command) -> Result<ExitCode> {
    let about = match &command {
        Command::Dead { about, .. } => about,
        Command::Retry { chosen, .. } | Command::Drop { chosen, .. } => &chosen.about,
    };
    operator.tell_of_nobody(about.user.as_ref()).await?;
    match command {
        Command::Dead { about, json } => list(operator, &about.which(None), json).await,
        Command::Retry { chosen, manner } => {
            let (which, verb) = (chosen.which(), ("retried", "will run again"));
            change(operator, &which, manner, verb, async || {
                dead_jobs::retry(&operator.pool, &which).await
            })
            .await
        }
        Command::Drop { chosen, manner } => {
            let (which, verb) = (chosen.which(), ("dropped", "are thrown away"));
            change(operator, &which, manner, verb, async || {
                dead_jobs::discard(&operator.pool, &which).await
            })
            .await
        }
    }
}

async fn list(operator: &Operator, which: &Which, json: bool) -> Result<ExitCode> {
    let jobs = dead_jobs::list(&operator.pool, which).await?;
    for job in &jobs {
        line(if json {
            serde_json::to_string(job)?
        } else {
            shown(job)
        });
    }
    if !json {
        note(match jobs.len() {
            0 => "There is no dead job.".to_owned(),
            _ => "Mend the cause, then: companion jobs retry JOB… or --all. Messages that were given up are read again by: \
                 companion reextract"
            .to_owned(),
        });
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(job: &DeadJob) -> String {
    let user = match (&job.user, job.user_id) {
        (Some(user), _) => printable(user),
        (None, Some(id)) => id.to_string(),
        (None, None) => "nobody".to_owned(),
    };
    let when = job.failed_at.map_or_else(
        || "an unknown time".to_owned(),
        |at| at.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
    );
    format!(
        "{}  {}  about {user}, given up after {} tries at {when}: {}",
        printable(&job.id),
        printable(&job.queue),
        job.attempts,
        excerpt(&job.reason, REASON)
    )
}

/// Changes the dead jobs meant, or says which ones would be.
async fn change(
    operator: &Operator,
    which: &Which,
    manner: Manner,
    (verb, text): (&str, &str),
    act: impl AsyncFnOnce() -> Result<u64, sqlx::Error>,
) -> Result<ExitCode> {
    let found = dead_jobs::list(&operator.pool, which).await?;
    if let Some(ids) = &which.ids
        && let Some(unknown) = ids.iter().find(|id| found.iter().all(|job| job.id != **id))
    {
        bail!(
            "there is no dead job {}; list them with: companion jobs dead",
            printable(unknown)
        );
    }
    let count = if manner.dry_run {
        u64::try_from(found.len()).unwrap_or(u64::MAX)
    } else {
        act().await?
    };
    manner.print(&json!({ verb: count, "dry_run": manner.dry_run }), || {
        let would = if manner.dry_run {
            " (nothing was changed)"
        } else {
            ""
        };
        format!("{count} jobs {text}.{would}")
    })?;
    Ok(ExitCode::SUCCESS)
}
