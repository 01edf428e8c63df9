//! What a memory is, and how its importance fades with time.

use std::collections::HashSet;

use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};

use crate::ids::{ConversationId, MessageId};

/// What kind of thing a memory states; it sets how fast the memory fades.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryKind {
    /// Something that is so: a name, a home, a job, a relation.
    Fact,
    /// A like, a dislike, a habit, a wish.
    Preference,
    /// Something that happened or will happen at a time.
    Event,
    /// A passing circumstance that helps for some days.
    Context,
}

impl MemoryKind {
    /// All kinds, in the order of the documentation.
    pub const ALL: [Self; 4] = [Self::Fact, Self::Preference, Self::Event, Self::Context];

    /// The kind's name in the API and in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fact => "fact",
            Self::Preference => "preference",
            Self::Event => "event",
            Self::Context => "context",
        }
    }

    /// The kind of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// Where a memory comes from: one message of the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Source {
    /// The conversation of the message.
    pub conversation_id: ConversationId,
    /// The message.
    pub message_id: MessageId,
}

/// The most messages that a memory names: what is told more often is no better founded, and each
/// change of a memory keeps them all once more.
pub const MAX_SOURCES: usize = 1_000;

/// Adds the messages that a memory does not name yet, in their order, as long as it names fewer than
/// [`MAX_SOURCES`].
pub fn add_sources(named: &mut Vec<Source>, more: &[Source]) {
    let mut seen: HashSet<Source> = named.iter().copied().collect();
    for source in more {
        if named.len() >= MAX_SOURCES {
            return;
        }
        if seen.insert(*source) {
            named.push(*source);
        }
    }
}

/// How fast memories fade.
#[derive(Debug, Clone, PartialEq)]
pub struct Decay {
    /// Half-life of a fact, days, > 0.
    pub fact_days: f64,
    /// Half-life of a preference, days, > 0.
    pub preference_days: f64,
    /// Half-life of an event, days, > 0.
    pub event_days: f64,
    /// Half-life of a circumstance, days, > 0.
    pub context_days: f64,
    /// The importance below which a memory counts as faded, 0..1.
    pub fade_below: f64,
}

impl Default for Decay {
    fn default() -> Self {
        Self {
            fact_days: 365.0,
            preference_days: 180.0,
            event_days: 90.0,
            context_days: 14.0,
            fade_below: 0.05,
        }
    }
}

impl Decay {
    /// The half-life of a kind, in days.
    pub fn half_life_days(&self, kind: MemoryKind) -> f64 {
        match kind {
            MemoryKind::Fact => self.fact_days,
            MemoryKind::Preference => self.preference_days,
            MemoryKind::Event => self.event_days,
            MemoryKind::Context => self.context_days,
        }
    }

    /// The importance of a memory at `now`, 0..=1:
    /// `importance · 2^(-(now - last_reinforced_at) / half_life(kind))`.
    ///
    /// A time in the future counts as now. A memory that the user asked to remember (`explicit`)
    /// keeps its importance.
    pub fn importance_now(
        &self,
        importance: f64,
        kind: MemoryKind,
        explicit: bool,
        last_reinforced_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> f64 {
        let importance = clamp_importance(importance);
        if explicit {
            return importance;
        }
        let age_days = (now - last_reinforced_at)
            .max(Duration::zero())
            .as_seconds_f64()
            / 86_400.0;
        importance * (-age_days / self.half_life_days(kind)).exp2()
    }
}

/// Brings an importance into 0..=1; what is no number becomes 0.5, the importance of "not said".
pub fn clamp_importance(importance: f64) -> f64 {
    if importance.is_nan() {
        0.5
    } else {
        importance.clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::derived;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).expect("in range")
    }

    #[test]
    fn a_memory_names_a_message_once_and_not_without_end() {
        let source = |n: usize| Source {
            conversation_id: ConversationId(derived(&["c"])),
            message_id: MessageId(derived(&["m", &n.to_string()])),
        };
        let mut named = Vec::new();
        add_sources(&mut named, &[source(1), source(2), source(1)]);
        add_sources(&mut named, &[source(2), source(3)]);
        assert_eq!(named, [source(1), source(2), source(3)]);
        let many: Vec<Source> = (0..10_000).map(source).collect();
        add_sources(&mut named, &many);
        assert_eq!(named.len(), MAX_SOURCES);
        assert_eq!(named[..4], [source(1), source(2), source(3), source(0)]);
    }

    #[test]
    fn a_half_life_halves_the_importance() {
        let decay = Decay::default();
        for kind in MemoryKind::ALL {
            let later = at((decay.half_life_days(kind) * 86_400.0) as i64);
            let now = decay.importance_now(0.8, kind, false, at(0), later);
            assert!((now - 0.4).abs() < 1e-9, "{kind:?}: {now}");
        }
    }

    #[test]
    fn what_the_user_asked_to_remember_does_not_decay() {
        let decay = Decay::default();
        assert_eq!(
            decay.importance_now(0.9, MemoryKind::Context, true, at(0), at(1 << 32)),
            0.9
        );
    }

    #[test]
    fn a_kind_has_one_name() {
        for kind in MemoryKind::ALL {
            assert_eq!(MemoryKind::parse(kind.as_str()), Some(kind));
        }
        assert_eq!(MemoryKind::parse("Fact"), None);
    }

    proptest! {
        #[test]
        fn importance_never_leaves_its_range_and_never_grows_with_age(
            importance in proptest::num::f64::ANY, a in 0i64..1 << 33, b in 0i64..1 << 33,
        ) {
            let decay = Decay::default();
            let (early, late) = (a.min(b), a.max(b));
            let of = |t| decay.importance_now(importance, MemoryKind::Event, false, at(0), at(t));
            prop_assert!((0.0..=1.0).contains(&of(early)));
            prop_assert!(of(late) <= of(early));
        }
    }
}
