//! Copies of the read models beside the ones in use: what a replay builds, what it took the place of,
//! and what a check builds to compare with. Each lies in a schema of its own, with tables made like
//! those in use.

use sqlx::{AssertSqlSafe, PgConnection};

use super::PROJECTIONS;
use crate::database;
use crate::subscription::Checkpoint;
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

/// A copy and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// The schema.
    pub schema: String,
    /// Its tables.
    pub tables: Vec<String>,
    /// The names of the projections for which it was made.
    pub projections: Vec<String>,
    /// How far it has read the log.
    pub at: Checkpoint,
    /// Whether this version of the software makes such tables, and such rows in them.
    pub fits: bool,
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
    type Row = (String, Vec<String>, Vec<String>, i64, i64, String);
    let row: Option<Row> = sqlx::query_as(
        "SELECT schema, tables, projections, xid::text::bigint, position, made_by
         FROM read_model_copies WHERE schema = $1",
    )
    .bind(schema)
    .fetch_optional(connection)
    .await?;
    Ok(row.map(
        |(schema, tables, projections, xid, position, made_by)| Copied {
            schema,
            tables,
            projections,
            at: Checkpoint { xid, position },
            fits: made_by == self::made_by(),
        },
    ))
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
) -> Result<(), sqlx::Error> {
    let mut transaction = sqlx::Connection::begin(connection).await?;
    drop_copy(&mut transaction, schema).await?;
    run(&mut transaction, format!("CREATE SCHEMA {schema}")).await?;
    for table in tables {
        let like = format!(
            "CREATE TABLE {schema}.{table} (LIKE {LIVE}.{table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)"
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
    transaction.commit().await
}

/// Adds the indexes that a copy still lacks, without holding back anything else meanwhile, and has its
/// tables looked over by the planner.
///
/// # Errors
/// When the database fails; then it can be called again.
pub async fn add_indexes(connection: &mut PgConnection, copy: &Copied) -> Result<(), sqlx::Error> {
    let schema = &copy.schema;
    for table in &copy.tables {
        for index in missing_indexes(connection, schema, table).await? {
            // One that an interrupted attempt left behind is of no use.
            let (name, create) = (&index.name, index.create(schema, "CONCURRENTLY"));
            run(connection, format!("DROP INDEX IF EXISTS {schema}.{name}")).await?;
            run(connection, create).await?;
        }
        run(connection, format!("ANALYZE {schema}.{table}")).await?;
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
    /// while a copy is being filled can't.
    fn can_wait(&self) -> bool {
        let is_by_content = self.name.ends_with("_by_content");
        !self.unique
            && (is_by_content || ["conversations", "messages"].contains(&self.table.as_str()))
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

/// How far a copy is, taken for the length of the transaction; `None` when it is not there any more.
///
/// # Errors
/// When the database fails.
pub async fn take_checkpoint(
    connection: &mut PgConnection,
    schema: &str,
) -> Result<Option<Checkpoint>, sqlx::Error> {
    sqlx::query_as(
        "SELECT xid::text::bigint AS xid, position FROM read_model_copies WHERE schema = $1 FOR UPDATE",
    )
    .bind(schema)
    .fetch_optional(connection)
    .await
}

/// Notes how far a copy is, in the transaction that brought it there.
///
/// # Errors
/// When the database fails.
pub async fn move_checkpoint(
    connection: &mut PgConnection,
    schema: &str,
    to: Checkpoint,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE read_model_copies SET xid = $2::text::xid8, position = $3 WHERE schema = $1",
    )
    .bind(schema)
    .bind(to.xid.to_string())
    .bind(to.position)
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
    run(to, "SET LOCAL lock_timeout = '300ms'".to_owned()).await?;
    let tables: Vec<String> = switched.iter().map(|t| format!("{LIVE}.{t}")).collect();
    // Whoever reads or writes them finishes first; whoever comes later finds the new ones.
    run(
        to,
        format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", tables.join(", ")),
    )
    .await?;
    carry_ahead(to, &copy.schema, copy.at, switched).await?;
    let from = &copy.schema;
    run(to, format!("ALTER SCHEMA {from} RENAME TO {INCOMING}")).await?;
    run(to, format!("DROP SCHEMA IF EXISTS {FORMER} CASCADE")).await?;
    run(to, format!("CREATE SCHEMA {FORMER}")).await?;
    for table in &copy.tables {
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
    carry_ahead(&mut *connection, &copy.schema, copy.at, switched).await?;
    for table in switched {
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
    }
    Ok(())
}

/// Some rows are written with their event and not by the projection ([`crate::api_keys`]); those whose
/// event no projection has read yet are brought along.
async fn carry_ahead(
    connection: &mut PgConnection,
    schema: &str,
    at: Checkpoint,
    switched: &[&str],
) -> Result<(), sqlx::Error> {
    let carried = [
        ("users", "user_id", "external_id = excluded.external_id"),
        ("api_keys", "key_id", "revoked_at = excluded.revoked_at"),
    ];
    for (table, key, change) in carried {
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
