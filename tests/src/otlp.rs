//! A receiver of traces (OTLP over HTTP, protobuf), so that a test can see the spans the service really sends.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1 as wire;
use poem::http::{Method, StatusCode};
use poem::{Request, Response, endpoint::make};
use prost::Message as _;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::eventually::DEADLINE;
use crate::http::LocalServer;

/// Names and values of a span, an event or a resource; values that are not text are written out, bytes in hexadecimal.
pub type Attributes = BTreeMap<String, String>;

/// A span as it was received.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// 32 hexadecimal digits.
    pub trace_id: String,
    /// 16 hexadecimal digits.
    pub span_id: String,
    /// 16 hexadecimal digits; `None` for the root of a trace.
    pub parent_span_id: Option<String>,
    /// The span's name.
    pub name: String,
    /// The resource's `service.name`; empty when it has none.
    pub service_name: String,
    /// The span's attributes.
    pub attributes: Attributes,
    /// What was logged inside the span: each event's name and attributes.
    pub events: Vec<(String, Attributes)>,
    /// The description of an error status; empty without one.
    pub status_message: String,
}

/// The receiver; clones share the spans. It stops when the last clone is dropped.
#[derive(Clone)]
pub struct OtlpReceiver {
    server: Arc<LocalServer>,
    spans: watch::Sender<Vec<Span>>,
}

impl OtlpReceiver {
    /// Starts a receiver on a free port of loopback.
    ///
    /// # Panics
    ///
    /// When no port is free.
    pub async fn start() -> Self {
        let spans = watch::Sender::new(Vec::new());
        let received = spans.clone();
        let endpoint = make(move |request| receive(received.clone(), request));
        let server = LocalServer::start(0, endpoint).await;
        Self {
            server: Arc::new(server),
            spans,
        }
    }

    /// The base URL, as `OTEL_EXPORTER_OTLP_ENDPOINT` wants it.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.server.port())
    }

    /// Every span received so far, in the order of arrival.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.spans.borrow().clone()
    }

    /// Waits until the spans received satisfy `predicate`, and gives them back.
    ///
    /// # Panics
    ///
    /// After [`DEADLINE`], with the spans that did come.
    pub async fn wait_for(&self, mut predicate: impl FnMut(&[Span]) -> bool) -> Vec<Span> {
        let mut arrivals = self.spans.subscribe();
        let found = timeout(DEADLINE, arrivals.wait_for(|spans| predicate(spans))).await;
        match found {
            Ok(spans) => spans.expect("this receiver holds the sender").clone(),
            Err(_) => panic!(
                "waited {DEADLINE:?} for spans; received: {:#?}",
                self.spans()
            ),
        }
    }
}

async fn receive(spans: watch::Sender<Vec<Span>>, mut request: Request) -> Response {
    if request.uri().path() != "/v1/traces" {
        return StatusCode::NOT_FOUND.into();
    }
    if request.method() != Method::POST {
        return StatusCode::METHOD_NOT_ALLOWED.into();
    }
    let protobuf = request.content_type() == Some("application/x-protobuf");
    if !protobuf || request.header("content-encoding").is_some() {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE.into();
    }
    let export = match request.take_body().into_bytes().await {
        Ok(bytes) => ExportTraceServiceRequest::decode(bytes),
        Err(_) => return StatusCode::BAD_REQUEST.into(),
    };
    let Ok(export) = export else {
        return StatusCode::BAD_REQUEST.into();
    };
    spans.send_modify(|spans| spans.extend(read(export)));
    Response::builder()
        .content_type("application/x-protobuf")
        .body(ExportTraceServiceResponse::default().encode_to_vec())
}

fn read(export: ExportTraceServiceRequest) -> Vec<Span> {
    let mut spans = Vec::new();
    for resource_spans in export.resource_spans {
        let resource = resource_spans.resource.unwrap_or_default();
        let service_name = attributes(resource.attributes)
            .remove("service.name")
            .unwrap_or_default();
        for scope_spans in resource_spans.scope_spans {
            for span in scope_spans.spans {
                spans.push(read_span(&service_name, span));
            }
        }
    }
    spans
}

fn read_span(service_name: &str, span: wire::Span) -> Span {
    Span {
        trace_id: hex(&span.trace_id),
        span_id: hex(&span.span_id),
        parent_span_id: (!span.parent_span_id.is_empty()).then(|| hex(&span.parent_span_id)),
        name: span.name,
        service_name: service_name.to_owned(),
        attributes: attributes(span.attributes),
        events: span
            .events
            .into_iter()
            .map(|event| (event.name, attributes(event.attributes)))
            .collect(),
        status_message: span.status.unwrap_or_default().message,
    }
}

fn attributes(pairs: Vec<KeyValue>) -> Attributes {
    pairs
        .into_iter()
        .map(|pair| (pair.key, as_text(pair.value)))
        .collect()
}

fn as_text(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        None => String::new(),
        Some(Value::StringValue(text)) => text,
        Some(Value::BoolValue(value)) => value.to_string(),
        Some(Value::IntValue(value)) => value.to_string(),
        Some(Value::DoubleValue(value)) => value.to_string(),
        Some(Value::BytesValue(bytes)) => hex(&bytes),
        Some(Value::ArrayValue(array)) => {
            let parts: Vec<_> = array
                .values
                .into_iter()
                .map(|part| as_text(Some(part)))
                .collect();
            format!("[{}]", parts.join(","))
        }
        Some(Value::KvlistValue(list)) => format!("{:?}", attributes(list.values)),
        // Only profiles use it, and their table of strings is not part of a trace.
        Some(Value::StringValueStrindex(_)) => String::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut digits, byte| {
        write!(digits, "{byte:02x}").ok();
        digits
    })
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::resource::v1::Resource;

    use super::*;
    use crate::http::http_client;

    fn pair(key: &str, value: Value) -> KeyValue {
        KeyValue {
            key: key.into(),
            value: Some(AnyValue { value: Some(value) }),
            ..Default::default()
        }
    }

    fn export(name: &str, parent: &[u8]) -> Vec<u8> {
        let span = wire::Span {
            trace_id: vec![0xab; 16],
            span_id: vec![0x01; 8],
            parent_span_id: parent.to_vec(),
            name: name.into(),
            attributes: vec![
                pair("event.position", Value::IntValue(7)),
                pair("user.id", Value::StringValue("u-1".into())),
            ],
            events: vec![wire::span::Event {
                name: "appended".into(),
                attributes: vec![pair("ok", Value::BoolValue(true))],
                ..Default::default()
            }],
            ..Default::default()
        };
        ExportTraceServiceRequest {
            resource_spans: vec![wire::ResourceSpans {
                resource: Some(Resource {
                    attributes: vec![pair("service.name", Value::StringValue("api".into()))],
                    ..Default::default()
                }),
                scope_spans: vec![wire::ScopeSpans {
                    spans: vec![span],
                    ..Default::default()
                }],
                ..Default::default()
            }],
        }
        .encode_to_vec()
    }

    async fn post(receiver: &OtlpReceiver, body: Vec<u8>) -> u16 {
        let response = http_client()
            .post(format!("{}/v1/traces", receiver.endpoint()))
            .header("content-type", "application/x-protobuf")
            .body(body)
            .send()
            .await
            .unwrap();
        response.status().as_u16()
    }

    #[tokio::test]
    async fn a_span_is_received_with_its_ids_names_and_attributes() {
        let receiver = OtlpReceiver::start().await;
        let (status, spans) = tokio::join!(
            post(&receiver, export("chat", &[0x02; 8])),
            receiver.wait_for(|spans| spans.iter().any(|span| span.name == "chat")),
        );
        assert_eq!(status, 200);
        let [span] = spans.as_slice() else {
            panic!("one span, not {spans:?}")
        };
        assert_eq!(span.trace_id, "ab".repeat(16));
        assert_eq!(span.span_id, "01".repeat(8));
        assert_eq!(span.parent_span_id, Some("02".repeat(8)));
        assert_eq!(span.service_name, "api");
        assert_eq!(span.attributes["event.position"], "7");
        assert_eq!(span.attributes["user.id"], "u-1");
        assert_eq!(span.events[0].0, "appended");
        assert_eq!(span.events[0].1["ok"], "true");
        assert_eq!(receiver.spans(), spans);
    }

    #[tokio::test]
    async fn a_root_span_has_no_parent() {
        let receiver = OtlpReceiver::start().await;
        post(&receiver, export("root", &[])).await;
        assert_eq!(receiver.spans()[0].parent_span_id, None);
    }

    #[tokio::test]
    async fn bytes_that_are_not_an_export_are_refused() {
        let receiver = OtlpReceiver::start().await;
        assert_eq!(post(&receiver, b"\xff\xff\xff".to_vec()).await, 400);
        assert!(receiver.spans().is_empty());
    }
}
