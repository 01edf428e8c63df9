//! Logs for people, traces for dashboards.
//!
//! Traces are exported by OTLP when the standard `OTEL_*` variables name an endpoint. The trace
//! context travels in event metadata and job payloads, so that one trace joins a request to the
//! jobs and projections that it caused.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::collections::HashMap;
use std::io::IsTerminal;

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{Metadata, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use crate::config::{Config, LogFormat};

/// Libraries that would write message text into the log: never, whatever `RUST_LOG` says.
const MUTED: [&str; 2] = ["async_openai", "eventsource_stream"];
/// Libraries whose `info` is noise.
const QUIET: &str = "sqlx=warn,sqlx::postgres::notice=error,apalis=warn,apalis_core=warn,apalis_postgres=warn,hyper=warn,reqwest=warn,ort=warn,\
                     opentelemetry=warn,opentelemetry_sdk=warn,opentelemetry-otlp=warn,poem=warn";

/// Exports what is pending when it is shut down.
#[must_use]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Sends what has not been sent. To be called last, from outside the async runtime's workers.
    pub fn shutdown(self) {
        if let Some(provider) = self.provider
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "the last traces could not be exported");
        }
    }
}

/// Sets up logging and tracing for this process. A second call in one process changes nothing.
///
/// # Errors
/// A sentence that names the variable at fault, when the OTLP exporter can't be made.
pub fn init(config: &Config, service: &'static str) -> Result<Telemetry, String> {
    let provider = provider(service)?;
    let traces = provider
        .as_ref()
        .map(|provider| tracing_opentelemetry::layer().with_tracer(provider.tracer(service)));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let logs: Box<dyn Layer<_> + Send + Sync> = match config.log_format {
        LogFormat::Text => Box::new(lines.with_target(false)),
        LogFormat::Json => Box::new(lines.json()),
    };
    // A second call (tests) keeps the first subscriber.
    let _ = Registry::default()
        .with(filter(config)?)
        .with(Muted)
        .with(logs)
        .with(traces)
        .try_init();
    Ok(Telemetry { provider })
}

/// From now on a panic is logged by its place alone: its message may hold what a user said, as that of a text
/// that is cut in the midst of a character does. With `RUST_BACKTRACE=1` the way to it is logged too.
pub fn keep_texts_out_of_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let place = place.unwrap_or_else(|| "an unknown place".to_owned());
        tracing::error!("a bug: the code panicked at {place}; please report it");
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            tracing::error!("{trace}");
        }
    }));
}

fn filter(config: &Config) -> Result<EnvFilter, String> {
    let wanted = std::env::var("RUST_LOG")
        .ok()
        .filter(|text| !text.trim().is_empty());
    let wanted = wanted.unwrap_or_else(|| format!("{},{QUIET}", config.log_level));
    EnvFilter::try_new(wanted)
        .map_err(|error| format!("RUST_LOG can't be parsed: {error}; for example RUST_LOG=info"))
}

/// Keeps the muted libraries out of logs and traces.
struct Muted;

impl<S: Subscriber> Layer<S> for Muted {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        !MUTED
            .iter()
            .any(|library| metadata.target().starts_with(library))
    }
}

fn provider(service: &'static str) -> Result<Option<SdkTracerProvider>, String> {
    let set = |name: &str| std::env::var(name).is_ok_and(|value| !value.trim().is_empty());
    let wanted = set("OTEL_EXPORTER_OTLP_ENDPOINT") || set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
    let disabled =
        std::env::var("OTEL_SDK_DISABLED").is_ok_and(|value| value.eq_ignore_ascii_case("true"));
    if !wanted || disabled {
        return Ok(None);
    }
    crate::llm::install_tls();
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_http().build().map_err(|error| {
        format!("OTEL_EXPORTER_OTLP_ENDPOINT can't be used: {error}; for example OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318")
    })?;
    let mut resource = Resource::builder();
    if !set("OTEL_SERVICE_NAME") {
        resource = resource.with_service_name(service);
    }
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource.build())
        .build();
    Ok(Some(provider))
}

/// The W3C trace context of the current span; `None` when nothing is traced.
pub fn traceparent() -> Option<String> {
    let context = Span::current().context();
    if !context.span().span_context().is_valid() {
        return None;
    }
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&context, &mut carrier);
    carrier.remove("traceparent")
}

/// Makes a span the child of a remote one, whose context came with a request, an event or a job.
pub fn set_parent(span: &Span, traceparent: Option<&str>) {
    let Some(traceparent) = traceparent else {
        return;
    };
    let carrier = HashMap::from([("traceparent".to_owned(), traceparent.to_owned())]);
    let parent = TraceContextPropagator::new().extract(&carrier);
    if parent.span().span_context().is_valid() {
        // It fails only when no trace layer is there.
        let _ = span.set_parent(parent);
    }
}
