//! `companion export`: everything of a user, as a file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use companion_adapters::messages;
use companion_adapters::portable::export::Export;
use serde::Serialize;

use crate::operator::{INTERRUPTED, Manner, Operator, Progress, Whom};
use crate::output::note;

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
    interrupted: bool,
}

/// Writes the export of one user, or of each.
///
/// # Errors
/// What keeps it from being written.
pub(crate) async fn run(options: Options) -> Result<ExitCode> {
    let operator = Operator::open("export").await?;
    let exported = export(&operator, &options).await;
    operator.close().await;
    let written = exported?;
    let code = if written.interrupted {
        ExitCode::from(INTERRUPTED)
    } else {
        ExitCode::SUCCESS
    };
    if options.to.is_some() || options.manner.dry_run {
        options.manner.print(&written, || {
            let wrote = if options.manner.dry_run {
                "would read"
            } else {
                "wrote"
            };
            let Written { users, events, .. } = &written;
            format!("{wrote} {events} events of {users} users")
        })?;
    }
    Ok(code)
}

async fn export(operator: &Operator, options: &Options) -> Result<Written> {
    let users = match options.whom.external() {
        Some(user) => vec![user.clone()],
        None => messages::users(&operator.pool).await?,
    };
    let mut written = Written::default();
    if let (None, Some(folder), false) =
        (options.whom.external(), &options.to, options.manner.dry_run)
    {
        fs::create_dir_all(folder)
            .with_context(|| format!("{} can't be made", folder.display()))?;
    }
    for user in &users {
        let mut export = Export::begin(&operator.store, user).await?;
        let length = export.length().await?;
        written.users += 1;
        if options.manner.dry_run {
            written.events += length;
            continue;
        }
        let all = options.whom.external().is_none();
        let to = options.to.as_ref().map(|to| {
            if all {
                to.join(format!("{}.jsonl", user.as_str()))
            } else {
                to.clone()
            }
        });
        let whole = match &to {
            Some(file) => to_file(operator, &mut export, length, file).await?,
            None => {
                let sink = BufWriter::new(io::stdout().lock());
                to_sink(operator, &mut export, length, sink).await?
            }
        };
        written.events += export.written();
        if !whole {
            written.interrupted = true;
            break;
        }
    }
    Ok(written)
}

/// Writes a file beside its place first: what stands there is whole.
async fn to_file(
    operator: &Operator,
    export: &mut Export,
    length: u64,
    file: &Path,
) -> Result<bool> {
    if file.exists() {
        bail!("{} is there already: name another file", file.display());
    }
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    let part = PathBuf::from(name);
    let shown = || format!("{} can't be written", part.display());
    let sink = private(&part).with_context(shown)?;
    let whole = to_sink(operator, export, length, BufWriter::new(sink)).await;
    match whole {
        Ok(true) => {
            fs::rename(&part, file).with_context(shown)?;
            Ok(true)
        }
        other => {
            // A part of an export is of no use.
            let _ = fs::remove_file(&part);
            other.with_context(shown)
        }
    }
}

/// A file that only its owner can read: it holds what somebody said.
fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

/// Writes the pages one after another; whether that was all.
async fn to_sink(
    operator: &Operator,
    export: &mut Export,
    length: u64,
    mut sink: impl Write,
) -> Result<bool> {
    let mut progress = Progress::new("events", length);
    let mut before = 0;
    while let Some(lines) = export.next().await? {
        if operator.stop.is_cancelled() {
            progress.finish();
            note("stopped: nothing is kept of this user's export, as it is not whole");
            return Ok(false);
        }
        sink.write_all(&lines)?;
        progress.advance(export.written() - before);
        before = export.written();
    }
    sink.flush()?;
    progress.finish();
    Ok(true)
}
