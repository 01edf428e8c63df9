//! Every environment variable: what the parser goes by, and what `ops/docs/CONFIGURATION.md` says.

use std::fmt::Write;

use self::Reader::{Commands, Compose, Environment, Libraries};
use self::Unset::{Is, Means};
use super::InvalidSetting;

/// What holds when a variable is not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unset {
    /// This value, which is parsed like one that was set.
    Is(&'static str),
    /// No value of its own; in words.
    Means(&'static str),
}

/// Who reads a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// [`Config`](super::Config): from the environment and from `.env`.
    Config,
    /// A library, from the environment, into which it is taken from `.env`.
    Libraries,
    /// The service and the scripts beside it, from the environment only.
    Environment,
    /// Operator's commands, from the environment only.
    Commands,
    /// Docker Compose only.
    Compose,
}

/// One environment variable.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// The heading it is documented under.
    pub group: &'static str,
    /// What holds when it is not set, or empty.
    pub unset: Unset,
    /// What a value must be; follows "must be".
    pub expected: &'static str,
    /// A value that would do.
    pub example: &'static str,
    /// What it is for, in a sentence or two.
    pub meaning: &'static str,
    /// Who reads it.
    pub reader: Reader,
}

impl Setting {
    /// The refusal of its value. `problem` follows the name and must not repeat a secret.
    pub(super) fn refused(&self, problem: impl Into<String>) -> InvalidSetting {
        InvalidSetting {
            variable: self.name,
            problem: problem.into(),
            example: self.example,
        }
    }
}

/// Makes a constant of each variable, by its own name, and [`ALL`] of them in order.
macro_rules! settings {
    ($($group:literal { $($name:ident($unset:expr, $expected:literal, $example:literal, $meaning:literal $(, $reader:expr)?);)+ })+) => {
        $($(
            #[allow(dead_code, reason = "some are read elsewhere")]
            pub(super) const $name: Setting = Setting {
                name: stringify!($name),
                group: $group,
                unset: $unset,
                expected: $expected,
                example: $example,
                meaning: $meaning,
                reader: settings!(@reader $($reader)?),
            };
        )+)+

        /// All variables, group by group.
        pub const ALL: &[Setting] = &[$($($name,)+)+];
    };
    (@reader) => { Reader::Config };
    (@reader $reader:expr) => { $reader };
}

settings! {
    "Server" {
        HOST(Is("127.0.0.1"), "an IP address", "127.0.0.1",
            "Where the API listens; `0.0.0.0` in containers.");
        PORT(Is("8000"), "a port from 0 to 65535", "8000",
            "The API's port. With 0 the system picks a free one.");
        ENVIRONMENT(Is("development"), "one of development, production", "development",
            "`production` refuses to start on any weak setting and lists all of them at once.");
        CORS_ORIGINS(Is("http://localhost:3000,http://localhost:8080"),
            "origins like https://app.example.com:8443, without a path and separated by commas, or *",
            "https://app.example.com,http://localhost:3000",
            "The web pages whose scripts may call the API. `*` stands for all of them and is refused in production.");
    }
    "Storage" {
        COMPANION_HOME(Is(".companion"), "a folder that can be written", "/var/lib/companion",
            "The embedded database and the development secrets. A relative path starts at the working directory.");
        POSTGRES_URL(Means("the embedded PostgreSQL of `companion up`"),
            "a URL that begins with postgres://, postgresql:// or postgresql+asyncpg://",
            "postgresql://companion:secret@localhost:5432/companion",
            "The database: PostgreSQL 15 or newer with pgvector. `companion-api`, `companion-worker` and production need it.");
        REDIS_URL(Means("buffers live in the process"), "a URL that begins with redis://",
            "redis://localhost:6379/0",
            "Where processes share short-term buffers, rate limits and the texts of running replies.");
    }
    "Chat model" {
        LM_STUDIO_BASE_URL(Is("http://localhost:1234/v1"), "a URL that begins with http:// or https://",
            "http://localhost:1234/v1",
            "Any OpenAI-compatible server, up to and including `/v1`.");
        LM_STUDIO_MODEL_NAME(Is("local-model"), "a model's name", "qwen2.5-7b-instruct",
            "The model that replies.");
        LM_STUDIO_API_KEY(Means("no `Authorization` header is sent"), "a key", "sk-0123456789",
            "The key of that server.");
        LM_STUDIO_TEMPERATURE(Is("0.7"), "a number from 0 to 2", "0.7",
            "How freely the model chooses its words.");
        LM_STUDIO_MAX_TOKENS(Is("2000"), "a whole number above 0", "2000",
            "The longest reply, in tokens.");
        LLM_TIMEOUT_SECONDS(Is("60"), "a number of seconds from 1 to 3600", "120",
            "How long to wait for the first token, and between tokens.");
        LLM_CONTEXT_TOKENS(Is("4096"), "a whole number above 0", "8192",
            "The model's context. The prompt is kept within it, with room for `LM_STUDIO_MAX_TOKENS`.");
        SYSTEM_PERSONA(Is("a helpful AI companion"), "a few words", "a patient teacher of Latin",
            "Who the assistant is, as the prompt says it.");
    }
    "Memory" {
        SHORT_TERM_MEMORY_SIZE(Is("10"), "a number of messages from 1 to 1000", "20",
            "The last messages of a conversation that are kept at hand word for word; what leaves them is put in short.");
        SHORT_TERM_MEMORY_TTL_SECONDS(Is("86400"), "a number of seconds from 1 to 31536000", "3600",
            "How long the buffer of a silent conversation is kept. It is rebuilt when needed.");
        LONG_TERM_MEMORY_TOP_K(Is("5"), "a whole number from 0 to 100", "10",
            "How many memories a prompt may hold; 0 recalls none.");
        MEMORY_SIMILARITY_THRESHOLD(Is("0.15"), "a number from 0 to 1", "0.3",
            "The least score of a recalled memory: similarity of meaning and of words together. Places in a prompt that are left go to the most important others.");
        RECALL_CACHE_MB(Is("512"), "a number of megabytes from 1 to 1048576", "2048",
            "How much memory a process may use for the search indexes of its users. A user with 100,000 messages needs about 70.");
        MEMORY_HALF_LIFE_DAYS_FACT(Is("365"), "a number of days above 0", "730",
            "After so many days the importance of a fact has halved.");
        MEMORY_HALF_LIFE_DAYS_PREFERENCE(Is("180"), "a number of days above 0", "365",
            "The same for preferences.");
        MEMORY_HALF_LIFE_DAYS_EVENT(Is("90"), "a number of days above 0", "180",
            "The same for events.");
        MEMORY_HALF_LIFE_DAYS_CONTEXT(Is("14"), "a number of days above 0", "30",
            "The same for passing circumstances.");
        MEMORY_FADE_BELOW(Is("0.05"), "a number from 0 to 1", "0.1",
            "A memory whose importance has sunk below this is no longer recalled.");
        MEMORY_UPKEEP_SECONDS(Is("3600"), "a number of seconds from 1 to 86400", "600",
            "How often memories are looked over: those of use are kept, faded ones are marked, doubles are merged.");
        MEMORY_EXTRACTION_METHOD(Is("hybrid"), "one of hybrid, llm, heuristic", "heuristic",
            "What finds facts in messages: the LLM, patterns, or the LLM with patterns for when it can't be reached.");
        MEMORY_EXTRACTION_DELAY_SECONDS(Is("2"), "a number of seconds from 0 to 3600", "5",
            "A conversation must have been quiet this long before it is read for facts.");
        EXTRACTION_BASE_URL(Means("that of the chat model"), "a URL that begins with http:// or https://",
            "http://localhost:1235/v1",
            "A server of its own for background work.");
        EXTRACTION_MODEL_NAME(Means("that of the chat model"), "a model's name", "qwen2.5-1.5b-instruct",
            "The model for background work, perhaps a smaller one.");
        EXTRACTION_API_KEY(Means("that of the chat model"), "a key", "sk-0123456789",
            "The key of that server.");
        EXTRACTION_CONCURRENCY(Is("1"), "a whole number from 1 to 64", "4",
            "How many requests background work may have open at once. Replies come first.");
        EMBEDDING_MODEL(Is("sentence-transformers/all-MiniLM-L6-v2"), "a model's name",
            "sentence-transformers/all-MiniLM-L6-v2",
            "The model that turns text into vectors. It must be the one that the database was filled with.");
        EMBEDDING_DIMENSION(Is("384"), "a whole number from 1 to 16000", "384",
            "The length of its vectors.");
        EMBEDDING_MODEL_DIR(Means("the fetched model below `COMPANION_PARTS`"), "a folder",
            "/opt/models/all-MiniLM-L6-v2",
            "Where that model's files are.");
    }
    "Limits" {
        RATE_LIMIT_REQUESTS_PER_MINUTE(Is("30"), "a whole number from 1 to 1000000", "60",
            "The calls that start a reply, per user and minute. All other calls together have ten times as much.");
        MAX_CONCURRENT_REPLIES(Is("1024"), "a whole number from 1 to 100000", "256",
            "How many replies one API process may have running.");
        MAX_CONCURRENT_REPLIES_PER_USER(Is("256"), "a whole number above 0", "4",
            "How many of them may be one user's.");
    }
    "Authentication" {
        REQUIRE_AUTHENTICATION(Is("true"), "true or false", "true",
            "With `false` the user is whom `X-User-Id` names, or `default_user`. Production demands `true`.");
        ALLOW_X_USER_ID_AUTH(Means("true in development, false in production"), "true or false", "false",
            "Whether the header `X-User-Id` is a credential. Production demands `false`.");
        JWT_SECRET_KEY(Means("made once in development and kept in `COMPANION_HOME`"),
            "a secret, in production of 32 bytes at least", "$(openssl rand -base64 48)",
            "Signs the tokens with HS256; the same for all processes.");
        JWT_ALGORITHM(Is("HS256"), "one of HS256, RS256, ES256, EdDSA", "HS256",
            "How tokens are signed. Those of the other three come from an identity provider and are only checked here; `JWT_SECRET_KEY` is then not used.");
        JWT_PUBLIC_KEY(Means("HS256 needs none"),
            "a public key in PEM, or the path of a file that holds one", "/etc/companion/jwt.pub.pem",
            "The identity provider's key: RSA of 2048 to 4096 bits for RS256, P-256 for ES256, Ed25519 for EdDSA.");
        JWT_EXPIRATION_HOURS(Is("24"), "a number of hours from 1 to 8760", "12",
            "How long a token is valid unless it is asked for otherwise.");
        JWT_ISSUER(Means("any issuer"), "the text of the claim `iss`", "https://id.example.com/",
            "Whom tokens must come from. Tokens made here carry it.");
        JWT_AUDIENCE(Means("any audience"), "the text of the claim `aud`", "companion",
            "Whom tokens must be meant for. Tokens made here carry it.");
        COMPANION_MASTER_KEY(Means("made once in development and kept in `COMPANION_HOME`"),
            "32 bytes in base64", "$(openssl rand -base64 32)",
            "Wraps the users' keys: without it no stored text can be read again.");
        COMPANION_NEW_MASTER_KEY(Means("the master key stays as it is"),
            "32 bytes in base64", "$(openssl rand -base64 32)",
            "The key that `companion rotate-master-key` puts in the place of `COMPANION_MASTER_KEY`. While that is done all processes need both.");
    }
    "Telemetry" {
        LOG_LEVEL(Is("INFO"), "one of ERROR, WARNING, INFO, DEBUG, TRACE", "DEBUG",
            "The least important log lines that are written.");
        LOG_FORMAT(Is("text"), "one of text, json", "json",
            "Lines for people, or one JSON object each.");
        METRICS_TOKEN(Means("`/metrics` is open"), "a secret", "$(openssl rand -hex 16)",
            "The bearer token that `/metrics` demands.");
        WORKER_METRICS_PORT(Means("a worker on its own serves no metrics"), "a port from 0 to 65535", "9100",
            "Where `companion-worker` serves Prometheus text, on `HOST`.");
        RUST_LOG(Means("`LOG_LEVEL` decides"), "a filter of tracing-subscriber", "info,sqlx=debug",
            "A finer filter of log lines. It wins over `LOG_LEVEL`.", Libraries);
        OTEL_EXPORTER_OTLP_ENDPOINT(Means("tracing is off"), "a URL", "http://localhost:4318",
            "Where traces are sent, as OTLP over HTTP. The other standard `OTEL_*` variables count too.", Libraries);
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT(Means("`OTEL_EXPORTER_OTLP_ENDPOINT` with `/v1/traces`"), "a URL",
            "http://localhost:4318/v1/traces",
            "The same for traces alone, with the whole path.", Libraries);
        OTEL_SERVICE_NAME(Means("the name of the binary"), "a name", "companion-worker",
            "The name that traces carry.", Libraries);
        OTEL_SDK_DISABLED(Is("false"), "true or false", "true",
            "Turns tracing off, whatever else is set.", Libraries);
    }
    "Places and tools" {
        COMPANION_PARTS(Means("`~/.cache/companion`"), "a folder", "/opt/companion/parts",
            "The fetched parts, which clones and homes can share.", Environment);
        ORT_DYLIB_PATH(Means("the fetched library below `COMPANION_PARTS`"), "the path of a library",
            "/usr/lib/libonnxruntime.so",
            "Another ONNX Runtime.", Environment);
        COMPANION_TOKEN(Means("`companion chat` sends `X-User-Id`"), "a JWT", "$(companion token --user alice)",
            "The token that `companion chat` uses.", Commands);
        POSTGRES_PASSWORD(Means("`docker compose` refuses to start"), "a password", "$(openssl rand -hex 16)",
            "The password of the PostgreSQL in the containers.", Compose);
    }
}

/// The text of `ops/docs/CONFIGURATION.md`.
pub fn markdown() -> String {
    let mut text = INTRODUCTION.to_owned();
    let mut group = "";
    for setting in ALL {
        if setting.group != group {
            group = setting.group;
            let _ = write!(text, "\n## {group}\n\n{COLUMNS}");
        }
        let unset = match setting.unset {
            Is(value) => format!("`{value}`"),
            Means(words) => words.to_owned(),
        };
        let reader = match setting.reader {
            Reader::Config | Libraries => "",
            Environment => " Read from the environment only.",
            Commands => " Read by that command, from the environment only.",
            Compose => " Read by `docker compose` only.",
        };
        let Setting {
            name,
            expected,
            example,
            meaning,
            ..
        } = setting;
        let _ = writeln!(
            text,
            "| `{name}` | {unset} | {expected} | `{example}` | {meaning}{reader} |"
        );
    }
    text
}

const INTRODUCTION: &str = "\
# Settings

All environment variables. Those not marked otherwise are also read from a file named `.env` in the
working directory; the environment wins. An empty value counts as not set. A value that can't be used
stops the process with one line that names the variable, the problem and an example. An example in
`$(…)` is for a shell, which puts there what the command prints.

This page is made from the table that the parser goes by, `domain/adapters/src/config/settings.rs`.
";

const COLUMNS: &str = "\
| variable | unless set | must be | example | meaning |
|---|---|---|---|---|
";
