//! `companion`: the operator's command, and the whole service in one process.

mod cluster;
mod identity;
mod output;
mod pg_log;
mod placement;
mod software;
mod supervise;
mod test_services;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A self-hosted AI companion that remembers.
#[derive(Parser)]
#[command(name = "companion", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a command with a throw-away PostgreSQL and Valkey
    #[command(hide = true)]
    TestServices {
        /// The command and its arguments
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::TestServices { command } => test_services::run(&command).await,
    };
    result.unwrap_or_else(|error| {
        output::note(format_args!("companion: {error:#}"));
        ExitCode::FAILURE
    })
}
