//! A replay of all read models, against a plain ordered COPY of the same log.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use companion_adapters::config::{Config, Secret};
use companion_adapters::database;
use companion_adapters::vault::Vault;
use companion_tests::app::MASTER_KEY;
use companion_tests::log::generate as make;
use futures_util::StreamExt;
use serde_json::Value;
use sqlx::{Connection, PgConnection, PgPool};
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use crate::figures::quantile;
use crate::process::{Service, binary};

/// Turns of COPY and replay; the median is told.
const TURNS: usize = 3;
/// How often the memory of the command is looked at. The system keeps the highest itself.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Makes a log in a database, which is migrated first.
pub(crate) async fn generate(url: &str, events: u64) {
    let config = Config::from_variables(Default::default()).unwrap();
    let secret = Secret::new(url);
    database::migrate(&secret, &config).await.unwrap();
    let vault = Vault::new(&Secret::new(master_key())).unwrap();
    let pool = database::connect(&secret, 4, false).await.unwrap();
    let begun = Instant::now();
    make(&pool, &vault, events, |_| {}).await;
    let took = begun.elapsed().as_secs_f64();
    println!("a log of {events} events, made in {took:.1} s");
    pool.close().await;
}

/// The key that the log is sealed with: the one that is set, or that of the tests.
fn master_key() -> String {
    std::env::var("COMPANION_MASTER_KEY").unwrap_or_else(|_| MASTER_KEY.to_owned())
}

pub(crate) async fn run(service: &Service, events: u64) {
    let url = service.another_database("bench_replay").await;
    generate(&url, events).await;
    println!("replay of all read models against a plain ordered COPY of the log, seconds");
    println!("  COPY  replay  ratio  MB at the most  MB/s of COPY");
    let pool = PgPool::connect(&url).await.unwrap();
    // The first builds what the others compare with.
    let (seconds, memory) = replay(&url, events, false).await;
    println!(
        "     -  {seconds:>6.1}      -  {memory:>14.0}  nothing in use yet: nothing to compare with"
    );
    let mut ratios = Vec::new();
    for _ in 0..TURNS {
        clear_up(&pool).await;
        let (plain, bytes) = copy(&url).await;
        clear_up(&pool).await;
        let (seconds, memory) = replay(&url, events, true).await;
        ratios.push(seconds / plain);
        println!(
            "  {plain:>4.1}  {seconds:>6.1}  {:>5.2}  {memory:>14.0}  {:.0}",
            seconds / plain,
            bytes as f64 / plain / 1e6
        );
    }
    println!("  median ratio {:.2}\n", quantile(&mut ratios, 0.5));
    pool.close().await;
}

/// Does what the server would do sooner or later, and so in the midst of one turn or another: vacuums what the
/// last one has left, and writes it to disk.
async fn clear_up(pool: &PgPool) {
    for sql in ["VACUUM (ANALYZE)", "CHECKPOINT"] {
        sqlx::query(sql).execute(pool).await.unwrap();
    }
}

/// Reads the log to its end; seconds and bytes.
async fn copy(url: &str) -> (f64, u64) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let begun = Instant::now();
    let statement =
        "COPY (SELECT * FROM events ORDER BY xid, position) TO STDOUT WITH (FORMAT binary)";
    let mut bytes = 0;
    let mut chunks = connection.copy_out_raw(statement).await.unwrap();
    while let Some(chunk) = chunks.next().await {
        bytes += chunk.unwrap().len() as u64;
    }
    (begun.elapsed().as_secs_f64(), bytes)
}

/// Runs `companion replay all` to its end; seconds, and the most memory that it held, MB. It has to take
/// in all events, and to find the same rows as those in use, if there are any.
async fn replay(url: &str, events: u64, in_use: bool) -> (f64, f64) {
    let begun = Instant::now();
    let mut child = Command::new(binary("companion"))
        .args(["replay", "all", "--json"])
        .env("POSTGRES_URL", url)
        .env("COMPANION_MASTER_KEY", master_key())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id().unwrap());
    let mut memory = f64::NAN;
    let ended = loop {
        if let Some(highest) = highest(&status) {
            memory = highest;
        }
        match tokio::time::timeout(LOOK_EVERY, child.wait()).await {
            Ok(ended) => break ended.unwrap(),
            Err(_) => continue,
        }
    };
    let seconds = begun.elapsed().as_secs_f64();
    let mut told = String::new();
    let output = child.stdout.as_mut().unwrap();
    output.read_to_string(&mut told).await.unwrap();
    assert!(ended.success(), "{told}");
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["differences"], 0, "{told}");
    assert_eq!(told["switched"], true, "{told}");
    assert_eq!(told["events"], events, "{told}");
    let compared = told["tables"].as_array().unwrap();
    assert_eq!(compared.is_empty(), !in_use, "{told}");
    (seconds, memory)
}

/// The most resident memory that a process has held, MB.
fn highest(status: &str) -> Option<f64> {
    let status = fs::read_to_string(status).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
}
