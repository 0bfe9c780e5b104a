//! The wait before a reconnect: full jitter, 0.5 s doubling to 30 s; and the close codes that forbid a reconnect. Pure.

use std::time::Duration;

/// The longest wait before the first attempt. The doubling starts from it.
const FIRST: Duration = Duration::from_millis(500);
/// No wait is longer, unless the server asks for it.
const LONGEST: Duration = Duration::from_secs(30);
/// The doubling restarts only after a session that lasted this long. Otherwise clients would flood a server that fails at
/// each connect.
const LASTING: Duration = Duration::from_secs(60);
/// The longest wait that a server may ask for. A wrong delay must not keep a client away for good.
const ASKED_MAX: Duration = Duration::from_secs(600);

/// The present ceiling of the waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    ceiling: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { ceiling: FIRST }
    }
}

impl Backoff {
    /// Notes that a session ended.
    pub fn ended_after(&mut self, lasted: Duration) {
        if lasted >= LASTING {
            self.ceiling = FIRST;
        }
    }

    /// The wait before the next attempt: a random time below the present ceiling, plus the time that the server asked for.
    pub fn next(&mut self, asked: Option<Duration>, random: &mut fastrand::Rng) -> Duration {
        let jitter = self.ceiling.mul_f64(random.f64());
        self.ceiling = (self.ceiling * 2).min(LONGEST);
        asked.unwrap_or_default().min(ASKED_MAX) + jitter
    }
}

/// True if a client may return by itself after this close code. 4000–4499 forbid it.
pub(crate) fn may_come_back(code: u16) -> bool {
    !(4000..4500).contains(&code)
}

/// The wait that a close asks for: the text of 4503 holds it, in ms.
pub(crate) fn asked_delay(code: u16, text: &str) -> Option<Duration> {
    let ms = (code == 4503).then(|| text.trim().parse().ok()).flatten();
    ms.map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_jittered_fully_and_double_to_thirty_seconds() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut longest = [Duration::ZERO; 10];
        let mut shortest = [Duration::MAX; 10];
        for _ in 0..2000 {
            let mut backoff = Backoff::default();
            for attempt in 0..10 {
                let wait = backoff.next(None, &mut random);
                longest[attempt] = longest[attempt].max(wait);
                shortest[attempt] = shortest[attempt].min(wait);
            }
        }
        let ceilings = [
            500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000, 30_000,
        ];
        for (attempt, ceiling) in ceilings.into_iter().map(Duration::from_millis).enumerate() {
            assert!(longest[attempt] <= ceiling && longest[attempt] > ceiling * 9 / 10);
            assert!(shortest[attempt] < ceiling / 10);
        }
    }

    #[test]
    fn only_a_session_of_a_minute_restarts_at_the_minimum() {
        let mut random = fastrand::Rng::with_seed(2);
        let mut backoff = Backoff::default();
        for _ in 0..5 {
            backoff.next(None, &mut random);
        }
        let grown = backoff;
        backoff.ended_after(Duration::from_secs(59));
        assert_eq!(backoff, grown);
        backoff.ended_after(Duration::from_secs(60));
        assert_eq!(backoff, Backoff::default());
    }

    #[test]
    fn what_the_server_asks_for_is_waited_for() {
        let mut random = fastrand::Rng::with_seed(3);
        let asked = asked_delay(4503, "7000");
        assert_eq!(asked, Some(Duration::from_secs(7)));
        let wait = Backoff::default().next(asked, &mut random);
        assert!(wait >= Duration::from_secs(7) && wait < Duration::from_millis(7500));
        assert_eq!(asked_delay(4503, "soon"), None);
        assert_eq!(asked_delay(4500, "7000"), None);
    }

    #[test]
    fn codes_4000_to_4499_stay_away_and_all_others_come_back() {
        for code in [4000, 4400, 4401, 4403, 4409, 4410, 4429, 4499] {
            assert!(!may_come_back(code), "{code}");
        }
        for code in [
            1000, 1001, 1006, 1009, 1011, 4500, 4501, 4502, 4503, 4508, 4999,
        ] {
            assert!(may_come_back(code), "{code}");
        }
    }
}
