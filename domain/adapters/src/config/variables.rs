//! Variables as text, and their parsing: whatever is wrong is told in one line.

#[cfg(test)]
use std::cell::RefCell;
#[cfg(test)]
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::ffi::OsString;
use std::str::FromStr;

use super::settings::{self, Setting, Unset};
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
pub(super) struct Variables {
    values: HashMap<String, String>,
    #[cfg(test)]
    pub(super) asked: RefCell<BTreeSet<&'static str>>,
}

impl Variables {
    pub(super) fn new(values: HashMap<String, String>) -> Self {
        Self {
            values,
            #[cfg(test)]
            asked: RefCell::default(),
        }
    }

    /// The value that is set; an empty one counts as not set.
    pub(super) fn get(&self, setting: &Setting) -> Option<&str> {
        #[cfg(test)]
        self.asked.borrow_mut().insert(setting.name);
        self.values
            .get(setting.name)
            .map(|value| value.trim())
            .filter(|value| !value.is_empty())
    }

    /// The value that holds: the one set, or the default.
    pub(super) fn text(&self, setting: &Setting) -> Option<&str> {
        self.get(setting).or(match setting.unset {
            Unset::Is(value) => Some(value),
            Unset::Means(_) => None,
        })
    }

    /// A value that may be anything.
    pub(super) fn words(&self, setting: &Setting) -> String {
        self.text(setting).unwrap_or_default().to_owned()
    }

    pub(super) fn secret(&self, setting: &Setting) -> Option<Secret> {
        self.text(setting).map(Secret::new)
    }

    pub(super) fn parse<T: FromStr>(
        &self,
        setting: &Setting,
        valid: impl Fn(&T) -> bool,
    ) -> Result<T, InvalidSetting> {
        let text = self.text(setting).unwrap_or_default();
        match text.parse() {
            Ok(value) if valid(&value) => Ok(value),
            _ => Err(unexpected(setting, text)),
        }
    }

    pub(super) fn flag(&self, setting: &Setting) -> Result<bool, InvalidSetting> {
        let text = self.text(setting).unwrap_or_default();
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err(unexpected(setting, text)),
        }
    }

    pub(super) fn choice<T: Copy>(
        &self,
        setting: &Setting,
        choices: &[(&'static str, T)],
    ) -> Result<T, InvalidSetting> {
        let text = self.text(setting).unwrap_or_default();
        choices
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(text))
            .map(|(_, value)| *value)
            .ok_or_else(|| unexpected(setting, text))
    }

    pub(super) fn url(
        &self,
        setting: &Setting,
        schemes: &[&str],
    ) -> Result<Option<&str>, InvalidSetting> {
        let Some(text) = self.text(setting) else {
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
        Err(setting.refused(format!("is not {}", setting.expected)))
    }

    /// An endpoint by its base URL, model and key; what is not set is that of the other one.
    pub(super) fn endpoint(
        &self,
        [base_url, model, api_key]: [&Setting; 3],
        otherwise: Option<&LlmEndpoint>,
    ) -> Result<LlmEndpoint, InvalidSetting> {
        let base_url = self.url(base_url, &["http://", "https://"])?;
        let otherwise = otherwise.cloned().unwrap_or_else(|| LlmEndpoint {
            base_url: String::new(),
            model: String::new(),
            api_key: Secret::new(""),
        });
        Ok(LlmEndpoint {
            base_url: base_url.map_or(otherwise.base_url, |url| {
                url.trim_end_matches('/').to_owned()
            }),
            model: self.text(model).map_or(otherwise.model, str::to_owned),
            api_key: self.secret(api_key).unwrap_or(otherwise.api_key),
        })
    }
}

/// Adds variables of the environment. Those that are no text are passed over, unless they are settings.
pub(super) fn add(
    variables: &mut HashMap<String, String>,
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> Result<(), InvalidSetting> {
    for (name, value) in environment {
        let Ok(name) = name.into_string() else {
            continue;
        };
        match value.into_string() {
            Ok(value) => drop(variables.insert(name, value)),
            Err(_) => {
                if let Some(setting) = settings::ALL.iter().find(|setting| setting.name == name) {
                    return Err(setting.refused("is not text in UTF-8"));
                }
            }
        }
    }
    Ok(())
}

fn unexpected(setting: &Setting, text: &str) -> InvalidSetting {
    let shown = shown(text);
    setting.refused(format!("is {shown}, but must be {}", setting.expected))
}

/// A value in quotes and on one line.
pub(super) fn shown(text: &str) -> String {
    format!("'{}'", text.escape_debug())
}
