//! `companion events tail`.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use chrono::{DateTime, Utc};
use companion_adapters::log::subscription::{self, Checkpoint};
use companion_adapters::log::view::{self, Filter};
use companion_domain::events::Event;
use companion_domain::ids::{ExternalUserId, StreamId, UserId};

use super::shown;
use crate::moment::moment;
use crate::operator::{INTERRUPTED, Operator, user};

/// How many events are shown unless it is said how many, or since when.
const SHOWN: i64 = 20;
/// Events read at once.
const PAGE: i64 = 200;
/// How often a follower looks for more.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Which events are shown, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Go on with what comes, until interrupted
    #[arg(long, short)]
    follow: bool,
    /// Only this user's events
    #[arg(long, value_name = "ID", value_parser = user)]
    user: Option<ExternalUserId>,
    /// Only the events of this stream, such as conversation-…, memory-… or user-…
    #[arg(long)]
    stream: Option<String>,
    /// Only events of these types, such as MemoryRecorded; several with commas between them
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',', value_parser = a_type)]
    types: Vec<String>,
    /// Only events recorded at or after this time: 2026-11-24, '2026-11-24 14:30' (UTC), or 3h ago as 3h
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<DateTime<Utc>>,
    /// Only events recorded before this time
    #[arg(long, value_name = "TIME", value_parser = moment, conflicts_with = "follow")]
    until: Option<DateTime<Utc>>,
    /// At most the last N; 20 unless --since or --until is given, then all
    #[arg(short = 'n', value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    last: Option<i64>,
    /// Show each event whole
    #[arg(long, conflicts_with = "json")]
    full: bool,
    /// Print JSON Lines: one object an event
    #[arg(long)]
    json: bool,
}

impl Options {
    fn filter(&self) -> Filter {
        Filter {
            user: self.user.as_ref().map(UserId::of),
            stream: self.stream.clone().map(StreamId::stored),
            types: self.types.clone(),
            since: self.since,
            until: self.until,
            // Whoever looks once wants to see what is committed. A follower who did would pass what an
            // unfinished append puts before it.
            settled: self.follow,
        }
    }

    /// How many at most; `None`: all.
    fn most(&self) -> Option<i64> {
        let timed = self.since.is_some() || self.until.is_some();
        self.last.or((!timed).then_some(SHOWN))
    }
}

/// Reads the name of a type of events.
fn a_type(name: &str) -> Result<String, String> {
    let known: Vec<&str> = Event::TYPES.iter().map(|(name, _)| *name).collect();
    if known.contains(&name) {
        return Ok(name.to_owned());
    }
    Err(format!("must be one of {}", known.join(", ")))
}

pub(super) async fn run(operator: &Operator, options: &Options) -> Result<ExitCode> {
    tokio::select! {
        shown = show(operator, options) => shown,
        // Following ends in no other way.
        () = operator.stop.cancelled() => Ok(if options.follow {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(INTERRUPTED)
        }),
    }
}

async fn show(operator: &Operator, options: &Options) -> Result<ExitCode> {
    operator.tell_of_nobody(options.user.as_ref()).await?;
    let filter = options.filter();
    let mut place = match options.most() {
        Some(most) => view::before_last(&operator.pool, &filter, most).await?,
        None => Checkpoint::default(),
    };
    loop {
        // Given back between two looks: a follower holds nothing.
        let mut connection = operator.pool.acquire().await?;
        let end = match options.follow {
            true => subscription::horizon(&mut connection).await?,
            false => place,
        };
        let vault = operator.store.vault();
        let page = view::read(&mut connection, vault, &filter, place, PAGE).await?;
        drop(connection);
        let mut text = String::new();
        for event in &page {
            place = event.place;
            text += &if options.json {
                shown::json(event)?
            } else if options.full {
                shown::whole(event)?
            } else {
                shown::line(event)
            };
            text.push('\n');
        }
        match write(&text) {
            // `head` has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Ok(ExitCode::SUCCESS);
            }
            written => written?,
        }
        let more = i64::try_from(page.len()).is_ok_and(|read| read == PAGE);
        if !more && !options.follow {
            return Ok(ExitCode::SUCCESS);
        }
        if !more {
            // What the filter passed over is not gone through again.
            place = place.max(end);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    out.write_all(text.as_bytes())?;
    out.flush()
}
