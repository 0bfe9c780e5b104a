//! The breaker of one vendor: after failures in a row nothing is sent for a while, then one call tries. Pure.
//!
//! A vendor that is down costs one call now and then. Some answers are about a user's device and not about the vendor, and no answer says
//! which. Therefore a failure counts only with a user of whom no failure has counted since the last success, and only with a task that
//! had not failed before: no user can stop a vendor for the others.

use crate::ids::UserId;

/// The failed calls in a row that open the breaker, each of another user: fewer can be bad luck, or one user's doing.
const FAILURES_MAX: usize = 5;
/// The users of failed calls that are kept. With so many the pauses have long reached their bound.
const FAILED_USERS_MAX: usize = 64;
/// The first pause of an open breaker, in ms. It doubles up to [`VENDOR_PAUSE_MS_MAX`].
const PAUSE_MS: u64 = 5000;
/// The longest pause, in ms: a vendor that is back after hours has its pushes five minutes later.
const VENDOR_PAUSE_MS_MAX: u64 = 300_000;
/// The pause after the vendor has refused our credentials, in ms. Only an operator can help, and repeats look like an attack.
const CREDENTIALS_PAUSE_MS: u64 = 600_000;

/// The breaker of one vendor.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// The users of failed calls since the last success, one of each call that counts.
    failed: Vec<UserId>,
    /// The number of pauses in a row that became longer.
    pauses: u32,
    /// While it is open: nothing is sent before this time, Unix ms, and then one call at a time.
    open_until_ms: Option<u64>,
    /// True while the one call of an open breaker is under way.
    is_trying: bool,
    /// True while the vendor refuses our credentials.
    is_stopped: bool,
}

/// A call that failed.
#[derive(Debug)]
pub(super) struct FailedCall<'a> {
    /// As [`Breaker::begin`] said.
    pub(super) is_try: bool,
    /// The pause that the vendor asks for, in ms.
    pub(super) asked_ms: Option<u64>,
    /// The users whose tasks failed for the first time, without users who have failed tasks already.
    pub(super) users: &'a [&'a UserId],
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

    /// A call failed. `random`: 0–1, so that vendors are not tried in step.
    pub(super) fn fail(&mut self, call: &FailedCall<'_>, now_ms: u64, random: f64) -> BreakerTurn {
        if self.is_open() && !call.is_try {
            return BreakerTurn::Same;
        }
        let another = call.users.iter().find(|user| !self.failed.contains(user));
        if let Some(user) = another
            && self.failed.len() < FAILED_USERS_MAX
        {
            self.failed.push((*user).clone());
        }
        let counts = another.is_some();
        if !call.is_try && (!counts || self.failed.len() < FAILURES_MAX) {
            return BreakerTurn::Same;
        }
        // A failure that may be about a device makes no pause longer.
        let before = self.pauses.saturating_sub(u32::from(!counts));
        let pause_ms = backoff_ms(PAUSE_MS, VENDOR_PAUSE_MS_MAX, before, random);
        self.pauses = before + 1;
        let asked_ms = call.asked_ms.filter(|_| counts).unwrap_or(0);
        self.open(now_ms, pause_ms.max(asked_ms.min(VENDOR_PAUSE_MS_MAX)));
        if call.is_try {
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

    fn fail(
        breaker: &mut Breaker,
        is_try: bool,
        user: usize,
        asked_ms: Option<u64>,
    ) -> BreakerTurn {
        let now_ms = breaker.opens_at_ms().unwrap_or(0);
        let user = UserId::new(&format!("u{user}")).unwrap();
        let call = FailedCall {
            is_try,
            asked_ms,
            users: &[&user],
        };
        breaker.fail(&call, now_ms, 1.0)
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_one_call_closes_it() {
        let mut breaker = Breaker::default();
        for user in 1..FAILURES_MAX {
            assert_eq!(fail(&mut breaker, false, user, None), BreakerTurn::Same);
        }
        assert!(breaker.may_call(0));
        assert_eq!(fail(&mut breaker, false, 0, None), BreakerTurn::Opened);
        assert!(!breaker.may_call(PAUSE_MS - 1) && breaker.may_call(PAUSE_MS));
        // A call from before it opened changes nothing.
        assert_eq!(breaker.succeed(false), BreakerTurn::Same);
        assert_eq!(fail(&mut breaker, false, 90, None), BreakerTurn::Same);
        assert!(breaker.begin());
        assert!(!breaker.may_call(PAUSE_MS), "one call tries");
        breaker.give_back(true);
        assert_eq!(fail(&mut breaker, true, 91, None), BreakerTurn::Same);
        assert!(!breaker.may_call(3 * PAUSE_MS - 1) && breaker.may_call(3 * PAUSE_MS));
        assert!(breaker.begin());
        assert_eq!(breaker.succeed(true), BreakerTurn::Closed);
        assert!(breaker.may_call(0) && !breaker.begin());
    }

    #[test]
    fn successes_in_between_keep_it_closed() {
        let mut breaker = Breaker::default();
        for user in 0..4 * FAILURES_MAX {
            assert_eq!(fail(&mut breaker, false, user, None), BreakerTurn::Same);
            assert_eq!(breaker.succeed(false), BreakerTurn::Same);
        }
    }

    #[test]
    fn the_failures_of_one_user_neither_open_it_nor_make_its_pauses_longer() {
        let mut breaker = Breaker::default();
        for _ in 0..4 * FAILURES_MAX {
            let turn = fail(&mut breaker, false, 7, Some(60_000));
            assert_eq!(turn, BreakerTurn::Same);
        }
        for user in 0..FAILURES_MAX {
            fail(&mut breaker, false, user, None);
        }
        assert_eq!(breaker.opens_at_ms(), Some(PAUSE_MS));
        for pauses in 2..9 {
            fail(&mut breaker, true, 0, Some(60_000));
            assert_eq!(breaker.opens_at_ms(), Some(pauses * PAUSE_MS));
        }
    }

    #[test]
    fn a_vendor_that_asks_for_a_pause_gets_it_up_to_the_bound_and_refused_credentials_stop_it() {
        let mut breaker = Breaker::default();
        for user in 0..FAILURES_MAX {
            fail(&mut breaker, false, user, Some(60_000));
        }
        assert!(!breaker.may_call(59_999) && breaker.may_call(60_000));
        fail(&mut breaker, true, 50, Some(3_600_000));
        assert_eq!(breaker.opens_at_ms(), Some(60_000 + VENDOR_PAUSE_MS_MAX));
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
