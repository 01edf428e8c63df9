//! `companion replay`: builds the read models anew from the log and puts them in the place of those in use.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;
use companion_adapters::log::subscription::Bounds;
use companion_adapters::read_models::compare::Comparison;
use companion_adapters::read_models::copies;
use companion_domain::ids::{ExternalUserId, UserId};
use companion_worker::projections::{self, Projection};
use companion_worker::replay::{self, Replay, Stopped};
use serde::Serialize;

use crate::operator::{Interrupted, Manner, Operator, Progress, user};
use crate::output::note;

/// The most bytes of a page whose events are counted otherwise.
const PAGE_BYTES: usize = 4 << 20;
/// What is kept of a replay that was stopped.
const GO_ON: &str = "What is built is kept; the same command goes on from there.";
const NOTHING: &str = "Nothing is kept, and nothing was changed.";

#[derive(Args)]
pub(crate) struct Options {
    /// The projection, or all of them
    #[arg(value_parser = names(), required_unless_present_any = ["rollback", "discard"])]
    projection: Option<String>,
    /// Only this user's rows; they are replaced where they are
    #[arg(long, value_name = "ID", value_parser = user)]
    user: Option<ExternalUserId>,
    /// Begin anew, whatever an interrupted replay has built
    #[arg(long)]
    restart: bool,
    /// Go back to the read models that the last replay took the place of
    #[arg(long, conflicts_with_all = ["projection", "discard", "user", "restart"])]
    rollback: bool,
    /// Drop the former read models, and what an interrupted replay has built
    #[arg(long, conflicts_with_all = ["projection", "user", "restart"])]
    discard: bool,
    /// Events of a transaction
    #[arg(long, value_name = "N", hide = true, value_parser = clap::value_parser!(u32).range(1..))]
    page: Option<u32>,
    #[command(flatten)]
    manner: Manner,
}

fn names() -> clap::builder::PossibleValuesParser {
    let names = projections::ALL.iter().map(|projection| projection.name);
    names.chain(["all"]).collect::<Vec<_>>().into()
}

/// What a replay did.
#[derive(Debug, Serialize)]
struct Outcome {
    /// Events taken in now; those of an interrupted replay before are not among them.
    events: u64,
    seconds: f64,
    /// Whether the read models in use are now those that were built.
    switched: bool,
    /// The tables as they were compared; none when nothing was in use.
    tables: Vec<Comparison>,
    /// Rows that differ.
    differences: i64,
}

pub(crate) async fn run(options: Options) -> Result<ExitCode> {
    let operator = Operator::open("replay").await?;
    let done = perform(&operator, &options).await;
    operator.close().await;
    done.map(|()| ExitCode::SUCCESS)
}

/// Says what is kept when it was stopped.
pub(crate) fn kept(error: anyhow::Error, kept: &str) -> anyhow::Error {
    if error.is::<Stopped>() {
        Interrupted::with(kept)
    } else {
        error
    }
}

async fn perform(operator: &Operator, options: &Options) -> Result<()> {
    let lock = replay::alone(&operator.pool).await?;
    let outcome = if options.discard {
        discard(operator, options.manner).await?
    } else if options.rollback {
        roll_back(operator, options.manner).await?
    } else {
        rebuild(operator, options).await?
    };
    drop(lock);
    options.manner.print(&outcome, || text(&outcome, options))
}

async fn rebuild(operator: &Operator, options: &Options) -> Result<Outcome> {
    let begun = Instant::now();
    let Some(wanted) = options.projection.as_deref().and_then(replay::named) else {
        bail!("there is no such projection");
    };
    let only = match &options.user {
        Some(user) => Some(operator.known(user).await?),
        None => None,
    };
    if !options.manner.dry_run {
        replay::has_a_place(&operator.pool, &wanted, only).await?;
    }
    let schema = match only {
        _ if options.manner.dry_run => copies::CHECK,
        Some(_) => copies::ONE_USER,
        None => copies::SHADOW,
    };
    // What an interrupted replay has built of all users is gone on with; anything else is of the moment.
    let goes_on = schema == copies::SHADOW;
    if options.restart || !goes_on {
        replay::drop_copy(&operator.pool, schema).await?;
    } else {
        tell_of_another(operator, &wanted).await?;
    }
    let built = async {
        let mut replay = begin(operator, schema, only, &wanted).await?;
        if let Some(page) = options.page {
            replay = replay.in_pages_of(Bounds {
                events: page.into(),
                bytes: PAGE_BYTES,
            });
        }
        build(replay, |replay| switch(replay, &wanted, options.manner)).await
    }
    .await;
    if !goes_on {
        replay::drop_copy(&operator.pool, schema).await?;
    }
    let (tables, events) =
        built.map_err(|error| kept(error, if goes_on { GO_ON } else { NOTHING }))?;
    Ok(Outcome {
        events,
        seconds: begun.elapsed().as_secs_f64(),
        switched: !options.manner.dry_run,
        differences: tables.iter().map(|table| table.differences).sum(),
        tables,
    })
}

/// Says so when what another replay has built, and was interrupted, gives way to this one.
async fn tell_of_another(operator: &Operator, wanted: &[Projection]) -> Result<()> {
    let mut connection = operator.pool.acquire().await?;
    let copy = copies::find(&mut connection, copies::SHADOW).await?;
    let wanted = wanted.iter().map(|projection| projection.name);
    if let Some(copy) = copy
        && !wanted.eq(copy.projections.iter().map(String::as_str))
    {
        note(format_args!(
            "What an interrupted replay of {} has built gives way to this one.",
            copy.projections.join(", ")
        ));
    }
    Ok(())
}

/// Begins a copy, or goes on with one.
pub(crate) async fn begin(
    operator: &Operator,
    schema: &'static str,
    only: Option<UserId>,
    wanted: &[Projection],
) -> Result<Replay> {
    let (vault, stop) = (operator.store.vault(), operator.stop.clone());
    Replay::begin(&operator.pool, vault, schema, wanted, only, stop).await
}

/// Brings a copy up to date and compares it; `then` does something with it. Returns how it compares, and how
/// many events were taken in.
pub(crate) async fn build<F: Future<Output = Result<Vec<Comparison>>>>(
    mut replay: Replay,
    then: impl FnOnce(Replay) -> F,
) -> Result<(Vec<Comparison>, u64)> {
    let mut progress = Progress::new("events", replay.ahead().await?);
    let mut events = 0;
    let mut tell = |taken: u64| {
        events += taken;
        progress.advance(taken);
    };
    replay.fill(&mut tell).await?;
    let compared = match replay.lacks_indexes() {
        true => replay.complete(&mut tell).await?,
        false => replay.compare(&mut tell).await?,
    };
    let mut compared = compared.unwrap_or_default();
    progress.finish();
    let late = then(replay).await?;
    for late in late {
        match compared.iter_mut().find(|table| table.table == late.table) {
            Some(table) => table.add(late),
            None => compared.push(late),
        }
    }
    Ok((compared, events))
}

/// Puts a copy in the place of what is in use, unless it is a dry run.
async fn switch(copy: Replay, wanted: &[Projection], manner: Manner) -> Result<Vec<Comparison>> {
    if manner.dry_run {
        return Ok(Vec::new());
    }
    copy.switch(wanted, &mut |_| {}).await
}

async fn roll_back(operator: &Operator, manner: Manner) -> Result<Outcome> {
    let begun = Instant::now();
    let (vault, stop) = (operator.store.vault(), operator.stop.clone());
    let (former, wanted) = replay::former(&operator.pool, vault, stop).await?;
    let back = build(former, |former| switch(former, &wanted, manner));
    let (tables, events) = back.await.map_err(|error| kept(error, GO_ON))?;
    Ok(Outcome {
        events,
        seconds: begun.elapsed().as_secs_f64(),
        switched: !manner.dry_run,
        differences: tables.iter().map(|table| table.differences).sum(),
        tables,
    })
}

async fn discard(operator: &Operator, manner: Manner) -> Result<Outcome> {
    if !manner.dry_run {
        for schema in [
            copies::SHADOW,
            copies::ONE_USER,
            copies::CHECK,
            copies::FORMER,
        ] {
            replay::drop_copy(&operator.pool, schema).await?;
        }
    }
    Ok(Outcome {
        events: 0,
        seconds: 0.0,
        switched: false,
        tables: Vec::new(),
        differences: 0,
    })
}

fn text(outcome: &Outcome, options: &Options) -> String {
    if options.discard {
        return match options.manner.dry_run {
            true => {
                "The former read models and what an interrupted replay has built would be dropped."
                    .to_owned()
            }
            false => "Dropped.".to_owned(),
        };
    }
    let mut lines = vec![format!(
        "{} events taken in after {:.1} s.",
        outcome.events, outcome.seconds
    )];
    lines.extend(compared(&outcome.tables));
    lines.push(match (outcome.switched, options.rollback, &options.user) {
        (false, ..) => "Nothing was switched.".to_owned(),
        (true, true, _) => "The former read models are in use again.".to_owned(),
        (true, false, Some(_)) => "The user's rows were replaced.".to_owned(),
        (true, false, None) => {
            "The new read models are in use. To go back: companion replay --rollback; to drop the former ones: companion replay --discard".to_owned()
        }
    });
    lines.join("\n")
}

/// How tables compare, a line for each and for each row that is named.
pub(crate) fn compared(tables: &[Comparison]) -> Vec<String> {
    let mut lines = Vec::new();
    for table in tables {
        let differences = match table.differences {
            0 => "equal".to_owned(),
            n => format!("{n} differ"),
        };
        lines.push(format!(
            "  {:<20} {:>10} rows in use {:>10} built  {differences}",
            table.table, table.live_rows, table.copy_rows
        ));
        for row in &table.named {
            let columns = match row.columns.is_empty() {
                true => String::new(),
                false => format!(" in {}", row.columns.join(", ")),
            };
            lines.push(format!(
                "    {} of user {}: {}{columns}",
                row.key, row.user_id, row.how
            ));
        }
    }
    lines
}
