//! What a chat costs: time to the first token, CPU, throughput; and what is remembered of it.

use std::sync::Arc;
use std::time::Instant;

use companion_tests::llm::ScriptedLlm;
use serde_json::json;

use crate::figures::{ms, quantile};
use crate::process::{Service, first_text};

/// No message is like another, as no vector may be had for nothing.
fn message(n: usize) -> String {
    format!("Hello, my name is Alice and I love walking trail {n} with my dog on rainy Sundays")
}

/// Time to the first token through the service and from the LLM directly, in turns.
pub(crate) async fn first_token(service: &Service, llm: &ScriptedLlm, chats: usize) {
    let direct = |n: usize| {
        let body = json!({
            "model": "m", "stream": true, "messages": [{ "role": "user", "content": message(n) }],
        });
        let request = service
            .client
            .post(format!("{}/chat/completions", llm.base_url()))
            .json(&body);
        first_text(request, "\"content\":\"N", "[DONE]")
    };
    for n in 0..10 {
        service.chat("warm-up", &message(n)).await;
    }
    service.settle().await;
    let (mut through, mut without) = (Vec::new(), Vec::new());
    for n in 0..chats {
        through.push(ms(service
            .chat(&format!("first-{}", n % 20), &message(n))
            .await));
        without.push(ms(direct(n).await));
    }
    let added: Vec<f64> = through.iter().zip(&without).map(|(a, b)| a - b).collect();
    println!("time to the first token, {chats} chats one after another, ms   p50    p95");
    for (name, mut values) in [
        ("through the service", through),
        ("from the LLM directly", without),
        ("added", added),
    ] {
        println!(
            "  {name:<50} {:>6.1} {:>6.1}",
            quantile(&mut values, 0.5),
            quantile(&mut values, 0.95)
        );
    }
    println!();
}

/// CPU of a chat, background work included.
pub(crate) async fn cpu(service: &Service, chats: usize) {
    service.settle().await;
    let before = service.cpu();
    for n in 0..chats {
        service
            .chat(&format!("cpu-{}", n % 20), &message(1000 + n))
            .await;
    }
    service.settle().await;
    let (Some((own, postgres)), Some((own_after, postgres_after))) = (before, service.cpu()) else {
        println!("CPU of a chat: not measured, as this system has no /proc\n");
        return;
    };
    let each = |before: f64, after: f64| (after - before) * 1e3 / chats as f64;
    println!("CPU of a chat, background work included, ms");
    println!("  the service {:>6.1}", each(own, own_after));
    println!("  PostgreSQL  {:>6.1}", each(postgres, postgres_after));
    println!(
        "  memory of the service, MB {:>6.0}\n",
        service.memory().unwrap_or(f64::NAN)
    );
}

/// Chats a second with many clients.
pub(crate) async fn throughput(service: &Service, clients: usize, each: usize) {
    service.settle().await;
    let begun = Instant::now();
    let service = Arc::new(service);
    let all = (0..clients).map(|client| {
        let service = service.clone();
        async move {
            for n in 0..each {
                service
                    .chat(&format!("client-{client}"), &message(client * each + n))
                    .await;
            }
        }
    });
    futures_util::future::join_all(all).await;
    let took = begun.elapsed().as_secs_f64();
    service.settle().await;
    let settled = begun.elapsed().as_secs_f64();
    let chats = (clients * each) as f64;
    println!("chats a second, {clients} clients");
    println!("  replies            {:>7.1}", chats / took);
    println!("  with all remembered {:>6.1}\n", chats / settled);
}

/// Whether a new conversation knows what an earlier one said.
pub(crate) async fn recall(service: &Service, llm: &ScriptedLlm, users: usize) {
    let towns = ["Lisbon", "Oslo", "Kyoto", "Quito", "Dakar"];
    let mut known = 0;
    for n in 0..users {
        let (user, town) = (format!("recall-{n}"), towns[n % towns.len()]);
        service
            .chat(
                &user,
                &format!("By the way, I live in {town} with my two cats."),
            )
            .await;
        service.settle().await;
        service.chat(&user, "Where do I live?").await;
        let requests = llm.chat_requests();
        known += usize::from(
            requests
                .last()
                .is_some_and(|request| request.prompt().contains(town)),
        );
    }
    println!("a new conversation knows what was said before: {known} of {users}\n");
}

/// Facts that survive kill -9 of everything right behind the last reply.
pub(crate) async fn crash(service: &mut Service, users: usize) {
    for n in 0..users {
        service
            .chat(
                &format!("crash-{n}"),
                &format!("My lucky number is {} and I live in Lisbon.", 1000 + n),
            )
            .await;
    }
    service.crash_and_start().await;
    service.settle().await;
    let mut survived = 0;
    for n in 0..users {
        let memories = service.memories(&format!("crash-{n}")).await;
        survived += usize::from(memories.iter().filter(|m| m.contains("Lisbon")).count() == 1);
    }
    println!(
        "facts there, once, after kill -9 right behind {users} replies: {survived} of {users}\n"
    );
}
