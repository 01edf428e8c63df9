//! How transactions begin.

use sqlx::{PgPool, Postgres, Transaction};

/// Begins a transaction.
///
/// It begins to the end, whatever becomes of whoever asked. Cut off in the midst of `BEGIN`, as when a
/// caller hangs up, sqlx 0.9 takes the connection back as if it were in no transaction
/// (<https://github.com/launchbadge/sqlx/issues/4393>): what came after on it would be in that transaction,
/// hold its locks, and be lost with it.
///
/// # Errors
/// When no connection is to be had, or the database fails.
pub async fn begin(pool: &PgPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    begin_with(pool, "BEGIN").await
}

/// [`begin`] with another statement than `BEGIN`.
///
/// # Errors
/// Those of [`begin`].
pub async fn begin_with(
    pool: &PgPool,
    statement: &'static str,
) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let pool = pool.clone();
    #[expect(clippy::disallowed_methods, reason = "this is what takes its place")]
    let begun = tokio::spawn(async move { pool.begin_with(statement).await });
    begun.await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
}
