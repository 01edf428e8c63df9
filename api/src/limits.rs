//! The limits on how much one caller may ask for: calls a minute, failed authentications, replies
//! at once.
//!
//! Every call of a known user is counted once: one that starts a reply as a reply, any other as a
//! call. What was counted stands in the `RateLimit-*` headers of the answer.

use std::cell::Cell;
use std::net::IpAddr;
use std::time::Duration;

use companion_adapters::rate_limit::{Bucket, Taken, network};
use companion_domain::ids::UserId;
use poem::http::{HeaderName, header};
use poem::{IntoResponse, Response};

use crate::app::App;
use crate::code::Code;
use crate::error::Problem;
use crate::replies::Full;

const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

tokio::task_local! {
    static STANDING: Cell<Standing>;
}

/// What is known of the request that is being answered.
#[derive(Debug, Clone, Copy, Default)]
struct Standing {
    user: Option<UserId>,
    counted: Option<Taken>,
}

fn note(change: impl FnOnce(&mut Standing)) {
    // Outside of a request nobody is counted.
    let _ = STANDING.try_with(|standing| {
        let mut changed = standing.get();
        change(&mut changed);
        standing.set(changed);
    });
}

/// Answers a request, counts it, and says so in its headers.
pub(crate) async fn counted(app: &App, answer: impl Future<Output = Response>) -> Response {
    let (mut response, standing) = STANDING
        .scope(Cell::default(), async {
            let response = answer.await;
            (response, STANDING.with(Cell::get))
        })
        .await;
    let taken = match standing {
        Standing { user: None, .. } => return response,
        Standing {
            counted: Some(taken),
            ..
        } => taken,
        Standing {
            user: Some(user), ..
        } => {
            let taken = app.limits.take(Bucket::Calls(user)).await;
            if !taken.allowed {
                return too_many_calls(&taken).into_response();
            }
            taken
        }
    };
    for (name, value) in headers(&taken) {
        if !response.headers().contains_key(&name) {
            response.headers_mut().insert(name, value.into());
        }
    }
    response
}

/// Says whose request it is. It is counted when it has been answered.
pub(crate) fn is_by(user: UserId) {
    note(|standing| standing.user = Some(user));
}

/// Whose request it is that is being answered, once that is known.
pub(crate) fn user() -> Option<UserId> {
    STANDING.try_with(Cell::get).ok()?.user
}

/// Counts the request before anything is done for it.
///
/// # Errors
/// 429 when the user has made too many.
pub(crate) async fn count_call(app: &App, user: UserId) -> Result<(), Problem> {
    let taken = app.limits.take(Bucket::Calls(user)).await;
    note(|standing| standing.counted = Some(taken));
    if taken.allowed {
        Ok(())
    } else {
        Err(too_many_calls(&taken))
    }
}

/// Counts a reply that is about to be started.
///
/// # Errors
/// 429 when the user has had too many.
pub(crate) async fn count_reply(app: &App, user: UserId) -> Result<Taken, Problem> {
    let taken = app.limits.take(Bucket::Replies(user)).await;
    if taken.allowed {
        return Ok(taken);
    }
    let detail = format!(
        "You may ask for {} replies a minute. Send the message again in {} s.",
        taken.limit,
        seconds(taken.retry_after)
    );
    Err(refusal(Code::RateLimited, detail, &taken))
}

/// Says that the request has started a reply.
pub(crate) fn counts_as_reply(taken: Taken) {
    note(|standing| standing.counted = Some(taken));
}

/// Counts a guess at a credential.
///
/// # Errors
/// 429 when there were too many from that address.
pub(crate) async fn guessed(app: &App, address: Option<IpAddr>) -> Result<(), Problem> {
    let Some(address) = address else {
        return Ok(());
    };
    let taken = app
        .limits
        .take(Bucket::FailedAuthentications(network(address)))
        .await;
    if taken.allowed {
        return Ok(());
    }
    let detail = format!(
        "Too many requests from this address had no valid credential. Try again in {} s, with a valid one.",
        seconds(taken.retry_after)
    );
    Err(refusal(Code::TooManyFailedAuthentications, detail, &taken))
}

fn too_many_calls(taken: &Taken) -> Problem {
    let detail = format!(
        "You may call {} times a minute. Try again in {} s.",
        taken.limit,
        seconds(taken.retry_after)
    );
    refusal(Code::RateLimited, detail, taken)
}

fn refusal(code: Code, detail: String, taken: &Taken) -> Problem {
    let problem = Problem::new(code, detail)
        .header(header::RETRY_AFTER, seconds(taken.retry_after).to_string());
    headers(taken)
        .into_iter()
        .fold(problem, |problem, (name, value)| {
            problem.header(name, value.to_string())
        })
}

fn headers(taken: &Taken) -> [(HeaderName, u64); 3] {
    [
        (LIMIT, taken.limit.into()),
        (REMAINING, taken.remaining.into()),
        (RESET, seconds(taken.reset_after)),
    ]
}

/// Whole seconds, rounded up.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

impl From<Full> for Problem {
    fn from(full: Full) -> Self {
        match full {
            Full::All => Code::TooBusy.into(),
            Full::User => Code::TooManyReplies.into(),
        }
    }
}
