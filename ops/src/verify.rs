//! `companion verify`: whether the log is whole, and what was derived from it is what it gives.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use companion_adapters::log::checks::{self, Problem};
use companion_adapters::read_models::compare::Comparison;
use companion_adapters::read_models::copies;
use companion_domain::ids::ExternalUserId;
use companion_worker::projections;
use companion_worker::replay::{self, Stopped};
use serde::Serialize;

use crate::operator::{Interrupted, Operator, Report, user};
use crate::replay::{begin, build, compared, kept};

/// What is kept of a check that was stopped.
const NOTHING: &str = "Nothing is known yet.";

#[derive(Args)]
pub(crate) struct Options {
    /// Only this user
    #[arg(long, value_name = "ID", value_parser = user)]
    user: Option<ExternalUserId>,
    #[command(flatten)]
    report: Report,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Outcome {
    well: bool,
    /// Events read, opened and projected.
    events: u64,
    problems: Vec<Problem>,
    /// The read models beside what the log gives.
    tables: Vec<Comparison>,
}

pub(crate) async fn run(options: Options) -> Result<ExitCode> {
    let operator = Operator::open("verify").await?;
    let done = perform(&operator, &options).await;
    operator.close().await;
    Ok(if done? {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn perform(operator: &Operator, options: &Options) -> Result<bool> {
    let lock = replay::alone(&operator.pool).await?;
    let (pool, vault) = (&operator.pool, operator.store.vault());
    let only = match &options.user {
        Some(user) => Some(operator.known(user).await?),
        None => None,
    };
    let checked = checks::run(pool, only);
    let mut problems = operator.unless_stopped(NOTHING, checked).await??;
    replay::drop_copy(pool, copies::CHECK).await?;
    let all = &projections::ALL;
    let keep = |_| async { Ok(Vec::new()) };
    let built = async { build(begin(operator, copies::CHECK, only, all).await?, keep).await }.await;
    // Dropped also when it was stopped: a check is of the moment.
    replay::drop_copy(pool, copies::CHECK).await?;
    drop(lock);
    let (tables, events) = match built {
        Ok(built) => built,
        Err(error) if error.is::<Stopped>() => return Err(kept(error, NOTHING)),
        Err(error) => {
            // What can't be read is named, each event; anything else is a failure of the check.
            let unreadable = checks::unreadable(pool, vault, only, &operator.stop).await?;
            if operator.stop.is_cancelled() {
                return Err(Interrupted::with(NOTHING));
            }
            if unreadable.is_empty() {
                return Err(error);
            }
            problems.extend(unreadable);
            (Vec::new(), 0)
        }
    };
    let well = problems.is_empty() && tables.iter().all(|table| table.differences == 0);
    let outcome = Outcome {
        well,
        events,
        problems,
        tables,
    };
    options.report.print(&outcome, || text(&outcome))?;
    Ok(well)
}

fn text(outcome: &Outcome) -> String {
    let mut lines = vec![format!("{} events read and projected.", outcome.events)];
    lines.extend(compared(&outcome.tables));
    for problem in &outcome.problems {
        lines.push(format!("  {}: {}", problem.check, problem.what));
    }
    let differ = outcome.tables.iter().any(|table| table.differences > 0);
    if outcome.tables.is_empty() {
        lines.push("  no read models were compared".to_owned());
    }
    let told = match (outcome.well, differ) {
        (true, _) => "All is well.",
        (false, true) => {
            "Something is wrong. Read models that differ are mended by: companion replay all"
        }
        (false, false) => {
            "Something is wrong; what to do about it: companion verify in ops/docs/OPERATING.md"
        }
    };
    lines.push(told.to_owned());
    lines.join("\n")
}
