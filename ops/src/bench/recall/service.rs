//! The whole service on a scratch database, spoken to over HTTP.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use companion_adapters::config::{Config, Secret};
use companion_adapters::core::Core;
use companion_adapters::{database, llm};
use reqwest::Client;
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::output::step;
use crate::test_services::{Scratch, start_postgres};

/// How often to ask whether everything has been worked on, and for how long.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const SETTLED_WITHIN: Duration = Duration::from_secs(900);

/// A running service.
pub(super) struct Service {
    pub(super) core: Core,
    address: SocketAddr,
    client: Client,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<Result<()>>>,
    scratch: Option<Database>,
    /// The ids that messages had before they were imported.
    external: Mutex<HashMap<Uuid, String>>,
}

/// The database, to be thrown away.
enum Database {
    /// With the server that it is on.
    Server(Box<(crate::embedded::server::Server, Scratch)>),
    /// On the server of `POSTGRES_URL`.
    Named(Box<PgConnectOptions>, String),
}

impl Service {
    /// Starts it: on the server of `POSTGRES_URL`, or on one of its own.
    pub(super) async fn start() -> Result<Self> {
        let mut config = Config::from_env()?;
        let (url, scratch) = step("scratch database", scratch(&config)).await?;
        config.postgres_url = Some(url.clone());
        config.redis_url = None;
        config.require_authentication = true;
        config.allow_x_user_id = true;
        // All calls together have ten times as many.
        config.rate_limit = 1_000_000;
        config.master_key = Some(Secret::new("BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="));
        database::migrate(&url, &config).await?;
        llm::install_tls();
        let core = step("embedding model", Core::open(config)).await?;
        let listener = companion_api::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let (address, stop) = (listener.local_addr()?, CancellationToken::new());
        let tasks = vec![
            tokio::spawn(companion_api::serve(core.clone(), listener, stop.clone())),
            tokio::spawn(companion_worker::run(core.clone(), stop.clone())),
        ];
        Ok(Self {
            core,
            address,
            client: Client::new(),
            stop,
            tasks,
            scratch: Some(scratch),
            external: Mutex::default(),
        })
    }

    /// Imports a conversation.
    pub(super) async fn import(&self, user: &str, messages: &[Value]) -> Result<()> {
        let body = json!({ "messages": messages, "extract": false });
        let imported = self.post(user, "/conversations/import", &body).await?;
        let ids = imported["message_ids"]
            .as_array()
            .context("no message ids")?;
        let mut external = self
            .external
            .lock()
            .map_err(|_| anyhow::anyhow!("a task panicked"))?;
        for (id, message) in ids.iter().zip(messages) {
            let id = id.as_str().and_then(|id| Uuid::from_str(id).ok());
            let before = message["external_id"].as_str();
            if let (Some(id), Some(before)) = (id, before) {
                external.insert(id, before.to_owned());
            }
        }
        Ok(())
    }

    /// Waits until everything has been projected and embedded.
    pub(super) async fn settle(&self) -> Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < SETTLED_WITHIN {
            let url = format!("http://{}/health", self.address);
            let health: Value = self.client.get(url).send().await?.json().await?;
            if health["workers"]["lag_events"] == 0 {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        bail!("the imported messages were not worked on in time")
    }

    /// The external ids of the messages that are found, best first. An empty query is asked as a word.
    pub(super) async fn search(
        &self,
        user: &str,
        query: &str,
        top_k: usize,
    ) -> Result<Vec<String>> {
        let query = if query.is_empty() { "hello" } else { query };
        let body = json!({ "query": query, "top_k": top_k, "include_messages": true });
        let found = self.post(user, "/memories/search", &body).await?;
        let results = found["results"].as_array().context("no results")?;
        let id = |result: &Value| {
            result["sources"][0]["external_id"]
                .as_str()
                .map(str::to_owned)
        };
        Ok(results.iter().filter_map(id).collect())
    }

    /// The id that a message had before it was imported.
    pub(super) fn external(&self, id: Uuid) -> String {
        let external = self.external.lock();
        external
            .ok()
            .and_then(|external| external.get(&id).cloned())
            .unwrap_or_default()
    }

    async fn post(&self, user: &str, path: &str, body: &Value) -> Result<Value> {
        let request = self
            .client
            .post(format!("http://{}{path}", self.address))
            .header("X-User-Id", user)
            .json(body);
        let response = request.send().await?;
        let status = response.status();
        let answer: Value = response.json().await?;
        if !status.is_success() {
            bail!("{path} answered {status}: {}", answer["detail"]);
        }
        Ok(answer)
    }

    /// Stops it and throws the database away.
    pub(super) async fn stop(self) -> Result<()> {
        self.stop.cancel();
        for task in self.tasks {
            task.await??;
        }
        self.core.close().await;
        match self.scratch {
            Some(Database::Server(server)) => {
                let (server, folder) = *server;
                server.stop().await;
                drop(folder);
            }
            Some(Database::Named(server, name)) => {
                let mut connection = server.connect().await?;
                let sql = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
                sqlx::query(AssertSqlSafe(sql))
                    .execute(&mut connection)
                    .await?;
                connection.close().await?;
            }
            None => {}
        }
        Ok(())
    }
}

async fn scratch(config: &Config) -> Result<(Secret, Database)> {
    let Some(url) = &config.postgres_url else {
        let folder = Scratch::make()?;
        let (server, password) = start_postgres(&folder).await?;
        let url = server.url(&password, "postgres");
        return Ok((url, Database::Server(Box::new((server, folder)))));
    };
    let server = PgConnectOptions::from_str(url.expose())?;
    let name = format!("companion_bench_{}", Uuid::new_v4().simple());
    let mut connection = server.connect().await?;
    let sql = format!("CREATE DATABASE {name}");
    sqlx::query(AssertSqlSafe(sql))
        .execute(&mut connection)
        .await?;
    connection.close().await?;
    let scratch = server.clone().database(&name).to_url_lossy().to_string();
    Ok((
        Secret::new(scratch),
        Database::Named(Box::new(server), name),
    ))
}
