//! What production refuses to start with.

use percent_encoding::percent_decode_str;
use reqwest::Url;

use super::{Config, Secret};

impl Config {
    /// What production refuses, all of it.
    pub(super) fn weaknesses(&self) -> Vec<String> {
        let mut weak = Vec::new();
        let mut refuse = |when: bool, what: &str| {
            if when {
                weak.push(what.to_owned());
            }
        };
        match &self.jwt.secret {
            _ if self.jwt.algorithm.is_asymmetric() => {}
            None => refuse(
                true,
                "JWT_SECRET_KEY is missing (make one with: openssl rand -base64 48)",
            ),
            Some(key) => {
                let key = key.expose();
                refuse(key.len() < 32, "JWT_SECRET_KEY is shorter than 32 bytes");
                let lower = key.to_lowercase();
                refuse(
                    lower.contains("change") || lower.contains("your-secret"),
                    "JWT_SECRET_KEY is a placeholder",
                );
                refuse(
                    key.bytes().all(|c| Some(c) == key.bytes().next()),
                    "JWT_SECRET_KEY is one repeated character",
                );
            }
        }
        refuse(
            self.master_key.is_none(),
            "COMPANION_MASTER_KEY is missing (make one with: openssl rand -base64 32)",
        );
        refuse(
            !self.require_authentication,
            "REQUIRE_AUTHENTICATION is false",
        );
        refuse(self.allow_x_user_id, "ALLOW_X_USER_ID_AUTH is true");
        refuse(
            self.cors_origins.iter().any(|origin| origin == "*"),
            "CORS_ORIGINS contains *",
        );
        match &self.postgres_url {
            None => refuse(
                true,
                "POSTGRES_URL is missing: the embedded PostgreSQL is for development",
            ),
            Some(url) => refuse(
                has_default_password(url),
                "POSTGRES_URL has the password 'postgres'",
            ),
        }
        weak
    }
}

/// Whether the password is `postgres`, wherever and however it is written.
fn has_default_password(url: &Secret) -> bool {
    // What is no URL is none for the driver either.
    let Ok(url) = Url::parse(url.expose()) else {
        return false;
    };
    let written = url
        .password()
        .is_some_and(|password| percent_decode_str(password).eq(*b"postgres"));
    written
        || url
            .query_pairs()
            .any(|(name, value)| name == "password" && value == "postgres")
}
