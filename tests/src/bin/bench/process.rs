//! The service as a user starts it: `companion up` with an empty home.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use companion_tests::eventually::eventually_within;
use companion_tests::http::http_client;
use companion_tests::llm::ScriptedLlm;
use reqwest::Client;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::process::{Child, Command};

const START_WITHIN: Duration = Duration::from_secs(60);

pub(crate) struct Service {
    /// Kept, as it goes when it is dropped.
    _home: tempfile::TempDir,
    pub(crate) client: Client,
    pub(crate) started_in: Duration,
    port: u16,
    variables: HashMap<String, String>,
    child: Child,
}

impl Service {
    pub(crate) async fn start(llm: &ScriptedLlm) -> Self {
        let home = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let variables = HashMap::from([
            (
                "COMPANION_HOME".to_owned(),
                home.path().join("home").display().to_string(),
            ),
            ("PORT".to_owned(), port.to_string()),
            ("LM_STUDIO_BASE_URL".to_owned(), llm.base_url()),
            ("MEMORY_EXTRACTION_DELAY_SECONDS".to_owned(), "0".to_owned()),
            ("LOG_LEVEL".to_owned(), "WARN".to_owned()),
            (
                "RATE_LIMIT_REQUESTS_PER_MINUTE".to_owned(),
                "100000".to_owned(),
            ),
        ]);
        let child = spawn(&variables);
        let mut service = Self {
            _home: home,
            client: http_client(),
            started_in: Duration::ZERO,
            port,
            variables,
            child,
        };
        service.started_in = service.wait_until_ready().await;
        service
    }

    async fn wait_until_ready(&self) -> Duration {
        let begun = Instant::now();
        let ready = self.url("/health/ready");
        eventually_within(START_WITHIN, || async {
            let answer = self
                .client
                .get(&ready)
                .send()
                .await
                .map_err(|error| error.to_string())?;
            if answer.status().is_success() {
                Ok(())
            } else {
                Err(answer.status().to_string())
            }
        })
        .await;
        begun.elapsed()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Kills every process of the service at once and starts it again.
    pub(crate) async fn crash_and_start(&mut self) {
        let postgres = self.postgres();
        let all = postgres.iter().copied().chain(self.child.id());
        let pids: Vec<String> = all.map(|pid| pid.to_string()).collect();
        Command::new("kill")
            .arg("-9")
            .args(&pids)
            .stderr(Stdio::null())
            .status()
            .await
            .unwrap();
        self.child.wait().await.unwrap();
        self.child = spawn(&self.variables);
        self.wait_until_ready().await;
    }

    pub(crate) async fn stop(mut self) {
        if let Some(pid) = self.child.id() {
            Command::new("kill")
                .arg(pid.to_string())
                .status()
                .await
                .unwrap();
        }
        self.child.wait().await.unwrap();
    }

    pub(crate) async fn settle(&self) {
        let health = self.url("/health");
        eventually_within(Duration::from_secs(120), || async {
            let answer = self
                .client
                .get(&health)
                .send()
                .await
                .map_err(|error| error.to_string())?;
            let health: Value = answer.json().await.map_err(|error| error.to_string())?;
            if health["workers"]["lag_events"] == 0 {
                Ok(())
            } else {
                Err(health.to_string())
            }
        })
        .await;
    }

    /// Sends a message and reads the reply; returns the time to the first text.
    pub(crate) async fn chat(&self, user: &str, message: &str) -> Duration {
        let request = self
            .client
            .post(self.url("/chat"))
            .header("X-User-Id", user)
            .json(&json!({ "message": message, "conversation_id": null }));
        first_text(request, "\"chunk\"", "\"done\":true").await
    }

    pub(crate) async fn memories(&self, user: &str) -> Vec<String> {
        let request = self
            .client
            .get(self.url("/memories"))
            .header("X-User-Id", user);
        let list: Value = request.send().await.unwrap().json().await.unwrap();
        let memories = list["memories"].as_array().cloned().unwrap_or_default();
        memories
            .iter()
            .map(|m| m["content"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// The URL of the service's own PostgreSQL.
    pub(crate) fn postgres_url(&self) -> String {
        let home = Path::new(&self.variables["COMPANION_HOME"]);
        let read = |name: &str| {
            fs::read_to_string(home.join(name))
                .unwrap()
                .trim()
                .to_owned()
        };
        let (port, password) = (read("postgres.port"), read("postgres.password"));
        format!("postgresql://companion:{password}@127.0.0.1:{port}/companion")
    }

    /// A database beside the service's, so that the service has nothing to do with what is in it.
    pub(crate) async fn another_database(&self, name: &str) -> String {
        let url = self.postgres_url();
        let mut connection = PgConnection::connect(&url).await.unwrap();
        let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::query(create).execute(&mut connection).await.unwrap();
        let (server, _) = url.rsplit_once('/').unwrap();
        format!("{server}/{name}")
    }

    /// CPU seconds so far: of the service's process, and of PostgreSQL.
    pub(crate) fn cpu(&self) -> Option<(f64, f64)> {
        let own = cpu_seconds(self.child.id()?, false)?;
        let postgres = self.postgres();
        let postmaster = *postgres.first()?;
        let rest: f64 = postgres
            .iter()
            .skip(1)
            .filter_map(|pid| cpu_seconds(*pid, false))
            .sum();
        Some((own, cpu_seconds(postmaster, true)? + rest))
    }

    /// Resident memory of the service's process, MB.
    pub(crate) fn memory(&self) -> Option<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()?)).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
    }

    /// PostgreSQL's processes, the postmaster first.
    fn postgres(&self) -> Vec<u32> {
        let data = Path::new(&self.variables["COMPANION_HOME"]).join("postgres");
        let pid_file = [
            data.join("postmaster.pid"),
            data.join("data/postmaster.pid"),
        ];
        let Some(text) = pid_file
            .iter()
            .find_map(|path| fs::read_to_string(path).ok())
        else {
            return Vec::new();
        };
        let postmaster: u32 = text.lines().next().unwrap().trim().parse().unwrap();
        let children = all_processes()
            .into_iter()
            .filter(|pid| parent(*pid) == Some(postmaster));
        std::iter::once(postmaster).chain(children).collect()
    }
}

fn spawn(variables: &HashMap<String, String>) -> Child {
    Command::new(binary("companion"))
        .arg("up")
        .envs(variables)
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("companion starts; run ops/bench")
}

/// A binary of the service, built beside this one.
pub(crate) fn binary(name: &str) -> PathBuf {
    std::env::current_exe().unwrap().with_file_name(name)
}

/// Sends a request and reads its stream to the end; returns the time to the first line with text.
pub(crate) async fn first_text(
    request: reqwest::RequestBuilder,
    text: &str,
    end: &str,
) -> Duration {
    let begun = Instant::now();
    let mut response = request.send().await.unwrap();
    assert!(
        response.status().is_success(),
        "{}",
        response.text().await.unwrap()
    );
    let (mut first, mut all) = (None, String::new());
    while let Some(bytes) = response.chunk().await.unwrap() {
        all.push_str(&String::from_utf8_lossy(&bytes));
        if first.is_none() && all.contains(text) {
            first = Some(begun.elapsed());
        }
    }
    assert!(all.contains(end) && !all.contains("\"error\""), "{all}");
    first.unwrap()
}

fn all_processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// The fields of `/proc/PID/stat` after the name.
fn stat(pid: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(
        stat.rsplit_once(')')?
            .1
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
    )
}

fn parent(pid: u32) -> Option<u32> {
    stat(pid)?.get(1)?.parse().ok()
}

/// User and system time of a process, with that of its ended children if asked. Linux counts 100
/// ticks a second.
fn cpu_seconds(pid: u32, with_ended_children: bool) -> Option<f64> {
    let stat = stat(pid)?;
    let fields = if with_ended_children { 11..15 } else { 11..13 };
    let ticks: f64 = fields
        .filter_map(|field| stat.get(field)?.parse::<f64>().ok())
        .sum();
    Some(ticks / 100.0)
}
