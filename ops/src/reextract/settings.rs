//! How a run reads, from the command line and the configuration.

use std::path::Path;

use anyhow::{Context, Result, bail};
use companion_adapters::config::{Config, ExtractionMode, LlmEndpoint, Secret};
use companion_adapters::llm::Llm;
use companion_adapters::reextractions::Settings;
use companion_domain::extraction;
use companion_domain::ids::{UserId, derived};

use super::Asked;

/// What was asked for.
pub(super) struct Wanted {
    pub(super) settings: Settings,
    endpoint: LlmEndpoint,
}

impl Wanted {
    /// A client for the LLM that is asked.
    pub(super) fn llm(&self, config: &Config) -> Result<Llm> {
        Ok(Llm::new(&self.endpoint, config.llm_timeout)?)
    }
}

/// The stored name of a method.
fn name(mode: ExtractionMode) -> &'static str {
    match mode {
        ExtractionMode::Llm => "llm",
        ExtractionMode::Heuristic => "heuristic",
        ExtractionMode::Hybrid => "hybrid",
    }
}

pub(super) fn of(asked: &Asked, config: &Config) -> Result<Wanted> {
    let user = match (&asked.user, asked.all) {
        (Some(user), _) => Some(UserId::of(user)),
        (None, true) => None,
        (None, false) => bail!("say whose messages to read again: --user ID or --all"),
    };
    let mode = asked.method.map_or(config.extraction_mode, Into::into);
    let patterns = mode == ExtractionMode::Heuristic;
    if patterns && (asked.prompt.is_some() || asked.model.is_some() || asked.endpoint.is_some()) {
        bail!(
            "patterns take no --prompt, --model or --endpoint; add --method llm or --method hybrid"
        );
    }
    let mut endpoint = config.extraction.clone();
    if let Some(url) = &asked.endpoint {
        endpoint.base_url = url.trim_end_matches('/').to_owned();
        // The configured key is for the configured server.
        endpoint.api_key = Secret::new("");
    }
    if let Some(model) = &asked.model {
        endpoint.model = model.clone();
    }
    let mut settings = Settings {
        user,
        method: name(mode).to_owned(),
        prompt_id: None,
        prompt_hash: None,
        instructions: None,
        model: None,
        endpoint: None,
        since: asked.since,
    };
    if !patterns {
        settings.model = Some(endpoint.model.clone());
        settings.endpoint = Some(without_credentials(&endpoint.base_url));
        match asked.prompt.as_deref() {
            None | Some("builtin") => {
                settings.prompt_id = Some(extraction::PROMPT_ID.to_owned());
                settings.prompt_hash = Some(extraction::template_hash());
            }
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("the prompt {path} can't be read"))?;
                if text.trim().is_empty() {
                    bail!("the prompt {path} is empty");
                }
                let stem = Path::new(path).file_stem().unwrap_or_default();
                settings.prompt_id = Some(stem.to_string_lossy().into_owned());
                settings.prompt_hash = Some(derived(&["reextract", &text]).to_string());
                settings.instructions = Some(text);
            }
        }
    }
    Ok(Wanted { settings, endpoint })
}

/// A URL without the user's name and password that it may hold.
fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = host.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}
