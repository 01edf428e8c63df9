//! What a token says, and what of it is believed.

use chrono::{DateTime, TimeDelta, Utc};
use companion_domain::ids::{ExternalUserId, InvalidUserId};
use serde::Serialize;
use serde_json::{Map, Value};

use super::MAX_TOKEN_BYTES;

/// The `type` of the tokens that open this service.
pub(super) const ACCESS_TOKEN: &str = "access_token";
/// How far clocks may be apart.
const LEEWAY: TimeDelta = TimeDelta::seconds(30);
/// The word of `scope` that opens the operator's endpoints.
const ADMIN: &str = "admin";

/// The claims of a token that is made.
#[derive(Serialize)]
pub(super) struct Claims<'a> {
    pub(super) sub: &'a str,
    pub(super) iat: i64,
    pub(super) exp: i64,
    #[serde(rename = "type")]
    pub(super) kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) scope: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) aud: Option<&'a str>,
}

/// What a valid token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Who calls: the claim `sub`.
    pub user: ExternalUserId,
    /// When it was made, to the second, if it says so: the claim `iat`.
    pub issued_at: Option<DateTime<Utc>>,
    /// When it stops being valid, to the second and without leeway: the claim `exp`.
    pub expires_at: DateTime<Utc>,
    /// Whether `admin` is among the words of the claim `scope`.
    pub admin: bool,
}

/// Why a token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Too long to be looked at.
    #[error("the token is longer than {MAX_TOKEN_BYTES} bytes; get another one")]
    TooLong,
    /// Not a JWT, of an algorithm unknown here, or with critical headers.
    #[error("the token is not a JWT that can be read here; send it whole, as it was issued")]
    Malformed,
    /// Signed in another way than the configured one.
    #[error("the token is not signed with the algorithm that is accepted here; get another one")]
    Algorithm,
    /// Altered, or signed with another key.
    #[error("the token's signature is wrong: it was altered or made elsewhere; get another one")]
    Signature,
    /// Its time is over.
    #[error("the token has expired; get another one")]
    Expired,
    /// Its time has not come, or it comes from the future.
    #[error("the token is not valid yet: its claim '{0}' lies in the future; check the clocks")]
    Early(&'static str),
    /// A claim is missing.
    #[error("the token has no claim '{0}'; get one that has it")]
    Missing(&'static str),
    /// A claim is of another JSON type than it must be, or out of range.
    #[error("the token's claim '{0}' can't be understood; get a token where it is as in RFC 7519")]
    Claim(&'static str),
    /// It is for something else, such as refreshing.
    #[error("the token is no access token: its claim 'type' is not access_token; send that one")]
    Type,
    /// `sub` is not an external user id.
    #[error("the token's claim 'sub' can't be used: {InvalidUserId}")]
    User,
    /// From somebody else than `JWT_ISSUER`, or nobody.
    #[error("the token's claim 'iss' is not the issuer that is trusted here; get one from there")]
    Issuer,
    /// For somebody else than `JWT_AUDIENCE`, or nobody.
    #[error("the token's claim 'aud' does not name this service; get one that is meant for it")]
    Audience,
}

/// Checks the claims of a token whose signature is right.
pub(super) fn check(
    claims: &Map<String, Value>,
    now: DateTime<Utc>,
    issuer: Option<&str>,
    audience: Option<&str>,
) -> Result<Verified, Refused> {
    let subject = text(claims, "sub")?.ok_or(Refused::Missing("sub"))?;
    let user = ExternalUserId::parse(subject).map_err(|InvalidUserId| Refused::User)?;
    let expires_at = time(claims, "exp")?.ok_or(Refused::Missing("exp"))?;
    let issued_at = time(claims, "iat")?;
    let not_before = time(claims, "nbf")?;
    let kind = text(claims, "type")?;
    let scope = text(claims, "scope")?.unwrap_or_default();
    let from = text(claims, "iss")?;
    let audiences = texts(claims, "aud")?;

    // Times from a token may be at the end of time; only `now` is reckoned with.
    if expires_at <= now - LEEWAY {
        return Err(Refused::Expired);
    }
    for (name, time) in [("nbf", not_before), ("iat", issued_at)] {
        if time.is_some_and(|time| time > now + LEEWAY) {
            return Err(Refused::Early(name));
        }
    }
    if kind.is_some_and(|kind| kind != ACCESS_TOKEN) {
        return Err(Refused::Type);
    }
    if issuer.is_some() && from != issuer {
        return Err(Refused::Issuer);
    }
    if audience.is_some_and(|wanted| !audiences.contains(&wanted)) {
        return Err(Refused::Audience);
    }
    Ok(Verified {
        user,
        issued_at,
        expires_at,
        admin: scope.split(' ').any(|word| word == ADMIN),
    })
}

fn text<'a>(
    claims: &'a Map<String, Value>,
    name: &'static str,
) -> Result<Option<&'a str>, Refused> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => value.as_str().map(Some).ok_or(Refused::Claim(name)),
    }
}

/// One string or a list of them.
fn texts<'a>(claims: &'a Map<String, Value>, name: &'static str) -> Result<Vec<&'a str>, Refused> {
    match claims.get(name) {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![text]),
        Some(Value::Array(values)) => values
            .iter()
            .map(|value| value.as_str().ok_or(Refused::Claim(name)))
            .collect(),
        Some(_) => Err(Refused::Claim(name)),
    }
}

/// Seconds since 1970; RFC 7519 allows fractions, which are dropped.
fn time(claims: &Map<String, Value>, name: &'static str) -> Result<Option<DateTime<Utc>>, Refused> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    // Out of range it becomes the nearest whole number, which is no date either.
    let whole = |seconds: f64| seconds.floor() as i64;
    value
        .as_i64()
        .or_else(|| value.as_f64().map(whole))
        .and_then(|seconds| DateTime::from_timestamp(seconds, 0))
        .map(Some)
        .ok_or(Refused::Claim(name))
}
