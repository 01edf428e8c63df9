//! The append rate, against pgbench inserting the same row into a bare table.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use companion_adapters::config::{Config, Secret};
use companion_adapters::log::event_store::{EventStore, Expected};
use companion_adapters::vault::Vault;
use companion_adapters::{database, parts};
use companion_domain::events::{Metadata, ReplyCompleted};
use companion_domain::ids::{ConversationId, ExternalUserId, ReplyId, StreamId};
use tokio::process::Command;
use uuid::Uuid;

use crate::figures::quantile;
use crate::process::Service;

/// Turns of each pair; the median is told.
const TURNS: usize = 3;
/// A text as long as a usual reply.
const TEXT: &str = "Nice to meet you! I will keep that in mind for the next time that we talk. Is there anything else?";

pub(crate) async fn run(service: &Service, length: Duration) {
    let url = service.another_database("bench").await;
    let store = store(&url).await;
    let row = "CREATE TABLE IF NOT EXISTS public.bench_raw (LIKE public.events INCLUDING DEFAULTS INCLUDING IDENTITY INCLUDING INDEXES)";
    sqlx::query(row).execute(store.pool()).await.unwrap();
    println!("appends a second, median of {TURNS} turns");
    println!("  clients  append  pgbench insert  ratio");
    for clients in [1, 8, 32] {
        let (mut ours, mut raw) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            ours.push(append(&store, clients, length).await);
            raw.push(pgbench(&url, clients, length).await);
        }
        let (ours, raw) = (quantile(&mut ours, 0.5), quantile(&mut raw, 0.5));
        println!("  {clients:>7} {ours:>7.0} {raw:>15.0} {:>6.2}", ours / raw);
    }
    println!();
}

async fn store(url: &str) -> EventStore {
    let config = Config::from_variables(Default::default()).unwrap();
    let url = Secret::new(url);
    database::migrate(&url, &config).await.unwrap();
    let key = Secret::new("BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=");
    EventStore::new(
        database::connect(&url, 40, true).await.unwrap(),
        Vault::new(&key).unwrap(),
    )
}

async fn append(store: &EventStore, clients: usize, length: Duration) -> f64 {
    let user = store
        .ensure_user(&ExternalUserId::parse("bench-append").unwrap())
        .await
        .unwrap();
    let done = Arc::new(AtomicU64::new(0));
    let end = Instant::now() + length;
    let all = (0..clients).map(|_| {
        let (store, done) = (store.clone(), done.clone());
        tokio::spawn(async move {
            let stream = StreamId::conversation(ConversationId(Uuid::now_v7()));
            for version in 0.. {
                if Instant::now() > end {
                    return;
                }
                let event = ReplyCompleted {
                    reply_id: ReplyId(Uuid::now_v7()),
                    content: TEXT.to_owned(),
                };
                let events = vec![(event.into(), Metadata::default())];
                store
                    .append(&stream, user, Expected::Version(version), events, None)
                    .await
                    .unwrap();
                done.fetch_add(1, Ordering::Relaxed);
            }
        })
    });
    for client in all.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    done.load(Ordering::Relaxed) as f64 / length.as_secs_f64()
}

async fn pgbench(url: &str, clients: usize, length: Duration) -> f64 {
    let script = "\\set v random(1, 2000000000)\n\
        INSERT INTO public.bench_raw (event_id, stream_id, version, user_id, type, schema_version, key_id, payload, meta) \
        VALUES (gen_random_uuid(), 'conversation-' || gen_random_uuid(), :v, '6f1d3c52-9f0b-4c1e-8f57-2a64d7c190ab', \
        'ReplyCompleted', 1, '6f1d3c52-9f0b-4c1e-8f57-2a64d7c190ab', decode(repeat('ab', 230), 'hex'), \
        '{\"code_version\": \"0.1.0\"}');\n";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), script).unwrap();
    let output = Command::new(parts::postgres().join("bin/pgbench"))
        .args(["--no-vacuum", "--protocol=prepared", "--jobs=2"])
        .arg(format!("--client={clients}"))
        .arg(format!("--time={}", length.as_secs()))
        .arg("--file")
        .arg(file.path())
        .arg(url)
        .output()
        .await
        .expect("pgbench runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let tps = text.lines().find_map(|line| {
        line.strip_prefix("tps = ")?
            .split_whitespace()
            .next()?
            .parse()
            .ok()
    });
    tps.unwrap_or_else(|| panic!("pgbench: {text}{}", String::from_utf8_lossy(&output.stderr)))
}
