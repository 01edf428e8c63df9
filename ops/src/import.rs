//! `companion import`: takes in a file, however large.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use chrono::Utc;
use companion_adapters::portable::import::{Done, Import};
use companion_adapters::portable::source::SourceError;
use companion_adapters::portable::source::{self, Open};
use companion_adapters::progress;
use companion_domain::ids::ExternalUserId;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::operator::{INTERRUPTED, Interrupted, Manner, Operator, Progress, user};
use crate::output::{note, step};

/// Bytes that are read from the file at once.
const READ: usize = 1 << 16;

/// Into whom, from where.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The user who gets what is in the file
    #[arg(long, value_name = "ID", value_parser = user)]
    user: ExternalUserId,
    /// An export, ChatGPT's conversations.json, or messages with role and content as JSON
    file: PathBuf,
    /// Do not read conversations of other systems for memories
    #[arg(long)]
    no_extract: bool,
    /// Take in an export that was cut off, as far as it goes
    #[arg(long)]
    partial: bool,
    #[command(flatten)]
    manner: Manner,
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Outcome {
    #[serde(flatten)]
    done: Done,
    interrupted: bool,
}

/// Takes in the file.
///
/// # Errors
/// What in the file, or about the database, keeps it from being taken in.
pub(crate) async fn run(options: Options) -> Result<ExitCode> {
    let operator = Operator::open("import").await?;
    let taken = take_in(&operator, &options).await;
    operator.close().await;
    let outcome = taken.with_context(|| format!("{} is not taken in", options.file.display()))?;
    let code = if outcome.interrupted {
        ExitCode::from(INTERRUPTED)
    } else {
        ExitCode::SUCCESS
    };
    options.manner.print(&outcome, || {
        let Done {
            conversations,
            messages,
            memories,
            skipped,
        } = outcome.done;
        let would = if options.manner.dry_run {
            "in the file: "
        } else {
            ""
        };
        let stopped = if outcome.interrupted {
            "; stopped: run it again to go on"
        } else {
            ""
        };
        format!(
            "{would}{conversations} conversations, {messages} messages, {memories} memories; {skipped} passed over{stopped}"
        )
    })?;
    Ok(code)
}

/// Opens the file as often as it is to be read; once `stop` is cancelled, it can't be read any more.
fn opener(path: PathBuf, stop: CancellationToken) -> Open {
    Arc::new(move || {
        let file = Stoppable {
            file: File::open(&path)?,
            stop: stop.clone(),
        };
        Ok(Box::new(BufReader::with_capacity(READ, file)))
    })
}

/// A file that is read on a thread of its own, which nothing else could stop.
struct Stoppable {
    file: File,
    stop: CancellationToken,
}

impl Read for Stoppable {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.stop.is_cancelled() {
            return Err(io::Error::other("stopped"));
        }
        self.file.read(into)
    }
}

async fn take_in(operator: &Operator, options: &Options) -> Result<Outcome> {
    let how = source::Options {
        extract: !options.no_extract,
        partial: options.partial,
        most: u64::MAX,
        now: Utc::now(),
    };
    let check = opener(options.file.clone(), operator.stop.clone());
    let surveyed = step("check the file", source::survey(&check, how)).await;
    if operator.stop.is_cancelled() {
        return Err(Interrupted::with("Nothing was taken in."));
    }
    let contents = surveyed?;
    if options.manner.dry_run {
        return Ok(Outcome {
            done: Done {
                conversations: contents.conversations,
                messages: contents.messages,
                memories: contents.memories,
                skipped: 0,
            },
            interrupted: false,
        });
    }
    let store = &operator.store;
    let user = store.ensure_user(&options.user).await?;
    if !progress::wait_for_own_writes(&operator.pool, user).await? {
        note(
            "The read models are behind, or no worker runs: what the file repeats of memories that were made \
             lately may be there twice.",
        );
    }
    let import = Import::begin(store, user, how.now).await?;
    // From here on it is stopped between two items, and what came before is kept.
    let open = opener(options.file.clone(), CancellationToken::new());
    let mut bar = Progress::new("events", contents.events);
    let passed = |items| bar.advance(items);
    let taken = source::take_in(&open, how, &contents, import, &operator.stop, passed).await;
    bar.finish();
    let (done, whole) = taken.map_err(|error: SourceError| {
        anyhow::Error::new(error).context("what came before is kept; mend it and run it again")
    })?;
    Ok(Outcome {
        done,
        interrupted: !whole,
    })
}
