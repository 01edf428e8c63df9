//! What the service remembers.

use companion_tests::app::App;

#[tokio::test]
async fn a_new_conversation_knows_what_was_said_in_another() {
    let app = App::start().await;
    app.chat("alice", "Hello, my name is Alice and I love programming in Rust", None).await;
    assert_eq!(app.memories("alice").await, ["User loves programming in Rust", "User's name is Alice"]);
    app.chat("alice", "What do you know about me?", None).await;
    assert!(app.last_prompt().contains("User's name is Alice"));
    app.chat("bob", "What do you know about me?", None).await;
    assert!(!app.last_prompt().contains("Alice"));
}
