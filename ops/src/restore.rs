//! `companion restore`: a backup is put into an empty database.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use companion_adapters::backup::{Restore, Restored};
use companion_adapters::config::Config;
use companion_adapters::vault::masters;
use companion_domain::ids::UserId;
use futures_util::stream;
use serde_json::json;

use crate::backup::files::Reader;
use crate::backup::keys::{self, Keys};
use crate::backup::manifest::{Manifest, PieceFile};
use crate::operator::{Manner, Operator, Progress};
use crate::output::note;
use crate::printable::printable;

/// What is kept of a restore that is stopped: its transaction goes with it.
const NOTHING: &str = "Nothing was restored.";
/// Keys that are put back at once.
const TOGETHER: usize = 5_000;

/// What is restored, from where.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The folder with the log
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// The folder with the users' keys; DIR/keys unless given. The newest copy there is
    #[arg(long, value_name = "DIR")]
    keys_dir: Option<PathBuf>,
    /// Erasures made after the keys were backed up: a newer keys.jsonl, or users' ids, one a line
    #[arg(long, value_name = "FILE")]
    erasures: Vec<PathBuf>,
    #[command(flatten)]
    manner: Manner,
}

/// The erasures that are known besides those of the backup.
struct Later {
    files: Vec<Keys>,
    /// Those whom the files name.
    named: Vec<UserId>,
    /// Lines that name nobody whom the keys of the backup know.
    unknown: Vec<String>,
}

impl Later {
    fn read(paths: &[PathBuf], keys: &Keys) -> Result<Self> {
        let files = paths.iter().map(|path| keys::read_erasures(path));
        let files: Vec<Keys> = files.collect::<Result<_>>()?;
        let lines: Vec<String> = files.iter().flat_map(|file| file.named.clone()).collect();
        let (named, unknown) = keys::whom(&lines, keys);
        Ok(Self {
            files,
            named,
            unknown,
        })
    }

    /// What is said of the lines that name nobody.
    fn told(&self) -> Option<String> {
        if self.unknown.is_empty() {
            return None;
        }
        let lines: Vec<String> = self.unknown.iter().map(|line| printable(line)).collect();
        Some(format!(
            "ATTENTION: the keys of the backup know nobody of these, who are to be erased: {}. If a name is mistyped, \
             that user is not erased; then: companion erase USER",
            lines.join(", ")
        ))
    }
}

pub(crate) async fn run(options: Options) -> Result<ExitCode> {
    let manifest = Manifest::load(&options.dir)?
        .with_context(|| format!("there is no backup in {}", options.dir.display()))?;
    let keys = keys::read(&keys::folder(&options.dir, options.keys_dir.as_deref()))?;
    let later = Later::read(&options.erasures, &keys)?;
    if let Some(told) = later.told() {
        note(told);
    }
    if options.manner.dry_run {
        return look(&options, &manifest, &keys, &later);
    }
    has_master_key(&Config::from_env()?, &keys)?;
    let operator = Operator::open_migrated("restore").await?;
    let done = perform(&operator, &options, &manifest, &keys, &later).await;
    operator.close().await;
    done
}

/// A home without a master key would be given a new one, which opens nothing of the backup.
fn has_master_key(config: &Config, keys: &Keys) -> Result<()> {
    let of_home = config.companion_home.join(masters::FILE);
    if config.master_key.is_none() && !of_home.exists() {
        let check = keys.in_force.map_or_else(
            || "that was in force".to_owned(),
            |check| format!("with the check value {check}"),
        );
        bail!(
            "the master key {check} is needed, and is in no backup: set COMPANION_MASTER_KEY, or put it into {}",
            of_home.display()
        );
    }
    Ok(())
}

/// Reads everything as a restore would, and changes nothing.
fn look(options: &Options, manifest: &Manifest, keys: &Keys, later: &Later) -> Result<ExitCode> {
    let mut progress = Progress::new("events", manifest.events());
    for piece in &manifest.pieces {
        let mut reader = Reader::open(&options.dir, &piece.file)?;
        while reader.next(piece.bytes, &piece.sha256)?.is_some() {}
        progress.advance(piece.events);
    }
    progress.finish();
    let result = json!({
        "events": manifest.events(),
        "users": keys.keys.len(),
        "erasures": keys.erased.len(),
        "unknown": later.unknown,
        "master_key": keys.in_force.map(|check| check.to_string()),
        "dry_run": true,
    });
    options.manner.print(&result, || {
        format!(
            "The backup is whole: {} events and the keys of {} users. Nothing was restored.",
            manifest.events(),
            keys.keys.len()
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn perform(
    operator: &Operator,
    options: &Options,
    manifest: &Manifest,
    keys: &Keys,
    later: &Later,
) -> Result<ExitCode> {
    let filled = fill(operator, options, manifest, keys, later);
    let restore = operator.unless_stopped(NOTHING, filled).await??;
    // Not to be stopped any more: whoever hears that it was must know whether it is there.
    let in_force = keys.in_force;
    let restored = restore
        .finish(in_force.as_ref().map(|check| check.as_bytes()))
        .await?;
    let analyze = sqlx::query("ANALYZE events, streams, user_keys").execute(&operator.pool);
    if !matches!(operator.unless_stopped(NOTHING, analyze).await, Ok(Ok(_))) {
        note(
            "PostgreSQL has no statistics of it yet, and the first queries may be slow; it makes them by itself.",
        );
    }
    report(options, restored, later)
}

/// Puts everything back, and commits nothing.
async fn fill(
    operator: &Operator,
    options: &Options,
    manifest: &Manifest,
    keys: &Keys,
    later: &Later,
) -> Result<Restore> {
    let Some(mut restore) = Restore::begin(&operator.pool).await? else {
        bail!(
            "the database is not empty, and a restore never mixes: use a new database, or another COMPANION_HOME"
        );
    };
    for some in keys.keys.chunks(TOGETHER) {
        restore.put_keys(some).await?;
    }
    for known in std::iter::once(keys).chain(&later.files) {
        restore
            .put_erasures(&known.erased, &known.destroyed)
            .await?;
    }
    restore.erase(&later.named).await?;
    restore
        .check_keys(operator.store.vault())
        .await
        .context("the keys of the backup can't be opened")?;
    let mut progress = Progress::new("events", manifest.events());
    for piece in &manifest.pieces {
        append(&mut restore, &options.dir, piece).await?;
        progress.advance(piece.events);
    }
    progress.finish();
    Ok(restore)
}

async fn append(restore: &mut Restore, dir: &Path, piece: &PieceFile) -> Result<()> {
    let reader = Reader::open(dir, &piece.file)?;
    let path = reader.path().to_owned();
    let chunks = stream::unfold(reader, |mut reader| async move {
        let chunk = reader.next(piece.bytes, &piece.sha256).transpose()?;
        Some((chunk, reader))
    });
    let events = restore.append(Box::pin(chunks)).await.with_context(|| {
        format!(
            "{} was not accepted, and nothing is restored",
            path.display()
        )
    })?;
    if events != piece.events {
        bail!(
            "{} has {events} events, and backup.json says {}; nothing is restored",
            path.display(),
            piece.events
        );
    }
    Ok(())
}

fn report(options: &Options, restored: Restored, later: &Later) -> Result<ExitCode> {
    let Restored {
        events,
        users,
        closed,
    } = restored;
    let result = json!({
        "events": events,
        "users": users,
        "closed_users": closed,
        "unknown": later.unknown,
        "dry_run": false,
    });
    options.manner.print(&result, || {
        let mut text = format!(
            "{events} events and the keys of {users} users are restored. Start the service: it builds lists, memories \
             and vectors from the log; lag_events in /health says how far it is."
        );
        if closed > 0 {
            text += &format!(
                " Of {closed} users the key is not in the backup: what they said stays closed, and they begin anew."
            );
        }
        if let Some(told) = later.told() {
            text = format!("{text}\n{told}");
        }
        text
    })?;
    Ok(ExitCode::SUCCESS)
}
