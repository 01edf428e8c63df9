//! How a behaviour becomes bytes over time.

use std::future::pending;
use std::time::Duration;

use futures_util::stream;
use poem::Body;
use tokio::sync::mpsc;

use super::wire::{Writer, event};
use super::{Behaviour, Gate};

/// The longest delta of an answer that is cut up here, in characters.
pub(super) const DELTA: usize = 12;

/// A behaviour as every answer plays it: deltas, perhaps held by a gate, and an end.
pub(super) struct Part {
    deltas: Vec<String>,
    gate: Option<Gate>,
    end: End,
}

enum End {
    Finish(&'static str),
    Garbage(String),
    Cut,
    Hang,
}

impl Part {
    /// The error is the status and message to refuse the request with.
    pub(super) fn of(behaviour: Behaviour) -> Result<Self, (u16, String)> {
        let mut gate = None;
        let (deltas, end) = match behaviour {
            Behaviour::Text(text) => (deltas_of(&text), End::Finish("stop")),
            Behaviour::Length(text) => (deltas_of(&text), End::Finish("length")),
            Behaviour::Chunks(chunks) => (chunks, End::Finish("stop")),
            Behaviour::Gated {
                chunks,
                gate: closed,
            } => {
                gate = Some(closed);
                (chunks, End::Finish("stop"))
            }
            Behaviour::Empty => (Vec::new(), End::Finish("stop")),
            Behaviour::Garbage(text) => (Vec::new(), End::Garbage(text)),
            Behaviour::CutAfter(chunks) => (chunks, End::Cut),
            Behaviour::HangAfter(chunks) => (chunks, End::Hang),
            Behaviour::Status(status, message) => return Err((status, message)),
        };
        Ok(Self { deltas, gate, end })
    }

    /// Plays in a task of its own, into the body that is given back. `guard` is dropped when the play is over, before
    /// the body ends or the gate tells that the client has gone.
    pub(super) fn perform(
        self,
        writer: Writer,
        latency: Duration,
        guard: impl Send + 'static,
    ) -> Body {
        let (out, body) = channel();
        tokio::spawn(async move {
            if let Some(gate) = &self.gate {
                gate.say_reached();
            }
            let gone = tokio::select! {
                biased;
                played = self.play(&writer, latency, &out) => played.is_err(),
                () = out.client_gone() => true,
            };
            drop(guard);
            if let Some(gate) = self.gate.filter(|_| gone) {
                gate.say_client_gone();
            }
        });
        body
    }

    async fn play(&self, writer: &Writer, latency: Duration, out: &Out) -> Result<(), Gone> {
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        if writer.streaming {
            out.send(writer.role()).await?;
        }
        for delta in &self.deltas {
            if let Some(gate) = &self.gate {
                gate.pass().await;
            }
            if writer.streaming {
                out.send(writer.delta(delta)).await?;
            }
        }
        let text = self.deltas.concat();
        match &self.end {
            End::Finish(reason) => out.send(writer.end(&text, reason)).await,
            End::Garbage(garbage) if writer.streaming => out.send(event(garbage)).await,
            End::Garbage(garbage) => out.send(garbage.clone()).await,
            End::Cut => {
                if !writer.streaming {
                    let mut whole = writer.end(&text, "stop").into_bytes();
                    whole.truncate(whole.len() / 2);
                    out.send(whole).await?;
                }
                out.cut().await
            }
            End::Hang => pending().await,
        }
    }
}

/// Cuts a text after each white space, and words that are long (or have no spaces between them) by characters.
fn deltas_of(text: &str) -> Vec<String> {
    text.split_inclusive(char::is_whitespace)
        .flat_map(|word| {
            let letters: Vec<char> = word.chars().collect();
            let parts: Vec<String> = letters
                .chunks(DELTA)
                .map(|part| part.iter().collect())
                .collect();
            parts
        })
        .collect()
}

/// Where an answer's bytes go while the response is being sent.
struct Out(mpsc::Sender<std::io::Result<Vec<u8>>>);

/// The client closed the connection.
struct Gone;

impl Out {
    async fn client_gone(&self) {
        self.0.closed().await;
    }

    async fn send(&self, bytes: impl Into<Vec<u8>>) -> Result<(), Gone> {
        self.0.send(Ok(bytes.into())).await.map_err(|_| Gone)
    }

    /// Makes the server drop the connection in the middle of the body.
    async fn cut(&self) -> Result<(), Gone> {
        let error = std::io::Error::other("cut off as scripted");
        self.0.send(Err(error)).await.map_err(|_| Gone)
    }
}

fn channel() -> (Out, Body) {
    let (sender, receiver) = mpsc::channel(1);
    let bytes = stream::unfold(receiver, |mut receiver| async move {
        let item: std::io::Result<Vec<u8>> = receiver.recv().await?;
        if item.is_err() {
            // Lets the connection flush what came before; the error would throw it away.
            tokio::task::yield_now().await;
        }
        Some((item, receiver))
    });
    (Out(sender), Body::from_bytes_stream(bytes))
}
