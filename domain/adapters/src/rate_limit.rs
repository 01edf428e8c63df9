//! How often a user may call, and an address may fail to say who it is.
//!
//! Each limit is a token bucket that holds a minute's worth and refills steadily (the generic cell
//! rate algorithm). With Redis all processes share one bucket; without it, or while it is away, each
//! process has its own.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use companion_domain::ids::UserId;
use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::redis_link::RedisLink;

/// Takes a token: `KEYS[1]` the bucket, `ARGV` microseconds a token and how many it holds. Answers
/// whether there was one, how many are left, and in how many microseconds there is one again.
const TAKE: &str = "local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local step, size = tonumber(ARGV[1]), tonumber(ARGV[2])
local full_at = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
local next_full = full_at + step
local allowed_at = next_full - step * size
if allowed_at > now then return {0, 0, math.ceil(allowed_at - now)} end
redis.call('SET', KEYS[1], string.format('%.0f', next_full), 'PX', math.ceil((next_full - now) / 1000))
return {1, math.floor((now - allowed_at) / step), 0}";

/// How many times as many other calls a user has as calls that start a reply.
const OTHER_CALLS: u32 = 10;

/// Failed authentications a minute and network: far more than anybody makes who only has the wrong
/// credential, and nothing against a secret of 256 bits.
const FAILED_AUTHENTICATIONS: NonZeroU32 = NonZeroU32::new(600).expect("it is not 0");

/// What a call takes a token for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bucket {
    /// A reply of the LLM to this user.
    Replies(UserId),
    /// Any other call of this user.
    Calls(UserId),
    /// A failed authentication from this network, see [`network`].
    FailedAuthentications(IpAddr),
}

/// What an address is counted as: itself, or of IPv6 the /64 that one customer has.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() >> 64 << 64;
            Ipv6Addr::from_bits(network).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

impl Bucket {
    fn key(&self) -> String {
        match self {
            Self::Replies(user) => format!("companion:limit:replies:{user}"),
            Self::Calls(user) => format!("companion:limit:calls:{user}"),
            Self::FailedAuthentications(network) => format!("companion:limit:failed:{network}"),
        }
    }
}

/// What came of taking a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Whether there was one.
    pub allowed: bool,
    /// How many the bucket holds when it is full.
    pub limit: u32,
    /// How many are left.
    pub remaining: u32,
    /// Until there is one again; zero when there was one.
    pub retry_after: Duration,
    /// Until the bucket is full again.
    pub reset_after: Duration,
}

type Keyed =
    RateLimiter<Bucket, DashMapStateStore<Bucket>, DefaultClock, StateInformationMiddleware>;

/// All buckets.
#[derive(Clone)]
pub struct RateLimits {
    redis: Option<RedisLink>,
    per_minute: NonZeroU32,
    replies: Arc<Keyed>,
    calls: Arc<Keyed>,
    failed: Arc<Keyed>,
}

impl RateLimits {
    /// Buckets for so many replies a minute and user, ten times as many other calls, and failed
    /// authentications of a network, of which everybody has the same number.
    pub fn new(per_minute: u32, redis: Option<RedisLink>) -> Self {
        let per_minute = NonZeroU32::new(per_minute).unwrap_or(NonZeroU32::MIN);
        let keyed =
            |size| Arc::new(RateLimiter::dashmap(Quota::per_minute(size)).with_middleware());
        Self {
            redis,
            per_minute,
            replies: keyed(per_minute),
            calls: keyed(others(per_minute)),
            failed: keyed(FAILED_AUTHENTICATIONS),
        }
    }

    /// Takes a token.
    pub async fn take(&self, bucket: Bucket) -> Taken {
        let (limiter, size) = match bucket {
            Bucket::Replies(_) => (&self.replies, self.per_minute),
            Bucket::Calls(_) => (&self.calls, others(self.per_minute)),
            Bucket::FailedAuthentications(_) => (&self.failed, FAILED_AUTHENTICATIONS),
        };
        let step = Duration::from_secs(60) / size.get();
        let (remaining, retry_after) = match self.take_shared(bucket, step, size).await {
            Some(answer) => answer,
            None => match limiter.check_key(&bucket) {
                Ok(state) => (Some(state.remaining_burst_capacity()), Duration::ZERO),
                Err(refused) => (None, refused.wait_time_from(DefaultClock::default().now())),
            },
        };
        let left = remaining.unwrap_or(0);
        Taken {
            allowed: remaining.is_some(),
            limit: size.get(),
            remaining: left,
            retry_after,
            reset_after: step * size.get().saturating_sub(left),
        }
    }

    /// The same in Redis: how many are left, if there was one, and the time until there is. `None`
    /// when there is no Redis.
    async fn take_shared(
        &self,
        bucket: Bucket,
        step: Duration,
        size: NonZeroU32,
    ) -> Option<(Option<u32>, Duration)> {
        let redis = self.redis.as_ref()?;
        let script = redis::Script::new(TAKE);
        let mut call = script.key(bucket.key());
        call.arg(u64::try_from(step.as_micros()).unwrap_or(u64::MAX).max(1))
            .arg(size.get());
        let (allowed, left, wait): (u8, u32, u64) = redis.run_script(&call).await.ok()?;
        Some(((allowed == 1).then_some(left), Duration::from_micros(wait)))
    }

    /// Throws away the buckets of this process that are full again.
    pub fn tidy(&self) {
        for limiter in [&self.replies, &self.calls, &self.failed] {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }
}

fn others(per_minute: NonZeroU32) -> NonZeroU32 {
    per_minute.saturating_mul(NonZeroU32::new(OTHER_CALLS).unwrap_or(NonZeroU32::MIN))
}

#[cfg(test)]
mod tests {
    use companion_domain::ids::derived;

    use super::*;

    #[test]
    fn one_customers_addresses_are_counted_together() {
        let of = |text: &str| network(text.parse().expect(text)).to_string();
        assert_eq!(of("2001:db8:1:2:aaaa::1"), of("2001:db8:1:2:bbbb::2"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), "192.0.2.1");
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }

    #[tokio::test]
    async fn a_bucket_holds_a_minutes_worth_for_each_user() {
        let limits = RateLimits::new(3, None);
        let (alice, bob) = (UserId(derived(&["alice"])), UserId(derived(&["bob"])));
        for left in [2, 1, 0] {
            let taken = limits.take(Bucket::Replies(alice)).await;
            assert_eq!(
                (taken.allowed, taken.limit, taken.remaining),
                (true, 3, left)
            );
        }
        let refused = limits.take(Bucket::Replies(alice)).await;
        assert!(!refused.allowed);
        assert!(
            refused.retry_after > Duration::ZERO && refused.retry_after <= Duration::from_secs(20)
        );
        assert!(limits.take(Bucket::Replies(bob)).await.allowed);
        assert_eq!(limits.take(Bucket::Calls(alice)).await.limit, 30);
    }
}
