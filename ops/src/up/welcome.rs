//! What `companion up` says when the service is up.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use companion_adapters::config::Config;

use crate::output::shown;
use crate::port::reachable;

/// The facts beside the configuration.
#[derive(Debug)]
pub(crate) struct Welcome {
    /// Where the API listens.
    pub(crate) address: SocketAddr,
    /// The embedded database: where it lies, if not in the home; `None` when another is configured.
    pub(crate) database: Option<Option<PathBuf>>,
    /// Whether the demo LLM answers.
    pub(crate) demo_llm: bool,
    /// Whether the LLM answers.
    pub(crate) llm_answers: bool,
}

impl Welcome {
    /// The text, some lines long.
    pub(crate) fn text(&self, config: &Config) -> String {
        let url = format!("http://{}", reachable(self.address));
        let mut text = format!("\nThe companion is up: {url}\n");
        let mut say = |what: &str, how: &str| {
            // Writing to a string can't fail.
            let _ = writeln!(text, "  {what:<10}{how}");
        };
        say("docs", &format!("{url}/docs"));
        match &self.database {
            None => say("database", "PostgreSQL at POSTGRES_URL"),
            Some(None) => say(
                "database",
                &format!("embedded PostgreSQL in {}", config.companion_home.display()),
            ),
            Some(Some(place)) => say(
                "database",
                &format!(
                    "embedded PostgreSQL in {}, where {} leads",
                    place.display(),
                    config.companion_home.join("postgres").display()
                ),
            ),
        }
        say("LLM", &self.llm(config));
        let _ = write!(
            text,
            "\nTry it:\n\n  curl -N {url}/chat -H 'Content-Type: application/json' -H {} \
             -d '{{\"message\": \"Hello, my name is Alice and I love programming in Rust\"}}'\n\n\
             Ctrl-C stops it.",
            credential(config)
        );
        text
    }

    fn llm(&self, config: &Config) -> String {
        let url = shown(&config.llm.base_url);
        let endpoint = format!("{} at {url}", config.llm.model);
        match (self.demo_llm, self.llm_answers) {
            (true, _) => format!("{endpoint}: the demo model, too weak to judge the product by"),
            (false, true) => endpoint,
            (false, false) => format!(
                "none answers at {url}; all but replies works. Start one there, set LM_STUDIO_BASE_URL, or try: ops/up --demo-llm"
            ),
        }
    }
}

/// A header that the service accepts.
fn credential(config: &Config) -> &'static str {
    if config.allow_x_user_id || !config.require_authentication {
        "'X-User-Id: alice'"
    } else {
        "\"Authorization: Bearer $(companion token --user alice)\""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> Config {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::from_variables(pairs.collect()).expect("config")
    }

    fn welcome(address: &str) -> Welcome {
        let address = address.parse().expect("address");
        Welcome {
            address,
            database: Some(None),
            demo_llm: false,
            llm_answers: false,
        }
    }

    #[test]
    fn the_curl_is_ready_to_be_copied() {
        let text = welcome("127.0.0.1:8000").text(&config(&[]));
        let curl = "curl -N http://127.0.0.1:8000/chat -H 'Content-Type: application/json' -H 'X-User-Id: alice' \
                    -d '{\"message\": \"Hello, my name is Alice and I love programming in Rust\"}'";
        assert!(text.contains(curl), "{text}");
        assert!(text.contains("http://127.0.0.1:8000/docs"));
    }

    #[test]
    fn an_address_of_all_interfaces_is_shown_as_one_that_can_be_called() {
        assert!(
            welcome("0.0.0.0:9")
                .text(&config(&[]))
                .contains("http://127.0.0.1:9/chat")
        );
        assert!(
            welcome("[::]:9")
                .text(&config(&[]))
                .contains("http://[::1]:9/chat")
        );
        assert!(
            welcome("10.0.0.1:9")
                .text(&config(&[]))
                .contains("http://10.0.0.1:9/chat")
        );
    }

    #[test]
    fn a_silent_llm_and_the_demo_llm_are_said_plainly() {
        let mut welcome = welcome("127.0.0.1:8000");
        assert!(
            welcome
                .text(&config(&[]))
                .contains("none answers at http://localhost:1234/v1")
        );
        welcome.demo_llm = true;
        assert!(
            welcome
                .text(&config(&[]))
                .contains("too weak to judge the product by")
        );
    }

    #[test]
    fn where_x_user_id_is_refused_the_curl_uses_a_token() {
        let text = welcome("127.0.0.1:8000").text(&config(&[("ALLOW_X_USER_ID_AUTH", "false")]));
        assert!(
            text.contains("Bearer $(companion token --user alice)"),
            "{text}"
        );
    }
}
