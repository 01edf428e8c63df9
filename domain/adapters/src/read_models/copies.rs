//! Copies of the read models beside the ones in use: what a replay builds, what it took the place of,
//! and what a check builds to compare with. Each lies in a schema of its own, with tables made like
//! those in use.

use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;

use super::rows::Message;
use super::{PROJECTIONS, Row};
use crate::database;
use crate::log::subscription::Checkpoint;
use companion_domain::ids::UserId;

/// The schema of the read models in use.
pub const LIVE: &str = "read";
/// What a replay builds.
pub const SHADOW: &str = "read_shadow";
/// What was in use before the last switch.
pub const FORMER: &str = "read_former";
/// What `companion verify` builds.
pub const CHECK: &str = "read_check";
/// What a replay of one user builds.
pub const ONE_USER: &str = "read_one_user";
/// A copy on its way to becoming what is in use, for the length of a transaction.
const INCOMING: &str = "read_incoming";
/// A table of so few bytes is indexed within a second or two: quicker than in the way that goes through it
/// twice so as to hold nothing back. Projections wait that long, as they do for any transaction that writes.
const SMALL: i64 = 256 << 20;
/// Tables whose rows are written with their event and not by the projection ([`crate::api_keys`]), their
/// keys, and what a later event changes.
const CARRIED: [(&str, &str, &str); 2] = [
    ("users", "user_id", "external_id = excluded.external_id"),
    ("api_keys", "key_id", "revoked_at = excluded.revoked_at"),
];

/// A copy and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// The schema.
    pub schema: String,
    /// Its tables.
    pub tables: Vec<String>,
    /// The names of the projections for which it was made.
    pub projections: Vec<String>,
    /// How far each of its lanes has read the log: each takes in the events of some of the users.
    pub lanes: Vec<Checkpoint>,
    /// Whether this version of the software makes such tables, and such rows in them.
    pub fits: bool,
}

impl Copied {
    /// How far it has read the log for all users.
    pub fn at(&self) -> Checkpoint {
        self.lanes.iter().min().copied().unwrap_or_default()
    }
}

/// Names what makes copies: the migrations, and the version of the projections.
fn made_by() -> String {
    format!("{} {PROJECTIONS}", database::schema_id())
}

/// Keeps erasures from beginning until the transaction ends; `false` when one is under way. It looks for
/// a user's rows in one table after the other, and must not miss one because it has moved.
///
/// # Errors
/// When the database fails.
pub async fn hold_erasures(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query("LOCK TABLE erasures IN SHARE MODE")
        .execute(&mut *connection)
        .await?;
    sqlx::query_scalar("SELECT NOT EXISTS (SELECT FROM erasures WHERE swept_at IS NULL)")
        .fetch_one(connection)
        .await
}

/// Sends autovacuum away from the tables that a switch moves or drops, and keeps it away until the
/// transaction ends. It gives way to whoever has waited for a second, which [`switch`] never does, as
/// others would wait behind it; behind this nobody does who reads or writes.
///
/// # Errors
/// When the database fails; with a lock timeout, when somebody vacuums or indexes the tables by hand.
pub async fn hold_off_vacuum(
    connection: &mut PgConnection,
    copy: &Copied,
) -> Result<(), sqlx::Error> {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = ANY($1) ORDER BY 1",
    )
    .bind([LIVE, &copy.schema, FORMER].as_slice())
    .fetch_all(&mut *connection)
    .await?;
    run(connection, "SET LOCAL lock_timeout = '5s'".to_owned()).await?;
    let tables = tables.join(", ");
    let lock = format!("LOCK TABLE {tables} IN SHARE UPDATE EXCLUSIVE MODE");
    run(connection, lock).await?;
    run(connection, "SET LOCAL lock_timeout = 0".to_owned()).await
}

/// The copy in a schema, if there is one.
///
/// # Errors
/// When the database fails.
pub async fn find(
    connection: &mut PgConnection,
    schema: &str,
) -> Result<Option<Copied>, sqlx::Error> {
    type Made = (String, Vec<String>, Vec<String>, String);
    let row: Option<Made> = sqlx::query_as(
        "SELECT schema, tables, projections, made_by FROM read_model_copies WHERE schema = $1",
    )
    .bind(schema)
    .fetch_optional(&mut *connection)
    .await?;
    let Some((schema, tables, projections, made_by)) = row else {
        return Ok(None);
    };
    let lanes = sqlx::query_as(
        "SELECT xid::text::bigint AS xid, position FROM read_model_copy_lanes WHERE schema = $1 ORDER BY lane",
    )
    .bind(&schema)
    .fetch_all(connection)
    .await?;
    Ok(Some(Copied {
        schema,
        tables,
        projections,
        lanes,
        fits: made_by == self::made_by(),
    }))
}

/// Makes an empty copy of some tables, in the place of what is in that schema. Indexes that nothing
/// needs while it is being filled are left out: see [`add_indexes`].
///
/// # Errors
/// When the database fails.
pub async fn make(
    connection: &mut PgConnection,
    schema: &str,
    projections: &[&str],
    tables: &[&str],
    lanes: usize,
) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    drop_copy(&mut transaction, schema).await?;
    run(&mut transaction, format!("CREATE SCHEMA {schema}")).await?;
    for table in tables {
        // Nothing dies in it that would be worth vacuuming while it grows, and a switch waits for a vacuum.
        let like = format!(
            "CREATE TABLE {schema}.{table} (LIKE {LIVE}.{table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)
             WITH (autovacuum_enabled = off)"
        );
        run(&mut transaction, like).await?;
        let keys: Vec<(String, String)> = sqlx::query_as(
            "SELECT quote_ident(conname), pg_get_constraintdef(oid) FROM pg_constraint
             WHERE conrelid = $1::regclass AND contype IN ('p', 'u') ORDER BY conname",
        )
        .bind(format!("{LIVE}.{table}"))
        .fetch_all(&mut *transaction)
        .await?;
        for (name, definition) in keys {
            let add = format!("ALTER TABLE {schema}.{table} ADD CONSTRAINT {name} {definition}");
            run(&mut transaction, add).await?;
        }
        for index in missing_indexes(&mut transaction, schema, table).await? {
            if !index.can_wait() {
                run(&mut transaction, index.create(schema, "")).await?;
            }
        }
    }
    sqlx::query(
        "INSERT INTO read_model_copies (schema, tables, projections, made_by) VALUES ($1, $2, $3, $4)",
    )
    .bind(schema)
    .bind(tables)
    .bind(projections)
    .bind(made_by())
    .execute(&mut *transaction)
    .await?;
    sqlx::query(
        "INSERT INTO read_model_copy_lanes (schema, lane) SELECT $1, generate_series(0, $2 - 1)",
    )
    .bind(schema)
    .bind(i16::try_from(lanes).unwrap_or(i16::MAX))
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await
}

/// Drops what an interrupted [`add_indexes`] has left behind and is of no use. To be called before anybody reads
/// the copy in a long transaction, behind which this would wait, and others behind it.
///
/// # Errors
/// When the database fails.
pub async fn drop_unfinished_indexes(pool: &PgPool, copy: &Copied) -> Result<(), sqlx::Error> {
    let (mut connection, schema) = (pool.acquire().await?, &copy.schema);
    for table in &copy.tables {
        // Where a replay was killed, PostgreSQL may still be making an index that nobody sees yet.
        let mut others = connection.begin().await?;
        let wait = format!("LOCK TABLE {schema}.{table} IN SHARE UPDATE EXCLUSIVE MODE");
        run(&mut others, wait).await?;
        others.commit().await?;
        for index in missing_indexes(&mut connection, schema, table).await? {
            let drop = format!("DROP INDEX IF EXISTS {schema}.{}", index.name);
            run(&mut connection, drop).await?;
        }
    }
    Ok(())
}

/// Adds the indexes that a copy still lacks, and has its tables looked over by the planner. Nothing else is
/// held back meanwhile for more than a second or two. Those of messages, about as much work as all others, are made
/// at the same time as these. When it is to stop, what is under way is finished.
///
/// # Errors
/// When the database fails; then it can be called again, after [`drop_unfinished_indexes`].
pub async fn add_indexes(
    pool: &PgPool,
    copy: &Copied,
    stop: &CancellationToken,
) -> Result<(), sqlx::Error> {
    let is_large = |table: &&String| *table == Message::TABLE;
    let (large, others): (Vec<&String>, Vec<&String>) = copy.tables.iter().partition(is_large);
    tokio::try_join!(
        add_missing(pool, &copy.schema, large, stop),
        add_missing(pool, &copy.schema, others, stop)
    )?;
    Ok(())
}

async fn add_missing(
    pool: &PgPool,
    schema: &str,
    tables: Vec<&String>,
    stop: &CancellationToken,
) -> Result<(), sqlx::Error> {
    let mut connection = pool.acquire().await?;
    for table in tables {
        let bytes: i64 = sqlx::query_scalar("SELECT pg_table_size($1::regclass)")
            .bind(format!("{schema}.{table}"))
            .fetch_one(&mut *connection)
            .await?;
        let how = if bytes > SMALL { "CONCURRENTLY" } else { "" };
        for index in missing_indexes(&mut connection, schema, table).await? {
            if stop.is_cancelled() {
                return Ok(());
            }
            run(&mut connection, index.create(schema, how)).await?;
        }
        // Rows are looked up by keys: of the planner's figures a rough idea is enough.
        let mut transaction = connection.begin().await?;
        let rough = "SET LOCAL default_statistics_target = 10".to_owned();
        run(&mut transaction, rough).await?;
        run(&mut transaction, format!("ANALYZE {schema}.{table}")).await?;
        transaction.commit().await?;
    }
    Ok(())
}

/// An index of a table in use.
struct Index {
    name: String,
    table: String,
    definition: String,
    unique: bool,
}

impl Index {
    /// Whether it can be made when the table is full, which is quicker. Those by which rows are found
    /// while a copy is being filled can't, nor need one that has hardly any rows.
    fn can_wait(&self) -> bool {
        let for_searches = ["_by_content", "_by_form", "_by_search_version"];
        let is_for_searches = for_searches.iter().any(|end| self.name.ends_with(end));
        let is_unused = ["conversations", "messages"].contains(&self.table.as_str());
        let has_few = self.name == "messages_running";
        !self.unique && !has_few && (is_for_searches || is_unused)
    }

    /// Makes the same one on the copy of its table.
    fn create(&self, schema: &str, how: &str) -> String {
        let (from, to) = (format!(" ON {LIVE}."), format!(" ON {schema}."));
        self.definition
            .replacen(&from, &to, 1)
            .replacen(" INDEX ", &format!(" INDEX {how} "), 1)
    }
}

/// The indexes that a table in use has and its copy lacks.
async fn missing_indexes(
    connection: &mut PgConnection,
    schema: &str,
    table: &str,
) -> Result<Vec<Index>, sqlx::Error> {
    let rows: Vec<(String, String, bool)> = sqlx::query_as(
        "SELECT quote_ident(c.relname), pg_get_indexdef(i.indexrelid), i.indisunique
         FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
         WHERE i.indrelid = $1::regclass AND NOT EXISTS (
             SELECT FROM pg_index o JOIN pg_class d ON d.oid = o.indexrelid
             WHERE o.indrelid = $2::regclass AND d.relname = c.relname AND o.indisvalid)
         ORDER BY c.relname",
    )
    .bind(format!("{LIVE}.{table}"))
    .bind(format!("{schema}.{table}"))
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(name, definition, unique)| Index {
            name,
            table: table.to_owned(),
            definition,
            unique,
        })
        .collect())
}

/// Drops a copy, if it is there. The caller commits.
///
/// # Errors
/// When the database fails.
pub async fn drop_copy(connection: &mut PgConnection, schema: &str) -> Result<(), sqlx::Error> {
    run(
        &mut *connection,
        format!("DROP SCHEMA IF EXISTS {schema} CASCADE"),
    )
    .await?;
    sqlx::query("DELETE FROM read_model_copies WHERE schema = $1")
        .bind(schema)
        .execute(connection)
        .await?;
    Ok(())
}

/// How far a lane of a copy is, taken for the length of the transaction; `None` when the copy is not there
/// any more.
///
/// # Errors
/// When the database fails.
pub async fn take_checkpoint(
    connection: &mut PgConnection,
    schema: &str,
    lane: i16,
) -> Result<Option<Checkpoint>, sqlx::Error> {
    sqlx::query_as(
        "SELECT xid::text::bigint AS xid, position FROM read_model_copy_lanes
         WHERE schema = $1 AND lane = $2 FOR UPDATE",
    )
    .bind(schema)
    .bind(lane)
    .fetch_optional(connection)
    .await
}

/// Notes how far a lane of a copy is, in the transaction that brought it there.
///
/// # Errors
/// When the database fails.
pub async fn move_checkpoint(
    connection: &mut PgConnection,
    schema: &str,
    lane: i16,
    to: Checkpoint,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE read_model_copy_lanes SET xid = $3::text::xid8, position = $4 WHERE schema = $1 AND lane = $2",
    )
    .bind(schema)
    .bind(lane)
    .bind(to.xid.to_string())
    .bind(to.position)
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes that nothing was read for a copy yet.
///
/// # Errors
/// When the database fails.
pub async fn move_to_beginning(
    connection: &mut PgConnection,
    schema: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE read_model_copy_lanes SET xid = '0', position = 0 WHERE schema = $1")
        .bind(schema)
        .execute(connection)
        .await?;
    Ok(())
}

/// Puts the tables of a copy in the place of those in use, which become the former ones. What a copy
/// holds besides, as its projections need it, goes with the former ones too: they can be brought up to
/// date and switched back.
///
/// The transaction must hold the live checkpoint and keep erasures off ([`hold_erasures`]), and the copy
/// must be as far as the live ones.
///
/// # Errors
/// When the database fails. A query that takes long makes it fail with a lock timeout; try again.
pub async fn switch(
    connection: &mut PgConnection,
    copy: &Copied,
    switched: &[&str],
) -> Result<(), sqlx::Error> {
    let to = &mut *connection;
    // Whoever reads or writes them finishes first; whoever comes later finds the new ones.
    lock(to, switched, "ACCESS EXCLUSIVE").await?;
    carry_ahead(to, &copy.schema, copy.at(), switched).await?;
    let from = &copy.schema;
    run(to, format!("ALTER SCHEMA {from} RENAME TO {INCOMING}")).await?;
    run(to, format!("DROP SCHEMA IF EXISTS {FORMER} CASCADE")).await?;
    run(to, format!("CREATE SCHEMA {FORMER}")).await?;
    for table in &copy.tables {
        let vacuum = format!("ALTER TABLE {INCOMING}.{table} RESET (autovacuum_enabled)");
        run(to, vacuum).await?;
        if switched.contains(&table.as_str()) {
            run(
                to,
                format!("ALTER TABLE {LIVE}.{table} SET SCHEMA {FORMER}"),
            )
            .await?;
            run(
                to,
                format!("ALTER TABLE {INCOMING}.{table} SET SCHEMA {LIVE}"),
            )
            .await?;
        } else {
            run(
                to,
                format!("ALTER TABLE {INCOMING}.{table} SET SCHEMA {FORMER}"),
            )
            .await?;
        }
    }
    run(to, format!("DROP SCHEMA {INCOMING} CASCADE")).await?;
    sqlx::query("DELETE FROM read_model_copies WHERE schema = $1 AND schema <> $2")
        .bind(FORMER)
        .bind(from)
        .execute(&mut *connection)
        .await?;
    sqlx::query("UPDATE read_model_copies SET schema = $2, made_at = now() WHERE schema = $1")
        .bind(from)
        .bind(FORMER)
        .execute(connection)
        .await?;
    Ok(())
}

/// Puts a user's rows of a copy in the place of those in use, see [`switch`]; nothing is kept of these.
///
/// # Errors
/// When the database fails.
pub async fn replace(
    connection: &mut PgConnection,
    copy: &Copied,
    switched: &[&str],
    user: UserId,
) -> Result<(), sqlx::Error> {
    let carried = |table: &&str| CARRIED.iter().any(|(of, ..)| of == table);
    let (last, first): (Vec<&str>, Vec<&str>) = switched.iter().copied().partition(carried);
    for table in first {
        put_in_place(connection, copy, table, user).await?;
    }
    if last.is_empty() {
        return Ok(());
    }
    // Nobody writes between what is carried along and what is put in its place; reading goes on.
    lock(connection, &last, "SHARE ROW EXCLUSIVE").await?;
    carry_ahead(connection, &copy.schema, copy.at(), switched).await?;
    for table in last {
        put_in_place(connection, copy, table, user).await?;
    }
    Ok(())
}

async fn put_in_place(
    connection: &mut PgConnection,
    copy: &Copied,
    table: &str,
    user: UserId,
) -> Result<(), sqlx::Error> {
    let from = &copy.schema;
    for sql in [
        format!("DELETE FROM {LIVE}.{table} WHERE user_id = $1"),
        format!("INSERT INTO {LIVE}.{table} SELECT * FROM {from}.{table} WHERE user_id = $1"),
    ] {
        sqlx::query(AssertSqlSafe(sql))
            .bind(user.0)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Locks tables in use, or fails soon: others would wait behind it.
async fn lock(
    connection: &mut PgConnection,
    tables: &[&str],
    mode: &str,
) -> Result<(), sqlx::Error> {
    let tables: Vec<String> = tables.iter().map(|t| format!("{LIVE}.{t}")).collect();
    let tables = tables.join(", ");
    run(connection, "SET LOCAL lock_timeout = '300ms'".to_owned()).await?;
    run(connection, format!("LOCK TABLE {tables} IN {mode} MODE")).await
}

/// Rows that were written with an event which no projection has read yet are brought along.
async fn carry_ahead(
    connection: &mut PgConnection,
    schema: &str,
    at: Checkpoint,
    switched: &[&str],
) -> Result<(), sqlx::Error> {
    for (table, key, change) in CARRIED {
        if !switched.contains(&table) {
            continue;
        }
        let sql = format!(
            "INSERT INTO {schema}.{table} SELECT t.* FROM {LIVE}.{table} t
             WHERE t.user_id IN (SELECT e.user_id FROM events e WHERE (e.xid, e.position) > ($1::text::xid8, $2))
             ON CONFLICT ({key}) DO UPDATE SET {change}"
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(at.xid.to_string())
            .bind(at.position)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

async fn run(connection: &mut PgConnection, sql: String) -> Result<(), sqlx::Error> {
    sqlx::query(AssertSqlSafe(sql)).execute(connection).await?;
    Ok(())
}
