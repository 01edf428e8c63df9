//! `companion token`: makes a token, for the first admin or for a script.

use std::time::Duration;

use anyhow::{Context, Result};
use companion_adapters::config::Config;
use companion_adapters::tokens::{self, Tokens};
use companion_domain::ids::ExternalUserId;

use crate::output::{line, note};

/// For whom, how long and with which rights.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Whom the token is for
    #[arg(long, value_name = "ID")]
    user: String,
    /// How long it is valid; JWT_EXPIRATION_HOURS unless given
    #[arg(long, value_name = "N")]
    hours: Option<u64>,
    /// What it opens besides the user's own: words with spaces between them, such as admin
    #[arg(long, value_name = "WORDS")]
    scope: Option<String>,
}

/// Prints the token, and nothing else, on standard output. Needs no database.
pub(crate) fn run(options: &Options) -> Result<()> {
    let user = ExternalUserId::parse(&options.user)
        .context("--user can't be used, for example --user alice")?;
    let config = Config::from_env()?;
    let lifetime = match options.hours {
        Some(hours) => Duration::from_secs(hours.saturating_mul(3600)),
        None => config.jwt.expiration,
    };
    let home = &config.companion_home;
    let makes_key = config.jwt.secret.is_none() && !home.join(tokens::SECRET_FILE).exists();
    let issued = Tokens::new(&config)?.issue(&user, lifetime, options.scope.as_deref())?;
    line(issued.token.expose());
    if makes_key {
        note(format_args!(
            "The key that signs it was made just now, in {}: a service with another COMPANION_HOME refuses this token.",
            home.display()
        ));
    }
    Ok(())
}
