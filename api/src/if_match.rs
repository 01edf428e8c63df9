//! `If-Match`: a change only of the version that the caller has seen (RFC 9110, 13.1.1).

use poem::Request;
use poem::http::header;

use crate::code::Code;
use crate::error::Problem;

/// Which versions the caller agrees to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum IfMatch {
    /// Whatever there is.
    Any,
    /// One of these.
    Versions(Vec<i64>),
}

impl IfMatch {
    /// Reads the header, if it was sent. One that is no text must not count as none.
    pub(crate) fn of(request: &Request) -> Result<Self, Problem> {
        let lines: Result<Vec<&str>, _> = request
            .headers()
            .get_all(header::IF_MATCH)
            .iter()
            .map(|line| line.to_str())
            .collect();
        match lines {
            Ok(lines) if lines.is_empty() => Ok(Self::Any),
            Ok(lines) => Self::read(lines.join(", ").trim()),
            Err(_) => Err(malformed()),
        }
    }

    fn read(header: &str) -> Result<Self, Problem> {
        if header == "*" {
            return Ok(Self::Any);
        }
        let mut versions = Vec::new();
        let mut rest = header;
        loop {
            let (weak, tag) = match rest.strip_prefix("W/") {
                Some(tag) => (true, tag),
                None => (false, rest),
            };
            let (tag, after) = tag
                .strip_prefix('"')
                .and_then(|tag| tag.split_once('"'))
                .ok_or_else(malformed)?;
            if tag.contains(|c: char| c.is_whitespace() || c.is_control()) {
                return Err(malformed());
            }
            // A weak tag never matches here, and what is no version is no version of this.
            if let Some(version) = version(tag).filter(|_| !weak) {
                versions.push(version);
            }
            let after = after.trim_start();
            if after.is_empty() {
                return Ok(Self::Versions(versions));
            }
            rest = after.strip_prefix(',').ok_or_else(malformed)?.trim_start();
        }
    }

    /// Checks the version that there is.
    pub(crate) fn check(&self, version: i64) -> Result<(), Problem> {
        match self {
            Self::Versions(versions) if !versions.contains(&version) => {
                Err(Code::StaleVersion.into())
            }
            Self::Any | Self::Versions(_) => Ok(()),
        }
    }
}

fn malformed() -> Problem {
    Problem::invalid_field("If-Match", "must be * or a list of ETags in double quotes")
}

/// The version of a tag as this service writes it.
fn version(tag: &str) -> Option<i64> {
    let version: i64 = tag.parse().ok()?;
    (version.to_string() == tag).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(header: &str) -> Option<IfMatch> {
        IfMatch::read(header).ok()
    }

    #[test]
    fn a_header_names_versions() {
        let versions = |versions: &[i64]| Some(IfMatch::Versions(versions.to_vec()));
        assert_eq!(read("*"), Some(IfMatch::Any));
        assert_eq!(read("\"7\""), versions(&[7]));
        assert_eq!(read("\"7\", \"8\" ,\"9\""), versions(&[7, 8, 9]));
        assert_eq!(read("W/\"7\""), versions(&[]));
        assert_eq!(read("\"a,b\",\"7\",\"+7\""), versions(&[7]));
    }

    #[test]
    fn anything_else_is_malformed() {
        for header in [
            "",
            "7",
            "\"7",
            "7\"",
            "\"7\" \"8\"",
            "\"7\",",
            "*, \"7\"",
            "'7'",
            "\"7 \"",
        ] {
            assert_eq!(read(header), None, "{header}");
        }
    }

    #[test]
    fn another_version_is_stale() {
        let seven = IfMatch::Versions(vec![6, 7]);
        assert!(seven.check(7).is_ok() && seven.check(8).is_err());
        assert!(IfMatch::Any.check(8).is_ok());
        assert!(IfMatch::Versions(vec![]).check(8).is_err());
    }
}
