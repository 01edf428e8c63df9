//! The read models in use as they are at one moment, to compare a copy with: rows that are written with
//! their event are ahead of those that are projected.

use companion_adapters::log::subscription::Checkpoint;
use companion_adapters::read_models::compare::{self, Comparison, Whose};
use companion_adapters::read_models::copies::LIVE;
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use uuid::Uuid;

/// The database as it is at one moment, and the users who have events then that no projection has read
/// yet. Rows that are written with their event come at any time: one moment has both, or neither.
pub(super) async fn snapshot(
    pool: &PgPool,
    at: Checkpoint,
) -> Result<(Transaction<'static, Postgres>, Vec<Uuid>), sqlx::Error> {
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    let mut snapshot = pool.begin_with(begin).await?;
    // Whoever waits for the tables now, as a migration does, may wait for somebody who waits for this.
    sqlx::query("SET LOCAL lock_timeout = '1s'")
        .execute(&mut *snapshot)
        .await?;
    let ahead = sqlx::query_scalar(
        "SELECT DISTINCT e.user_id FROM events e WHERE (e.xid, e.position) > ($1::text::xid8, $2)",
    )
    .bind(at.xid.to_string())
    .bind(at.position)
    .fetch_all(&mut *snapshot)
    .await?;
    Ok((snapshot, ahead))
}

/// The users whose rows are being swept away, from one table after the other.
pub(super) async fn under_erasure(connection: &mut PgConnection) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar("SELECT user_id FROM erasures WHERE swept_at IS NULL")
        .fetch_all(connection)
        .await
}

/// Compares a table of some users, of whom none is being erased.
pub(super) async fn compare_some(
    connection: &mut PgConnection,
    schema: &str,
    table: &str,
    ahead: &[Uuid],
    users: &[Uuid],
) -> Result<Comparison, sqlx::Error> {
    let can_be = |user: &&Uuid| !is_ahead(table) || !ahead.contains(user);
    let users: Vec<Uuid> = users.iter().filter(can_be).copied().collect();
    compare::compare(connection, LIVE, schema, table, &Whose::Only(&users)).await
}

/// Whether a table is written with the event, or by an erasure, ahead of the projection. Then rows of
/// users with events that are yet to be projected can't be compared.
pub(super) fn is_ahead(table: &str) -> bool {
    ["users", "api_keys", "memory_streams"].contains(&table)
}
