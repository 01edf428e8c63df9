//! The web origins that may call the API, written as browsers send them.

use std::net::Ipv6Addr;

use super::settings::CORS_ORIGINS;
use super::variables::{InvalidSetting, Variables, shown};

/// The configured origins, in the order given.
pub(super) fn parse(v: &Variables) -> Result<Vec<String>, InvalidSetting> {
    let text = v.text(&CORS_ORIGINS).unwrap_or_default();
    text.split(',')
        .map(|item| {
            normalized(item.trim()).ok_or_else(|| {
                // Somebody may have written a password into it.
                let shown = if item.contains('@') {
                    "an entry with a user".to_owned()
                } else {
                    shown(item.trim())
                };
                let expected = CORS_ORIGINS.expected;
                CORS_ORIGINS.refused(format!("has {shown}, but must be {expected}"))
            })
        })
        .collect()
}

/// An origin in the one spelling that a browser uses for it: lower case, without the port that its
/// scheme implies. `None` when it is none.
fn normalized(text: &str) -> Option<String> {
    if text == "*" {
        return Some(text.to_owned());
    }
    let lower = text.to_ascii_lowercase();
    let (scheme, rest) = lower.split_once("://")?;
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    if !is_scheme(scheme) || !is_host(host) {
        return None;
    }
    let Some(port) = port else {
        return Some(format!("{scheme}://{host}"));
    };
    let digits = port.bytes().all(|c| c.is_ascii_digit());
    let port: u16 = port.parse().ok().filter(|port| digits && *port > 0)?;
    match (scheme, port) {
        ("http", 80) | ("https", 443) => Some(format!("{scheme}://{host}")),
        _ => Some(format!("{scheme}://{host}:{port}")),
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || b"+.-".contains(&c))
}

fn is_host(text: &str) -> bool {
    match text.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()),
        None => {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|c| c.is_ascii_alphanumeric() || b".-_".contains(&c))
        }
    }
}
