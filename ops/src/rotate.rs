//! `companion rotate-master-key`: another master key takes the place of the one that wraps the users'
//! data keys.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use companion_adapters::config::{Config, Secret};
use companion_adapters::vault::kept_secret;
use companion_adapters::vault::masters::{FILE, MasterKey, NEXT_FILE};
use companion_adapters::vault::rotation;
use serde_json::json;
use sqlx::Connection;
use uuid::Uuid;

use crate::disk;
use crate::operator::{Interrupted, Manner, Operator, Progress};
use crate::output::{note, only_line};

/// What is said when it is not done, however it came to that.
const BOTH_KEYS: &str =
    "Both master keys are needed until it is done; run it again with the same keys.";

/// The lock that one rotation at a time holds.
const LOCK: i64 = 0x6d61_7374_6572;
/// No key is this long.
const MOST_BYTES: u64 = 1_000;

/// Where the new key comes from.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Read the new key from standard input, 32 bytes in base64
    #[arg(long, conflicts_with = "print")]
    stdin: bool,
    /// Make a new key and print it, alone, on standard output, before anything is changed
    #[arg(long, conflicts_with = "json")]
    print: bool,
    #[command(flatten)]
    manner: Manner,
}

pub(crate) async fn run(options: Options) -> Result<ExitCode> {
    let operator = Operator::open_with_any_model("rotate-master-key").await?;
    let done = perform(&operator, &options).await;
    operator.close().await;
    done
}

async fn perform(operator: &Operator, options: &Options) -> Result<ExitCode> {
    let mut lock = operator.pool.acquire().await?;
    let alone: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
        .bind(LOCK)
        .fetch_one(&mut *lock)
        .await?;
    if !alone {
        bail!("the master key is being changed by another command; wait for its end");
    }
    let done = rotate(operator, options).await;
    // With its connection the lock goes, too.
    lock.detach().close().await?;
    done
}

async fn rotate(operator: &Operator, options: &Options) -> Result<ExitCode> {
    let Operator {
        config,
        pool,
        store,
        ..
    } = operator;
    let vault = store.vault();
    let own = vault.masters().own().context("there is no master key")?;
    let new = new_key(config, options)?;
    let to = MasterKey::parse("the new master key", &new)?;
    let left = rotation::left(pool, to.check).await?;
    let manner = options.manner;
    let result = |rewrapped: u64, is_done: bool| {
        json!({
            "from": own.check.to_string(),
            "to": to.check.to_string(),
            "data_keys": rewrapped,
            "done": is_done,
            "dry_run": manner.dry_run,
        })
    };
    if own.check == to.check && left == 0 {
        manner.print(&result(0, true), || {
            "That is the master key already, and every data key is wrapped with it.".to_owned()
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let total = u64::try_from(left).unwrap_or(0);
    if manner.dry_run {
        manner.print(&result(total, false), || {
            format!(
                "{left} data keys would be wrapped anew, from master key {} to {}. Nothing was changed.",
                own.check, to.check
            )
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    if config.master_key.is_none() {
        // Where the processes of this home find it when they need it.
        keep_next(config, &new)?;
    }
    if operator.stop.is_cancelled() {
        return Err(Interrupted::with("Nothing was changed."));
    }
    let rewrapped = rewrap(operator, &to, total)
        .await
        .with_context(|| format!("it is not done. {BOTH_KEYS}"))?;
    let next = if config.master_key.is_none() {
        let former = own.check.to_string();
        put_in_place(&config.companion_home, &former)?;
        format!(
            "{FILE} in COMPANION_HOME is the new key. The former one is beside it as {FILE}.former-{former}: backups \
             from before need it; delete it when you have made a new one."
        )
    } else {
        "Now set COMPANION_MASTER_KEY to the new key everywhere, unset COMPANION_NEW_MASTER_KEY, and restart. Keep \
         the former key as long as you keep backups from before."
            .to_owned()
    };
    if options.print {
        note(format_args!(
            "{rewrapped} data keys were wrapped anew. {next}"
        ));
    } else {
        manner.print(&result(rewrapped, true), || {
            format!("{rewrapped} data keys were wrapped anew. {next}")
        })?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Puts a master key in force and wraps every data key with it; how many there were.
async fn rewrap(operator: &Operator, to: &MasterKey, total: u64) -> Result<u64> {
    let (pool, vault) = (&operator.pool, operator.store.vault());
    let mut progress = Progress::new("data keys", total);
    let mut rewrapped = 0;
    rotation::put_in_force(pool, to.check).await?;
    // Until a whole pass finds nothing more.
    while rotation::left(pool, to.check).await? > 0 {
        let mut after = Uuid::nil();
        while let Some(batch) = rotation::step(pool, vault, to, after).await? {
            after = batch.after;
            rewrapped += batch.keys;
            progress.advance(batch.keys);
            if operator.stop.is_cancelled() {
                return Err(Interrupted::with(BOTH_KEYS));
            }
        }
    }
    progress.finish();
    Ok(rewrapped)
}

/// The new key: given, left by a run that was broken off, or made now.
fn new_key(config: &Config, options: &Options) -> Result<Secret> {
    if options.stdin {
        let mut text = String::new();
        io::stdin()
            .lock()
            .take(MOST_BYTES)
            .read_to_string(&mut text)?;
        return Ok(Secret::new(text.trim()));
    }
    if let Some(new) = &config.new_master_key {
        if options.print {
            bail!(
                "--print makes a new key, but COMPANION_NEW_MASTER_KEY is set; unset one of them"
            );
        }
        return Ok(new.clone());
    }
    let of_home = config.master_key.is_none();
    let left_behind = config.companion_home.join(NEXT_FILE);
    let new = match fs::read_to_string(&left_behind) {
        Ok(text) if of_home => Secret::new(text.trim()),
        _ => MasterKey::generate()?,
    };
    if options.print {
        if !options.manner.dry_run {
            only_line(new.expose()).context(
                "the new master key could not be printed, so nothing was changed; give standard output room, or a reader",
            )?;
        }
    } else if !of_home {
        bail!(
            "the new master key is not known. Make one with: openssl rand -base64 32; restart all processes with it as \
             COMPANION_NEW_MASTER_KEY beside COMPANION_MASTER_KEY, and run this command with both. Where nothing else \
             runs, --print makes a key and prints it, or --stdin reads one"
        );
    }
    Ok(new)
}

/// Keeps the new key beside the one of the home, as the same file a run that was broken off left.
fn keep_next(config: &Config, new: &Secret) -> Result<()> {
    let home = &config.companion_home;
    let path = home.join(NEXT_FILE);
    let kept = kept_secret(home, NEXT_FILE, || new.expose().to_owned())
        .map_err(|error| disk::cannot_write(&path, &error))?;
    if kept != *new {
        bail!(
            "{} holds another key, from a rotation that was broken off; finish that first: run this command \
             without a key",
            path.display()
        );
    }
    Ok(())
}

/// The new key takes the name of the former one, which stays under another. A crash leaves both.
fn put_in_place(home: &Path, former: &str) -> Result<()> {
    let (path, next) = (home.join(FILE), home.join(NEXT_FILE));
    let put = || -> io::Result<()> {
        match fs::hard_link(&path, home.join(format!("{FILE}.former-{former}"))) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        fs::rename(&next, &path)?;
        File::open(home)?.sync_all()
    };
    put().map_err(|error| disk::cannot_write(&path, &error))
}
