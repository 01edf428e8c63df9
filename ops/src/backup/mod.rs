//! `companion backup`: the log and the users' keys, each in files of its own, while the service runs.
//!
//! The log is written in pieces, which are never changed again: a later backup into the same folder adds
//! what is new. The keys are written whole each time, in the place of the former ones: a key that was
//! destroyed must not stay behind in a backup.

pub(crate) mod files;
pub(crate) mod keys;
pub(crate) mod manifest;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use companion_adapters::backup::Snapshot;
use futures_util::TryStreamExt;
use serde_json::json;

use self::files::Lock;
use self::manifest::{Manifest, PieceFile};
use crate::files::{Writer, cannot_write};
use crate::operator::{Interrupted, Manner, Operator, Progress};

/// What is backed up, and where to.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The folder for the log; made if need be. One with an earlier backup of the same database gets what is new
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// The folder for the users' keys, best on another disk; DIR/keys unless given
    #[arg(long, value_name = "DIR")]
    keys_dir: Option<PathBuf>,
    /// Only the keys and what is known about erasures: small, and worth doing often
    #[arg(long)]
    only_keys: bool,
    /// Events of a piece at the most: what is lost of the work when a backup is interrupted
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1..))]
    piece: u32,
    #[command(flatten)]
    manner: Manner,
}

pub(crate) async fn run(options: Options) -> Result<ExitCode> {
    let operator = Operator::open_with_any_model("backup").await?;
    let done = perform(&operator, &options).await;
    operator.close().await;
    done
}

async fn perform(operator: &Operator, options: &Options) -> Result<ExitCode> {
    let (dir, dry_run) = (&options.dir, options.manner.dry_run);
    let keys_dir = keys::folder(dir, options.keys_dir.as_deref());
    let _lock = if dry_run {
        None
    } else {
        fs::create_dir_all(dir).map_err(|error| cannot_write(dir, &error))?;
        Some(Lock::take(dir)?)
    };
    // Whoever had the folder before has written what is older than this.
    let mut snapshot = Snapshot::take(&operator.pool).await?;
    let mut manifest = Manifest::load(dir)?.unwrap_or_else(Manifest::new);
    if let Some(last) = manifest.pieces.last()
        && !snapshot.has(last.last_event, last.to()).await?
    {
        bail!(
            "{} holds the backup of another database; give another folder",
            dir.display()
        );
    }
    let new = if options.only_keys {
        0
    } else {
        snapshot.count(manifest.end()).await?
    };
    if dry_run {
        return report(options, &keys_dir, manifest.events(), new, None);
    }
    files::clear_away(dir, manifest.pieces.len() + 1)?;
    // The keys come first: keys without events do no harm, events without keys can't be read.
    let in_force = snapshot.in_force().await?;
    let users = keys::write(&keys_dir, &mut snapshot, in_force).await?;
    let had = manifest.events();
    if !options.only_keys {
        write_log(operator, options, &mut snapshot, &mut manifest, new).await?;
    }
    let added = i64::try_from(manifest.events() - had).unwrap_or(i64::MAX);
    report(options, &keys_dir, manifest.events(), added, Some(users))
}

/// Writes what is new, piece by piece. Interrupted, it keeps whole pieces.
async fn write_log(
    operator: &Operator,
    options: &Options,
    snapshot: &mut Snapshot,
    manifest: &mut Manifest,
    new: i64,
) -> Result<()> {
    let mut progress = Progress::new("events", u64::try_from(new).unwrap_or(0));
    while let Some(piece) = snapshot.next(manifest.end(), options.piece.into()).await? {
        let file = files::piece(manifest.pieces.len() + 1);
        let mut writer = Writer::create(&options.dir.join(&file))?;
        let mut chunks = snapshot.copy(manifest.end(), piece.to).await?;
        while let Some(chunk) = chunks.try_next().await? {
            stopped(operator, manifest)?;
            writer.write(chunk.as_ref())?;
        }
        drop(chunks);
        let (bytes, sha256) = writer.finish()?;
        let events = u64::try_from(piece.events).context("a negative count")?;
        manifest.pieces.push(PieceFile {
            file,
            events,
            bytes,
            sha256,
            xid: piece.to.xid,
            position: piece.to.position,
            last_event: piece.last_event,
        });
        manifest.save(&options.dir)?;
        progress.advance(events);
    }
    if manifest.pieces.is_empty() {
        manifest.save(&options.dir)?;
    }
    progress.finish();
    Ok(())
}

/// Whether to go on; if not, what there is.
fn stopped(operator: &Operator, manifest: &Manifest) -> Result<()> {
    if !operator.stop.is_cancelled() {
        return Ok(());
    }
    Err(Interrupted::with(format!(
        "The keys of all users and {} events are backed up; the same command goes on from there.",
        manifest.events()
    )))
}

fn report(
    options: &Options,
    keys_dir: &std::path::Path,
    had: u64,
    new: i64,
    users: Option<u64>,
) -> Result<ExitCode> {
    let dry_run = options.manner.dry_run;
    let result = json!({
        "dir": options.dir,
        "keys_dir": keys_dir,
        "events": if dry_run { had.saturating_add_signed(new) } else { had },
        "new_events": new,
        "users": users,
        "dry_run": dry_run,
    });
    let log = match options.only_keys {
        true => "The log was left as it was:".to_owned(),
        false => format!("{new} new events were added:"),
    };
    options.manner.print(&result, || match users {
        None => {
            format!("{new} events would be added to the {had} that are there. Nothing was written.")
        }
        Some(users) => format!(
            "{log} {had} events are in {}, and the keys of {users} users in {}. Keep these apart from \
             the log, and the master key apart from both.",
            options.dir.display(),
            keys_dir.display()
        ),
    })?;
    Ok(ExitCode::SUCCESS)
}
