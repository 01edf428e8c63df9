//! `ops/bench`: how fast the service is, beside what it is compared with, in one run.
//!
//! Machines are noisy: each figure stands next to its counterpart, measured in turns with it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench says what went wrong by panicking, and prints what it found"
)]

mod append;
mod chat;
mod figures;
mod process;
mod replay;
mod streams;

use std::time::Duration;

use companion_tests::llm::ScriptedLlm;

use crate::process::Service;

/// Events of the log that is replayed, unless told otherwise.
const EVENTS: u64 = 1_000_000;

#[tokio::main]
async fn main() {
    let (numbers, only): (Vec<String>, Vec<String>) = std::env::args()
        .skip(1)
        .partition(|argument| argument.parse::<u64>().is_ok());
    let events = numbers.first().map_or(EVENTS, |n| n.parse().unwrap());
    if let [generate, url] = only.as_slice()
        && generate == "generate"
    {
        return replay::generate(url, events).await;
    }
    let wanted = |name: &str| only.is_empty() || only.iter().any(|other| other == name);
    let llm = ScriptedLlm::start().await;
    llm.reply("Nice to meet you! I will keep that in mind for the next time that we talk.");
    let mut service = Service::start(&llm).await;
    println!(
        "service ready in {:.1} s\n",
        service.started_in.as_secs_f64()
    );
    if wanted("append") {
        append::run(&service, Duration::from_secs(3)).await;
    }
    if wanted("chat") {
        chat::first_token(&service, &llm, 200).await;
        chat::cpu(&service, 200).await;
        chat::throughput(&service, 32, 20).await;
    }
    if wanted("streams") {
        streams::run(&service, &llm, 200).await;
    }
    if wanted("recall") {
        chat::recall(&service, &llm, 5).await;
    }
    if wanted("crash") {
        chat::crash(&mut service, 20).await;
    }
    if wanted("replay") {
        replay::run(&service, events).await;
    }
    service.stop().await;
}
