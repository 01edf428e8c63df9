//! Tells all processes that a user wants a reply stopped: the one that makes it knows its text.

use companion_domain::ids::ReplyId;
use sqlx::postgres::PgListener;
use sqlx::{PgExecutor, PgPool};
use uuid::Uuid;

const CHANNEL: &str = "companion_cancel";

/// Asks whoever makes a reply to stop.
///
/// # Errors
/// When the database fails.
pub async fn ask(executor: impl PgExecutor<'_>, reply: ReplyId) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_notify($1, $2)")
        .bind(CHANNEL)
        .bind(reply.to_string())
        .execute(executor)
        .await?;
    Ok(())
}

/// Hears what is asked. Ends when the connection can't be had or kept.
///
/// # Errors
/// When the database fails.
pub async fn listen(pool: &PgPool, mut stop: impl FnMut(ReplyId)) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    loop {
        let asked = listener.recv().await?;
        if let Ok(reply) = Uuid::parse_str(asked.payload()) {
            stop(ReplyId(reply));
        }
    }
}
