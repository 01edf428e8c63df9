//! Who works on copies of the read models, which is one command at a time, and what becomes of those that
//! nobody works on.

use anyhow::{Result, bail};
use companion_adapters::read_models::copies;
use companion_adapters::transaction;
use sqlx::{Connection, PgConnection, PgExecutor, PgPool};

/// How long a copy is kept that can be gone on with, or gone back to.
const KEPT_DAYS: i32 = 7;
/// The lock of whoever builds or switches read models.
const ALONE: i64 = 0x7265_706c;

/// Makes sure that no other command builds or switches read models, as long as what is returned lives.
///
/// # Errors
/// When another one does, or the database fails.
pub async fn alone(pool: &PgPool) -> Result<PgConnection> {
    let mut connection = PgConnection::connect_with(&pool.connect_options()).await?;
    let alone: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
        .bind(ALONE)
        .fetch_one(&mut connection)
        .await?;
    if !alone {
        bail!("another replay or check is running on this database; wait for it, or stop it");
    }
    Ok(connection)
}

/// Drops a copy.
///
/// # Errors
/// When the database fails.
pub async fn drop_copy(pool: &PgPool, schema: &str) -> Result<()> {
    let mut transaction = transaction::begin(pool).await?;
    copies::drop_copy(&mut transaction, schema).await?;
    Ok(transaction.commit().await?)
}

/// Drops copies that nobody works on and that nobody goes on with, or went on with for a week: what was
/// forgotten since then still stands in them.
///
/// # Errors
/// When the database fails.
pub async fn drop_old_copies(pool: &PgPool) -> Result<(), sqlx::Error> {
    if old_copies(pool).await?.is_empty() {
        return Ok(());
    }
    let mut transaction = transaction::begin(pool).await?;
    let nobody: bool = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock($1)")
        .bind(ALONE)
        .fetch_one(&mut *transaction)
        .await?;
    if !nobody {
        return Ok(());
    }
    // Whoever worked on them may have switched meanwhile, and what is former then is new.
    let old = old_copies(&mut *transaction).await?;
    let all = [
        copies::SHADOW,
        copies::FORMER,
        copies::CHECK,
        copies::ONE_USER,
    ];
    for schema in all.into_iter().filter(|s| old.iter().any(|o| o == s)) {
        copies::drop_copy(&mut transaction, schema).await?;
        tracing::info!(schema, "an old copy of the read models was dropped");
    }
    transaction.commit().await
}

/// The copies that nobody goes on with, or has for a week.
async fn old_copies(executor: impl PgExecutor<'_>) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT schema FROM read_model_copies WHERE schema = ANY($1) OR made_at < now() - make_interval(days => $2)",
    )
    .bind([copies::CHECK, copies::ONE_USER])
    .bind(KEPT_DAYS)
    .fetch_all(executor)
    .await
}
