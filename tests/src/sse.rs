//! A strict reader of the service's event stream: what a lenient client would forgive fails the test.

use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;

/// How long the stream may say nothing at all; the service promises a comment every 15 s.
const SILENCE: Duration = Duration::from_secs(30);

/// One event of the stream.
#[derive(Debug, Clone, PartialEq)]
pub struct SseEvent {
    /// The `id:` line, when there was one.
    pub id: Option<String>,
    /// The `data:` line, read as a JSON object.
    pub data: Value,
    /// The `data:` line as it was sent, for assertions about the order of keys.
    pub raw: String,
}

impl SseEvent {
    /// The text this event adds to the reply; empty for the last event.
    #[must_use]
    pub fn chunk(&self) -> &str {
        self.data["chunk"].as_str().unwrap_or_default()
    }

    /// Whether this is the stream's last event, good or bad.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.data["done"] == true
    }

    /// The error code of a reply that failed.
    #[must_use]
    pub fn error_code(&self) -> Option<&str> {
        self.data["error"]["code"].as_str()
    }
}

/// The whole reply: the chunks of all events, put together.
#[must_use]
pub fn text(events: &[SseEvent]) -> String {
    events.iter().map(SseEvent::chunk).collect()
}

/// Reads the stream to its end.
///
/// # Panics
///
/// As [`SseReader::next`].
pub async fn read_events(response: reqwest::Response) -> Vec<SseEvent> {
    let mut reader = SseReader::new(response);
    let mut events = Vec::new();
    while let Some(event) = reader.next().await {
        events.push(event);
    }
    events
}

/// Reads the stream event by event. Dropping it closes the connection, as a client that leaves does.
#[derive(Debug)]
pub struct SseReader {
    response: reqwest::Response,
    checked: bool,
    frames: Frames,
}

impl SseReader {
    /// A reader at the stream's start; the status and content type are checked by the first read.
    #[must_use]
    pub fn new(response: reqwest::Response) -> Self {
        Self {
            response,
            checked: false,
            frames: Frames::default(),
        }
    }

    /// How many comment lines have passed so far.
    #[must_use]
    pub fn comments(&self) -> usize {
        self.frames.comments
    }

    /// The next event, or `None` at the stream's proper end.
    ///
    /// # Panics
    ///
    /// When the answer is not an event stream, a frame is malformed, the connection breaks or nothing comes for 30 s.
    pub async fn next(&mut self) -> Option<SseEvent> {
        match self.try_next().await {
            Ok(event) => event,
            Err(error) => panic!("the event stream broke off: {error:?}"),
        }
    }

    /// [`SseReader::next`] for tests that kill the service: a broken connection is an error, all else still panics.
    ///
    /// # Errors
    ///
    /// The client's, when the connection broke.
    pub async fn try_next(&mut self) -> Result<Option<SseEvent>, reqwest::Error> {
        if !self.checked {
            self.refuse_other_answers().await?;
            self.checked = true;
        }
        loop {
            match self.frames.pop() {
                Ok(Some(event)) => return Ok(Some(event)),
                Ok(None) => {}
                Err(problem) => panic!("malformed event stream: {problem}"),
            }
            match timeout(SILENCE, self.response.chunk()).await {
                Err(_) => panic!("the event stream said nothing for {SILENCE:?}"),
                Ok(read) => match read? {
                    Some(bytes) => self.frames.push(&bytes),
                    None if self.frames.buffer.is_empty() => return Ok(None),
                    None => panic!(
                        "the event stream ended inside a frame: {:?}",
                        String::from_utf8_lossy(&self.frames.buffer)
                    ),
                },
            }
        }
    }

    async fn refuse_other_answers(&mut self) -> Result<(), reqwest::Error> {
        let content_type = self
            .response
            .headers()
            .get("content-type")
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        let status = self.response.status();
        if status == 200 && content_type.split(';').next() == Some("text/event-stream") {
            return Ok(());
        }
        let mut body = Vec::new();
        while let Some(bytes) = self.response.chunk().await? {
            body.extend_from_slice(&bytes);
        }
        panic!(
            "not an event stream: {status} {content_type:?} {}",
            String::from_utf8_lossy(&body)
        );
    }
}

/// The bytes received and not yet given out as events.
#[derive(Debug, Default)]
struct Frames {
    buffer: Vec<u8>,
    comments: usize,
}

impl Frames {
    fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete event; frames that hold only comments are counted and passed over.
    fn pop(&mut self) -> Result<Option<SseEvent>, String> {
        while let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
            let frame: Vec<u8> = self.buffer.drain(..end + 2).take(end).collect();
            let frame = String::from_utf8(frame).map_err(|error| format!("not UTF-8: {error}"))?;
            if let Some(event) = self
                .parse(&frame)
                .map_err(|why| format!("{why}: {frame:?}"))?
            {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    fn parse(&mut self, frame: &str) -> Result<Option<SseEvent>, String> {
        let (mut id, mut raw, mut comments) = (None, None, 0);
        for line in frame.split('\n') {
            if line.contains('\r') {
                return Err("a carriage return".into());
            } else if line.starts_with(':') {
                comments += 1;
            } else if let Some(value) = line.strip_prefix("id: ") {
                set_once(&mut id, value, "id")?;
            } else if let Some(value) = line.strip_prefix("data: ") {
                set_once(&mut raw, value, "data")?;
            } else {
                return Err(format!("the line {line:?} is not promised"));
            }
        }
        self.comments += comments;
        match (id, raw) {
            (None, None) => Ok(None),
            (Some(_), None) => Err("an id without data".into()),
            (id, Some(raw)) => {
                let data: Value = serde_json::from_str(&raw)
                    .map_err(|error| format!("data that is not JSON ({error})"))?;
                if !data.is_object() {
                    return Err("data that is not a JSON object".into());
                }
                Ok(Some(SseEvent { id, data, raw }))
            }
        }
    }
}

fn set_once(slot: &mut Option<String>, value: &str, name: &str) -> Result<(), String> {
    match slot.replace(value.to_owned()) {
        None => Ok(()),
        Some(_) => Err(format!("several {name} lines")),
    }
}

#[cfg(test)]
mod tests {
    use poem::{Response, endpoint::make_sync, http::StatusCode};
    use proptest::prelude::*;

    use super::*;
    use crate::http::{LocalServer, http_client};

    const REPLY: &str = ":\n\nid: r:6\ndata: {\"chunk\": \"Grüß\"}\n\nid: r:done\ndata: {\"chunk\": \"\", \"done\": true}\n\n";

    async fn answer(status: u16, content_type: &'static str, body: &'static str) -> SseReader {
        let endpoint = make_sync(move |_| {
            Response::builder()
                .status(StatusCode::from_u16(status).unwrap())
                .content_type(content_type)
                .body(body)
        });
        let server = LocalServer::start(0, endpoint).await;
        let url = format!("http://127.0.0.1:{}/", server.port());
        let response = http_client().get(url).send().await.unwrap();
        SseReader::new(response)
    }

    fn problem(frame: &str) -> String {
        let mut frames = Frames::default();
        frames.push(frame.as_bytes());
        frames.pop().unwrap_err()
    }

    #[tokio::test]
    async fn events_are_read_in_order_and_comments_are_counted() {
        let mut reader = answer(200, "text/event-stream", REPLY).await;
        let first = reader.next().await.unwrap();
        assert_eq!(first.id.as_deref(), Some("r:6"));
        assert_eq!(first.raw, "{\"chunk\": \"Grüß\"}");
        assert!(!first.is_done());
        let last = reader.next().await.unwrap();
        assert!(last.is_done());
        assert_eq!(last.error_code(), None);
        assert_eq!(reader.next().await, None);
        assert_eq!(reader.comments(), 1);
        assert_eq!(text(&[first, last]), "Grüß");
    }

    #[tokio::test]
    #[should_panic(
        expected = "404 Not Found \"application/problem+json\" {\"code\":\"not_found\"}"
    )]
    async fn an_error_answer_is_shown_in_full() {
        let body = "{\"code\":\"not_found\"}";
        answer(404, "application/problem+json", body)
            .await
            .next()
            .await;
    }

    #[tokio::test]
    #[should_panic(expected = "ended inside a frame")]
    async fn a_stream_that_ends_inside_a_frame_is_refused() {
        let body = "data: {\"chunk\": \"Hel";
        answer(200, "text/event-stream", body).await.next().await;
    }

    #[test]
    fn frames_that_the_contract_does_not_promise_are_refused() {
        assert!(problem("event: message\ndata: {}\n\n").contains("event: message"));
        assert!(problem("retry: 3000\n\n").contains("retry: 3000"));
        assert!(problem("data: {\ndata: }\n\n").contains("several data lines"));
        assert!(problem("id: a\nid: b\ndata: {}\n\n").contains("several id lines"));
        assert!(problem("id: a\n\n").contains("an id without data"));
        assert!(problem("data: Hello\n\n").contains("not JSON"));
        assert!(problem("data: 1\n\n").contains("not a JSON object"));
        assert!(problem("data: {}\r\n\r\n\n\n").contains("carriage return"));
        assert!(problem("\n\n").contains("not promised"));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_the_network_cuts_the_bytes(cut in 0..REPLY.len()) {
            let mut frames = Frames::default();
            let mut events = Vec::new();
            for part in [&REPLY.as_bytes()[..cut], &REPLY.as_bytes()[cut..]] {
                frames.push(part);
                while let Some(event) = frames.pop().unwrap() {
                    events.push(event);
                }
            }
            prop_assert_eq!(text(&events), "Grüß");
            prop_assert_eq!(events.len(), 2);
            prop_assert!(frames.buffer.is_empty());
        }
    }
}
