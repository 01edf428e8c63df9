//! Whether two copies of a read model are the same, row for row, and where they are not.

use serde::Serialize;
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

/// How many differing rows of a table are named.
const NAMED: i64 = 10;

/// A table in two copies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// The table.
    pub table: String,
    /// Rows in use.
    pub live_rows: i64,
    /// Rows of the copy.
    pub copy_rows: i64,
    /// Rows that differ, or that only one of the two has.
    pub differences: i64,
    /// Some of them.
    pub named: Vec<Difference>,
}

impl Comparison {
    /// Adds what was found later, of rows that changed meanwhile.
    pub fn add(&mut self, later: Self) {
        self.differences += later.differences;
        self.named.extend(later.named);
    }
}

/// A row that is not the same in both copies. It names no content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The row's key.
    pub key: String,
    /// Whose it is.
    pub user_id: Uuid,
    /// `only live`, `only copy`, or `differs`.
    pub how: String,
    /// The columns that differ.
    pub columns: Vec<String>,
}

/// Compares a table of two schemas: of all users but those, or of some alone. Hashes first; rows are
/// looked for only when these differ.
///
/// # Errors
/// When the database fails.
pub async fn compare(
    connection: &mut PgConnection,
    live: &str,
    copy: &str,
    table: &str,
    users: &Whose<'_>,
) -> Result<Comparison, sqlx::Error> {
    let (live_rows, live_hash) = fingerprint(&mut *connection, live, table, users).await?;
    let (copy_rows, copy_hash) = fingerprint(&mut *connection, copy, table, users).await?;
    let mut comparison = Comparison {
        table: table.to_owned(),
        live_rows,
        copy_rows,
        differences: 0,
        named: Vec::new(),
    };
    if (live_rows, live_hash) != (copy_rows, copy_hash) {
        look(connection, live, copy, users, &mut comparison).await?;
    }
    Ok(comparison)
}

/// Of whom rows are compared.
#[derive(Debug, Clone, Copy)]
pub enum Whose<'a> {
    /// Of all but these.
    AllBut(&'a [Uuid]),
    /// Of these.
    Only(&'a [Uuid]),
}

impl Whose<'_> {
    fn condition(&self) -> &'static str {
        match self {
            // A hashed look-up, where `<> ALL` would go through the list for each row.
            Self::AllBut([]) => "cardinality($1::uuid[]) = 0",
            Self::AllBut(_) => "NOT (t.user_id = ANY($1))",
            Self::Only(_) => "t.user_id = ANY($1)",
        }
    }

    fn users(&self) -> &[Uuid] {
        match self {
            Self::AllBut(users) | Self::Only(users) => users,
        }
    }
}

/// The number of rows, and a hash of them that does not depend on their order.
async fn fingerprint(
    connection: &mut PgConnection,
    schema: &str,
    table: &str,
    users: &Whose<'_>,
) -> Result<(i64, i64), sqlx::Error> {
    let condition = users.condition();
    let sql = format!(
        "SELECT count(*), coalesce(bit_xor(hash_record_extended(t, 0)), 0) FROM {schema}.{table} t WHERE {condition}"
    );
    sqlx::query_as(AssertSqlSafe(sql))
        .bind(users.users())
        .fetch_one(connection)
        .await
}

/// Finds the rows that differ.
async fn look(
    connection: &mut PgConnection,
    live: &str,
    copy: &str,
    users: &Whose<'_>,
    comparison: &mut Comparison,
) -> Result<(), sqlx::Error> {
    let (table, condition) = (&comparison.table, users.condition());
    let key: Vec<String> = sqlx::query_scalar(
        "SELECT quote_ident(a.attname) FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)
         WHERE i.indrelid = $1::regclass AND i.indisprimary ORDER BY array_position(i.indkey::int2[], a.attnum)",
    )
    .bind(format!("{live}.{table}"))
    .fetch_all(&mut *connection)
    .await?;
    let same_key: Vec<String> = key.iter().map(|k| format!("l.{k} = c.{k}")).collect();
    let same_key = same_key.join(" AND ");
    let keys: Vec<String> = key
        .iter()
        .map(|k| format!("coalesce(l.{k}, c.{k})::text"))
        .collect();
    let keys = keys.join(", ");
    let all = |schema: &str| {
        format!(
            "(SELECT t.*, hash_record_extended(t, 0) AS row_hash FROM {schema}.{table} t WHERE {condition})"
        )
    };
    let pairs = format!(
        "{} l FULL JOIN {} c ON {same_key} WHERE l.row_hash IS DISTINCT FROM c.row_hash",
        all(live),
        all(copy)
    );
    let count = format!("SELECT count(*) FROM {pairs}");
    comparison.differences = sqlx::query_scalar(AssertSqlSafe(count))
        .bind(users.users())
        .fetch_one(&mut *connection)
        .await?;
    let sql = format!(
        "SELECT concat_ws('/', {keys}), coalesce(l.user_id, c.user_id),
                CASE WHEN c.user_id IS NULL THEN 'only live' WHEN l.user_id IS NULL THEN 'only copy' ELSE 'differs' END,
                ARRAY(SELECT a.key FROM jsonb_each(to_jsonb(l)) a JOIN jsonb_each(to_jsonb(c)) b USING (key)
                      WHERE a.value IS DISTINCT FROM b.value AND a.key <> 'row_hash' ORDER BY 1)
         FROM {pairs} ORDER BY 1 LIMIT {NAMED}"
    );
    let rows: Vec<(String, Uuid, String, Vec<String>)> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(users.users())
        .fetch_all(connection)
        .await?;
    let named = rows
        .into_iter()
        .map(|(key, user_id, how, columns)| Difference {
            key,
            user_id,
            how,
            columns,
        });
    comparison.named = named.collect();
    Ok(())
}
