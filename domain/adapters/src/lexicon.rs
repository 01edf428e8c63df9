//! The lexical index: which terms occur in which memories and messages of a user.

use companion_domain::ids::UserId;
use companion_domain::recall::{CorpusSize, Posting};
use companion_domain::text;
use sqlx::PgConnection;
use uuid::Uuid;

/// The most terms of a query that are looked up.
const MAX_TERMS: usize = 64;
/// The most items read for one term: one that is in more says little about any of them.
const MAX_OCCURRENCES: i64 = 2_000;

/// What an indexed item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// A memory.
    Memory,
    /// A message of either role.
    Message,
}

impl Source {
    fn code(self) -> i16 {
        match self {
            Self::Memory => 1,
            Self::Message => 2,
        }
    }
}

/// Puts an item into the index. One that is there already stays as it is.
///
/// # Errors
/// When the database fails.
pub async fn index(
    connection: &mut PgConnection,
    user: UserId,
    source: Source,
    item: Uuid,
    content: &str,
) -> Result<(), sqlx::Error> {
    index_all(connection, user, source, [(item, content)]).await
}

/// Puts items into the index, see [`index`].
///
/// # Errors
/// When the database fails.
pub async fn index_all(
    connection: &mut PgConnection,
    user: UserId,
    source: Source,
    contents: impl IntoIterator<Item = (Uuid, &str)>,
) -> Result<(), sqlx::Error> {
    let (mut items, mut terms, mut counts, mut lengths) = (vec![], vec![], vec![], vec![]);
    for (item, content) in contents {
        let found = text::terms(content);
        let length = i32::try_from(text::term_count(&found)).unwrap_or(i32::MAX);
        for (term, count) in found {
            items.push(item);
            terms.push(term);
            counts.push(i16::try_from(count).unwrap_or(i16::MAX));
            lengths.push(length);
        }
    }
    if terms.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "WITH added AS (
             INSERT INTO terms (user_id, source, term, item_id, count, length)
             SELECT $1, $2, t.term, t.item_id, t.count, t.length
             FROM unnest($3::uuid[], $4::text[], $5::smallint[], $6::integer[]) AS t (item_id, term, count, length)
             ON CONFLICT DO NOTHING RETURNING item_id, length
         ), items AS (SELECT DISTINCT item_id, length FROM added)
         INSERT INTO corpus_sizes AS c (user_id, source, items, terms)
         SELECT $1, $2, count(*), sum(length) FROM items HAVING count(*) > 0
         ON CONFLICT (user_id, source) DO UPDATE SET items = c.items + excluded.items, terms = c.terms + excluded.terms",
    )
    .bind(user.0)
    .bind(source.code())
    .bind(items)
    .bind(terms)
    .bind(counts)
    .bind(lengths)
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes an item out of the index; `content` is what was put in.
///
/// # Errors
/// When the database fails.
pub async fn remove(
    connection: &mut PgConnection,
    user: UserId,
    source: Source,
    item: Uuid,
    content: &str,
) -> Result<(), sqlx::Error> {
    let terms: Vec<String> = text::terms(content)
        .into_iter()
        .map(|(term, _)| term)
        .collect();
    sqlx::query(
        "WITH gone AS (
             DELETE FROM terms WHERE user_id = $1 AND source = $2 AND term = ANY($4) AND item_id = $3 RETURNING length
         )
         UPDATE corpus_sizes c SET items = c.items - 1, terms = c.terms - g.length
         FROM (SELECT length FROM gone LIMIT 1) AS g WHERE c.user_id = $1 AND c.source = $2",
    )
    .bind(user.0)
    .bind(source.code())
    .bind(item)
    .bind(terms)
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes many items out of the index, in one pass over all of the user's.
///
/// # Errors
/// When the database fails.
pub async fn remove_all(
    connection: &mut PgConnection,
    user: UserId,
    source: Source,
    items: &[Uuid],
) -> Result<(), sqlx::Error> {
    if items.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "WITH gone AS (
             DELETE FROM terms WHERE user_id = $1 AND source = $2 AND item_id = ANY($3) RETURNING item_id, length
         ), items AS (SELECT DISTINCT item_id, length FROM gone)
         UPDATE corpus_sizes c SET items = c.items - i.items, terms = c.terms - i.terms
         FROM (SELECT count(*) AS items, coalesce(sum(length), 0) AS terms FROM items) AS i
         WHERE c.user_id = $1 AND c.source = $2",
    )
    .bind(user.0)
    .bind(source.code())
    .bind(items)
    .execute(connection)
    .await?;
    Ok(())
}

/// The items that have exactly these terms, in any order.
///
/// # Errors
/// When the database fails.
pub async fn with_terms(
    connection: &mut PgConnection,
    user: UserId,
    source: Source,
    terms: &[(String, u16)],
) -> Result<Vec<Uuid>, sqlx::Error> {
    let length = i32::try_from(text::term_count(terms)).unwrap_or(i32::MAX);
    let terms: Vec<&str> = terms.iter().map(|(term, _)| term.as_str()).collect();
    sqlx::query_scalar(
        "SELECT item_id FROM terms WHERE user_id = $1 AND source = $2 AND term = ANY($3) AND length = $4
         GROUP BY item_id HAVING count(*) = cardinality($3)",
    )
    .bind(user.0)
    .bind(source.code())
    .bind(terms)
    .bind(length)
    .fetch_all(connection)
    .await
}

/// The occurrences of terms in a user's items, and how many items and terms there are.
///
/// # Errors
/// When the database fails.
pub async fn postings(
    connection: &mut PgConnection,
    user: UserId,
    source: Source,
    terms: &[(String, u16)],
) -> Result<(Vec<Posting<Uuid>>, CorpusSize), sqlx::Error> {
    if terms.is_empty() {
        return Ok((Vec::new(), CorpusSize::default()));
    }
    let terms: Vec<&str> = terms
        .iter()
        .take(MAX_TERMS)
        .map(|(term, _)| term.as_str())
        .collect();
    let rows: Vec<(Uuid, String, i16, i32, i64, i64)> = sqlx::query_as(
        "SELECT t.item_id, t.term, t.count, t.length, c.items, c.terms
         FROM unnest($3::text[]) AS q (term)
         CROSS JOIN LATERAL (
             SELECT * FROM terms WHERE user_id = $1 AND source = $2 AND term = q.term LIMIT $4
         ) AS t
         JOIN corpus_sizes c ON c.user_id = $1 AND c.source = $2",
    )
    .bind(user.0)
    .bind(source.code())
    .bind(terms)
    .bind(MAX_OCCURRENCES)
    .fetch_all(connection)
    .await?;
    let corpus = rows
        .first()
        .map_or_else(CorpusSize::default, |(.., items, terms)| CorpusSize {
            items: u64::try_from(*items).unwrap_or(0),
            terms: u64::try_from(*terms).unwrap_or(0),
        });
    let postings = rows
        .into_iter()
        .map(|(item, term, count, length, ..)| Posting {
            item,
            term,
            count: u32::try_from(count).unwrap_or(1),
            length: u32::try_from(length).unwrap_or(1),
        })
        .collect();
    Ok((postings, corpus))
}
