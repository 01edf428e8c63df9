//! `companion migrate`: brings the database to this version's schema.

use anyhow::Result;
use companion_adapters::config::Config;
use companion_adapters::database;

use crate::embedded;
use crate::output::{line, step};

/// Applies what is missing.
pub(crate) async fn run() -> Result<()> {
    let config = Config::from_env()?;
    let (url, guard) = step("PostgreSQL", embedded::url_for(&config, "migrate")).await?;
    let migrated = step("migrations", database::migrate(&url, &config)).await;
    if let Some(guard) = guard {
        guard.release().await;
    }
    migrated?;
    line("The database has this version's schema.");
    Ok(())
}
