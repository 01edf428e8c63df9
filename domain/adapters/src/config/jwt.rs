//! How tokens are signed and checked, and the key that checks those of an identity provider.

use std::fs::File;
use std::io::Read;
use std::time::Duration;

use jsonwebtoken::crypto::{self, rust_crypto};
use jsonwebtoken::{Algorithm, DecodingKey};

use super::Secret;
use super::settings::{
    JWT_ALGORITHM, JWT_AUDIENCE, JWT_EXPIRATION_HOURS, JWT_ISSUER, JWT_PUBLIC_KEY, JWT_SECRET_KEY,
};
use super::variables::{InvalidSetting, Variables};

/// The most hours that a token may live: a year.
pub const MAX_TOKEN_HOURS: u64 = 8760;
/// No public key is near as long; a path may name anything.
const MAX_PEM_BYTES: u64 = 65_536;
/// RFC 7518, section 3.3.
const MIN_RSA_BITS: usize = 2048;

/// How tokens are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JwtAlgorithm {
    /// HMAC with SHA-256: by this service, with its secret.
    Hs256,
    /// RSA with SHA-256 (PKCS #1 v1.5): by an identity provider.
    Rs256,
    /// ECDSA on P-256: by an identity provider.
    Es256,
    /// Ed25519: by an identity provider.
    EdDsa,
}

impl JwtAlgorithm {
    /// Its name in a token's header.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    /// Whether somebody else signs, and this service only checks.
    pub fn is_asymmetric(self) -> bool {
        self != Self::Hs256
    }
}

/// What is configured of tokens.
#[derive(Debug, Clone)]
pub struct JwtConfig {
    /// How they are signed.
    pub algorithm: JwtAlgorithm,
    /// The secret of HS256; `None`: made once in development, or not used.
    pub secret: Option<Secret>,
    /// The public key in PEM, of the algorithm's kind where it is asymmetric.
    pub public_key: Option<String>,
    /// How long a token lives unless it is asked for otherwise.
    pub expiration: Duration,
    /// Whom tokens must come from.
    pub issuer: Option<String>,
    /// Whom tokens must be meant for.
    pub audience: Option<String>,
}

impl JwtConfig {
    pub(super) fn parse(v: &Variables) -> Result<Self, InvalidSetting> {
        let algorithms = [
            JwtAlgorithm::Hs256,
            JwtAlgorithm::Rs256,
            JwtAlgorithm::Es256,
            JwtAlgorithm::EdDsa,
        ];
        let algorithm = v.choice(
            &JWT_ALGORITHM,
            &algorithms.map(|algorithm| (algorithm.name(), algorithm)),
        )?;
        let hours: u64 = v.parse(&JWT_EXPIRATION_HOURS, |hours| {
            (1..=MAX_TOKEN_HOURS).contains(hours)
        })?;
        let public_key = v.text(&JWT_PUBLIC_KEY).map(pem).transpose()?;
        if algorithm.is_asymmetric() {
            public_key_of(algorithm, public_key.as_deref())
                .map_err(|problem| JWT_PUBLIC_KEY.refused(problem))?;
        }
        let text = |setting| v.text(setting).map(str::to_owned);
        Ok(Self {
            algorithm,
            secret: v.secret(&JWT_SECRET_KEY),
            public_key,
            expiration: Duration::from_secs(hours * 3600),
            issuer: text(&JWT_ISSUER),
            audience: text(&JWT_AUDIENCE),
        })
    }
}

/// The PEM itself, or that of the file which the text names. The text is never repeated: it may be
/// a key that was meant to be a PEM.
fn pem(text: &str) -> Result<String, InvalidSetting> {
    if text.contains("-----BEGIN") {
        // Where a variable must be one line, line breaks are often written as \n.
        return Ok(text.replace("\\n", "\n"));
    }
    let mut pem = String::new();
    File::open(text)
        .and_then(|file| file.take(MAX_PEM_BYTES).read_to_string(&mut pem))
        .map_err(|error| {
            JWT_PUBLIC_KEY.refused(format!(
                "is no PEM, and a file of that name can't be read: {error}"
            ))
        })?;
    Ok(pem)
}

/// The key that checks the signatures of an asymmetric algorithm, or what is wrong with the PEM.
pub(crate) fn public_key_of(
    algorithm: JwtAlgorithm,
    pem: Option<&str>,
) -> Result<DecodingKey, String> {
    let name = algorithm.name();
    let Some(pem) = pem else {
        return Err(format!(
            "is missing, but JWT_ALGORITHM={name} needs the identity provider's public key"
        ));
    };
    if pem.contains("PRIVATE KEY-----") {
        return Err(
            "holds a private key; keep that one where tokens are made, and give the \
             public one (openssl pkey -in FILE -pubout)"
                .to_owned(),
        );
    }
    let bytes = pem.as_bytes();
    let (kind, key) = match algorithm {
        JwtAlgorithm::Hs256 => return Err("is not used with HS256".to_owned()),
        JwtAlgorithm::Rs256 => (
            "an RSA public key of 2048 to 4096 bits",
            DecodingKey::from_rsa_pem(bytes).ok().filter(is_strong_rsa),
        ),
        JwtAlgorithm::Es256 => (
            "a P-256 public key",
            DecodingKey::from_ec_pem(bytes)
                .ok()
                .filter(|key| is_usable(key, Algorithm::ES256)),
        ),
        JwtAlgorithm::EdDsa => (
            "an Ed25519 public key",
            DecodingKey::from_ed_pem(bytes)
                .ok()
                // The library takes the first 32 bytes without looking whether they are there.
                .filter(|key| key.try_get_as_bytes().is_ok_and(|bytes| bytes.len() == 32))
                .filter(|key| is_usable(key, Algorithm::EdDSA)),
        ),
    };
    key.filter(|_| pem.contains("PUBLIC KEY-----"))
        .ok_or_else(|| format!("is not {kind} in PEM, which JWT_ALGORITHM={name} needs"))
}

/// Whether the library can check signatures with it. (That of nothing is false, not an error.)
fn is_usable(key: &DecodingKey, algorithm: Algorithm) -> bool {
    crypto::verify("", b"", key, algorithm).is_ok()
}

fn is_strong_rsa(key: &DecodingKey) -> bool {
    let parts = rust_crypto::DEFAULT_PROVIDER
        .key_utils
        .rsa_pub_components_from_public_key;
    // Longer than 4096 bits is refused here too.
    key.try_get_as_bytes()
        .and_then(parts)
        .is_ok_and(|(modulus, _)| {
            let unused = modulus.first().map_or(0, |byte| byte.leading_zeros());
            modulus.len() * 8 >= MIN_RSA_BITS + unused as usize
        })
}
