//! `companion doctor`: looks at everything that the service needs, and says what is wrong and what
//! mends it. Changes nothing but to bring up the embedded PostgreSQL for the time of the look.

mod files;
mod models;
mod storage;

use std::fmt::{self, Display};
use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Result;
use companion_adapters::config::Config;

use crate::output::line;

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    /// As it should be.
    Ok,
    /// The service runs, with less than it could have.
    Warning,
    /// The service can't run.
    Problem,
}

/// What one check has found.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    level: Level,
    what: &'static str,
    text: String,
}

impl Finding {
    fn ok(what: &'static str, text: impl Into<String>) -> Self {
        Self {
            level: Level::Ok,
            what,
            text: text.into(),
        }
    }

    fn warning(what: &'static str, text: impl Into<String>) -> Self {
        Self {
            level: Level::Warning,
            what,
            text: text.into(),
        }
    }

    fn problem(what: &'static str, text: impl Into<String>) -> Self {
        Self {
            level: Level::Problem,
            what,
            text: text.into(),
        }
    }
}

/// One line: level, what, text.
impl Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Problem => "problem",
        };
        let text: Vec<&str> = self.text.split_whitespace().collect();
        write!(f, "{level:<8} {:<16} {}", self.what, text.join(" "))
    }
}

/// Checks everything; fails when something is a problem.
pub(crate) async fn run() -> Result<ExitCode> {
    let mut worst = Level::Ok;
    let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let mut say = |findings: Vec<Finding>| {
        for finding in findings {
            worst = worst.max(finding.level);
            line(paint(&finding, colours));
        }
    };
    match Config::from_env() {
        Err(error) => say(vec![Finding::problem("configuration", error.to_string())]),
        Ok(config) => {
            say(vec![configuration(&config)]);
            say(files::check(&config));
            say(storage::check(&config).await);
            say(models::check(&config).await);
        }
    }
    Ok(match worst {
        Level::Problem => ExitCode::FAILURE,
        Level::Ok | Level::Warning => ExitCode::SUCCESS,
    })
}

fn configuration(config: &Config) -> Finding {
    let environment = format!("{:?}", config.environment).to_lowercase();
    Finding::ok(
        "configuration",
        format!(
            "{environment}, to listen on {}",
            std::net::SocketAddr::new(config.host, config.port)
        ),
    )
}

fn paint(finding: &Finding, colours: bool) -> String {
    let code = match finding.level {
        Level::Ok => "32",
        Level::Warning => "33",
        Level::Problem => "31",
    };
    let plain = finding.to_string();
    match plain.split_once(' ') {
        Some((level, rest)) if colours => format!("\x1b[{code}m{level}\x1b[0m {rest}"),
        _ => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_with_its_level_first() {
        let finding = Finding::problem("PostgreSQL", "is gone;\n  start it");
        assert_eq!(
            finding.to_string(),
            "problem  PostgreSQL       is gone; start it"
        );
        assert_eq!(paint(&finding, false), finding.to_string());
        assert!(paint(&finding, true).starts_with("\x1b[31mproblem\x1b[0m  PostgreSQL"));
    }

    #[test]
    fn a_problem_is_worse_than_a_warning() {
        assert!(Level::Problem > Level::Warning && Level::Warning > Level::Ok);
    }
}
