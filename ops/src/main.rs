//! `companion`: the operator's command, and the whole service in one process.

mod apikey;
mod backup;
mod bench;
mod chat;
mod check;
mod disk;
mod doctor;
mod embedded;
mod erase;
mod events;
mod export;
mod files;
mod home;
mod identity;
mod import;
mod jobs;
mod migrate;
mod moment;
mod operator;
mod output;
mod port;
mod printable;
mod process;
mod reembed;
mod reextract;
mod replay;
mod restore;
mod rotate;
mod server_log;
mod supervise;
mod test_services;
mod token;
mod up;
mod verify;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::bail;
use clap::{Parser, Subcommand};
use companion_adapters::{config, errors};

use self::operator::{INTERRUPTED, Interrupted};

/// A self-hosted AI companion that remembers.
#[derive(Parser)]
#[command(name = "companion", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run API and worker in one process, with an embedded PostgreSQL unless POSTGRES_URL is set
    Up {
        /// Start the very small demo LLM too; it is too weak to judge the product by
        #[arg(long)]
        demo_llm: bool,
    },
    /// Bring the database to this version's schema
    Migrate,
    /// Check everything that the service needs, and say what mends it
    Doctor,
    /// Measure how good the engine is, on labelled sets
    #[command(subcommand)]
    Bench(bench::Command),
    /// Talk to the companion in the terminal
    Chat(chat::Options),
    /// Issue, list and revoke API keys
    #[command(subcommand, name = "apikey")]
    ApiKey(apikey::Command),
    /// Read the event log, opened with the master key
    #[command(subcommand)]
    Events(events::Command),
    /// See the jobs that were given up; run them again or drop them
    #[command(subcommand)]
    Jobs(jobs::Command),
    /// Read messages again with another prompt, model or method, and supersede what changes
    Reextract(Box<reextract::Options>),
    /// Forget a user for good
    Erase(erase::Options),
    /// Make the vectors of another embedding model while the service runs, and change to it
    Reembed(reembed::Options),
    /// Write the log and the users' keys to folders, while the service runs
    Backup(backup::Options),
    /// Put a backup into an empty database
    Restore(restore::Options),
    /// Put another master key in the place of the present one
    RotateMasterKey(rotate::Options),
    /// Try a deployed service from outside and say what fails
    Check(check::Options),
    /// Build the read models anew from the log, compare, and put them in the place of those in use
    Replay(replay::Options),
    /// Check that the log is whole and the read models are what it gives; exit code 1 if not
    Verify(verify::Options),
    /// Write everything of a user to a file
    Export(export::Options),
    /// Take in an export, or the conversations of another system
    Import(import::Options),
    /// Print a token for a user; with --scope admin this makes the first admin
    Token(token::Options),
    /// Run a command with a throw-away PostgreSQL and Valkey
    #[command(hide = true)]
    TestServices {
        /// The command and its arguments
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

/// Most of what a process does for an event is to take and give back small pieces of memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    config::share_with_libraries();
    started()
}

#[tokio::main]
async fn started() -> ExitCode {
    let done = |()| ExitCode::SUCCESS;
    let result = match Arguments::parse().command {
        Command::Up { demo_llm } => up::run(demo_llm).await.map(done),
        Command::Migrate => migrate::run().await.map(done),
        Command::Doctor => doctor::run().await,
        Command::Bench(command) => bench::run(command).await.map(done),
        Command::Chat(options) => chat::run(options).await.map(done),
        Command::ApiKey(command) => apikey::run(command).await.map(done),
        Command::Events(command) => events::run(command).await,
        Command::Jobs(command) => jobs::run(command).await,
        Command::Reextract(options) => reextract::run(*options).await,
        Command::Erase(options) => erase::run(options).await,
        Command::Reembed(options) => reembed::run(options).await,
        Command::Backup(options) => backup::run(options).await,
        Command::Restore(options) => restore::run(options).await,
        Command::RotateMasterKey(options) => rotate::run(options).await,
        Command::Check(options) => check::run(options).await.map(|well| {
            if well {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }),
        Command::Replay(options) => replay::run(options).await,
        Command::Verify(options) => verify::run(options).await,
        Command::Export(options) => export::run(options).await,
        Command::Import(options) => import::run(options).await,
        Command::Token(options) => token::run(&options).map(done),
        Command::TestServices { command } => test_services::run(&command).await,
    };
    let result = result.and_then(|code| match output::lost() {
        Some(error) if code != ExitCode::from(INTERRUPTED) => {
            bail!("the result could not be written to standard output: {error}")
        }
        _ => Ok(code),
    });
    result.unwrap_or_else(|error| match error.downcast_ref::<Interrupted>() {
        Some(interrupted) => {
            output::note(interrupted);
            ExitCode::from(INTERRUPTED)
        }
        None => {
            output::note(format_args!("companion: {}", errors::in_one_line(&*error)));
            ExitCode::FAILURE
        }
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    #[test]
    fn no_command_contradicts_itself() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_of_the_guides_is_taken() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut guides = vec![root.join("README.md")];
        for entry in fs::read_dir(root.join("ops/docs")).expect("the guides") {
            guides.push(entry.expect("a guide").path());
        }
        guides.retain(|path| path.extension().is_some_and(|end| end == "md"));
        let (mut whole, mut mentioned) = (0, 0);
        for guide in guides {
            let text = fs::read_to_string(&guide).expect("a guide");
            for (n, block) in text.split("```").enumerate() {
                let of_shell = block.starts_with("sh\n") || block.starts_with("bash\n");
                if n % 2 == 0 {
                    let code = block.split('`').skip(1).step_by(2);
                    for line in code.filter(|code| code.starts_with("companion ")) {
                        mentioned += 1;
                        taken(&guide, line, true);
                    }
                } else if of_shell {
                    for line in block.lines() {
                        let line = line.strip_prefix("target/release/").unwrap_or(line);
                        if line.starts_with("companion ") {
                            whole += 1;
                            taken(&guide, line, false);
                        }
                    }
                }
            }
        }
        assert!(whole > 20 && mentioned > 50, "{whole} and {mentioned}");
    }

    /// Checks a line; one that is only mentioned in a sentence may leave out what it needs.
    fn taken(guide: &Path, line: &str, mentioned: bool) {
        let words = line.split(" #").next().unwrap_or(line).split_whitespace();
        let words = words
            .map(|word| match word.trim_matches(['[', ']']) {
                "ID" => "01890a5d-ac96-774b-bcce-b302099a8057",
                "NAME" => "users",
                "TIME" => "1h",
                "N" => "3",
                "Q" => "extract",
                word => word,
            })
            .filter(|word| *word != "…");
        let Err(error) = Arguments::try_parse_from(words) else {
            return;
        };
        let lacks = matches!(
            error.kind(),
            ErrorKind::MissingRequiredArgument
                | ErrorKind::MissingSubcommand
                | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        );
        assert!(mentioned && lacks, "{}: {line}: {error}", guide.display());
    }

    #[test]
    fn what_is_done_with_a_run_takes_no_settings_beside_its_name() {
        for of_run in ["--rollback", "--discard", "--show"] {
            for setting in [&["--user", "alice"][..], &["--all"], &["--model", "m"]] {
                let line = [&["companion", "reextract", of_run, "20261124"], setting].concat();
                let error = Arguments::try_parse_from(&line).err();
                let kind = error.map(|error| error.kind());
                assert_eq!(kind, Some(ErrorKind::ArgumentConflict), "{line:?}");
            }
        }
        let line = [
            "companion",
            "reextract",
            "--prompt",
            "p",
            "--apply",
            "--all",
        ];
        assert!(Arguments::try_parse_from(line).is_ok());
    }
}
