//! A database of its own for each test: the schema is made once and cloned.

use std::collections::HashMap;
use std::str::FromStr;

use companion_adapters::config::{Config, Secret};
use companion_adapters::database;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, PgPool};
use uuid::Uuid;

/// The server that all tests share; `ops/test` starts it.
const SERVER: &str = "COMPANION_TEST_POSTGRES_URL";
/// The lock under which the template is made.
const TEMPLATE_LOCK: i64 = 0x636f_6d70;

/// A fresh, migrated database. It goes with the server, which is thrown away after the run.
pub async fn fresh() -> Secret {
    let server = PgConnectOptions::from_str(&server()).expect("a PostgreSQL URL");
    let mut connection = server.connect().await.expect("the test server answers");
    let template = template(&mut connection, &server).await;
    let name = format!("test_{}", Uuid::now_v7().simple());
    sqlx::query(AssertSqlSafe(format!(
        "CREATE DATABASE {name} TEMPLATE {template}"
    )))
    .execute(&mut connection)
    .await
    .expect("a clone of the template");
    connection.close().await.expect("closes");
    url(&server, &name)
}

/// The URL of the shared server.
pub fn server() -> String {
    std::env::var(SERVER)
        .unwrap_or_else(|_| panic!("{SERVER} is not set; run the tests with ops/test"))
}

/// The URL of the shared Redis.
pub fn redis() -> String {
    let name = "COMPANION_TEST_REDIS_URL";
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; run the tests with ops/test"))
}

/// Who waits for a lock on a table of this database: the process and the mode of the lock. The databases of
/// other tests are clones of the same one, in which a table has the same number.
pub async fn waiting(pool: &PgPool, table: &str) -> Vec<(i32, String)> {
    sqlx::query_as(
        "SELECT pid, mode FROM pg_locks
         WHERE NOT granted AND relation = $1::regclass
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
    )
    .bind(table)
    .fetch_all(pool)
    .await
    .expect("the locks")
}

/// Makes the template if no other test has; its name changes with the migrations.
async fn template(connection: &mut PgConnection, server: &PgConnectOptions) -> String {
    let name = format!("template_{}", database::schema_id());
    sqlx::query("SELECT pg_advisory_lock($1)")
        .bind(TEMPLATE_LOCK)
        .execute(&mut *connection)
        .await
        .expect("lock");
    let exists: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
            .bind(&name)
            .fetch_one(&mut *connection)
            .await
            .expect("asks");
    if !exists {
        let draft = format!("draft_{}", Uuid::now_v7().simple());
        let run = |sql: String| AssertSqlSafe(sql);
        sqlx::query(run(format!("CREATE DATABASE {draft}")))
            .execute(&mut *connection)
            .await
            .expect("creates");
        let config = Config::from_variables(HashMap::new()).expect("defaults");
        database::migrate(&url(server, &draft), &config)
            .await
            .expect("migrates");
        sqlx::query(run(format!("ALTER DATABASE {draft} RENAME TO {name}")))
            .execute(&mut *connection)
            .await
            .expect("renames");
    }
    sqlx::query("SELECT pg_advisory_unlock($1)")
        .bind(TEMPLATE_LOCK)
        .execute(connection)
        .await
        .expect("unlock");
    name
}

fn url(server: &PgConnectOptions, database: &str) -> Secret {
    Secret::new(server.clone().database(database).to_url_lossy().to_string())
}
