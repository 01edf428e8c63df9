//! A running PostgreSQL server of our own.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, anyhow};
use companion_adapters::config::Secret;
use sqlx::{Connection, PgConnection};

use super::pg_log;
use crate::server_log;
use crate::supervise::Supervised;

/// The cluster's one role and owner of everything in it.
pub(crate) const ROLE: &str = "companion";
/// The database of the service.
pub(crate) const DATABASE: &str = "companion";
/// A fast shutdown writes what is in memory.
const STOP_WITHIN: Duration = Duration::from_secs(60);
/// How much of the log is looked through for the reason of an end.
const TAIL_BYTES: u64 = 10_000;

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    /// Its port on 127.0.0.1.
    pub(crate) port: u16,
    /// Where its messages go.
    pub(crate) log: PathBuf,
    /// Its process.
    pub(crate) supervised: Supervised,
}

impl Server {
    /// The URL of a database of this server.
    pub(crate) fn url(&self, password: &Secret, database: &str) -> Secret {
        url(self.port, password, database)
    }

    /// Waits until the server ends without having been asked to, and says why.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        let before = server_log::length(&self.log).saturating_sub(TAIL_BYTES);
        let ended = self.supervised.ended().await;
        let said = server_log::read_from(&self.log, before);
        let status = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
        let reason = pg_log::last_useful(&said).map_or(status, str::to_owned);
        anyhow!(
            "PostgreSQL has stopped: {reason}; its messages are in {}",
            self.log.display()
        )
    }

    /// Stops the server and waits until it has written everything.
    pub(crate) async fn stop(self) {
        if !self.supervised.stop(STOP_WITHIN).await {
            crate::output::note("PostgreSQL still writes its last changes; it ends by itself.");
        }
    }

    /// Makes the service's database unless it is there.
    pub(crate) async fn make_database(&self, password: &Secret) -> Result<()> {
        let url = self.url(password, "postgres");
        let make = async {
            let mut connection = PgConnection::connect(url.expose()).await?;
            let there: bool =
                sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
                    .bind(DATABASE)
                    .fetch_one(&mut connection)
                    .await?;
            if !there {
                sqlx::query("CREATE DATABASE companion")
                    .execute(&mut connection)
                    .await?;
            }
            connection.close().await
        };
        make.await.map_err(|error: sqlx::Error| match error {
            sqlx::Error::Database(error) => {
                anyhow!("the embedded PostgreSQL refuses: {}", error.message())
            }
            other => anyhow!("the embedded PostgreSQL can't be reached: {other}"),
        })
    }
}

/// The URL of a database of a server on the loopback address.
pub(crate) fn url(port: u16, password: &Secret, database: &str) -> Secret {
    Secret::new(format!(
        "postgres://{ROLE}:{}@127.0.0.1:{port}/{database}",
        password.expose()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_only_the_loopback_address() {
        let url = url(5000, &Secret::new("abc"), "companion");
        assert_eq!(
            url.expose(),
            "postgres://companion:abc@127.0.0.1:5000/companion"
        );
    }
}
