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
mod streams;

use std::time::Duration;

use companion_tests::llm::ScriptedLlm;

use crate::process::Service;

#[tokio::main]
async fn main() {
    let only: Vec<String> = std::env::args().skip(1).collect();
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
    service.stop().await;
}
