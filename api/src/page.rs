//! What lists have in common: limits, and the sign that an answer may be behind.

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
