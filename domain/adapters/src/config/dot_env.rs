//! The file `.env` in the working directory.

use std::collections::HashMap;
use std::io::ErrorKind;

use super::ConfigError;
use super::settings::{ALL, Reader};

/// The variables of the file; none when there is no file.
pub(super) fn read() -> Result<HashMap<String, String>, ConfigError> {
    let lines = match dotenvy::from_filename_iter(".env") {
        Ok(lines) => lines,
        Err(dotenvy::Error::Io(error)) if error.kind() == ErrorKind::NotFound => {
            return Ok(HashMap::new());
        }
        Err(error) => return Err(ConfigError::DotEnv(error.to_string())),
    };
    lines
        .map(|line| {
            line.map_err(|error| match error {
                // The line itself may hold a secret.
                dotenvy::Error::LineParse(_, at) => {
                    ConfigError::DotEnv(format!("a line is not NAME=VALUE (at character {at})"))
                }
                other => ConfigError::DotEnv(other.to_string()),
            })
        })
        .collect()
}

/// Puts what libraries read for themselves (`RUST_LOG`, `OTEL_*` and the like) from the file into the
/// environment of this process, where it is not set. To be called before there is a second thread. A file that
/// can't be read is told of by [`Config::from_env`](super::Config::from_env).
pub fn share_with_libraries() {
    let of_library = |name: &str| {
        let mut libraries = ALL.iter().filter(|s| s.reader == Reader::Libraries);
        name.starts_with("OTEL_") || libraries.any(|setting| setting.name == name)
    };
    let lines: Vec<String> = read()
        .unwrap_or_default()
        .into_iter()
        .filter(|(name, _)| of_library(name))
        .map(|(name, value)| format!("{name}={}\n", quoted(&value)))
        .collect();
    // What was read once can be read again.
    let _ = dotenvy::from_read(lines.concat().as_bytes());
}

/// A value as it is written in such a file, whatever it holds.
fn quoted(value: &str) -> String {
    let mut quoted = String::from('"');
    for character in value.chars() {
        match character {
            '"' | '\\' | '$' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_value_is_read_as_it_was_written(value in "[^\r\0]*") {
            let line = format!("NAME={}\n", quoted(&value));
            let read: Vec<_> = dotenvy::from_read_iter(line.as_bytes()).collect();
            prop_assert_eq!(read.len(), 1);
            let (name, back) = read.into_iter().next().unwrap().unwrap();
            prop_assert_eq!((name.as_str(), back), ("NAME", value));
        }
    }
}
