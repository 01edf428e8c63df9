//! `companion bench`: how good the engine is, measured on labelled sets.

mod extract;
mod recall;

use clap::Subcommand;

/// What to measure.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// How much of what messages state is found, and how much of what is found is so
    Extract(extract::Options),
    /// How much of what answers a question is found, and how fast
    Recall(recall::Options),
}

pub(crate) async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Extract(options) => extract::run(options).await,
        Command::Recall(options) => recall::run(options).await,
    }
}
