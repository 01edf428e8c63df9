//! `companion export`: everything of a user, as a file.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use companion_adapters::errors;
use companion_adapters::messages;
use companion_adapters::portable::export::Export;
use companion_domain::ids::ExternalUserId;
use serde::Serialize;

use crate::files::{CannotWrite, Writer, cannot_write};
use crate::operator::{INTERRUPTED, Manner, Operator, Progress, Whom};
use crate::output::note;

const CANNOT_PRINT: &str = "standard output can't be written";

/// Whose, and where to.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    whom: Whom,
    /// The file to write, or with --all the folder for one file a user; standard output unless given
    #[arg(required_if_eq("all", "true"), required_if_eq("json", "true"))]
    to: Option<PathBuf>,
    #[command(flatten)]
    manner: Manner,
}

/// What was written.
#[derive(Debug, Default, Serialize)]
struct Written {
    users: u64,
    events: u64,
    /// Users whose file was there already.
    skipped: u64,
    /// Users of whom nothing could be written.
    failed: u64,
    interrupted: bool,
}

/// Writes the export of one user, or of each.
///
/// # Errors
/// What keeps it from being written.
pub(crate) async fn run(options: Options) -> Result<ExitCode> {
    let operator = Operator::open("export").await?;
    let exported = match options.whom.external() {
        Some(user) => export_one(&operator, &options, user).await,
        None => export_all(&operator, &options).await,
    };
    operator.close().await;
    let written = exported?;
    if options.to.is_some() || options.manner.dry_run {
        options
            .manner
            .print(&written, || told(&written, options.manner.dry_run))?;
    }
    Ok(match written {
        Written {
            interrupted: true, ..
        } => ExitCode::from(INTERRUPTED),
        Written { failed: 0, .. } => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn told(written: &Written, dry_run: bool) -> String {
    let Written {
        users,
        events,
        skipped,
        failed,
        interrupted,
    } = written;
    let wrote = if dry_run { "would read" } else { "wrote" };
    let mut text = format!("{wrote} {events} events of {users} users");
    if *skipped > 0 {
        text += &format!("; the files of {skipped} were there already");
    }
    if *failed > 0 {
        text += &format!("; {failed} failed");
    }
    if *interrupted {
        text += "; stopped: run it again to go on";
    }
    text
}

async fn export_one(
    operator: &Operator,
    options: &Options,
    user: &ExternalUserId,
) -> Result<Written> {
    operator.known(user).await?;
    let mut written = Written::default();
    match &options.to {
        Some(file) if file.exists() && !options.manner.dry_run => {
            bail!("{} is there already: name another file", file.display());
        }
        to => write(operator, user, to.as_deref(), options.manner, &mut written).await?,
    }
    Ok(written)
}

/// Writes a file a user. One that can't be written is no reason to leave out the others; those that are there
/// are from a run before, and whole.
async fn export_all(operator: &Operator, options: &Options) -> Result<Written> {
    let (folder, dry_run) = (options.to.as_deref(), options.manner.dry_run);
    let folder = folder.context("say into which folder")?;
    let users = messages::users(&operator.pool).await?;
    if !dry_run {
        fs::create_dir_all(folder).map_err(|error| cannot_write(folder, &error))?;
    }
    let mut written = Written::default();
    let nameless = messages::nameless_users(&operator.pool).await?;
    if nameless > 0 {
        written.failed += nameless;
        note(format_args!(
            "{nameless} users are left out: the read models do not know their names yet. Wait until lag_events in \
             /health is 0, or run companion replay all, and run this again."
        ));
    }
    for user in &users {
        let file = folder.join(format!("{}.jsonl", user.as_str()));
        if file.exists() {
            written.skipped += 1;
            continue;
        }
        let to = Some(file.as_path());
        if let Err(error) = write(operator, user, to, options.manner, &mut written).await {
            let of_files = error.downcast_ref::<CannotWrite>();
            if of_files.is_some_and(CannotWrite::is_of_the_disk) {
                let whole = written.users + written.skipped;
                bail!(
                    "{error}; the files of {whole} users are whole: run the command again to go on"
                );
            }
            written.failed += 1;
            note(format_args!(
                "{} failed: {}",
                user.as_str(),
                errors::in_one_line(&*error)
            ));
            // Without the database all the others would fail, too, each after a long wait.
            sqlx::query("SELECT 1").execute(&operator.pool).await?;
        }
        if operator.stop.is_cancelled() {
            written.interrupted = true;
            break;
        }
    }
    Ok(written)
}

/// Writes the export of a user to a file, or to standard output, and counts it.
async fn write(
    operator: &Operator,
    user: &ExternalUserId,
    to: Option<&Path>,
    manner: Manner,
    written: &mut Written,
) -> Result<()> {
    let mut export = Export::begin(&operator.store, user).await?;
    if !export.is_of_somebody() {
        // Erased since the users were listed.
        return Ok(());
    }
    let length = export.length().await?;
    if manner.dry_run {
        written.users += 1;
        written.events += length;
        return Ok(());
    }
    let whole = match to {
        Some(file) => {
            let mut writer = Writer::create(file)?;
            let put = |lines: &[u8]| writer.write(lines);
            let whole = pages(operator, &mut export, length, put).await?;
            if whole {
                writer.finish()?;
            }
            whole
        }
        None => {
            let mut out = BufWriter::new(io::stdout().lock());
            let put = |lines: &[u8]| out.write_all(lines).context(CANNOT_PRINT);
            let whole = pages(operator, &mut export, length, put).await?;
            out.flush().context(CANNOT_PRINT)?;
            whole
        }
    };
    if whole {
        written.users += 1;
        written.events += export.written();
    } else {
        note("stopped: nothing is kept of this user's export, as it is not whole");
        written.interrupted = true;
    }
    Ok(())
}

/// Writes the pages one after another; whether that was all.
async fn pages(
    operator: &Operator,
    export: &mut Export,
    length: u64,
    mut put: impl FnMut(&[u8]) -> Result<()>,
) -> Result<bool> {
    let mut progress = Progress::new("events", length);
    let mut before = 0;
    while let Some(lines) = export.next().await? {
        if operator.stop.is_cancelled() {
            progress.finish();
            return Ok(false);
        }
        put(&lines)?;
        progress.advance(export.written() - before);
        before = export.written();
    }
    progress.finish();
    Ok(true)
}
