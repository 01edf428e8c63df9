//! The embedding model, on a thread of its own that takes what waits in one batch.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use fastembed::{
    InitOptionsUserDefined, Pooling, TextEmbedding, TokenizerFiles, UserDefinedEmbeddingModel,
};
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};

use crate::config::Config;
use crate::{metrics, parts};

/// Tokens of a text that the model sees; the rest is cut. MiniLM was trained on 128 and is used
/// with 256 by its authors.
const MAX_TOKENS: usize = 256;
/// The most texts in one run of the model.
const MAX_BATCH: usize = 32;
/// The most characters in one run, counted as the model sees them: every text as long as the
/// longest. About 40 ms of one core, so that a query never waits long for background work.
const MAX_BATCH_CHARACTERS: usize = 3_000;
/// What every model is asked first: whoever makes another vector of it is another model. Not to be changed,
/// as databases keep the answer; capitals and an umlaut tell tokenizers apart.
const PROBE: &str = "In March Ada moved to Zürich, where she grows tomatoes.";
/// How many requests may wait before callers wait too.
const QUEUE: usize = 1024;

/// A vector of the configured dimension, of length 1.
pub type Vector = Arc<[f32]>;

/// Why texts can't be embedded.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EmbedError {
    /// A fetched part is not there.
    #[error("{what} is missing at {path}; run: ops/fetch-parts {part}")]
    Missing {
        /// What it is.
        what: &'static str,
        /// Where it was looked for.
        path: String,
        /// The part's name.
        part: &'static str,
    },
    /// The model can't be loaded.
    #[error(
        "the embedding model can't be loaded: {0}; check EMBEDDING_MODEL_DIR, or fetch it anew: ops/fetch-parts minilm"
    )]
    Load(String),
    /// The model makes vectors of another size.
    #[error(
        "the embedding model makes vectors of {actual} numbers, but EMBEDDING_DIMENSION={configured}; set EMBEDDING_DIMENSION={actual}"
    )]
    Dimension {
        /// What the model makes.
        actual: usize,
        /// What is configured.
        configured: usize,
    },
    /// The model failed on these texts.
    #[error("embedding failed: {0}")]
    Failed(String),
    /// The model's thread has ended.
    #[error("the embedding model has stopped")]
    Stopped,
}

struct Request {
    urgent: bool,
    texts: Vec<String>,
    answer: oneshot::Sender<Result<Vec<Vector>, EmbedError>>,
}

/// A handle on the embedding model. Cheap to clone.
#[derive(Clone)]
pub struct Embedder {
    requests: mpsc::Sender<Request>,
    probe: Vector,
}

impl Embedder {
    /// Loads the model (about a second) on a thread of its own.
    ///
    /// # Errors
    /// [`EmbedError`] that says what is missing or wrong.
    pub async fn load(config: &Config) -> Result<Self, EmbedError> {
        let (directory, dimension) = (&config.embedding_model_dir, config.embedding_dimension);
        Self::load_from(directory, dimension, 1).await
    }

    /// Loads the model that lies in a folder and makes vectors of this length. So many threads share the
    /// work on a batch; one thread leaves the others to whoever else is served.
    ///
    /// # Errors
    /// [`EmbedError`] that says what is missing or wrong.
    pub async fn load_from(
        directory: &Path,
        dimension: usize,
        threads: usize,
    ) -> Result<Self, EmbedError> {
        let (requests, receiver) = mpsc::channel(QUEUE);
        let (loaded, ready) = oneshot::channel();
        let directory = directory.to_owned();
        std::thread::Builder::new()
            .name("embedder".to_owned())
            .spawn(move || match load(&directory, dimension, threads) {
                Ok((model, probe)) => {
                    if loaded.send(Ok(probe)).is_ok() {
                        serve(model, receiver);
                    }
                }
                Err(error) => drop(loaded.send(Err(error))),
            })
            .map_err(|error| EmbedError::Load(error.to_string()))?;
        let probe = ready
            .await
            .map_err(|_| EmbedError::Load("its thread ended".to_owned()))??;
        Ok(Self { requests, probe })
    }

    /// The vector of a sentence that is always the same, by which models are told apart.
    pub fn probe(&self) -> &[f32] {
        &self.probe
    }

    /// The vector of a query. Goes before what waits in the background.
    ///
    /// # Errors
    /// [`EmbedError`] when the model fails.
    pub async fn embed_query(&self, text: &str) -> Result<Vector, EmbedError> {
        let mut vectors = self.request(true, vec![text.to_owned()]).await?;
        vectors.pop().ok_or(EmbedError::Stopped)
    }

    /// The vectors of texts, in their order. About 4 ms a short text on one core.
    ///
    /// # Errors
    /// [`EmbedError`] when the model fails.
    pub async fn embed(&self, texts: Vec<String>) -> Result<Vec<Vector>, EmbedError> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        self.request(false, texts).await
    }

    #[tracing::instrument(name = "embed", skip_all, fields(texts = texts.len()))]
    async fn request(&self, urgent: bool, texts: Vec<String>) -> Result<Vec<Vector>, EmbedError> {
        let (answer, vectors) = oneshot::channel();
        self.requests
            .send(Request {
                urgent,
                texts,
                answer,
            })
            .await
            .map_err(|_| EmbedError::Stopped)?;
        vectors.await.map_err(|_| EmbedError::Stopped)?
    }
}

/// The key under which a text's vector is kept: the first 16 bytes of its SHA-256.
pub fn content_hash(text: &str) -> Vec<u8> {
    Sha256::digest(text.as_bytes())
        .iter()
        .take(16)
        .copied()
        .collect()
}

fn load(
    directory: &Path,
    dimension: usize,
    threads: usize,
) -> Result<(TextEmbedding, Vector), EmbedError> {
    let runtime = parts::onnxruntime();
    if !runtime.is_file() {
        // The library would panic.
        return Err(EmbedError::Missing {
            what: "ONNX Runtime",
            path: runtime.display().to_string(),
            part: "onnxruntime",
        });
    }
    // Loads the library from this path, once a process. The builder that it returns is for others.
    drop(ort::init_from(&runtime).map_err(|error| EmbedError::Load(error.to_string()))?);
    let read = |name: &str| {
        let path = directory.join(name);
        std::fs::read(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => EmbedError::Missing {
                what: "the embedding model",
                path: path.display().to_string(),
                part: "minilm",
            },
            _ => EmbedError::Load(format!("{}: {error}", path.display())),
        })
    };
    let files = TokenizerFiles {
        tokenizer_file: read("tokenizer.json")?,
        config_file: read("config.json")?,
        special_tokens_map_file: read("special_tokens_map.json")?,
        tokenizer_config_file: read("tokenizer_config.json")?,
    };
    let model =
        UserDefinedEmbeddingModel::new(read("model.onnx")?, files).with_pooling(Pooling::Mean);
    let options = InitOptionsUserDefined::new()
        .with_max_length(MAX_TOKENS)
        .with_intra_threads(threads);
    let mut model = TextEmbedding::try_new_from_user_defined(model, options)
        .map_err(|error| EmbedError::Load(error.to_string()))?;
    let probe = model
        .embed([PROBE], None)
        .map_err(|error| EmbedError::Load(error.to_string()))?;
    let probe = probe.into_iter().next().unwrap_or_default();
    let actual = probe.len();
    if actual != dimension {
        return Err(EmbedError::Dimension {
            actual,
            configured: dimension,
        });
    }
    Ok((model, Vector::from(probe)))
}

/// A request on its way through the model, with the vectors made so far.
struct Pending {
    request: Request,
    done: Vec<Vector>,
}

/// Runs the model until every handle is dropped: queries first, then what waits, in batches.
fn serve(mut model: TextEmbedding, mut requests: mpsc::Receiver<Request>) {
    let (mut urgent, mut background) = (VecDeque::new(), VecDeque::new());
    loop {
        if urgent.is_empty() && background.is_empty() {
            let Some(request) = requests.blocking_recv() else {
                return;
            };
            sort(request, &mut urgent, &mut background);
        }
        while let Ok(request) = requests.try_recv() {
            sort(request, &mut urgent, &mut background);
        }
        let lane = if urgent.is_empty() {
            &mut background
        } else {
            &mut urgent
        };
        run(&mut model, lane);
        while lane
            .front()
            .is_some_and(|pending| pending.done.len() == pending.request.texts.len())
        {
            if let Some(Pending { request, done }) = lane.pop_front() {
                // Nobody waits any more when the client has gone.
                let _ = request.answer.send(Ok(done));
            }
        }
    }
}

fn sort(request: Request, urgent: &mut VecDeque<Pending>, background: &mut VecDeque<Pending>) {
    let lane = if request.urgent { urgent } else { background };
    lane.push_back(Pending {
        request,
        done: Vec::new(),
    });
}

/// Embeds the next texts of a lane, as many as make one batch.
fn run(model: &mut TextEmbedding, lane: &mut VecDeque<Pending>) {
    let mut batch: Vec<&str> = Vec::new();
    let mut longest = 0;
    for text in lane
        .iter()
        .flat_map(|pending| &pending.request.texts[pending.done.len()..])
    {
        longest = longest.max(text.len());
        if !batch.is_empty()
            && (batch.len() == MAX_BATCH || longest * (batch.len() + 1) > MAX_BATCH_CHARACTERS)
        {
            break;
        }
        batch.push(text);
    }
    let begun = Instant::now();
    let embedded = model.embed(&batch, None);
    metrics::embedding(begun);
    match embedded {
        Ok(vectors) => {
            let mut vectors = vectors.into_iter().map(Vector::from);
            for pending in lane {
                let missing = pending.request.texts.len() - pending.done.len();
                pending.done.extend(vectors.by_ref().take(missing));
            }
        }
        // One of the texts is at fault: whoever waits first is told, the others go on.
        Err(error) => {
            if let Some(Pending { request, .. }) = lane.pop_front() {
                let _ = request
                    .answer
                    .send(Err(EmbedError::Failed(error.to_string())));
            }
        }
    }
}
