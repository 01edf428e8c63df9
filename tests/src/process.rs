//! The real binaries as processes of their own, for tests that kill them.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::app::{Chatted, Variables, status_and_json};
use crate::eventually::{eventually, within};
use crate::http::http_client;

/// A running binary. Dropping it kills it.
pub struct Process {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts a binary of this workspace.
    ///
    /// # Panics
    ///
    /// When it was not built: `cargo build --workspace --bins` does.
    #[must_use]
    pub fn start(binary: &str, variables: &Variables) -> Self {
        Self::started(command(binary, variables))
    }

    /// The same in a folder, where there may be a file `.env`.
    ///
    /// # Panics
    ///
    /// When it was not built.
    #[must_use]
    pub fn start_in(folder: &Path, binary: &str, variables: &Variables) -> Self {
        let mut command = command(binary, variables);
        command.current_dir(folder);
        Self::started(command)
    }

    fn started(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let stdout = child.stdout.take().expect("piped");
        let stderr = child.stderr.take().expect("piped");
        let readers = vec![gather(stdout, lines.clone()), gather(stderr, lines.clone())];
        Self {
            child,
            lines,
            readers,
        }
    }

    /// What it has written so far, line by line.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// SIGKILL, as a crash; returns when it is gone.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("it is killed");
    }

    /// SIGTERM, and waits for its end: how it ended and what it wrote.
    pub async fn terminate(self) -> (ExitStatus, Vec<String>) {
        let id = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill")
            .args(["-TERM", &id])
            .status()
            .await
            .expect("kill runs");
        assert!(sent.success());
        self.ended().await
    }

    /// Waits for its end: how it ended and what it wrote.
    pub async fn ended(mut self) -> (ExitStatus, Vec<String>) {
        let status = within("the process to end", self.child.wait())
            .await
            .expect("a status");
        for reader in std::mem::take(&mut self.readers) {
            within("its last lines", reader).await.expect("no panic");
        }
        (status, self.lines())
    }
}

/// An API process and how to speak to it.
pub struct Api {
    /// The process.
    pub process: Process,
    base: String,
    client: Client,
}

impl Api {
    /// Starts `companion-api` on a free port and waits until it takes requests.
    pub async fn start(variables: &Variables) -> Self {
        let port = free_port();
        let mut variables = variables.clone();
        variables.insert("PORT".to_owned(), port.to_string());
        let process = Process::start("companion-api", &variables);
        let api = Self {
            process,
            base: format!("http://127.0.0.1:{port}"),
            client: http_client(),
        };
        eventually(|| async {
            match api.request(Method::GET, "/health/ready").send().await {
                Ok(answer) if answer.status() == 200 => Ok(()),
                other => Err(format!("not ready: {other:?}, {:?}", api.process.lines())),
            }
        })
        .await;
        api
    }

    /// A request by nobody.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    /// What a path answers to a user: status and JSON.
    pub async fn get(&self, user: &str, path: &str) -> (u16, Value) {
        let request = self.request(Method::GET, path).header("X-User-Id", user);
        status_and_json(request.send().await.expect("an answer")).await
    }

    /// Sends a message and leaves the answer unread.
    pub async fn send(&self, user: &str, message: &str, conversation: Option<&str>) -> Response {
        let body = json!({ "message": message, "conversation_id": conversation });
        let request = self
            .request(Method::POST, "/chat")
            .header("X-User-Id", user)
            .json(&body);
        request.send().await.expect("an answer")
    }

    /// Sends a message and reads the reply to its end.
    pub async fn chat(&self, user: &str, message: &str, conversation: Option<&str>) -> Chatted {
        Chatted::read(self.send(user, message, conversation).await).await
    }

    /// Waits until everything that was appended has been worked on.
    pub async fn settle(&self) {
        eventually(|| async {
            let (_, health) = self.get("nobody", "/health").await;
            if health["workers"]["lag_events"] == 0 {
                Ok(())
            } else {
                Err(health.to_string())
            }
        })
        .await;
    }
}

/// A binary of this workspace, to be run with nothing in its environment but these variables and what it needs to
/// find its parts.
///
/// # Panics
///
/// When it was not built: `cargo build --workspace --bins` does.
#[must_use]
pub fn command(binary: &str, variables: &Variables) -> Command {
    let path = folder().join(binary);
    assert!(
        path.exists(),
        "{binary} is not built; run the tests with ops/test, or: cargo build --workspace --bins"
    );
    let mut command = Command::new(path);
    command.env_clear().envs(variables).stdin(Stdio::null());
    for kept in [
        "HOME",
        "PATH",
        "COMPANION_PARTS",
        "XDG_CACHE_HOME",
        "TMPDIR",
    ] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    // A `.env` of whoever runs the tests is none of theirs.
    command.current_dir(std::env::temp_dir()).kill_on_drop(true);
    command
}

/// A port that nobody listens on.
///
/// # Panics
///
/// When there is none.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// Where the binaries are: test executables lie in `deps` beside them.
fn folder() -> PathBuf {
    let me = std::env::current_exe().expect("a path");
    me.ancestors().nth(2).expect("a target folder").to_owned()
}

fn gather(
    stream: impl AsyncRead + Unpin + Send + 'static,
    into: Arc<Mutex<Vec<String>>>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut lines = BufReader::new(stream).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            into.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(line);
        }
    })
}
