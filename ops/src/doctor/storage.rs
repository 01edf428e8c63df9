//! PostgreSQL, its extensions and schema, and Redis.

use companion_adapters::config::{Config, Secret};
use companion_adapters::redis_link::RedisLink;
use companion_adapters::vault::Vault;
use companion_adapters::{database, errors, parts};
use sqlx::PgPool;

use super::Finding;
use crate::embedded;
use crate::embedded::placement;

const POSTGRES: &str = "PostgreSQL";
/// The oldest version that is tested upstream for what we use of it.
const OLDEST: i32 = 150_000;

/// Checks what keeps data.
pub(super) async fn check(config: &Config) -> Vec<Finding> {
    let mut findings = postgres(config).await;
    findings.push(redis(config).await);
    findings
}

async fn postgres(config: &Config) -> Vec<Finding> {
    if config.postgres_url.is_none() && !placement::has_cluster(&config.companion_home) {
        let fetched = parts::postgres();
        let finding = if fetched.join("bin/postgres").is_file() {
            Finding::ok(
                POSTGRES,
                "the embedded one will be made at the first start: ops/up",
            )
        } else {
            Finding::problem(
                POSTGRES,
                format!(
                    "is missing at {}; run: ops/fetch-parts postgres",
                    fetched.display()
                ),
            )
        };
        return vec![finding];
    }
    let (url, guard) = match embedded::url_for(config, "doctor").await {
        Ok(found) => found,
        Err(error) => return vec![Finding::problem(POSTGRES, errors::in_one_line(&*error))],
    };
    let findings = connected(config, &url).await;
    if let Some(guard) = guard {
        guard.release().await;
    }
    findings
}

async fn connected(config: &Config, url: &Secret) -> Vec<Finding> {
    let pool = match database::connect(url, 2, true).await {
        Ok(pool) => pool,
        Err(error) => return vec![Finding::problem(POSTGRES, error.to_string())],
    };
    let mut findings = vec![version(&pool).await];
    for extension in ["vector", "hstore"] {
        findings.push(self::extension(&pool, extension).await);
    }
    findings.push(match database::check(&pool, config).await {
        Ok(()) => Finding::ok("migrations", "all applied"),
        Err(error) => Finding::problem("migrations", error.to_string()),
    });
    findings.extend(key_fits(config, &pool).await);
    pool.close().await;
    findings
}

async fn version(pool: &PgPool) -> Finding {
    let found: Result<(String, i32), sqlx::Error> = sqlx::query_as(
        "SELECT current_setting('server_version'), current_setting('server_version_num')::integer",
    )
    .fetch_one(pool)
    .await;
    match found {
        Ok((name, number)) if number >= OLDEST => Finding::ok(POSTGRES, format!("version {name}")),
        Ok((name, _)) => Finding::problem(
            POSTGRES,
            format!("version {name} is too old; use 15 or newer"),
        ),
        Err(error) => Finding::problem(POSTGRES, format!("does not answer: {error}")),
    }
}

/// The versions of an extension.
#[derive(sqlx::FromRow)]
struct Extension {
    installed: Option<String>,
    available: Option<String>,
}

async fn extension(pool: &PgPool, name: &'static str) -> Finding {
    let found: Result<Option<Extension>, sqlx::Error> = sqlx::query_as(
        "SELECT installed_version AS installed, default_version AS available FROM pg_available_extensions WHERE name = $1",
    )
    .bind(name)
    .fetch_optional(pool)
    .await;
    match found {
        Ok(Some(Extension {
            installed: Some(installed),
            ..
        })) => Finding::ok("extension", format!("{name} {installed}")),
        Ok(Some(Extension {
            installed: None,
            available,
        })) => Finding::ok(
            "extension",
            format!(
                "{name} {} is there and will be installed by the migrations",
                available.unwrap_or_default()
            ),
        ),
        Ok(None) => Finding::problem(
            "extension",
            format!(
                "{name} is missing; install pgvector and the contrib modules (the image pgvector/pgvector has both)"
            ),
        ),
        Err(error) => Finding::problem("extension", format!("{name} can't be looked up: {error}")),
    }
}

/// Whether the master key opens what the database holds. Says nothing when nothing is sealed yet or
/// the key itself has been found wanting.
async fn key_fits(config: &Config, pool: &PgPool) -> Option<Finding> {
    let sealed: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM user_keys)")
        .fetch_one(pool)
        .await
        .ok()?;
    if !sealed {
        return None;
    }
    if config.master_key.is_none() && !config.companion_home.join("master.key").exists() {
        return Some(Finding::problem(
            "master key",
            "the database was filled under a key that is not here; set COMPANION_MASTER_KEY, or put master.key back \
             into COMPANION_HOME",
        ));
    }
    let vault = Vault::open(config).ok()?;
    Some(match vault.check(pool).await {
        Ok(()) => Finding::ok("master key", "opens what the database holds"),
        Err(error) => Finding::problem("master key", error.to_string()),
    })
}

async fn redis(config: &Config) -> Finding {
    match RedisLink::open(config) {
        Err(error) => Finding::problem("Redis", error.to_string()),
        Ok(None) => Finding::ok(
            "Redis",
            "not configured; buffers and rate limits are the process's own",
        ),
        Ok(Some(redis)) if redis.ping().await => Finding::ok("Redis", "answers"),
        Ok(Some(_)) => Finding::warning(
            "Redis",
            "does not answer at REDIS_URL; until it does, buffers and rate limits are the process's own. Start it, or \
             correct REDIS_URL",
        ),
    }
}
