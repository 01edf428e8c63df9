//! The embedding models whose vectors the database holds: one that is live, and others that are being
//! filled or were live before.
//!
//! Each has a table `vectors` of its own. A process holds one model for as long as it runs, and its
//! connections name the schema of that model's table in their search path. So vectors of two models never
//! meet, in whatever order the processes of a service are restarted.

use chrono::{DateTime, Utc};
use pgvector::Vector as Pgvector;
use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, FromRow, PgConnection, PgExecutor, PgPool};

use crate::config::Config;
use crate::log::subscription::{Checkpoint, READ_MODELS, RELAY};
use crate::queue::EMBED;
use crate::transaction;

/// The least cosine of what one model makes of one sentence on different machines. Quantized files of a
/// model, and those of another one, are below it.
const SAME: f64 = 0.99;

/// An embedding model that the database has vectors of.
#[derive(Debug, Clone, PartialEq, FromRow)]
pub struct EmbeddingModel {
    /// Its name.
    pub model: String,
    dimension: i32,
    state: String,
    home: String,
    /// Since when it is in its state.
    pub since: DateTime<Utc>,
}

/// What is done with a model's vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelState {
    /// They are being made.
    Filling,
    /// They are used.
    Live,
    /// They were used, and can be again.
    Former,
}

impl ModelState {
    /// The stored name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Filling => "filling",
            Self::Live => "live",
            Self::Former => "former",
        }
    }
}

impl EmbeddingModel {
    /// The length of its vectors.
    pub fn dimension(&self) -> usize {
        usize::try_from(self.dimension).unwrap_or(0)
    }

    /// What is done with its vectors.
    pub fn state(&self) -> ModelState {
        match self.state.as_str() {
            "live" => ModelState::Live,
            "former" => ModelState::Former,
            _ => ModelState::Filling,
        }
    }

    /// Its table, with the schema: made by [`register`], so it can stand in a query.
    pub fn table(&self) -> String {
        format!("{}.vectors", self.home)
    }

    /// Whether it is the model of a configuration.
    pub fn is_of(&self, config: &Config) -> bool {
        self.model == config.embedding_model && self.dimension() == config.embedding_dimension
    }
}

/// The schema of a model's table, unless it is the first one: it need not be looked up.
fn home(model: &str, dimension: usize) -> String {
    let hash = Sha256::digest(format!("{model}\u{1f}{dimension}").as_bytes());
    let hex: String = hash
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("vectors_{hex}")
}

/// Where a process of this configuration looks for tables. A schema that is not there is passed over: then
/// its model's vectors are the first ones, in `public`.
pub fn search_path(config: &Config) -> String {
    let home = home(&config.embedding_model, config.embedding_dimension);
    format!("read,{home},public")
}

const COLUMNS: &str = "model, dimension, state, home, since";

/// All models, the live one first, then the one that was live last.
///
/// # Errors
/// When the database fails.
pub async fn all(executor: impl PgExecutor<'_>) -> Result<Vec<EmbeddingModel>, sqlx::Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM public.embedding_model ORDER BY state <> 'live', state <> 'former', since DESC"
    );
    sqlx::query_as(AssertSqlSafe(sql)).fetch_all(executor).await
}

/// Says in the log, once, that a process goes on with a model that is not live any more. For a process to call
/// now and then with what it was told before; returns what it is told now.
///
/// # Errors
/// When the database fails.
pub async fn tell_if_former(
    executor: impl PgExecutor<'_>,
    config: &Config,
    told: bool,
) -> Result<bool, sqlx::Error> {
    let models = all(executor).await?;
    let own = models.iter().find(|model| model.is_of(config));
    let is_former = own.is_some_and(|model| model.state() == ModelState::Former);
    if let (true, false, Some(live)) = (is_former, told, models.first()) {
        tracing::warn!(
            "EMBEDDING_MODEL={} ({}) is not the live model any more; restart with EMBEDDING_MODEL={} and \
             EMBEDDING_DIMENSION={}",
            config.embedding_model,
            config.embedding_dimension,
            live.model,
            live.dimension()
        );
    }
    Ok(is_former)
}

/// The tables of vectors, of every model.
///
/// # Errors
/// When the database fails.
pub async fn tables(executor: impl PgExecutor<'_>) -> Result<Vec<String>, sqlx::Error> {
    let models = all(executor).await?;
    Ok(models.iter().map(EmbeddingModel::table).collect())
}

/// Notes the first model of a new database; where there is one already nothing is done.
///
/// # Errors
/// When the database fails.
pub async fn note_first(executor: impl PgExecutor<'_>, config: &Config) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO public.embedding_model (model, dimension)
         SELECT $1, $2 WHERE NOT EXISTS (SELECT FROM public.embedding_model) ON CONFLICT DO NOTHING",
    )
    .bind(&config.embedding_model)
    .bind(i32::try_from(config.embedding_dimension).unwrap_or(i32::MAX))
    .execute(executor)
    .await?;
    Ok(())
}

/// Notes what a model makes of the probe ([`crate::embedder::Embedder::probe`]), if nobody has yet, or it has
/// no vectors yet.
///
/// # Errors
/// When the database fails.
pub async fn note_probe(
    pool: &PgPool,
    model: &str,
    dimension: usize,
    probe: &[f32],
) -> Result<(), sqlx::Error> {
    let models = all(pool).await?;
    let is_it = |known: &&EmbeddingModel| known.model == model && known.dimension() == dimension;
    let Some(known) = models.iter().find(is_it) else {
        return Ok(());
    };
    let sql = format!(
        "UPDATE public.embedding_model SET probe = $3
         WHERE model = $1 AND dimension = $2 AND probe IS DISTINCT FROM $3
           AND (probe IS NULL OR NOT EXISTS (SELECT FROM {}))",
        known.table()
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(model)
        .bind(known.dimension)
        .bind(Pgvector::from(probe.to_vec()))
        .execute(pool)
        .await?;
    Ok(())
}

/// Whether what a model makes of the probe is what was noted of it, or nothing was noted: a name says nothing
/// about the files that were loaded under it, and vectors of two models can't be compared.
///
/// # Errors
/// When the database fails.
pub async fn is_recognized(
    executor: impl PgExecutor<'_>,
    model: &str,
    dimension: usize,
    probe: &[f32],
) -> Result<bool, sqlx::Error> {
    let likeness: Option<Option<f64>> = sqlx::query_scalar(
        "SELECT -(probe <#> $3) FROM public.embedding_model WHERE model = $1 AND dimension = $2",
    )
    .bind(model)
    .bind(i32::try_from(dimension).unwrap_or(i32::MAX))
    .bind(Pgvector::from(probe.to_vec()))
    .fetch_optional(executor)
    .await?;
    Ok(likeness.flatten().is_none_or(|likeness| likeness >= SAME))
}

/// The model of that name and dimension, with a table for it: an empty one if it is new.
///
/// # Errors
/// When the database fails.
pub async fn register(
    pool: &PgPool,
    model: &str,
    dimension: usize,
) -> Result<EmbeddingModel, sqlx::Error> {
    let mut transaction = transaction::begin(pool).await?;
    let home = home(model, dimension);
    let added = sqlx::query(
        "INSERT INTO public.embedding_model (model, dimension, state, home) VALUES ($1, $2, 'filling', $3)
         ON CONFLICT (model, dimension) DO NOTHING",
    )
    .bind(model)
    .bind(i32::try_from(dimension).unwrap_or(i32::MAX))
    .bind(&home)
    .execute(&mut *transaction)
    .await?;
    if added.rows_affected() == 1 {
        for sql in [
            format!("CREATE SCHEMA IF NOT EXISTS {home}"),
            format!(
                "CREATE TABLE IF NOT EXISTS {home}.vectors (LIKE public.vectors INCLUDING ALL)"
            ),
            // What a process put there after the model was thrown away.
            format!("TRUNCATE {home}.vectors"),
        ] {
            sqlx::query(AssertSqlSafe(sql))
                .execute(&mut *transaction)
                .await?;
        }
    }
    let sql =
        format!("SELECT {COLUMNS} FROM public.embedding_model WHERE model = $1 AND dimension = $2");
    let registered = sqlx::query_as(AssertSqlSafe(sql))
        .bind(model)
        .bind(i32::try_from(dimension).unwrap_or(i32::MAX))
        .fetch_one(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(registered)
}

/// Makes a model the live one. The one that was is whole up to where the subscriptions are, unless texts
/// still wait to be embedded: a process of another model may take them.
///
/// # Errors
/// When the database fails; `RowNotFound` when the model's vectors were thrown away meanwhile. Then nothing
/// was changed.
pub async fn switch(pool: &PgPool, to: &EmbeddingModel) -> Result<(), sqlx::Error> {
    let mut transaction = transaction::begin(pool).await?;
    sqlx::query(
        "UPDATE public.embedding_model m SET xid = c.xid, position = c.position
         FROM (SELECT xid, position, count(*) OVER () AS subscriptions FROM public.checkpoints
               WHERE subscription IN ($1, $2) ORDER BY xid, position LIMIT 1) AS c
         WHERE m.state = 'live' AND c.subscriptions = 2 AND (m.xid, m.position) < (c.xid, c.position)
           AND NOT EXISTS (SELECT FROM apalis.jobs WHERE job_type = $3 AND status <> 'Done')",
    )
    .bind(READ_MODELS)
    .bind(RELAY)
    .bind(EMBED)
    .execute(&mut *transaction)
    .await?;
    sqlx::query(
        "UPDATE public.embedding_model SET state = 'former', since = now() WHERE state = 'live'",
    )
    .execute(&mut *transaction)
    .await?;
    let made_live = sqlx::query(
        "UPDATE public.embedding_model SET state = 'live', since = now() WHERE model = $1 AND dimension = $2",
    )
    .bind(&to.model)
    .bind(to.dimension)
    .execute(&mut *transaction)
    .await?;
    if made_live.rows_affected() == 0 {
        return Err(sqlx::Error::RowNotFound);
    }
    transaction.commit().await
}

/// Throws away the vectors of a model that is not live; `false` when it is. Its empty table stays: a process
/// that still has this model would otherwise see that of another one.
///
/// # Errors
/// When the database fails.
pub async fn forget(pool: &PgPool, model: &EmbeddingModel) -> Result<bool, sqlx::Error> {
    let mut transaction = transaction::begin(pool).await?;
    let gone = sqlx::query(
        "DELETE FROM public.embedding_model WHERE model = $1 AND dimension = $2 AND state <> 'live'",
    )
    .bind(&model.model)
    .bind(model.dimension)
    .execute(&mut *transaction)
    .await?;
    if gone.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query(AssertSqlSafe(format!("TRUNCATE {}", model.table())))
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(true)
}

/// Up to where a model's vectors are whole.
///
/// # Errors
/// When the database fails.
pub async fn whole_up_to(
    executor: impl PgExecutor<'_>,
    model: &EmbeddingModel,
) -> Result<Checkpoint, sqlx::Error> {
    sqlx::query_as(
        "SELECT xid::text::bigint AS xid, position FROM public.embedding_model WHERE model = $1 AND dimension = $2",
    )
    .bind(&model.model)
    .bind(model.dimension)
    .fetch_one(executor)
    .await
}

/// Notes up to where a model's vectors are whole; a place behind the one that is noted is passed over.
///
/// # Errors
/// When the database fails.
pub async fn note_whole(
    connection: &mut PgConnection,
    model: &EmbeddingModel,
    up_to: Checkpoint,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE public.embedding_model SET xid = $3::text::xid8, position = $4
         WHERE model = $1 AND dimension = $2 AND (xid, position) < ($3::text::xid8, $4)",
    )
    .bind(&model.model)
    .bind(model.dimension)
    .bind(up_to.xid.to_string())
    .bind(up_to.position)
    .execute(connection)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_that_differ_in_name_or_size_have_other_homes() {
        let homes = [home("a", 1), home("b", 1), home("a", 11), home("a1", 1)];
        for (n, home) in homes.iter().enumerate() {
            assert!(home.len() == 24 && !homes[..n].contains(home), "{home}");
        }
    }
}
