//! The demo LLM: real, local, and far too small to judge anything by.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use companion_adapters::config::{Config, LlmEndpoint, Secret};
use companion_adapters::{llm, parts};
use serde_json::Value;

use crate::disk;
use crate::port::free_port;
use crate::server_log::open_log;
use crate::supervise::{Launch, Stop, Supervised};

/// Loading takes a few seconds, on a slow disk more.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// The running model.
#[derive(Debug)]
pub(crate) struct DemoLlm {
    /// Where it answers.
    pub(crate) endpoint: LlmEndpoint,
    supervised: Supervised,
}

impl DemoLlm {
    /// Starts the model and waits until it is loaded. Its messages go to a file in `home`.
    pub(crate) async fn start(home: &Path) -> Result<Self> {
        let program = parts::demo_llm().join("run");
        if !program.is_file() {
            bail!(
                "the demo LLM is missing at {}; run: ops/fetch-parts demo-llm",
                program.display()
            );
        }
        let program = program.canonicalize()?;
        let log_path = home.join("demo-llm.log");
        let log = open_log(&log_path).map_err(|error| disk::cannot_write(&log_path, &error))?;
        let port = free_port()?;
        let arguments = vec![port.to_string().into()];
        let launch = Launch {
            program,
            arguments,
            identity: None,
            stop: Stop::Kill,
        };
        let mut supervised =
            Supervised::start(&launch, &log).context("the demo LLM can't be run")?;
        let base_url = format!("http://127.0.0.1:{port}/v1");
        let begun = Instant::now();
        loop {
            if let Some(model) = model(&base_url).await {
                let endpoint = LlmEndpoint {
                    base_url,
                    model,
                    api_key: Secret::new(""),
                };
                return Ok(Self {
                    endpoint,
                    supervised,
                });
            }
            if supervised.has_ended() || begun.elapsed() > READY_WITHIN {
                let said = std::fs::read_to_string(&log_path).unwrap_or_default();
                let last = said
                    .lines()
                    .rfind(|line| !line.trim().is_empty())
                    .unwrap_or("it says nothing");
                return Err(anyhow!(
                    "the demo LLM does not start: {last}; run another one and set LM_STUDIO_BASE_URL"
                ));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Makes the service talk to the demo model, in the background too unless that has another one.
    pub(crate) fn configure(&self, config: &mut Config) {
        let same = (&config.extraction.base_url, &config.extraction.model)
            == (&config.llm.base_url, &config.llm.model);
        if same {
            config.extraction = self.endpoint.clone();
        }
        config.llm = self.endpoint.clone();
    }

    /// Stops the model.
    pub(crate) async fn stop(self) {
        self.supervised.stop(Duration::from_secs(5)).await;
    }
}

/// The name of the loaded model; `None` while it is being loaded.
async fn model(base_url: &str) -> Option<String> {
    llm::install_tls();
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(2))
        .no_proxy()
        .build()
        .ok()?;
    let answer = client
        .get(format!("{base_url}/models"))
        .send()
        .await
        .ok()?
        .error_for_status()
        .ok()?;
    let models: Value = answer.json().await.ok()?;
    models["data"][0]["id"].as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> Config {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::from_variables(pairs.collect()).expect("config")
    }

    #[tokio::test]
    async fn the_demo_model_answers_in_the_background_too_unless_that_has_its_own() {
        let endpoint = LlmEndpoint {
            base_url: "http://demo/v1".to_owned(),
            model: "tiny".to_owned(),
            api_key: Secret::new(""),
        };
        let launch = Launch {
            program: "/bin/true".into(),
            arguments: Vec::new(),
            identity: None,
            stop: Stop::Kill,
        };
        let log = tempfile::tempfile().expect("file");
        let supervised = Supervised::start(&launch, &log).expect("started");
        let demo = DemoLlm {
            endpoint,
            supervised,
        };
        let mut shared = config(&[]);
        demo.configure(&mut shared);
        assert_eq!(
            (shared.llm.model.as_str(), shared.extraction.model.as_str()),
            ("tiny", "tiny")
        );
        let mut own = config(&[("EXTRACTION_MODEL_NAME", "mine")]);
        demo.configure(&mut own);
        assert_eq!(
            (own.llm.model.as_str(), own.extraction.model.as_str()),
            ("tiny", "mine")
        );
    }
}
