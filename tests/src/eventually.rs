//! Waiting for something to become true, so that no test has to guess how long it takes.

use std::future::Future;
use std::panic::Location;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};

/// How long a test waits for anything before it fails.
pub const DEADLINE: Duration = Duration::from_secs(60);

const STEP: Duration = Duration::from_millis(20);

/// Repeats `attempt` every 20 ms until it answers `Ok`, and gives that value back.
///
/// # Panics
///
/// After [`DEADLINE`], with the last error and the caller's line.
#[track_caller]
pub fn eventually<T, F, Fut>(attempt: F) -> impl Future<Output = T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, String>>,
{
    eventually_within(DEADLINE, attempt)
}

/// [`eventually`] with a deadline of its own, for what is known to be slower or quicker.
///
/// # Panics
///
/// After `limit`, with the last error and the caller's line. An attempt that hangs is cut off there too.
#[track_caller]
pub fn eventually_within<T, F, Fut>(limit: Duration, mut attempt: F) -> impl Future<Output = T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, String>>,
{
    let caller = Location::caller();
    async move {
        let end = Instant::now() + limit;
        let mut last = "the first attempt never finished".to_owned();
        loop {
            match timeout_at(end, attempt()).await {
                Ok(Ok(value)) => return value,
                Ok(Err(error)) => last = error,
                Err(_) => {}
            }
            assert!(
                Instant::now() + STEP < end,
                "not within {limit:?}, asked at {caller}: {last}"
            );
            sleep(STEP).await;
        }
    }
}

/// Awaits one thing that is sure to come; `what` completes the sentence "waited for …".
///
/// # Panics
///
/// After [`DEADLINE`], with `what` and the caller's line.
#[track_caller]
pub fn within<T>(what: &str, thing: impl Future<Output = T>) -> impl Future<Output = T> {
    let caller = Location::caller();
    async move {
        match timeout(DEADLINE, thing).await {
            Ok(value) => value,
            Err(_) => panic!("waited {DEADLINE:?} for {what}, asked at {caller}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_attempt_is_repeated_until_it_succeeds() {
        let mut tries = 0;
        let value = eventually(|| {
            tries += 1;
            let now = tries;
            async move {
                if now < 3 {
                    Err(format!("only {now}"))
                } else {
                    Ok(now)
                }
            }
        })
        .await;
        assert_eq!(value, 3);
    }

    #[tokio::test]
    #[should_panic(expected = "still red")]
    async fn the_last_error_is_told_when_time_is_up() {
        eventually_within(Duration::from_millis(50), async || {
            Err::<(), _>("still red".to_owned())
        })
        .await;
    }

    #[tokio::test]
    #[should_panic(expected = "eventually.rs")]
    async fn an_attempt_that_hangs_does_not_hang_the_test() {
        eventually_within(Duration::from_millis(50), || {
            std::future::pending::<Result<(), String>>()
        })
        .await;
    }
}
