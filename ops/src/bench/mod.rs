//! `companion bench`: how good the engine is, measured on labelled sets.

mod extract;

use clap::Subcommand;

/// What to measure.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// How much of what messages state is found, and how much of what is found is so
    Extract(extract::Options),
}

pub(crate) async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Extract(options) => extract::run(options).await,
    }
}
