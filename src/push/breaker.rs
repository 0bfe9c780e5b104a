//! The breaker of one vendor: after failures in a row nothing is sent for a while, then one call tries. Pure.
//!
//! A vendor that is down costs one call now and then, and a vendor that asks for patience gets it.

/// The failed calls in a row that open the breaker: fewer can be bad luck.
const FAILURES_MAX: u32 = 5;
/// The first pause of an open breaker, in ms. It doubles up to [`VENDOR_PAUSE_MS_MAX`].
const PAUSE_MS: u64 = 5000;
/// The longest pause, in ms: a vendor that is back after hours has its pushes five minutes later.
const VENDOR_PAUSE_MS_MAX: u64 = 300_000;
/// The pause after the vendor has refused our credentials, in ms. Only an operator can help, and repeats look like an attack.
const CREDENTIALS_PAUSE_MS: u64 = 600_000;

/// The breaker of one vendor.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// Failed calls in a row.
    failures: u32,
    /// The number of pauses in a row.
    pauses: u32,
    /// While it is open: nothing is sent before this time, Unix ms, and then one call at a time.
    open_until_ms: Option<u64>,
    /// True while the one call of an open breaker is under way.
    is_trying: bool,
    /// True while the vendor refuses our credentials.
    is_stopped: bool,
}

/// The change that a call's end made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BreakerTurn {
    /// None that an operator needs to know.
    Same,
    /// The breaker opened.
    Opened,
    /// The breaker closed: the vendor works again.
    Closed,
    /// The vendor refuses our credentials.
    Stopped,
}

impl Breaker {
    /// True if a call may begin now.
    pub(super) fn may_call(&self, now_ms: u64) -> bool {
        self.open_until_ms
            .is_none_or(|until_ms| now_ms >= until_ms && !self.is_trying)
    }

    /// The time at which a call may begin again, Unix ms; `None`: at once, or after the call that is under way.
    pub(super) fn opens_at_ms(&self) -> Option<u64> {
        self.open_until_ms.filter(|_| !self.is_trying)
    }

    /// True while it is open.
    pub(super) fn is_open(&self) -> bool {
        self.open_until_ms.is_some()
    }

    /// True while the vendor refuses our credentials.
    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// A call begins. Returns true if it is the one that tries.
    pub(super) fn begin(&mut self) -> bool {
        self.is_trying = self.is_open();
        self.is_trying
    }

    /// A call that had begun was not made.
    pub(super) fn give_back(&mut self, is_try: bool) {
        if is_try {
            self.is_trying = false;
        }
    }

    /// The vendor answered a call. `is_try`: as [`begin`](Self::begin) said. An answer to an older call does not close it.
    pub(super) fn succeed(&mut self, is_try: bool) -> BreakerTurn {
        if self.is_open() && !is_try {
            return BreakerTurn::Same;
        }
        let was_open = self.is_open();
        *self = Self::default();
        if was_open {
            BreakerTurn::Closed
        } else {
            BreakerTurn::Same
        }
    }

    /// A call failed, and the vendor may have asked for a pause. `random`: 0–1, so that vendors are not tried in step.
    pub(super) fn fail(
        &mut self,
        is_try: bool,
        now_ms: u64,
        asked_ms: Option<u64>,
        random: f64,
    ) -> BreakerTurn {
        if self.is_open() && !is_try {
            return BreakerTurn::Same;
        }
        self.failures += 1;
        // A vendor that asks for a pause gets it at once.
        if !is_try && self.failures < FAILURES_MAX && asked_ms.is_none() {
            return BreakerTurn::Same;
        }
        let pause_ms = backoff_ms(PAUSE_MS, VENDOR_PAUSE_MS_MAX, self.pauses, random);
        self.pauses += 1;
        self.open(now_ms, pause_ms.max(asked_ms.unwrap_or(0)));
        if is_try {
            BreakerTurn::Same
        } else {
            BreakerTurn::Opened
        }
    }

    /// The vendor refused our credentials.
    pub(super) fn stop(&mut self, now_ms: u64) -> BreakerTurn {
        let was_stopped = self.is_stopped;
        self.is_stopped = true;
        self.open(now_ms, CREDENTIALS_PAUSE_MS);
        if was_stopped {
            BreakerTurn::Same
        } else {
            BreakerTurn::Stopped
        }
    }

    fn open(&mut self, now_ms: u64, pause_ms: u64) {
        self.is_trying = false;
        self.open_until_ms = Some(now_ms.saturating_add(pause_ms));
    }
}

/// A pause that doubles with each one before it, up to `most_ms`; the second half of it is random.
pub(super) fn backoff_ms(first_ms: u64, most_ms: u64, before: u32, random: f64) -> u64 {
    let whole_ms = first_ms
        .saturating_mul(1 << before.min(20))
        .min(most_ms)
        .max(1);
    whole_ms / 2 + (whole_ms as f64 / 2.0 * random.clamp(0.0, 1.0)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_and_one_call_closes_it() {
        let mut breaker = Breaker::default();
        for _ in 1..FAILURES_MAX {
            assert_eq!(breaker.fail(false, 0, None, 1.0), BreakerTurn::Same);
        }
        assert!(breaker.may_call(0));
        assert_eq!(breaker.fail(false, 0, None, 1.0), BreakerTurn::Opened);
        assert!(!breaker.may_call(PAUSE_MS - 1) && breaker.may_call(PAUSE_MS));
        // A call from before it opened changes nothing.
        assert_eq!(breaker.succeed(false), BreakerTurn::Same);
        assert_eq!(breaker.fail(false, 0, None, 1.0), BreakerTurn::Same);
        assert!(breaker.begin());
        assert!(!breaker.may_call(PAUSE_MS), "one call tries");
        assert_eq!(breaker.fail(true, PAUSE_MS, None, 1.0), BreakerTurn::Same);
        assert!(!breaker.may_call(3 * PAUSE_MS - 1) && breaker.may_call(3 * PAUSE_MS));
        assert!(breaker.begin());
        assert_eq!(breaker.succeed(true), BreakerTurn::Closed);
        assert!(breaker.may_call(0) && !breaker.begin());
    }

    #[test]
    fn successes_in_between_keep_it_closed() {
        let mut breaker = Breaker::default();
        for _ in 0..4 * FAILURES_MAX {
            assert_eq!(breaker.fail(false, 0, None, 0.0), BreakerTurn::Same);
            assert_eq!(breaker.succeed(false), BreakerTurn::Same);
        }
    }

    #[test]
    fn a_vendor_that_asks_for_a_pause_gets_it_and_refused_credentials_stop_it() {
        let mut breaker = Breaker::default();
        assert_eq!(
            breaker.fail(false, 0, Some(60_000), 0.0),
            BreakerTurn::Opened
        );
        assert!(!breaker.may_call(59_999) && breaker.may_call(60_000));
        let mut breaker = Breaker::default();
        assert_eq!(breaker.stop(0), BreakerTurn::Stopped);
        assert_eq!(
            breaker.stop(0),
            BreakerTurn::Same,
            "the operator is told once"
        );
        assert!(breaker.is_stopped() && !breaker.may_call(CREDENTIALS_PAUSE_MS - 1));
        assert!(breaker.begin());
        assert_eq!(breaker.succeed(true), BreakerTurn::Closed);
        assert!(!breaker.is_stopped());
    }

    #[test]
    fn pauses_double_up_to_their_bound() {
        assert_eq!(backoff_ms(1000, 60_000, 0, 1.0), 1000);
        assert_eq!(backoff_ms(1000, 60_000, 0, 0.0), 500);
        assert_eq!(backoff_ms(1000, 60_000, 3, 1.0), 8000);
        assert_eq!(backoff_ms(1000, 60_000, 99, 1.0), 60_000);
    }
}
