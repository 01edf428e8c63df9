//! What lists have in common: limits, and the sign that an answer may be behind.

use std::time::Duration;

use chrono::{DateTime, Utc};
use companion_adapters::core::Core;
use companion_adapters::progress;
use companion_domain::ids::UserId;
use poem_openapi::ApiResponse;
use poem_openapi::payload::Json;
use poem_openapi::types::{ToJSON, Type};

use crate::error::Problem;

/// How many items a list has unless asked otherwise.
const DEFAULT_LIMIT: i64 = 50;
const MAX_LIMIT: i64 = 200;
/// How long [`catch_up`] waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// The answer to a query.
#[derive(ApiResponse)]
pub(crate) enum Read<T: Type + ToJSON> {
    /// What was found.
    #[oai(status = 200)]
    Ok(
        Json<T>,
        /// `behind` when the answer may lack what was written last.
        #[oai(header = "X-Projection-Lag")]
        Option<String>,
    ),
}

impl<T: Type + ToJSON> Read<T> {
    pub(crate) fn new(body: T, lag: Option<String>) -> Self {
        Self::Ok(Json(body), lag)
    }
}

/// Waits until the user's own writes can be read; says so when that takes too long.
pub(crate) async fn wait_for_own_writes(
    core: &Core,
    user: UserId,
) -> Result<Option<String>, Problem> {
    let passed = progress::wait_for_own_writes(&core.pool, user).await?;
    Ok((!passed).then(|| "behind".to_owned()))
}

/// Waits longer than a query does, for what must not be decided on an old state. Returns whether it
/// was long enough.
pub(crate) async fn catch_up(core: &Core, user: UserId) -> Result<bool, Problem> {
    let begun = tokio::time::Instant::now();
    loop {
        if progress::wait_for_own_writes(&core.pool, user).await? {
            return Ok(true);
        }
        if begun.elapsed() >= PATIENCE {
            return Ok(false);
        }
    }
}

/// Reads a past time that is asked about. A `+` that was not encoded arrives as a space.
pub(crate) fn as_of(text: Option<&str>) -> Result<Option<DateTime<Utc>>, Problem> {
    let Some(text) = text else { return Ok(None) };
    DateTime::parse_from_rfc3339(&text.replace(' ', "+"))
        .map(|time| Some(time.to_utc()))
        .map_err(|_| {
            let message = "must be a time of RFC 3339, for example 2025-03-01T12:00:00Z";
            Problem::invalid_field("as_of", message)
        })
}

/// Checks the limit of a list, 1..=200.
pub(crate) fn limit(limit: Option<i64>) -> Result<i64, Problem> {
    match limit {
        None => Ok(DEFAULT_LIMIT),
        Some(limit) if (1..=MAX_LIMIT).contains(&limit) => Ok(limit),
        Some(_) => Err(Problem::invalid_field(
            "limit",
            format!("must be from 1 to {MAX_LIMIT}"),
        )),
    }
}

/// Checks the offset of a list.
pub(crate) fn offset(offset: Option<i64>) -> Result<i64, Problem> {
    match offset.unwrap_or(0) {
        offset if offset >= 0 => Ok(offset),
        _ => Err(Problem::invalid_field("offset", "must be at least 0")),
    }
}
