//! The embedding model and the LLM.

use std::time::{Duration, Instant};

use companion_adapters::config::{Config, LlmEndpoint};
use companion_adapters::embedder::Embedder;
use companion_adapters::llm;
use serde_json::Value;

use super::Finding;
use crate::output::shown;

const EMBEDDING: &str = "embedding model";

/// Checks what thinks.
pub(super) async fn check(config: &Config) -> Vec<Finding> {
    let mut findings = vec![
        embedding(config).await,
        endpoint("LLM", "LM_STUDIO", &config.llm).await,
    ];
    let (chat, background) = (&config.llm, &config.extraction);
    if (&chat.base_url, &chat.model) != (&background.base_url, &background.model) {
        findings.push(endpoint("extraction LLM", "EXTRACTION", background).await);
    }
    findings
}

async fn embedding(config: &Config) -> Finding {
    let embedder = match Embedder::load(config).await {
        Ok(embedder) => embedder,
        Err(error) => return Finding::problem(EMBEDDING, error.to_string()),
    };
    let begun = Instant::now();
    match embedder.embed_query("I love programming in Rust").await {
        Ok(vector) => Finding::ok(
            EMBEDDING,
            format!(
                "{}: {} numbers in {:.0} ms",
                config.embedding_model,
                vector.len(),
                begun.elapsed().as_secs_f64() * 1e3
            ),
        ),
        Err(error) => Finding::problem(EMBEDDING, error.to_string()),
    }
}

/// An LLM that is away is only a warning: all but replies works without.
async fn endpoint(what: &'static str, variables: &str, endpoint: &LlmEndpoint) -> Finding {
    let url = format!("{}/models", endpoint.base_url);
    match models(&url, endpoint).await {
        Err(reason) => Finding::warning(
            what,
            format!(
                "{reason} at {}; start one there, or set {variables}_BASE_URL",
                shown(&endpoint.base_url)
            ),
        ),
        Ok(models) => listed(what, variables, endpoint, &models),
    }
}

fn listed(
    what: &'static str,
    variables: &str,
    endpoint: &LlmEndpoint,
    models: &[String],
) -> Finding {
    let url = shown(&endpoint.base_url);
    if models.contains(&endpoint.model) {
        return Finding::ok(what, format!("{} at {url}", endpoint.model));
    }
    let models: Vec<&str> = models.iter().map(String::as_str).take(5).collect();
    let known = if models.is_empty() {
        "none".to_owned()
    } else {
        models.join(", ")
    };
    Finding::warning(
        what,
        format!(
            "answers at {url}, but does not list {}; unless it takes any name, set {variables}_MODEL_NAME to one of: {known}",
            endpoint.model
        ),
    )
}

/// The names of the models that an endpoint offers, or why they can't be had.
async fn models(url: &str, endpoint: &LlmEndpoint) -> Result<Vec<String>, String> {
    llm::install_tls();
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(5))
        .build()
        .map_err(|error| error.to_string())?;
    let mut request = client.get(url);
    if !endpoint.api_key.expose().is_empty() {
        request = request.bearer_auth(endpoint.api_key.expose());
    }
    let answer = request
        .send()
        .await
        .map_err(|_| "nothing answers".to_owned())?;
    let status = answer.status();
    if !status.is_success() {
        return Err(format!("the answer is {status}"));
    }
    let body: Value = answer
        .json()
        .await
        .map_err(|_| "what answers is no OpenAI-compatible server".to_owned())?;
    let models = body["data"].as_array().cloned().unwrap_or_default();
    Ok(models
        .iter()
        .filter_map(|model| model["id"].as_str().map(str::to_owned))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;
    use companion_adapters::config::Secret;

    #[test]
    fn a_model_that_is_not_listed_is_a_warning_that_names_those_that_are() {
        let endpoint = LlmEndpoint {
            base_url: "http://llm/v1".to_owned(),
            model: "local-model".to_owned(),
            api_key: Secret::new("hunter2"),
        };
        let finding = listed(
            "LLM",
            "LM_STUDIO",
            &endpoint,
            &["qwen".to_owned(), "llama".to_owned()],
        );
        assert_eq!(finding.level, Level::Warning);
        assert!(
            finding
                .text
                .contains("LM_STUDIO_MODEL_NAME to one of: qwen, llama"),
            "{}",
            finding.text
        );
        assert!(!finding.text.contains("hunter2"));
        assert_eq!(
            listed("LLM", "LM_STUDIO", &endpoint, &["local-model".to_owned()]).level,
            Level::Ok
        );
    }
}
