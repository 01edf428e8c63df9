//! How fast a user with very much to find is searched. What they said is made up, in the read models
//! alone: how good the answers are can't be seen from it.

use std::time::Instant;

use anyhow::Result;
use companion_domain::ids::{ExternalUserId, UserId};
use serde_json::json;
use sqlx::AssertSqlSafe;

use super::service::Service;
use super::{TOP_K, Times};
use crate::output::{line, note};

/// How many searches are timed.
const SEARCHES: u32 = 200;

/// Of `n` items one in five is a memory, the others are messages in conversations of 200. Words are
/// as frequent as in a language: the k-th of 20,000 about once in k words.
const WORDS: &str = "(SELECT string_agg('w' || floor(power(20000, random()))::int, ' ')
                      FROM generate_series(1, 8 + n % 24) AS k WHERE k + n > 0)";

/// Makes up so many items of a user, and times searches.
pub(super) async fn measure(service: &Service, items: u32) -> Result<()> {
    let name = format!("large-{items}");
    note(format_args!("making up {items} messages and memories"));
    service
        .import(&name, &[json!({"role": "user", "content": "hello"})])
        .await?;
    service.settle().await?;
    fill(service, &name, items).await?;
    let begun = Instant::now();
    service.search(&name, "hello", TOP_K).await?;
    let loading = begun.elapsed();

    let (mut searches, mut embeddings) = (Times::default(), Times::default());
    for n in 0..SEARCHES {
        let query = format!(
            "When did we talk about w{} and w{} with w{}?",
            n % 40,
            100 + n,
            5_000 + 7 * n
        );
        let begun = Instant::now();
        service.core.embedder.embed_query(&query).await?;
        embeddings.0.push(begun.elapsed());
        let begun = Instant::now();
        service.search(&name, &query, TOP_K).await?;
        searches.0.push(begun.elapsed());
    }
    line(format_args!(
        "{items} messages and memories: search over HTTP p50 {:.1} ms, p95 {:.1} ms; embedding alone p50 {:.1} ms, p95 {:.1} ms; loading the index {:.1} s",
        searches.within(0.5),
        searches.within(0.95),
        embeddings.within(0.5),
        embeddings.within(0.95),
        loading.as_secs_f64(),
    ));
    Ok(())
}

async fn fill(service: &Service, name: &str, items: u32) -> Result<()> {
    let user = UserId::of(&ExternalUserId::parse(name)?).0;
    let dimension = service.core.config.embedding_dimension;
    let statements = [
        format!(
            "INSERT INTO messages (message_id, conversation_id, user_id, version, ordinal, role, content, content_hash,
                 created_at, recorded_at, search_version)
             SELECT gen_random_uuid(), md5($1::text || n / 200)::uuid, $1, n, 0,
                 CASE n % 2 WHEN 0 THEN 'user' ELSE 'assistant' END, {WORDS}, decode(md5(n::text || $1), 'hex'),
                 now() - make_interval(mins => n), now(), 2
             FROM generate_series(1, $2) AS n WHERE n % 5 > 0"
        ),
        format!(
            "INSERT INTO memories (memory_id, user_id, content, content_hash, kind, state, importance, explicit, sources,
                 valid_from, told_at, last_reinforced_at, created_at, updated_at, version, form_hash, search_version)
             SELECT gen_random_uuid(), $1, {WORDS}, decode(md5(n::text || $1), 'hex'), 'fact', 'live', 0.5, false,
                 '[]', now(), now(), now(), now(), now(), n, '', 2
             FROM generate_series(1, $2) AS n WHERE n % 5 = 0"
        ),
        format!(
            "INSERT INTO vectors (user_id, content_hash, embedding)
             SELECT $1, decode(md5(n::text || $1), 'hex'),
                 l2_normalize((SELECT array_agg((random() - 0.5)::float4) FROM generate_series(1, {dimension}) AS d
                               WHERE d + n > 0)::vector)
             FROM generate_series(1, $2) AS n"
        ),
        "UPDATE search_state SET version = 2 WHERE user_id = $1 AND $2 > 0".to_owned(),
    ];
    for statement in statements {
        sqlx::query(AssertSqlSafe(statement))
            .bind(user)
            .bind(i32::try_from(items)?)
            .execute(&service.core.derived)
            .await?;
    }
    Ok(())
}
