//! `companion jobs`: what was given up is seen, run again, or dropped.

use companion_adapters::queue::{self, NewJob};
use companion_tests::app::{App, variables};
use companion_tests::eventually::eventually;
use companion_tests::llm::{Behaviour, Gate, ScriptedLlm};
use serde_json::Value;

use crate::commands::{Ran, companion};
use crate::memory::{answer, statement};

/// A service whose LLM fails, with a job about each of these users that was tried as often as may be.
async fn with_dead_jobs(users: &[&str]) -> App {
    let app = App::start_with(&[("MEMORY_EXTRACTION_METHOD", "llm")]).await;
    app.llm.extraction("nothing usable: my secret");
    for user in users {
        app.chat(user, "I have a greyhound", None).await;
        eventually(|| async {
            // As if all its tries had failed by now, the last one without giving its messages up.
            sqlx::query("UPDATE apalis.jobs SET attempts = max_attempts WHERE status = 'Failed'")
                .execute(&app.core.pool)
                .await
                .unwrap();
            let (_, health) = app.get("nobody", "/health").await;
            let lag = &health["workers"]["lag_events"];
            if *lag == 0 {
                Ok(())
            } else {
                Err(health.to_string())
            }
        })
        .await;
    }
    assert_eq!(dead(&app).await, users.len() as i64);
    app
}

async fn dead(app: &App) -> i64 {
    let (_, health) = app.get("nobody", "/health").await;
    health["workers"]["dead_jobs"].as_i64().unwrap()
}

async fn jobs(app: &App, arguments: &[&str]) -> Ran {
    let arguments = [&["jobs"], arguments].concat();
    companion(&app.variables, &arguments).await
}

#[tokio::test]
async fn a_dead_job_is_listed_with_its_reason_and_runs_again_when_the_cause_is_mended() {
    let app = with_dead_jobs(&["alice", "bob"]).await;
    let Ran {
        code,
        out: listed,
        err: told,
    } = jobs(&app, &["dead"]).await;
    assert_eq!(
        (code, listed.lines().count()),
        (Some(0), 2),
        "{listed}{told}"
    );
    for part in [
        "  extract  about alice, given up after 8 tries at ",
        "the LLM gave no facts: ",
    ] {
        assert!(listed.contains(part), "{listed}");
    }
    assert!(
        !listed.contains("secret") && told.contains("companion jobs retry"),
        "{told}"
    );
    let Ran { out: of_bob, .. } = jobs(&app, &["dead", "--user", "bob", "--json"]).await;
    let job: Value = serde_json::from_str(&of_bob).unwrap();
    assert_eq!(
        (&job["user"], &job["queue"]),
        (&"bob".into(), &"extract".into())
    );
    for queue in ["embed", "summarise"] {
        let Ran {
            code,
            out: listed,
            err: told,
        } = jobs(&app, &["dead", "--queue", queue]).await;
        assert_eq!((code, listed.as_str()), (Some(0), ""), "{told}");
    }

    let Ran { out: said, .. } = jobs(&app, &["retry", "--all", "--dry-run"]).await;
    assert!(
        said.contains("2 jobs will run again") && said.contains("nothing was changed"),
        "{said}"
    );
    assert_eq!(dead(&app).await, 2);

    app.llm
        .next_extraction(answer(&[statement("User has a greyhound")]));
    let Ran {
        code, out: said, ..
    } = jobs(&app, &["retry", job["id"].as_str().unwrap()]).await;
    assert!(
        code == Some(0) && said.contains("1 jobs will run again"),
        "{said}"
    );
    assert_eq!(app.memories("bob").await, ["User has a greyhound"]);
    assert_eq!(app.memories("alice").await, [""; 0]);
    assert_eq!(dead(&app).await, 1);

    app.llm
        .next_extraction(answer(&[statement("User has a greyhound")]));
    let Ran { out: said, .. } = jobs(&app, &["retry", "--all", "--json"]).await;
    assert_eq!(said.trim(), r#"{"dry_run":false,"retried":1}"#);
    assert_eq!(app.memories("alice").await, ["User has a greyhound"]);
    assert_eq!(dead(&app).await, 0);
}

#[tokio::test]
async fn a_dropped_job_is_gone_and_only_dead_ones_can_be_dropped() {
    let app = with_dead_jobs(&["alice", "bob"]).await;
    let Ran {
        code, err: told, ..
    } = jobs(&app, &["drop"]).await;
    assert!(
        code == Some(2) && told.contains("--all"),
        "which ones must be said: {told}"
    );
    let Ran { out: said, .. } = jobs(&app, &["drop", "--all", "--user", "alice"]).await;
    assert!(said.contains("1 jobs are thrown away"), "{said}");
    assert_eq!(dead(&app).await, 1);
    let alive: String = sqlx::query_scalar(
        "INSERT INTO apalis.jobs (id, job_type, job, status, attempts, max_attempts, run_at, priority, metadata)
         SELECT 'waits', job_type, job, 'Pending', 0, 8, now() + interval '1 day', 0, metadata FROM apalis.jobs
         WHERE status = 'Failed' RETURNING id",
    )
    .fetch_one(&app.core.pool)
    .await
    .unwrap();
    let Ran {
        code, err: told, ..
    } = jobs(&app, &["drop", &alive]).await;
    assert!(
        code == Some(1) && told.contains("no dead job waits"),
        "{told}"
    );
    assert_eq!(jobs(&app, &["drop", "--all"]).await.code, Some(0));
    let left: Vec<String> = sqlx::query_scalar("SELECT id FROM apalis.jobs WHERE status <> 'Done'")
        .fetch_all(&app.core.pool)
        .await
        .unwrap();
    assert_eq!((left, dead(&app).await), (vec![alive], 0));
}

#[tokio::test]
async fn a_job_that_has_to_wait_keeps_the_tries_that_failed() {
    let llm = ScriptedLlm::start().await;
    let app = App::start_api_only(variables(&llm, &[]).await, llm).await;
    let mut connection = app.core.pool.acquire().await.unwrap();
    let job = NewJob {
        queue: queue::EMBED,
        payload: b"{}".to_vec(),
        key: "waits".to_owned(),
        run_at: chrono::Utc::now(),
    };
    queue::insert(&mut connection, &[job]).await.unwrap();
    let id: String =
        sqlx::query_scalar("UPDATE apalis.jobs SET status = 'Queued', attempts = 7 RETURNING id")
            .fetch_one(&mut *connection)
            .await
            .unwrap();
    queue::hand_back(&mut *connection, &id, 60.0).await.unwrap();
    let job: (String, i32, bool) =
        sqlx::query_as("SELECT status, attempts, run_at > now() FROM apalis.jobs")
            .fetch_one(&mut *connection)
            .await
            .unwrap();
    assert_eq!(job, ("Pending".to_owned(), 7, true));
}

#[tokio::test]
async fn what_a_worker_has_taken_and_not_begun_is_there_for_others_as_soon_as_it_stops() {
    let app = App::start().await;
    let pool = app.core.pool.clone();
    let worker: String = eventually(|| async {
        sqlx::query_scalar("SELECT id FROM apalis.workers WHERE worker_type = $1")
            .bind(queue::EMBED)
            .fetch_one(&pool)
            .await
            .map_err(|error| error.to_string())
    })
    .await;
    let job = NewJob {
        queue: queue::EMBED,
        payload: b"{}".to_vec(),
        key: "taken".to_owned(),
        run_at: chrono::Utc::now() + chrono::TimeDelta::hours(1),
    };
    queue::insert(&mut pool.acquire().await.unwrap(), &[job])
        .await
        .unwrap();
    sqlx::query("UPDATE apalis.jobs SET status = 'Queued', lock_at = now(), lock_by = $1")
        .bind(worker)
        .execute(&pool)
        .await
        .unwrap();
    app.stop().await;
    let left: (String, i32, Option<String>) =
        sqlx::query_as("SELECT status, attempts, lock_by FROM apalis.jobs")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!(left, ("Pending".to_owned(), 0, None));
}

#[tokio::test]
async fn many_jobs_that_end_while_their_worker_stops_have_ended_or_are_there_for_others() {
    let app = App::start_with(&[("EXTRACTION_CONCURRENCY", "8")]).await;
    let gates: Vec<Gate> = (0..8).map(|_| Gate::new()).collect();
    for (n, gate) in gates.iter().enumerate() {
        app.llm.next_extraction(Behaviour::Gated {
            chunks: vec![r#"{"memories":[]}"#.to_owned()],
            gate: gate.clone(),
        });
        let user = format!("user-{n}");
        app.chat(&user, "I have a greyhound", None).await;
    }
    for gate in &gates {
        gate.reached().await;
    }
    let pool = app.core.pool.clone();
    let open = async { gates.iter().for_each(Gate::open_all) };
    tokio::join!(app.stop(), open);
    let held: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM apalis.jobs WHERE status IN ('Queued', 'Running')",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(held, 0);
}
