//! The id of the request that is being answered: in errors, logs, traces and the response.

tokio::task_local! {
    static CURRENT: String;
}

/// The id of the request that is being answered; empty outside of one.
pub(crate) fn current() -> String {
    CURRENT.try_with(Clone::clone).unwrap_or_default()
}

/// Answers a request under its id.
pub(crate) async fn within<T>(id: String, answer: impl Future<Output = T>) -> T {
    CURRENT.scope(id, answer).await
}

/// Whether a caller's id can be taken over: 1 to 128 characters that need no escaping.
pub(crate) fn is_well_formed(id: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
    (1..=128).contains(&id.len()) && id.bytes().all(allowed)
}
