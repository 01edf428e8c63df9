//! Tokens: JWTs that say who calls, made with this service's secret or by an identity provider.

mod claims;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, TimeDelta, Utc};
use companion_domain::ids::ExternalUserId;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use zeroize::Zeroizing;

use self::claims::{ACCESS_TOKEN, Claims};
pub use self::claims::{Refused, Verified};
use crate::config::{Config, Environment, JwtAlgorithm, MAX_TOKEN_HOURS, Secret, public_key_of};
use crate::erasure::Erasure;
use crate::vault;

/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// The file of the secret that is made in development, in `COMPANION_HOME`.
pub const SECRET_FILE: &str = "jwt.key";
/// The secret that is made in development, and the least that is taken from its file, in bytes.
const SECRET_BYTES: usize = 32;

/// Why tokens can't be made or checked at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenConfigError {
    /// No secret to sign with.
    #[error("{0}")]
    Secret(String),
    /// No public key to check with.
    #[error("JWT_PUBLIC_KEY {0}")]
    PublicKey(String),
}

/// Why no token is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// An asymmetric algorithm is configured.
    #[error(
        "JWT_ALGORITHM={0} is set, so tokens come from the identity provider and none are made \
         here; log in there"
    )]
    IdentityProvider(&'static str),
    /// The lifetime is none.
    #[error("a token lives from 1 second to {MAX_TOKEN_HOURS} hours, for example 24 hours")]
    Lifetime,
    /// The scope is none.
    #[error(
        "a scope is words of A-Z a-z 0-9 : . _ - with a space between them, for example: admin"
    )]
    Scope,
    /// Nobody would accept it.
    #[error(
        "the token would be longer than {MAX_TOKEN_BYTES} bytes; ask for a shorter scope, for example: admin"
    )]
    TooLong,
}

/// A token that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The JWT.
    pub token: Secret,
    /// When it stops being valid.
    pub expires_at: DateTime<Utc>,
}

/// Makes and checks tokens.
#[derive(Clone)]
pub struct Tokens {
    algorithm: JwtAlgorithm,
    validation: Validation,
    public: DecodingKey,
    /// Of HS256 only.
    secret: Option<EncodingKey>,
    issuer: Option<String>,
    audience: Option<String>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

impl Tokens {
    /// Takes the configured keys. In development a missing secret is made once and kept in
    /// `COMPANION_HOME`.
    ///
    /// # Errors
    /// [`TokenConfigError`], a sentence that says what to set.
    pub fn new(config: &Config) -> Result<Self, TokenConfigError> {
        let algorithm = config.jwt.algorithm;
        let (public, secret) = if algorithm.is_asymmetric() {
            let pem = config.jwt.public_key.as_deref();
            let key = public_key_of(algorithm, pem).map_err(TokenConfigError::PublicKey)?;
            (key, None)
        } else {
            let secret = secret(config).map_err(TokenConfigError::Secret)?;
            let bytes = secret.expose().as_bytes();
            (
                DecodingKey::from_secret(bytes),
                Some(EncodingKey::from_secret(bytes)),
            )
        };
        // The library checks the algorithm and the signature; the claims are checked here.
        let mut validation = Validation::new(match algorithm {
            JwtAlgorithm::Hs256 => Algorithm::HS256,
            JwtAlgorithm::Rs256 => Algorithm::RS256,
            JwtAlgorithm::Es256 => Algorithm::ES256,
            JwtAlgorithm::EdDsa => Algorithm::EdDSA,
        });
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        Ok(Self {
            algorithm,
            validation,
            public,
            secret,
            issuer: config.jwt.issuer.clone(),
            audience: config.jwt.audience.clone(),
        })
    }

    /// Makes a token. `scope` is words of `A-Z a-z 0-9 : . _ -` with spaces between them.
    ///
    /// # Errors
    /// [`IssueError`], a sentence that says what to do instead.
    pub fn issue(
        &self,
        user: &ExternalUserId,
        lifetime: Duration,
        scope: Option<&str>,
    ) -> Result<Issued, IssueError> {
        self.issue_at(Utc::now(), user, lifetime, scope)
    }

    /// Makes a token that an erasure does not outdate, not even in the second in which it took place: then
    /// it counts as issued in the next.
    ///
    /// # Errors
    /// Those of [`Tokens::issue`].
    pub fn issue_after(
        &self,
        erased: Option<Erasure>,
        user: &ExternalUserId,
        lifetime: Duration,
    ) -> Result<Issued, IssueError> {
        let now = Utc::now();
        let from = erased.map_or(now, |erased| {
            now.max(erased.erased_at + TimeDelta::seconds(1))
        });
        self.issue_at(from, user, lifetime, None)
    }

    fn issue_at(
        &self,
        now: DateTime<Utc>,
        user: &ExternalUserId,
        lifetime: Duration,
        scope: Option<&str>,
    ) -> Result<Issued, IssueError> {
        let name = self.algorithm.name();
        let key = self
            .secret
            .as_ref()
            .ok_or(IssueError::IdentityProvider(name))?;
        let seconds = lifetime.as_secs();
        if !(1..=MAX_TOKEN_HOURS * 3600).contains(&seconds) {
            return Err(IssueError::Lifetime);
        }
        let scope = scope.map(words).transpose()?;
        let issued_at = now.timestamp();
        let expires_at = TimeDelta::try_seconds(i64::try_from(seconds).unwrap_or(i64::MAX))
            .and_then(|lifetime| {
                DateTime::from_timestamp(issued_at, 0)?.checked_add_signed(lifetime)
            })
            .ok_or(IssueError::Lifetime)?;
        let claims = Claims {
            sub: user.as_str(),
            iat: issued_at,
            exp: expires_at.timestamp(),
            kind: ACCESS_TOKEN,
            scope: scope.as_deref(),
            iss: self.issuer.as_deref(),
            aud: self.audience.as_deref(),
        };
        // Signing a few plain strings with HMAC fails at nothing but their length.
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, key)
            .ok()
            .filter(|token| token.len() <= MAX_TOKEN_BYTES)
            .map(|token| Issued {
                token: Secret::new(token),
                expires_at,
            })
            .ok_or(IssueError::TooLong)
    }

    /// Checks a token. Whatever it is, the answer is quick and no panic.
    ///
    /// # Errors
    /// [`Refused`], a sentence for the caller that repeats nothing of the token.
    pub fn verify(&self, token: &str) -> Result<Verified, Refused> {
        self.verify_at(Utc::now(), token)
    }

    fn verify_at(&self, now: DateTime<Utc>, token: &str) -> Result<Verified, Refused> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refused::TooLong);
        }
        let decoded = jsonwebtoken::decode(token, &self.public, &self.validation).map_err(
            |error| match error.kind() {
                ErrorKind::InvalidAlgorithm => Refused::Algorithm,
                ErrorKind::InvalidSignature => Refused::Signature,
                _ => Refused::Malformed,
            },
        )?;
        // RFC 7515, section 4.1.11: what is called critical and not understood is refused.
        if decoded.header.crit.is_some() {
            return Err(Refused::Malformed);
        }
        claims::check(
            &decoded.claims,
            now,
            self.issuer.as_deref(),
            self.audience.as_deref(),
        )
    }
}

/// The secret of HS256, or what to do about it.
fn secret(config: &Config) -> Result<Secret, String> {
    if let Some(secret) = &config.jwt.secret {
        return Ok(secret.clone());
    }
    if config.environment == Environment::Production {
        return Err("JWT_SECRET_KEY is missing; make one with: openssl rand -base64 48".to_owned());
    }
    let home = &config.companion_home;
    let mut bytes = Zeroizing::new([0u8; SECRET_BYTES]);
    vault::random(bytes.as_mut_slice()).map_err(|error| error.to_string())?;
    let secret = vault::kept_secret(home, SECRET_FILE, || BASE64.encode(bytes.as_slice()))
        .map_err(|error| {
            format!(
                "{} can't be used to keep the secret that signs tokens: {error}; make it writable, \
                 set COMPANION_HOME to another folder, or set JWT_SECRET_KEY",
                home.display()
            )
        })?;
    if secret.expose().len() < SECRET_BYTES {
        return Err(format!(
            "{} holds no secret of {SECRET_BYTES} bytes; remove it and another is made, or set JWT_SECRET_KEY",
            home.join(SECRET_FILE).display()
        ));
    }
    Ok(secret)
}

/// The words of a scope with one space between them.
fn words(scope: &str) -> Result<String, IssueError> {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || b":._-".contains(&c);
    let words: Vec<&str> = scope.split(' ').filter(|word| !word.is_empty()).collect();
    if words.is_empty() || !words.iter().all(|word| word.bytes().all(allowed)) {
        return Err(IssueError::Scope);
    }
    Ok(words.join(" "))
}
