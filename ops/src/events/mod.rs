//! `companion events`: the log as people read it, opened with the master key. What users said is
//! shown: only the operator, who has that key, can.

mod shown;
mod stats;
mod tail;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Subcommand;
use companion_adapters::log::view::{self, Name};
use companion_domain::ids::{ExternalUserId, StreamId};
use uuid::Uuid;

use crate::operator::{Operator, user};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Show the last events, or all since a time, one line each; with --follow go on with what comes
    Tail(tail::Options),
    /// Show one event whole
    Show {
        /// The event's id, or its stream and version: conversation-…@3
        #[arg(value_name = "ID|STREAM@VERSION", value_parser = name)]
        event: Name,
        /// Print it as one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Count the log: by type and by day, its size, and what holds its readers back
    Stats {
        /// Only this user's events
        #[arg(long, value_name = "ID", value_parser = user)]
        user: Option<ExternalUserId>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

fn name(text: &str) -> Result<Name, String> {
    if let Ok(id) = Uuid::parse_str(text) {
        return Ok(Name::Id(id));
    }
    let by_version = text.rsplit_once('@').and_then(|(stream, version)| {
        let version = version.parse().ok().filter(|version| *version > 0)?;
        Some(Name::Version(StreamId::stored(stream.to_owned()), version))
    });
    by_version.ok_or_else(|| "an event is named by its id or as STREAM@VERSION".to_owned())
}

pub(crate) async fn run(command: Command) -> Result<ExitCode> {
    let operator = Operator::open_with_any_model("events").await?;
    let done = match command {
        Command::Tail(options) => tail::run(&operator, &options).await,
        Command::Show { event, json } => show(&operator, &event, json).await,
        Command::Stats { user, json } => stats::run(&operator, user.as_ref(), json).await,
    };
    operator.close().await;
    done
}

async fn show(operator: &Operator, name: &Name, json: bool) -> Result<ExitCode> {
    let mut connection = operator.pool.acquire().await?;
    let found = view::find(&mut connection, operator.store.vault(), name);
    let found = operator
        .unless_stopped("Nothing was found yet.", found)
        .await??;
    let Some(event) = found else {
        bail!(
            "there is no such event; companion events tail lists the last ones with stream and version"
        );
    };
    let text = if json {
        shown::json(&event)?
    } else {
        shown::whole(&event)?
    };
    crate::output::line(text);
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_named_by_id_or_by_stream_and_version() {
        let id = Uuid::now_v7();
        assert_eq!(name(&id.to_string()), Ok(Name::Id(id)));
        let stream = format!("conversation-{id}");
        assert_eq!(
            name(&format!("{stream}@3")),
            Ok(Name::Version(StreamId::stored(stream.clone()), 3))
        );
        for bad in [
            "",
            "x",
            &stream,
            &format!("{stream}@0"),
            &format!("{stream}@x"),
        ] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }
}
