//! What the commands say: results on standard output, progress on standard error.

use std::fmt::Display;
use std::future::Future;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Why something that was to be on standard output is not there.
static LOST: OnceLock<String> = OnceLock::new();

/// Writes a line to standard output. Nobody reading is no error; any other failure is [`lost`].
pub(crate) fn line(text: impl Display) {
    if let Err(error) = writeln!(std::io::stdout(), "{text}")
        && error.kind() != ErrorKind::BrokenPipe
    {
        LOST.get_or_init(|| error.to_string());
    }
}

/// Why a result is not on standard output, or not whole. A command of which this is known has failed.
pub(crate) fn lost() -> Option<&'static str> {
    LOST.get().map(String::as_str)
}

/// Writes a line to standard output that is shown this once: it must have got there.
///
/// # Errors
/// When it has not.
pub(crate) fn only_line(text: &str) -> io::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{text}")?;
    out.flush()
}

/// Writes a line to standard error.
pub(crate) fn note(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Does a step of the set-up, and says which and how long it took: on a terminal with a spinner
/// while it lasts.
pub(crate) async fn step<T, E>(
    name: &str,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let begun = Instant::now();
    let spinner = std::io::stderr().is_terminal().then(|| {
        let style = ProgressStyle::with_template("{spinner} {msg} … {elapsed}");
        let spinner = ProgressBar::new_spinner()
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
            .with_message(name.to_owned());
        spinner.enable_steady_tick(Duration::from_millis(100));
        spinner
    });
    let result = work.await;
    if let Some(spinner) = spinner {
        spinner.finish_and_clear();
    }
    if result.is_ok() {
        note(format_args!(
            "==> {name}: done in {:.1} s",
            begun.elapsed().as_secs_f64()
        ));
    }
    result
}

/// A URL as it may be shown: without a user and password that are written into it.
pub(crate) fn shown(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let end = rest.find('/').unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_a_url_is_not_shown() {
        assert_eq!(shown("http://user:hunter2@host:1/v1"), "http://host:1/v1");
        assert_eq!(shown("http://u:p@ss@host"), "http://host");
        assert_eq!(shown("http://host/a@b"), "http://host/a@b");
    }
}
