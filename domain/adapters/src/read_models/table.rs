//! What the tables of the read models have in common: rows that are read by their keys, changed in
//! memory, and written back many at once.
//!
//! A projection never asks the database for itself. The rows that a page of events touches are taken
//! in beforehand, and what became of them is written afterwards, in one statement a table.

use std::hash::Hash;

use foldhash::{HashMap, HashSet};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{Arguments, AssertSqlSafe, FromRow, PgConnection, Postgres};
use uuid::Uuid;

use super::Manner;

/// About how many bytes a value is in a statement: there is room for all of them from the beginning.
const VALUE_BYTES: usize = 32;

/// A row of a table of the read models; made by `table!`.
pub trait Row: for<'r> FromRow<'r, PgRow> + Send + Sync + Unpin + 'static {
    /// What tells rows apart.
    type Key: Copy + Eq + Ord + Hash + Send + Sync;
    /// The table's name.
    const TABLE: &'static str;
    /// The columns with their types, in the order of the declaration, the key first.
    const COLUMNS: &'static [(&'static str, &'static str)];
    /// How many of the columns are the key.
    const KEY_COLUMNS: usize;

    /// The row's key.
    fn key(&self) -> Self::Key;
    /// Binds rows, a column at a time.
    fn bind<'q>(
        rows: &'q [&'q Self],
        query: Query<'q, Postgres, PgArguments>,
    ) -> Query<'q, Postgres, PgArguments>;
}

/// Declares a table: the type of its rows, its name, and its columns with their types in PostgreSQL.
/// The columns before the semicolon are the key.
macro_rules! table {
    (
        $(#[$doc:meta])* $row:ident in $table:literal {
            $($key:ident: $key_type:ty as $key_sql:literal),+;
            $($column:ident: $type:ty as $sql:literal),* $(,)?
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, sqlx::FromRow)]
        #[expect(missing_docs, reason = "each field is the column of the same name")]
        pub struct $row {
            $(pub $key: $key_type,)+
            $(pub $column: $type,)*
        }

        impl $crate::read_models::table::Row for $row {
            type Key = ($($key_type,)+);
            const TABLE: &'static str = $table;
            const COLUMNS: &'static [(&'static str, &'static str)] =
                &[$((stringify!($key), $key_sql),)+ $((stringify!($column), $sql),)*];
            const KEY_COLUMNS: usize = [$($key_sql),+].len();

            fn key(&self) -> Self::Key {
                ($(self.$key,)+)
            }

            fn bind<'q>(
                rows: &'q [&'q Self],
                query: sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>,
            ) -> sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments> {
                use sqlx::postgres::PgBindIterExt;
                query
                    $(.bind(rows.iter().map(|row| &row.$key).bind_iter()))+
                    $(.bind(rows.iter().map(|row| &row.$column).bind_iter()))*
            }
        }
    };
}
pub(crate) use table;

/// The rows of a table that a page of events touches: what they are by now.
#[derive(Debug)]
pub struct Rows<R: Row> {
    slots: HashMap<R::Key, Slot<R>>,
}

/// A row as it is by now; `None` when there is none (any more).
#[derive(Debug)]
struct Slot<R> {
    now: Option<R>,
    /// Whether the table has a row of this key.
    stored: bool,
    changed: bool,
}

impl<R: Row> Default for Rows<R> {
    fn default() -> Self {
        Self {
            slots: HashMap::default(),
        }
    }
}

impl<R: Row> Rows<R> {
    /// Makes room for new rows.
    pub(super) fn reserve(&mut self, rows: usize) {
        self.slots.reserve(rows);
    }

    /// Adds a row, or puts it in the place of the one with its key.
    pub fn put(&mut self, row: R) {
        let slot = self.slots.entry(row.key()).or_insert(Slot {
            now: None,
            stored: false,
            changed: true,
        });
        slot.now = Some(row);
        slot.changed = true;
    }

    /// The rows as they are by now.
    pub fn rows(&self) -> impl Iterator<Item = &R> {
        self.slots.values().filter_map(|slot| slot.now.as_ref())
    }

    /// Takes out the rows that `gone` says.
    pub fn remove_where(&mut self, gone: impl Fn(&R) -> bool) {
        for slot in self.slots.values_mut() {
            if slot.now.as_ref().is_some_and(&gone) {
                slot.now = None;
                slot.changed = true;
            }
        }
    }

    /// Changes the rows that `which` says.
    pub fn change_where(&mut self, which: impl Fn(&R) -> bool, change: impl Fn(&mut R)) {
        for slot in self.slots.values_mut() {
            if let Some(row) = slot.now.as_mut().filter(|row| which(row)) {
                change(row);
                slot.changed = true;
            }
        }
    }

    /// Writes what has changed: rows that the table has by an upsert; new ones too, or, in a replay, by an
    /// insert, which tells if they were not new. Both take one round trip. A COPY would take two, and
    /// through a driver that leaves Nagle's algorithm on, 40 ms a table in waiting for the second.
    ///
    /// # Errors
    /// When the database fails.
    async fn write_rows(
        &self,
        connection: &mut PgConnection,
        manner: Manner,
    ) -> Result<(), sqlx::Error> {
        let (mut new, mut old) = (Vec::new(), Vec::new());
        for slot in self.slots.values().filter(|slot| slot.changed) {
            match &slot.now {
                Some(row) if !slot.stored && manner == Manner::Replay => new.push(row),
                Some(row) => old.push(row),
                None => {}
            }
        }
        // In the order of their keys, most of which grow with time: neighbours share a page.
        new.sort_unstable_by_key(|row| row.key());
        old.sort_unstable_by_key(|row| row.key());
        if !old.is_empty() {
            write_all(&mut *connection, upsert::<R>(), &old).await?;
        }
        if !new.is_empty() {
            write_all(connection, insert::<R>(), &new).await?;
        }
        Ok(())
    }
}

impl<R: Row<Key = (Uuid,)>> Rows<R> {
    /// The row of an id.
    pub fn get(&self, id: Uuid) -> Option<&R> {
        self.slots.get(&(id,))?.now.as_ref()
    }

    /// The row of an id, to be changed.
    pub fn change(&mut self, id: Uuid) -> Option<&mut R> {
        let slot = self.slots.get_mut(&(id,))?;
        let row = slot.now.as_mut()?;
        slot.changed = true;
        Some(row)
    }

    /// Takes out the row of an id.
    pub fn remove(&mut self, id: Uuid) -> Option<R> {
        let slot = self.slots.get_mut(&(id,))?;
        slot.changed = true;
        slot.now.take()
    }

    /// Takes in the rows of these ids, as far as the table has them.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn load(
        &mut self,
        connection: &mut PgConnection,
        ids: &HashSet<Uuid>,
    ) -> Result<(), sqlx::Error> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut ids: Vec<Uuid> = ids.iter().copied().collect();
        ids.sort_unstable();
        let (columns, table, id) = (columns::<R>(), R::TABLE, id::<R>());
        let sql = format!("SELECT {columns} FROM {table} WHERE {id} = ANY($1)");
        let rows: Vec<R> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(ids)
            .fetch_all(connection)
            .await?;
        for row in rows {
            let slot = Slot {
                stored: true,
                changed: false,
                now: None,
            };
            let key = row.key();
            self.slots.entry(key).or_insert(slot).now = Some(row);
        }
        Ok(())
    }

    /// Writes what has changed, see `write_rows`, and deletes what was taken out.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn write(
        &self,
        connection: &mut PgConnection,
        manner: Manner,
    ) -> Result<(), sqlx::Error> {
        let gone = |(key, slot): (&(Uuid,), &Slot<R>)| {
            (slot.stored && slot.now.is_none()).then_some(key.0)
        };
        let gone: Vec<Uuid> = self.slots.iter().filter_map(gone).collect();
        if !gone.is_empty() {
            let (table, id) = (R::TABLE, id::<R>());
            let sql = format!("DELETE FROM {table} WHERE {id} = ANY($1)");
            sqlx::query(AssertSqlSafe(sql))
                .bind(gone)
                .execute(&mut *connection)
                .await?;
        }
        self.write_rows(connection, manner).await
    }
}

impl<R: Row<Key = (Uuid, i64)>> Rows<R> {
    /// Writes what was added. What the table has already stays as it is in the table.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn append(
        &self,
        connection: &mut PgConnection,
        manner: Manner,
    ) -> Result<(), sqlx::Error> {
        self.write_rows(connection, manner).await
    }
}

async fn write_all<R: Row>(
    connection: &mut PgConnection,
    sql: String,
    rows: &[&R],
) -> Result<(), sqlx::Error> {
    let values = R::COLUMNS.len();
    let mut arguments = PgArguments::default();
    arguments.reserve(values, rows.len() * values * VALUE_BYTES);
    let query = sqlx::query_with(AssertSqlSafe(sql), arguments);
    R::bind(rows, query).execute(connection).await?;
    Ok(())
}

/// The name of the id's column.
fn id<R: Row>() -> &'static str {
    R::COLUMNS[0].0
}

fn columns<R: Row>() -> String {
    names(R::COLUMNS).join(", ")
}

fn names(columns: &[(&'static str, &'static str)]) -> Vec<&'static str> {
    columns.iter().map(|(name, _)| *name).collect()
}

/// Inserts rows that are bound by columns. The arrays go by in step, row by row; as a table in a `FROM`
/// each would first be written out whole.
fn insert<R: Row>() -> String {
    let arrays: Vec<String> = (1..)
        .zip(R::COLUMNS)
        .map(|(n, (_, sql))| format!("unnest(${n}::{sql}[])"))
        .collect();
    format!(
        "INSERT INTO {} ({}) SELECT {}",
        R::TABLE,
        columns::<R>(),
        arrays.join(", "),
    )
}

/// Inserts rows that are bound by columns, and puts them in the place of those of the same key.
fn upsert<R: Row>() -> String {
    let (key, rest) = R::COLUMNS.split_at(R::KEY_COLUMNS);
    let set: Vec<String> = rest
        .iter()
        .map(|(name, _)| format!("{name} = excluded.{name}"))
        .collect();
    let meet = match set.is_empty() {
        true => "NOTHING".to_owned(),
        false => format!("UPDATE SET {}", set.join(", ")),
    };
    format!(
        "{} ON CONFLICT ({}) DO {meet}",
        insert::<R>(),
        names(key).join(", "),
    )
}
