//! A message, its reply, and what is kept of them.

use companion_tests::app::App;
use serde_json::json;

#[tokio::test]
async fn a_message_is_answered_as_a_stream_that_ends_with_done() {
    let app = App::start().await;
    app.llm.reply("Hello Alice! It's great to meet you.");
    let chatted = app.chat("alice", "Hello, my name is Alice", None).await;
    assert_eq!(chatted.text, "Hello Alice! It's great to meet you.");
    assert_eq!(chatted.last(), &json!({"chunk": "", "done": true, "conversation_id": chatted.conversation_id}));
}
