//! What production refuses to start with.

use super::Config;
use super::variables::Variables;

impl Config {
    /// What production refuses, all of it.
    pub(super) fn weaknesses(&self, v: &Variables) -> Vec<String> {
        let mut weak = Vec::new();
        let mut refuse = |when: bool, what: &str| {
            if when {
                weak.push(what.to_owned());
            }
        };
        match v.get("JWT_SECRET_KEY") {
            None => refuse(
                true,
                "JWT_SECRET_KEY is missing (make one with: openssl rand -base64 48)",
            ),
            Some(key) => {
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
            v.get("CORS_ORIGINS")
                .is_some_and(|origins| origins.contains('*')),
            "CORS_ORIGINS contains *",
        );
        match &self.postgres_url {
            None => refuse(
                true,
                "POSTGRES_URL is missing: the embedded PostgreSQL is for development",
            ),
            Some(url) => refuse(
                url.expose().contains(":postgres@"),
                "POSTGRES_URL has the password 'postgres'",
            ),
        }
        weak
    }
}
