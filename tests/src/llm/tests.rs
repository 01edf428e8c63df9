//! Each behaviour, seen by a client over HTTP.

use serde_json::json;

use super::play::DELTA;
use super::*;
use crate::eventually::{eventually, within};
use crate::http::http_client;

async fn ask(llm: &ScriptedLlm, body: Value) -> reqwest::Response {
    let url = format!("{}/chat/completions", llm.base_url());
    let request = http_client().post(url).bearer_auth("key").json(&body);
    request.send().await.unwrap()
}

async fn chat(llm: &ScriptedLlm) -> reqwest::Response {
    ask(llm, prompt(true)).await
}

async fn extract(llm: &ScriptedLlm) -> reqwest::Response {
    ask(llm, prompt(false)).await
}

fn prompt(stream: bool) -> Value {
    let messages = json!([
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
    ]);
    json!({"model": "small", "stream": stream, "messages": messages})
}

fn strings(parts: &[&str]) -> Vec<String> {
    parts.iter().map(|part| (*part).to_owned()).collect()
}

/// A stream as its `data:` lines; `cut` when the connection broke before its end.
#[derive(Debug, Default)]
struct Read {
    data: Vec<String>,
    cut: bool,
}

impl Read {
    async fn of(mut response: reqwest::Response) -> Self {
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut read = Self::default();
        let mut bytes = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(part)) => bytes.extend_from_slice(&part),
                Ok(None) => break,
                Err(_) => {
                    read.cut = true;
                    break;
                }
            }
        }
        for frame in String::from_utf8(bytes).unwrap().split_terminator("\n\n") {
            read.data
                .push(frame.strip_prefix("data: ").unwrap().to_owned());
        }
        read
    }

    fn done(&self) -> bool {
        self.data.last().is_some_and(|last| last == "[DONE]")
    }

    fn chunks(&self) -> Vec<Value> {
        let chunks = self.data.iter().filter(|data| *data != "[DONE]");
        chunks
            .map(|data| serde_json::from_str(data).unwrap())
            .collect()
    }

    fn deltas(&self) -> Vec<String> {
        let chunks = self.chunks();
        let deltas = chunks
            .iter()
            .filter_map(|c| c["choices"][0]["delta"]["content"].as_str());
        deltas
            .filter(|delta| !delta.is_empty())
            .map(str::to_owned)
            .collect()
    }

    fn finish_reasons(&self) -> Vec<String> {
        let chunks = self.chunks();
        let reasons = chunks
            .iter()
            .filter_map(|c| c["choices"][0]["finish_reason"].as_str());
        reasons.map(str::to_owned).collect()
    }
}

/// The next text of a stream that is still open.
async fn next_delta(response: &mut reqwest::Response) -> String {
    loop {
        let bytes = within("a delta", response.chunk()).await.unwrap().unwrap();
        let data = std::str::from_utf8(&bytes)
            .unwrap()
            .trim()
            .strip_prefix("data: ")
            .unwrap();
        let chunk: Value = serde_json::from_str(data).unwrap();
        match chunk["choices"][0]["delta"]["content"].as_str() {
            None | Some("") => {}
            Some(text) => return text.to_owned(),
        }
    }
}

#[tokio::test]
async fn a_reply_is_streamed_in_small_deltas_between_a_role_and_an_end() {
    let llm = ScriptedLlm::start().await;
    llm.reply("Grüß dich, Alice 👩‍🚀! お元気ですか。今日はとてもいい天気ですね。\n");
    let read = Read::of(chat(&llm).await).await;
    assert_eq!(read.chunks()[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(read.chunks()[0]["object"], "chat.completion.chunk");
    assert_eq!(read.chunks()[0]["model"], "small");
    assert_eq!(read.deltas()[..3], ["Grüß ", "dich, ", "Alice "]);
    assert_eq!(
        read.deltas().concat(),
        "Grüß dich, Alice 👩‍🚀! お元気ですか。今日はとてもいい天気ですね。\n"
    );
    assert!(
        read.deltas()
            .iter()
            .all(|delta| delta.chars().count() <= DELTA)
    );
    assert_eq!(read.finish_reasons(), ["stop"]);
    assert!(read.done());
    assert!(read.data.iter().all(|data| !data.contains("usage")));
}

#[tokio::test]
async fn the_usage_comes_last_when_it_was_asked_for() {
    let llm = ScriptedLlm::start().await;
    llm.reply("Fine, thanks");
    let mut body = prompt(true);
    body["stream_options"] = json!({"include_usage": true});
    let read = Read::of(ask(&llm, body).await).await;
    let chunks = read.chunks();
    let (last, others) = chunks.split_last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(
        last["usage"],
        json!({"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6})
    );
    assert!(others.iter().all(|chunk| chunk["usage"] == Value::Null));
    assert!(read.done());
}

#[tokio::test]
async fn queued_behaviours_are_used_once_and_in_order() {
    let llm = ScriptedLlm::start().await;
    llm.reply("always");
    llm.next(Behaviour::Text("first".into()));
    llm.next(Behaviour::Chunks(strings(&["a long second", " answer"])));
    assert_eq!(Read::of(chat(&llm).await).await.deltas(), ["first"]);
    assert_eq!(
        Read::of(chat(&llm).await).await.deltas(),
        ["a long second", " answer"]
    );
    assert_eq!(Read::of(chat(&llm).await).await.deltas(), ["always"]);
}

#[tokio::test]
async fn chats_and_extractions_have_scripts_of_their_own() {
    let llm = ScriptedLlm::start().await;
    llm.next(Behaviour::Text("for the chat".into()));
    llm.next_extraction(Behaviour::Text("{}".into()));
    let mut answers = Vec::new();
    for _ in 0..2 {
        let answer: Value = extract(&llm).await.json().await.unwrap();
        assert_eq!(answer["object"], "chat.completion");
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
        assert!(answer["usage"]["total_tokens"].is_u64());
        answers.push(answer["choices"][0]["message"]["content"].clone());
    }
    assert_eq!(answers, ["{}", r#"{"memories":[]}"#]);
    llm.extraction("Alice likes tea.");
    let answer: Value = extract(&llm).await.json().await.unwrap();
    assert_eq!(
        answer["choices"][0]["message"]["content"],
        "Alice likes tea."
    );
    assert_eq!(
        Read::of(chat(&llm).await).await.deltas().concat(),
        "for the chat"
    );
}

#[tokio::test]
async fn every_request_is_recorded_with_its_prompt_and_its_key() {
    let llm = ScriptedLlm::start().await;
    chat(&llm).await;
    extract(&llm).await;
    let models: Value = http_client()
        .get(format!("{}/models", llm.base_url()))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(models["data"][0]["id"], "local-model");
    let paths: Vec<_> = llm
        .requests()
        .into_iter()
        .map(|request| request.path)
        .collect();
    assert_eq!(paths, [COMPLETIONS, COMPLETIONS, MODELS]);
    let [request] = &llm.chat_requests()[..] else {
        panic!("one chat")
    };
    assert_eq!(request.authorization.as_deref(), Some("Bearer key"));
    assert_eq!(request.messages()[1], ("user".to_owned(), "Hi".to_owned()));
    assert_eq!(request.prompt(), "Be kind.\nHi");
    assert_eq!(llm.extraction_requests().len(), 1);
}

#[tokio::test]
async fn a_gate_lets_one_delta_pass_at_a_time() {
    let llm = ScriptedLlm::start().await;
    let gate = Gate::new();
    llm.next(Behaviour::Gated {
        chunks: strings(&["one", "two", "three", ""]),
        gate: gate.clone(),
    });
    let mut response = chat(&llm).await;
    gate.reached().await;
    assert_eq!(llm.chat_requests().len(), 1);
    gate.open_one();
    assert_eq!(next_delta(&mut response).await, "one");
    gate.open_one();
    assert_eq!(next_delta(&mut response).await, "two");
    assert_eq!(llm.unfinished(), 1);
    gate.open_all();
    assert_eq!(next_delta(&mut response).await, "three");
    assert!(Read::of(response).await.done());
    assert_eq!(llm.unfinished(), 0);
}

#[tokio::test]
async fn a_gate_tells_that_the_client_of_a_stream_has_gone() {
    let llm = ScriptedLlm::start().await;
    let gate = Gate::new();
    llm.next(Behaviour::Gated {
        chunks: strings(&["one", "two"]),
        gate: gate.clone(),
    });
    let mut response = chat(&llm).await;
    gate.open_one();
    assert_eq!(next_delta(&mut response).await, "one");
    assert!(!gate.is_client_gone());
    drop(response);
    gate.client_gone().await;
    assert_eq!(llm.unfinished(), 0);
}

#[tokio::test]
async fn a_gate_holds_an_extraction_and_tells_that_its_client_has_gone() {
    let llm = ScriptedLlm::start().await;
    let gate = Gate::new();
    llm.next_extraction(Behaviour::Gated {
        chunks: strings(&["{}"]),
        gate: gate.clone(),
    });
    let asking = tokio::spawn({
        let llm = llm.clone();
        async move { extract(&llm).await.text().await }
    });
    gate.reached().await;
    asking.abort();
    gate.client_gone().await;

    let gate = Gate::new();
    llm.next_extraction(Behaviour::Gated {
        chunks: strings(&["{", "}"]),
        gate: gate.clone(),
    });
    gate.open_all();
    let answer: Value = extract(&llm).await.json().await.unwrap();
    assert_eq!(answer["choices"][0]["message"]["content"], "{}");
    assert!(!gate.is_client_gone());
}

#[tokio::test]
async fn a_status_is_answered_in_the_error_format() {
    let llm = ScriptedLlm::start().await;
    llm.next(Behaviour::Status(429, "slow down".into()));
    let response = chat(&llm).await;
    assert_eq!(response.status(), 429);
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["error"]["message"], "slow down");
    assert_eq!(body["error"]["type"], "rate_limit_error");
    assert!(Read::of(chat(&llm).await).await.done());
}

#[tokio::test]
async fn garbage_stands_where_json_belongs() {
    let llm = ScriptedLlm::start().await;
    llm.next(Behaviour::Garbage("<html>".into()));
    let read = Read::of(chat(&llm).await).await;
    assert_eq!(read.data[1..], ["<html>"]);
    llm.next_extraction(Behaviour::Garbage("<html>".into()));
    assert_eq!(extract(&llm).await.text().await.unwrap(), "<html>");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_answer_has_its_deltas_and_no_end() {
    let llm = ScriptedLlm::start().await;
    // Often, because what is being proved is that no delta is lost in a race.
    for _ in 0..50 {
        llm.next(Behaviour::CutAfter(strings(&["Once ", "upon"])));
        let read = Read::of(chat(&llm).await).await;
        assert_eq!(read.deltas(), ["Once ", "upon"]);
        assert!(read.finish_reasons().is_empty());
        assert!(read.cut && !read.done());
    }
    llm.next_extraction(Behaviour::CutAfter(strings(&["Once"])));
    assert!(extract(&llm).await.bytes().await.is_err());
}

#[tokio::test]
async fn an_answer_that_hangs_stays_open_until_the_client_goes() {
    let llm = ScriptedLlm::start().await;
    llm.next(Behaviour::HangAfter(strings(&["Well"])));
    let mut response = chat(&llm).await;
    assert_eq!(next_delta(&mut response).await, "Well");
    assert_eq!(llm.unfinished(), 1);
    drop(response);
    eventually(async || match llm.unfinished() {
        0 => Ok(()),
        n => Err(format!("{n} unfinished")),
    })
    .await;
}

#[tokio::test]
async fn an_empty_answer_is_proper_and_has_no_text() {
    let llm = ScriptedLlm::start().await;
    llm.next(Behaviour::Empty);
    let read = Read::of(chat(&llm).await).await;
    assert!(read.deltas().is_empty() && read.done());
    llm.next_extraction(Behaviour::Empty);
    let answer: Value = extract(&llm).await.json().await.unwrap();
    assert_eq!(answer["choices"][0]["message"]["content"], "");
}

#[tokio::test]
async fn an_answer_that_is_too_long_says_so() {
    let llm = ScriptedLlm::start().await;
    llm.next(Behaviour::Length("and then".into()));
    let read = Read::of(chat(&llm).await).await;
    assert_eq!(read.deltas().concat(), "and then");
    assert_eq!(read.finish_reasons(), ["length"]);
    llm.next_extraction(Behaviour::Length("{\"mem".into()));
    let answer: Value = extract(&llm).await.json().await.unwrap();
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
}

#[tokio::test]
async fn a_request_that_is_not_understood_is_refused_and_uses_nothing_up() {
    let llm = ScriptedLlm::start().await;
    llm.next(Behaviour::Text("kept".into()));
    assert_eq!(ask(&llm, json!({"stream": true})).await.status(), 400);
    let client = http_client();
    let posted = client
        .post(format!("{}/chat/completions", llm.base_url()))
        .body("{");
    assert_eq!(posted.send().await.unwrap().status(), 400);
    let got = client.get(llm.base_url()).send().await.unwrap();
    assert_eq!(got.status(), 404);
    assert_eq!(
        got.json::<Value>().await.unwrap()["error"]["message"],
        "no such path"
    );
    assert_eq!(Read::of(chat(&llm).await).await.deltas(), ["kept"]);
}

#[tokio::test]
async fn a_stopped_server_refuses_connections_until_one_starts_on_its_port() {
    let llm = ScriptedLlm::start().await;
    llm.next(Behaviour::HangAfter(strings(&["Well"])));
    let mut open = chat(&llm).await;
    assert_eq!(next_delta(&mut open).await, "Well");
    llm.stop().await;
    assert!(open.chunk().await.is_err());
    let refused = http_client()
        .get(format!("{}/models", llm.base_url()))
        .send()
        .await;
    assert!(refused.unwrap_err().is_connect());
    let again = ScriptedLlm::start_on(llm.port()).await;
    assert_eq!(again.base_url(), llm.base_url());
    assert!(Read::of(chat(&again).await).await.done());
}

#[tokio::test]
async fn a_latency_holds_every_answer_back() {
    let llm = ScriptedLlm::start().await;
    llm.latency(Duration::from_millis(30));
    let asked = std::time::Instant::now();
    assert!(Read::of(chat(&llm).await).await.done());
    assert!(asked.elapsed() >= Duration::from_millis(30));
}
