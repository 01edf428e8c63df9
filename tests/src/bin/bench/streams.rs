//! Many streams at once from a slow LLM: whether all come to their end, what they take, and whether
//! the service answers others meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use companion_tests::llm::{Behaviour, Gate, ScriptedLlm};

use crate::figures::{ms, quantile};
use crate::process::Service;

const DELTAS: usize = 40;
const BETWEEN_DELTAS: Duration = Duration::from_millis(250);

pub(crate) async fn run(service: &Service, llm: &ScriptedLlm, streams: usize) {
    service.settle().await;
    let gates: Vec<Gate> = (0..streams).map(|_| Gate::new()).collect();
    for gate in &gates {
        llm.next(Behaviour::Gated {
            chunks: (0..DELTAS)
                .map(|n| format!("piece {n} of a slow answer, "))
                .collect(),
            gate: gate.clone(),
        });
    }
    let before = service.memory().unwrap_or(f64::NAN);
    let (mut health, mut most) = (Vec::new(), before);
    let done = Arc::new(AtomicBool::new(false));
    let begun = Instant::now();
    let all = async {
        let chats = (0..streams).map(|n| async move {
            let (user, message) = (format!("stream-{}", n % 50), format!("Tell me story {n}"));
            service.chat(&user, &message).await
        });
        futures_util::future::join_all(chats).await;
        done.store(true, Ordering::Relaxed);
    };
    let pace = async {
        for _ in 0..DELTAS {
            tokio::time::sleep(BETWEEN_DELTAS).await;
            gates.iter().for_each(Gate::open_one);
        }
        gates.iter().for_each(Gate::open_all);
    };
    let watch = async {
        while !done.load(Ordering::Relaxed) {
            let asked = Instant::now();
            let answer = service.client.get(service.url("/health")).send().await;
            assert!(
                answer.is_ok_and(|answer| answer.status().is_success()),
                "health"
            );
            health.push(ms(asked.elapsed()));
            most = f64::max(most, service.memory().unwrap_or(f64::NAN));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::join!(all, pace, watch);
    let took = begun.elapsed().as_secs_f64();
    let least = BETWEEN_DELTAS.as_secs_f64() * DELTAS as f64;
    println!(
        "{streams} streams at once, {DELTAS} deltas each, one every {} ms",
        BETWEEN_DELTAS.as_millis()
    );
    println!("  all complete after {took:.1} s, of which the LLM took {least:.1} s");
    println!("  memory of the service, MB: {before:.0} before, {most:.0} at the most");
    println!(
        "  /health meanwhile, ms: {:.1} p50, {:.1} p95, {:.1} at the most\n",
        quantile(&mut health, 0.5),
        quantile(&mut health, 0.95),
        quantile(&mut health, 1.0)
    );
    service.settle().await;
}
