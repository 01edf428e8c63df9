//! Whether the service works, for people and for orchestrators.

use std::time::Duration;

use companion_adapters::progress::{self, Lag};
use companion_adapters::redis_link::RedisLink;
use poem::web::Data;
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Object, OpenApi};

use crate::app::App;

/// The state of the service.
#[derive(Debug, Object)]
pub(crate) struct Health {
    /// `healthy`; `degraded` when the LLM, Redis or the workers are away; `unhealthy` without the
    /// database.
    status: String,
    version: String,
    database: bool,
    /// At most 10 seconds old.
    llm: bool,
    /// `null` when no Redis is configured.
    redis: Option<bool>,
    workers: Workers,
}

/// How far the background work has come.
#[derive(Debug, Object)]
pub(crate) struct Workers {
    /// Worker processes seen lately.
    running: i64,
    /// 0 exactly when all that was appended is projected and all jobs that follow have ended.
    lag_events: i64,
    /// How long the oldest of that waits, seconds.
    oldest_pending_seconds: f64,
    /// Jobs that failed for good.
    dead_jobs: i64,
}

/// A short answer for orchestrators.
#[derive(Debug, Object)]
pub(crate) struct Alive {
    /// `ok`, or what is missing.
    status: String,
}

#[derive(ApiResponse)]
enum HealthResponse {
    /// It can serve.
    #[oai(status = 200)]
    Serving(Json<Health>),
    /// The database is gone.
    #[oai(status = 503)]
    Gone(Json<Health>),
}

#[derive(ApiResponse)]
enum AliveResponse {
    /// Yes.
    #[oai(status = 200)]
    Yes(Json<Alive>),
    /// No.
    #[oai(status = 503)]
    No(Json<Alive>),
}

/// A database that takes longer is as good as gone to whoever probes.
const DATABASE_WITHIN: Duration = Duration::from_secs(3);

pub(crate) struct HealthApi;

#[OpenApi]
impl HealthApi {
    /// State of the service
    #[oai(path = "/health", method = "get")]
    async fn health(&self, app: Data<&App>) -> HealthResponse {
        let (lag, llm, redis) = tokio::join!(
            in_time(progress::lag(&app.core.pool)),
            app.llm_answers(),
            ping(app.core.redis.as_ref()),
        );
        let database = lag.is_ok();
        let lag = lag.unwrap_or_else(|error| {
            tracing::error!("the database failed: {error}");
            Lag::default()
        });
        let status = if !database {
            "unhealthy"
        } else if !llm || redis == Some(false) || lag.running == 0 {
            "degraded"
        } else {
            "healthy"
        };
        let health = Json(Health {
            status: status.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            database,
            llm,
            redis,
            workers: Workers {
                running: lag.running,
                lag_events: lag.lag_events,
                oldest_pending_seconds: lag.oldest_pending_seconds,
                dead_jobs: lag.dead_jobs,
            },
        });
        if database {
            HealthResponse::Serving(health)
        } else {
            HealthResponse::Gone(health)
        }
    }

    /// Whether the process lives
    #[oai(path = "/health/live", method = "get")]
    async fn live(&self) -> AliveResponse {
        AliveResponse::Yes(Json(Alive {
            status: "ok".to_owned(),
        }))
    }

    /// Whether the process can take requests
    #[oai(path = "/health/ready", method = "get")]
    async fn ready(&self, app: Data<&App>) -> AliveResponse {
        if app.replies.are_closed() {
            return AliveResponse::No(Json(Alive {
                status: "stopping".to_owned(),
            }));
        }
        match in_time(sqlx::query("SELECT 1").execute(&app.core.pool)).await {
            Ok(_) => AliveResponse::Yes(Json(Alive {
                status: "ok".to_owned(),
            })),
            Err(_) => AliveResponse::No(Json(Alive {
                status: "no database".to_owned(),
            })),
        }
    }
}

/// What the database answers, as long as whoever asks still waits for it.
async fn in_time<T>(asked: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    let answered = tokio::time::timeout(DATABASE_WITHIN, asked).await;
    answered.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

/// Whether Redis answers; `None` when none is configured.
async fn ping(redis: Option<&RedisLink>) -> Option<bool> {
    match redis {
        None => None,
        Some(redis) => Some(redis.ping().await),
    }
}
