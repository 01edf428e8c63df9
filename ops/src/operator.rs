//! What the operator's commands on the log have in common: the open database, whom they are about, how
//! they report, and how they are stopped.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use companion_adapters::config::{Config, Secret};
use companion_adapters::log::event_store::{AppendError, EventStore};
use companion_adapters::vault::Vault;
use companion_adapters::{database, shutdown};
use companion_domain::ids::{ExternalUserId, UserId};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::embedded::{self, Guard};
use crate::output::{line, note};

/// Connections of a command, unless it says otherwise.
const CONNECTIONS: u32 = 4;
/// How often progress is told where there is no terminal to draw it on.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// How long the end of what a stopped command has asked the database is waited for.
const CLOSED_WITHIN: Duration = Duration::from_secs(2);

/// The exit code of a command that was stopped by a signal.
pub(crate) const INTERRUPTED: u8 = 130;

/// A command was stopped by a signal; what there is of its work, as sentences. `main` says it and ends with
/// [`INTERRUPTED`].
#[derive(Debug, thiserror::Error)]
#[error("Stopped. {0}")]
pub(crate) struct Interrupted(pub(crate) String);

impl Interrupted {
    /// As an error, with what is kept.
    pub(crate) fn with(kept: impl Into<String>) -> anyhow::Error {
        Self(kept.into()).into()
    }
}

/// Whom a command is about. Exactly one of the two must be said, as "everybody" is no good default.
#[derive(Debug, Clone, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Whom {
    /// Only this user
    #[arg(long, value_name = "ID", value_parser = user)]
    user: Option<ExternalUserId>,
    /// All users
    #[arg(long)]
    all: bool,
}

impl Whom {
    /// The user as callers name them; `None` stands for all.
    pub(crate) fn external(&self) -> Option<&ExternalUserId> {
        self.user.as_ref()
    }
}

/// Reads an external user id from the command line.
pub(crate) fn user(text: &str) -> Result<ExternalUserId, String> {
    ExternalUserId::parse(text).map_err(|error| error.to_string())
}

/// How a command reports, and whether it may change anything.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Manner {
    /// Say what would be done, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) report: Report,
}

/// How a command reports.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Report {
    /// Print the result as one JSON object on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

impl Manner {
    /// See [`Report::print`].
    ///
    /// # Errors
    /// When the result has no JSON form.
    pub(crate) fn print(
        self,
        result: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<()> {
        self.report.print(result, text)
    }
}

impl Report {
    /// Prints a result: as JSON when that was asked for, otherwise as `text`.
    ///
    /// # Errors
    /// When the result has no JSON form.
    pub(crate) fn print(
        self,
        result: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<()> {
        if self.json {
            line(serde_json::to_string(result)?);
        } else {
            line(text());
        }
        Ok(())
    }
}

/// The log and its keys, opened for one command.
pub(crate) struct Operator {
    pub(crate) config: Config,
    pub(crate) pool: PgPool,
    pub(crate) store: EventStore,
    /// Cancelled by the first SIGINT or SIGTERM: finish the item at hand, keep what is done, stop.
    pub(crate) stop: CancellationToken,
    guard: Option<Guard>,
}

fn nobody(external: &ExternalUserId) -> String {
    format!(
        "there is nobody called {}; ids are told apart by upper and lower case, too",
        external.as_str()
    )
}

impl Operator {
    /// Opens the database of the configuration, the embedded one too, whether the service runs or not.
    ///
    /// # Errors
    /// What keeps it from being used, with what mends it.
    pub(crate) async fn open(command: &str) -> Result<Self> {
        Self::open_it(command, false, false).await
    }

    /// The same, whatever embedding model is configured: for commands that need no vectors.
    ///
    /// # Errors
    /// What keeps it from being used, with what mends it.
    pub(crate) async fn open_with_any_model(command: &str) -> Result<Self> {
        Self::open_it(command, true, false).await
    }

    /// Opens it as [`Operator::open`] does, and brings it to this version's schema before.
    ///
    /// # Errors
    /// What keeps it from being used, with what mends it.
    pub(crate) async fn open_migrated(command: &str) -> Result<Self> {
        Self::open_it(command, false, true).await
    }

    async fn open_it(command: &str, any_model: bool, migrate: bool) -> Result<Self> {
        let config = Config::from_env()?;
        let (url, guard) = if migrate {
            embedded::url_for(&config, command).await?
        } else {
            embedded::url_of_existing(&config, command).await?
        };
        let opened = async {
            if migrate {
                database::migrate(&url, &config).await?;
            }
            Self::connect(config, url, any_model).await
        };
        match opened.await {
            Ok(operator) => Ok(Self { guard, ..operator }),
            Err(error) => {
                if let Some(guard) = guard {
                    guard.release().await;
                }
                Err(error)
            }
        }
    }

    async fn connect(config: Config, url: Secret, any_model: bool) -> Result<Self> {
        let stop = CancellationToken::new();
        shutdown::on_signal(stop.clone())?;
        let pool = database::connect_for(&config, &url, CONNECTIONS, true).await?;
        if any_model {
            database::check_schema(&pool).await?;
        } else {
            database::check(&pool, &config).await?;
        }
        let vault = Vault::open(&config)?;
        vault.check(&pool).await?;
        let store = EventStore::new(pool.clone(), vault);
        Ok(Self {
            config,
            pool,
            store,
            stop,
            guard: None,
        })
    }

    /// The user as the log knows them.
    ///
    /// # Errors
    /// When there is nobody of that name: a mistyped one must not pass for a user of whom all is well.
    pub(crate) async fn known(&self, external: &ExternalUserId) -> Result<UserId> {
        match self.is_known(external).await? {
            true => Ok(UserId::of(external)),
            false => bail!(nobody(external)),
        }
    }

    /// Says so when there is nobody of that name: what is asked about them may be about who was erased.
    ///
    /// # Errors
    /// When it can't be found out.
    pub(crate) async fn tell_of_nobody(&self, external: Option<&ExternalUserId>) -> Result<()> {
        if let Some(external) = external
            && !self.is_known(external).await?
        {
            note(nobody(external));
        }
        Ok(())
    }

    async fn is_known(&self, external: &ExternalUserId) -> Result<bool> {
        match self.store.life(UserId::of(external)).await {
            Ok(_) => Ok(true),
            Err(AppendError::NoUser) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Does work that may be left off at any moment.
    ///
    /// # Errors
    /// [`Interrupted`] with what is kept, when the command is stopped before the work is done.
    pub(crate) async fn unless_stopped<T>(
        &self,
        kept: &str,
        work: impl Future<Output = T>,
    ) -> Result<T> {
        tokio::select! {
            done = work => Ok(done),
            () = self.stop.cancelled() => Err(Interrupted::with(kept)),
        }
    }

    /// Closes the connections, and stops the embedded server if this command has started it.
    pub(crate) async fn close(self) {
        if self.stop.is_cancelled() {
            // A long query that was left off holds its connection until it ends; it goes with the process.
            let _ = tokio::time::timeout(CLOSED_WITHIN, self.pool.close()).await;
        } else {
            self.pool.close().await;
        }
        if let Some(guard) = self.guard {
            guard.release().await;
        }
    }
}

/// The progress of long work, with an estimate of what is left: a bar on a terminal, otherwise a line
/// every ten seconds; on standard error in both cases.
pub(crate) struct Progress {
    bar: ProgressBar,
    what: String,
    drawn: bool,
    told: Instant,
}

impl Progress {
    /// Begins to tell of work on `total` items; `what` names it, such as "events".
    pub(crate) fn new(what: &str, total: u64) -> Self {
        let drawn = std::io::stderr().is_terminal();
        let template = "{msg} {wide_bar} {human_pos}/{human_len} {per_sec} {eta} left";
        let style = ProgressStyle::with_template(template);
        let target = if drawn {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(total), target)
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
            .with_message(what.to_owned());
        Self {
            bar,
            what: what.to_owned(),
            drawn,
            told: Instant::now(),
        }
    }

    /// So many items more are done.
    pub(crate) fn advance(&mut self, items: u64) {
        self.bar.inc(items);
        if !self.drawn && self.told.elapsed() >= TELL_EVERY {
            self.told = Instant::now();
            let (done, total) = (self.bar.position(), self.bar.length().unwrap_or(0));
            let left = self.bar.eta().as_secs();
            note(format_args!(
                "{}: {done} of {total}, about {left} s left",
                self.what
            ));
        }
    }

    /// Ends it.
    pub(crate) fn finish(self) {}
}

impl Drop for Progress {
    /// Takes the bar away, also when the work was stopped or failed: what is said next begins a line.
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
