//! Credentials: tokens for a while, keys for programs.

use std::time::Duration;

use chrono::{DateTime, Utc};
use companion_adapters::{api_keys, erasure};
use companion_domain::ids::{ApiKeyId, ExternalUserId, InvalidUserId, UserId};
use poem::Request;
use poem::web::Data;
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Object, OpenApi};
use uuid::Uuid;

use crate::app::App;
use crate::auth::{self, Caller, ERASED};
use crate::body::JsonBody;
use crate::code::Code;
use crate::commands::Done;
use crate::error::Problem;
use crate::limits;

const SECONDS_PER_HOUR: f64 = 3600.0;

/// For whom, and for how long.
#[derive(Debug, Object)]
pub(crate) struct TokenRequest {
    /// The user; the caller unless said. Only an admin may name another.
    #[oai(validator(max_length = 128))]
    user_id: Option<String>,
    /// Hours until the token expires, more than 0 and at most 8,760; `JWT_EXPIRATION_HOURS` unless said.
    #[oai(validator(minimum(value = "0", exclusive), maximum(value = "8760")))]
    expires_in_hours: Option<f64>,
}

/// A new token.
#[derive(Debug, Object)]
pub(crate) struct TokenAnswer {
    access_token: String,
    /// `bearer`.
    token_type: String,
    /// Seconds until it expires.
    expires_in: u64,
    user_id: String,
}

/// A token to be looked at.
#[derive(Debug, Object)]
pub(crate) struct ValidateRequest {
    token: String,
}

/// What a token is worth.
#[derive(Debug, Object)]
pub(crate) struct ValidateAnswer {
    valid: bool,
    /// `null` when it is not valid.
    user_id: Option<String>,
    /// `null` when it is not valid.
    expires_at: Option<DateTime<Utc>>,
}

/// A name for a key.
#[derive(Debug, Object)]
pub(crate) struct KeyRequest {
    /// What the key is for, 1 to 100 characters.
    #[oai(validator(min_length = 1, max_length = 100))]
    name: String,
}

/// A new key, shown this once.
#[derive(Debug, Object)]
pub(crate) struct KeyAnswer {
    id: Uuid,
    name: String,
    /// The whole key. Keep it: it can't be shown again.
    key: String,
    created_at: DateTime<Utc>,
}

/// A key without its secret.
#[derive(Debug, Object)]
pub(crate) struct KeyView {
    id: Uuid,
    name: String,
    created_at: DateTime<Utc>,
    /// To the minute; `null` when it never was.
    last_used_at: Option<DateTime<Utc>>,
}

/// The keys that are accepted, the oldest first.
#[derive(Debug, Object)]
pub(crate) struct KeyList {
    api_keys: Vec<KeyView>,
}

#[derive(ApiResponse)]
enum KeyResponse {
    /// The key was made.
    #[oai(status = 201)]
    Created(Json<KeyAnswer>),
}

pub(crate) struct CredentialsApi;

#[OpenApi]
impl CredentialsApi {
    /// Get a token
    ///
    /// Exchanges a valid credential for a token of the same user.
    #[oai(path = "/auth/token", method = "post")]
    async fn token(
        &self,
        app: Data<&App>,
        caller: Caller,
        body: JsonBody<TokenRequest>,
    ) -> Result<Json<TokenAnswer>, Problem> {
        let user = match body.0.user_id {
            None => caller.external.clone(),
            Some(named) => {
                let invalid =
                    |error: InvalidUserId| Problem::invalid_field("user_id", error.to_string());
                let named = ExternalUserId::parse(&named).map_err(invalid)?;
                if named != caller.external && !caller.admin {
                    return Err(Problem::new(
                        Code::AdminOnly,
                        "Only a token with the scope admin may name another user.",
                    ));
                }
                named
            }
        };
        let lifetime = match body.0.expires_in_hours {
            None => app.core.config.jwt.expiration,
            Some(hours) => Duration::try_from_secs_f64((hours * SECONDS_PER_HOUR).ceil())
                .map_err(|_| Problem::invalid_field("expires_in_hours", "must be at most 8760"))?,
        };
        let erased = erasure::last(&app.core.pool, UserId::of(&user)).await?;
        if user == caller.external && erased.map(|last| last.erased_at) != caller.erased_at {
            return Err(Problem::unauthorized(ERASED));
        }
        let issued = app
            .tokens
            .issue_after(erased, &user, lifetime)
            .map_err(|error| Problem::new(Code::TokensIssuedElsewhere, error.to_string()))?;
        Ok(Json(TokenAnswer {
            access_token: issued.token.expose().to_owned(),
            token_type: "bearer".to_owned(),
            expires_in: lifetime.as_secs(),
            user_id: user.as_str().to_owned(),
        }))
    }

    /// Validate a token
    ///
    /// Says whether a token would be accepted, and whose it is. Needs no credential.
    #[oai(path = "/auth/validate", method = "post")]
    async fn validate(
        &self,
        app: Data<&App>,
        request: &Request,
        body: JsonBody<ValidateRequest>,
    ) -> Result<Json<ValidateAnswer>, Problem> {
        let verified = app.tokens.verify(&body.0.token).ok();
        let valid = match verified {
            Some(verified) => {
                let user = UserId::of(&verified.user);
                let erased = erasure::last(&app.core.pool, user).await?;
                let outdated = erased.is_some_and(|erased| erased.outdates(verified.issued_at));
                (!outdated).then_some(verified)
            }
            None => None,
        };
        if valid.is_none() {
            // Whoever guesses here is as slow as whoever guesses elsewhere.
            limits::guessed(&app, auth::address(request)).await?;
        }
        Ok(Json(ValidateAnswer {
            valid: valid.is_some(),
            user_id: valid.as_ref().map(|valid| valid.user.as_str().to_owned()),
            expires_at: valid.map(|valid| valid.expires_at),
        }))
    }

    /// Make an API key
    ///
    /// The key is shown this once.
    #[oai(path = "/auth/api-keys", method = "post")]
    async fn issue(
        &self,
        app: Data<&App>,
        caller: Caller,
        body: JsonBody<KeyRequest>,
    ) -> Result<KeyResponse, Problem> {
        let name = body.0.name;
        if name.trim().is_empty() || name.contains('\0') {
            return Err(Problem::invalid_field(
                "name",
                "must not be blank or contain NUL",
            ));
        }
        caller.ensure_user(&app.core.store).await?;
        let new = api_keys::issue(&app.core.store, &caller.external, &name).await?;
        Ok(KeyResponse::Created(Json(KeyAnswer {
            id: new.id.0,
            name,
            key: new.key,
            created_at: new.created_at,
        })))
    }

    /// List my API keys
    ///
    /// Those that are accepted, without their secrets.
    #[oai(path = "/auth/api-keys", method = "get")]
    async fn list(&self, app: Data<&App>, caller: Caller) -> Result<Json<KeyList>, Problem> {
        let keys = api_keys::list(&app.core.pool, caller.user).await?;
        let view = |key: api_keys::ApiKey| KeyView {
            id: key.key_id,
            name: key.name,
            created_at: key.created_at,
            last_used_at: key.last_used_at,
        };
        Ok(Json(KeyList {
            api_keys: keys.into_iter().map(view).collect(),
        }))
    }

    /// Revoke an API key
    ///
    /// It is not accepted any more from the moment of the answer.
    #[oai(path = "/auth/api-keys/:id", method = "delete")]
    async fn revoke(
        &self,
        app: Data<&App>,
        caller: Caller,
        /// The key's id.
        id: Path<Uuid>,
    ) -> Result<Done, Problem> {
        if api_keys::revoke(&app.core.store, caller.user, ApiKeyId(id.0)).await? {
            Ok(Done::Done)
        } else {
            Err(Problem::not_found("API key"))
        }
    }
}
