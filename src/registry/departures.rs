//! The device classes of users whose last sessions left a short while ago. A class that left a moment ago is not absent: its client may
//! be in a tunnel, and comes back by itself.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    mem::take,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::{
    clock::Clock,
    config::DeviceClass,
    ids::{Platform, UserId},
};

/// The departures that are remembered of each span: some 32 MB. In a span with more of them nobody counts as absent, so a decision
/// about absence falls later.
const DEPARTURES_MAX: usize = 1 << 20;

/// The departures of the latest span, and of the one before.
pub struct Departures {
    clock: Arc<Clock>,
    span_ms: u64,
    hasher: RandomState,
    spans: Mutex<Spans>,
}

/// Times of departures, Unix ms, by a digest of user and class.
#[derive(Default)]
struct Spans {
    /// The time at which `present` began.
    began_ms: u64,
    present: HashMap<u64, u64>,
    before: HashMap<u64, u64>,
    /// The time of the last departure that found no room.
    lost_ms: Option<u64>,
}

impl Departures {
    /// Remembers each departure for this long.
    pub fn new(clock: Arc<Clock>, span: Duration) -> Self {
        Self {
            clock,
            span_ms: span.as_millis() as u64,
            hasher: RandomState::new(),
            spans: Mutex::default(),
        }
    }

    /// A session of the user on this platform leaves now.
    pub fn note(&self, user: &UserId, platform: Platform) {
        if let Some(class) = DeviceClass::of(platform) {
            self.note_at(user, class, self.clock.now_ms());
        }
    }

    fn note_at(&self, user: &UserId, class: DeviceClass, now_ms: u64) {
        let key = self.hasher.hash_one((user, class));
        let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        spans.turn(now_ms, self.span_ms);
        if spans.present.len() < DEPARTURES_MAX {
            spans.present.insert(key, now_ms);
        } else {
            spans.lost_ms = Some(now_ms);
        }
    }

    /// True if a session of the user's class left within the span before now, or may have.
    pub fn has_left(&self, user: &UserId, class: DeviceClass, now_ms: u64) -> bool {
        let key = self.hasher.hash_one((user, class));
        let spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        let known = [&spans.present, &spans.before].map(|span| span.get(&key).copied());
        let times = known.into_iter().chain([spans.lost_ms]).flatten();
        times
            .into_iter()
            .any(|left_ms| left_ms.saturating_add(self.span_ms) > now_ms)
    }
}

impl Spans {
    /// Begins a new span if the present one is over.
    fn turn(&mut self, now_ms: u64, span_ms: u64) {
        let passed_ms = now_ms.saturating_sub(self.began_ms);
        if passed_ms < span_ms {
            return;
        }
        self.before = take(&mut self.present);
        if passed_ms >= span_ms.saturating_mul(2) {
            self.before.clear();
        }
        self.began_ms = now_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn departures() -> Departures {
        Departures::new(Arc::new(Clock::system()), Duration::from_secs(10))
    }

    #[test]
    fn a_class_has_left_for_one_span_and_then_it_is_absent() {
        let departures = departures();
        let user = UserId::new("u").unwrap();
        let class = DeviceClass::Mobile;
        departures.note_at(&user, class, 100_000);
        for other_ms in [105_000, 109_999] {
            let other = UserId::new("other").unwrap();
            departures.note_at(&other, class, other_ms);
            assert!(departures.has_left(&user, class, other_ms));
        }
        assert!(!departures.has_left(&user, class, 110_000));
        assert!(!departures.has_left(&user, DeviceClass::Pc, 100_000));
    }

    #[test]
    fn a_departure_in_the_span_before_counts() {
        let departures = departures();
        let users: Vec<_> = ["a", "b", "c"]
            .map(|user| UserId::new(user).unwrap())
            .into();
        let class = DeviceClass::Web;
        departures.note_at(&users[0], class, 109_000);
        departures.note_at(&users[1], class, 112_000);
        assert!(departures.has_left(&users[0], class, 112_000));
        departures.note_at(&users[2], class, 150_000);
        assert!(!departures.has_left(&users[1], class, 150_000));
        assert!(departures.spans.lock().unwrap().before.is_empty());
    }

    #[test]
    fn in_a_span_with_too_many_departures_nobody_is_absent() {
        let departures = departures();
        let user = UserId::new("u").unwrap();
        let class = DeviceClass::Mobile;
        departures.note_at(&user, class, 100_000);
        {
            let mut spans = departures.spans.lock().unwrap();
            spans
                .present
                .extend((0..DEPARTURES_MAX as u64).map(|key| (key, 0)));
        }
        departures.note_at(&user, class, 100_001);
        assert!(departures.has_left(&UserId::new("v").unwrap(), class, 105_000));
        assert!(!departures.has_left(&UserId::new("v").unwrap(), class, 110_001));
    }
}
