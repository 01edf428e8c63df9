//! Who calls: the credential of a request, judged.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use companion_adapters::erasure::{Eraser, Erasure};
use companion_adapters::log::event_store::{AppendError, EventStore};
use companion_adapters::{api_keys, erasure};
use companion_domain::ids::{ExternalUserId, InvalidUserId, UserId};
use poem::{Addr, Request, RequestBody};
use poem_openapi::registry::{MetaSecurityScheme, Registry};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};

use crate::app::App;
use crate::error::Problem;
use crate::header::{self, Unclear};
use crate::limits;

/// The user of a service without authentication who names nobody.
const DEFAULT_USER: &str = "default_user";
/// Whose credential was judged longer ago is asked about again before anything is done for them.
pub(crate) const JUST_NOW: Duration = Duration::from_millis(100);
/// What is told to whose credential stands for nobody any more.
pub(crate) const ERASED: &str =
    "The user was erased after this credential was issued. Get a new one to begin anew.";
const AUTHORIZATION: &str = "authorization";
const X_API_KEY: &str = "x-api-key";
const X_USER_ID: &str = "x-user-id";

/// The caller, as the credential names them. The call is counted, unless it may start a reply, which
/// is counted otherwise.
pub(crate) struct Caller {
    pub(crate) external: ExternalUserId,
    pub(crate) user: UserId,
    /// Whether the credential opens what only the operator may do.
    pub(crate) admin: bool,
    /// When the user had last been erased as the credential was judged.
    pub(crate) erased_at: Option<DateTime<Utc>>,
    judged: Instant,
}

impl Caller {
    fn new(external: ExternalUserId, admin: bool) -> Self {
        Self {
            user: UserId::of(&external),
            external,
            admin,
            erased_at: None,
            judged: Instant::now(),
        }
    }

    /// Makes sure that the caller is registered. Of one who was erased since the credential was judged no new
    /// life is begun.
    pub(crate) async fn ensure_user(&self, store: &EventStore) -> Result<UserId, AppendError> {
        // Most callers: nothing is to be asked on their way.
        if self.judged.elapsed() < JUST_NOW && store.life(self.user).await.is_ok() {
            return Ok(self.user);
        }
        store
            .ensure_user_since(&self.external, self.erased_at)
            .await
    }
}

/// The credentials, as the documentation names them.
const SCHEMES: [(&str, MetaSecurityScheme); 3] = [
    (
        "Bearer",
        MetaSecurityScheme {
            ty: "http",
            description: Some(
                "A JSON Web Token, from `POST /auth/token` or your identity provider.",
            ),
            name: None,
            key_in: None,
            scheme: Some("bearer"),
            bearer_format: Some("JWT"),
            flows: None,
            openid_connect_url: None,
        },
    ),
    (
        "ApiKey",
        MetaSecurityScheme {
            ty: "apiKey",
            description: Some("A key for programs, from `POST /auth/api-keys`."),
            name: Some("X-API-Key"),
            key_in: Some("header"),
            scheme: None,
            bearer_format: None,
            flows: None,
            openid_connect_url: None,
        },
    ),
    (
        "UserId",
        MetaSecurityScheme {
            ty: "apiKey",
            description: Some("The user, named by the caller: for development only."),
            name: Some("X-User-Id"),
            key_in: Some("header"),
            scheme: None,
            bearer_format: None,
            flows: None,
            openid_connect_url: None,
        },
    ),
];

impl<'a> ApiExtractor<'a> for Caller {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        for (name, scheme) in SCHEMES {
            registry.create_security_scheme(name, scheme);
        }
    }

    fn security_schemes() -> Vec<&'static str> {
        SCHEMES.iter().map(|(name, _)| *name).collect()
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let app: &App = request
            .data()
            .ok_or_else(|| Problem::unauthorized("Send a credential."))?;
        let caller = match judge(app, request).await {
            Ok(caller) => caller,
            Err(problem) if problem.is_unauthorized() => {
                if has_credential(request) {
                    limits::guessed(app, address(request)).await?;
                }
                return Err(problem.into());
            }
            Err(problem) => return Err(problem.into()),
        };
        limits::is_by(caller.user);
        if request.uri().path() != "/chat" {
            limits::count_call(app, caller.user).await?;
        }
        Ok(caller)
    }
}

/// Judges the credential again, as time has passed: its user may have been erased, or the key revoked.
///
/// # Errors
/// 401 when it is not valid any more.
pub(crate) async fn judge_again(request: &Request) -> Result<(), Problem> {
    match request.data() {
        Some(app) => judge(app, request).await.map(drop),
        None => Ok(()),
    }
}

/// Whether there is anything that a caller could have guessed.
fn has_credential(request: &Request) -> bool {
    let headers = request.headers();
    headers.contains_key(AUTHORIZATION) || headers.contains_key(X_API_KEY)
}

/// The address that a request comes from.
pub(crate) fn address(request: &Request) -> Option<IpAddr> {
    match &request.remote_addr().0 {
        Addr::SocketAddr(address) => Some(address.ip()),
        _ => None,
    }
}

/// Judges the first credential that is present, in the order of the documentation; the others are
/// ignored, and an invalid one is never passed over.
async fn judge(app: &App, request: &Request) -> Result<Caller, Problem> {
    if let Some(value) = only(request, AUTHORIZATION)? {
        return by_token(app, value).await;
    }
    if let Some(value) = only(request, X_API_KEY)? {
        return by_key(app, value).await;
    }
    by_name(app, request).await
}

/// The value of a credential's header; one that is there twice or is no text is no credential.
fn only<'a>(request: &'a Request, name: &str) -> Result<Option<&'a str>, Problem> {
    header::only(request, name).map_err(|unclear| {
        Problem::unauthorized(match unclear {
            Unclear::Repeated => format!("Send the header {name} once."),
            Unclear::NoText => format!("The header {name} is no credential."),
        })
    })
}

async fn by_token(app: &App, value: &str) -> Result<Caller, Problem> {
    let token = value
        .split_once(' ')
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .ok_or_else(|| Problem::unauthorized("Send the token as Authorization: Bearer <token>."))?;
    let verified = app
        .tokens
        .verify(token)
        .map_err(|refused| Problem::unauthorized(refused.to_string()))?;
    let caller = Caller::new(verified.user, verified.admin);
    let erased = erasure::last(&app.core.pool, caller.user).await?;
    if erased.is_some_and(|erased| erased.outdates(verified.issued_at)) {
        return Err(Problem::unauthorized(ERASED));
    }
    admit(app, caller, erased).await
}

async fn by_key(app: &App, value: &str) -> Result<Caller, Problem> {
    let judge = async || {
        let user = api_keys::judge(&app.core.pool, value.trim()).await?;
        user.ok_or_else(|| {
            Problem::unauthorized("This API key is not accepted: it is unknown or was revoked.")
        })
    };
    let caller = Caller::new(judge().await?, false);
    let erased = erasure::last(&app.core.pool, caller.user).await?;
    if erased.is_some() {
        // An erasure takes the keys of the life that it ends: was it that one?
        judge().await?;
    }
    admit(app, caller, erased).await
}

async fn by_name(app: &App, request: &Request) -> Result<Caller, Problem> {
    let caller = Caller::new(named(app, request)?, false);
    let erased = erasure::last(&app.core.pool, caller.user).await?;
    admit(app, caller, erased).await
}

/// Lets a caller in. Of a user who begins anew this process may still hold the key of the life that
/// another process has ended; and what is left of that life must be gone before the next begins.
async fn admit(app: &App, mut caller: Caller, erased: Option<Erasure>) -> Result<Caller, Problem> {
    if let Some(erased) = erased {
        app.core.store.vault().forget(caller.user).await;
        if erased.under_way {
            Eraser::of(&app.core).finish(caller.user).await?;
        }
        caller.erased_at = Some(erased.erased_at);
    }
    Ok(caller)
}

/// Whom the request names, or is taken for.
fn named(app: &App, request: &Request) -> Result<ExternalUserId, Problem> {
    let config = &app.core.config;
    let no_id = || Problem::invalid_field("X-User-Id", InvalidUserId.to_string());
    let named = match header::only(request, X_USER_ID) {
        Err(Unclear::NoText) => Some(Err(no_id())),
        _ => only(request, X_USER_ID)?
            .filter(|value| !value.is_empty())
            .map(Ok),
    };
    let allowed = config.allow_x_user_id || !config.require_authentication;
    match named {
        Some(value) if allowed => ExternalUserId::parse(value?).map_err(|InvalidUserId| no_id()),
        Some(_) => Err(Problem::unauthorized(
            "X-User-Id is not accepted here. Send a bearer token or an API key.",
        )),
        None if !config.require_authentication => ExternalUserId::parse(DEFAULT_USER)
            .map_err(|error| Problem::unauthorized(error.to_string())),
        None if allowed => Err(Problem::unauthorized(
            "Send a credential: a bearer token, an API key, or in development the header X-User-Id: alice.",
        )),
        None => Err(Problem::unauthorized("Send a bearer token or an API key.")),
    }
}
