//! Variables as text, and their parsing: whatever is wrong is told in one line.

use std::collections::HashMap;
use std::str::FromStr;

use super::{LlmEndpoint, Secret};

/// One setting that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable} {problem}; for example {variable}={example}")]
pub struct InvalidSetting {
    /// The variable.
    pub variable: &'static str,
    /// What is wrong with its value. Never the value of a secret.
    pub problem: String,
    /// A value that would do.
    pub example: &'static str,
}

/// The variables, from wherever they come.
pub(super) struct Variables(pub(super) HashMap<String, String>);

impl Variables {
    /// The value of a variable; an empty one counts as not set.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(|value| value.trim())
            .filter(|value| !value.is_empty())
    }

    pub(super) fn parse<T: FromStr>(
        &self,
        variable: &'static str,
        default: T,
        valid: impl Fn(&T) -> bool,
        expected: &str,
        example: &'static str,
    ) -> Result<T, InvalidSetting> {
        let Some(text) = self.get(variable) else {
            return Ok(default);
        };
        match text.parse() {
            Ok(value) if valid(&value) => Ok(value),
            _ => Err(InvalidSetting {
                variable,
                problem: format!("is '{text}', but must be {expected}"),
                example,
            }),
        }
    }

    pub(super) fn flag(
        &self,
        variable: &'static str,
        default: bool,
    ) -> Result<bool, InvalidSetting> {
        let Some(text) = self.get(variable) else {
            return Ok(default);
        };
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err(InvalidSetting {
                variable,
                problem: format!("is '{text}', but must be true or false"),
                example: "true",
            }),
        }
    }

    pub(super) fn choice<T: Copy>(
        &self,
        variable: &'static str,
        choices: &[(&'static str, T)],
        default: T,
    ) -> Result<T, InvalidSetting> {
        let Some(text) = self.get(variable) else {
            return Ok(default);
        };
        if let Some((_, value)) = choices
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(text))
        {
            return Ok(*value);
        }
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        Err(InvalidSetting {
            variable,
            problem: format!("is '{text}', but must be one of {}", names.join(", ")),
            example: choices.first().map_or("", |(name, _)| name),
        })
    }

    pub(super) fn url(
        &self,
        variable: &'static str,
        schemes: &[&str],
        example: &'static str,
    ) -> Result<Option<&str>, InvalidSetting> {
        let Some(text) = self.get(variable) else {
            return Ok(None);
        };
        let known = schemes.iter().any(|scheme| {
            text.strip_prefix(scheme)
                .is_some_and(|rest| !rest.is_empty() && !text.contains(char::is_whitespace))
        });
        if known {
            return Ok(Some(text));
        }
        // The value may hold a password, so it isn't repeated.
        let problem = format!("is not a URL that begins with {}", schemes.join(" or "));
        Err(InvalidSetting {
            variable,
            problem,
            example,
        })
    }

    pub(super) fn endpoint(
        &self,
        prefix: &EndpointNames,
        default: &LlmEndpoint,
    ) -> Result<LlmEndpoint, InvalidSetting> {
        let base_url = self.url(
            prefix.base_url,
            &["http://", "https://"],
            "http://localhost:1234/v1",
        )?;
        Ok(LlmEndpoint {
            base_url: base_url.map_or_else(
                || default.base_url.clone(),
                |url| url.trim_end_matches('/').to_owned(),
            ),
            model: self
                .get(prefix.model)
                .map_or_else(|| default.model.clone(), str::to_owned),
            api_key: self
                .get(prefix.api_key)
                .map_or_else(|| default.api_key.clone(), Secret::new),
        })
    }
}

pub(super) struct EndpointNames {
    pub(super) base_url: &'static str,
    pub(super) model: &'static str,
    pub(super) api_key: &'static str,
}
