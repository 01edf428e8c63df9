//! Where the fetched parts lie: PostgreSQL, Valkey, ONNX Runtime, the embedding model, the demo LLM.
//!
//! `ops/fetch-parts` puts them there; nothing in the service downloads.

use std::path::PathBuf;

/// The folder of all fetched parts: `COMPANION_PARTS`, or `~/.cache/companion`.
pub fn root() -> PathBuf {
    if let Some(root) = std::env::var_os("COMPANION_PARTS").filter(|root| !root.is_empty()) {
        return PathBuf::from(root);
    }
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("."), PathBuf::from);
    home.join(".cache/companion")
}

/// PostgreSQL with pgvector: holds `bin`, `lib`, `share`.
pub fn postgres() -> PathBuf {
    root().join("postgres-18.6.3")
}

/// The Redis-compatible server's binary.
pub fn valkey() -> PathBuf {
    root().join("valkey-9.1.2/valkey-server")
}

/// The embedding model: `model.onnx` and the tokenizer's files.
pub fn minilm() -> PathBuf {
    root().join("all-MiniLM-L6-v2")
}

/// The ONNX Runtime library: `ORT_DYLIB_PATH` when set.
pub fn onnxruntime() -> PathBuf {
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()) {
        return PathBuf::from(path);
    }
    let name = if cfg!(target_os = "macos") {
        "libonnxruntime.dylib"
    } else {
        "libonnxruntime.so"
    };
    root().join("onnxruntime-1.31.1").join(name)
}

/// The demo LLM: holds `run`.
pub fn demo_llm() -> PathBuf {
    root().join("demo-llm")
}
