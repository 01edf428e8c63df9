//! What PostgreSQL's programs say, as one line that tells what to do.

use std::path::Path;

use anyhow::anyhow;

use crate::disk;

/// Explains the last thing that was said; `None` when nothing was.
pub(crate) fn explain(said: &str, place: &Path) -> Option<anyhow::Error> {
    let line = last_useful(said)?;
    let has = |part: &str| said.contains(part);
    Some(
        if has("No space left on device") || has("Disk quota exceeded") {
            disk::full(place)
        } else if has("Read-only file system") {
            disk::unwritable(place, "it is mounted read-only")
        } else if has("could not create shared memory segment") || has("Cannot allocate memory") {
            anyhow!("PostgreSQL gets too little memory: {line}; free some, or set POSTGRES_URL")
        } else if has("are incompatible with server") {
            anyhow!(
                "{} was made by another version of PostgreSQL: {line}; run the version of this service that made \
             it, or set COMPANION_HOME to another folder",
                place.display()
            )
        } else {
            anyhow!("PostgreSQL did not start: {line}")
        },
    )
}

/// Whether a start failed because somebody took the port.
pub(crate) fn is_port_taken(error: &anyhow::Error) -> bool {
    error
        .to_string()
        .contains("could not create any TCP/IP sockets")
}

/// The last error in what was said, without time and process; else the last line.
pub(crate) fn last_useful(said: &str) -> Option<&str> {
    let lines = || {
        said.lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .rev()
    };
    let severe = |line: &&str| {
        ["PANIC:", "FATAL:", "error:"]
            .iter()
            .any(|level| line.contains(level))
    };
    // Every client is told so when the server stops; that is no reason.
    let lines = || lines().filter(|line| !line.contains("terminating connection due to"));
    let line = lines().find(severe).or_else(|| lines().next())?;
    let text = ["PANIC:", "FATAL:", "LOG:", "error:"]
        .iter()
        .find_map(|level| line.split_once(level).map(|(_, text)| text.trim()));
    Some(text.unwrap_or(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_is_found_among_other_lines() {
        let said = "2026-01-01 00:00:00 UTC [7] LOG:  starting\n2026-01-01 00:00:00 UTC [7] FATAL:  could not \
                    create lock file\n2026-01-01 00:00:00 UTC [7] LOG:  database system is shut down\n";
        assert_eq!(last_useful(said), Some("could not create lock file"));
        assert_eq!(
            last_useful("initdb: error: no such user\n"),
            Some("no such user")
        );
        assert_eq!(last_useful("something\nelse\n\n"), Some("else"));
        assert_eq!(last_useful(" \n"), None);
    }

    #[test]
    fn a_full_disk_is_told_with_what_to_do() {
        let said = "initdb: error: could not write to file \"x\": No space left on device";
        let error = explain(said, Path::new("/data/home/postgres"))
            .expect("explained")
            .to_string();
        assert!(
            error.contains("/data/home is full") && error.contains("COMPANION_HOME"),
            "{error}"
        );
        assert!(!error.contains('\n'));
    }

    #[test]
    fn a_taken_port_is_recognised() {
        let said = "LOG:  could not bind IPv4 address\nFATAL:  could not create any TCP/IP sockets";
        assert!(is_port_taken(
            &explain(said, Path::new("/data/home/postgres")).expect("explained")
        ));
    }
}
