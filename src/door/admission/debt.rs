//! A limit on a rate that allows a burst, in eight bytes: the generic cell rate algorithm (GCRA).
//!
//! Each piece of work has a cost, which is a time: at 100 pieces a second a piece costs 10 ms. One number holds the time at
//! which all work so far is paid. A piece of work moves this time ahead by its cost. The *debt* is the distance from now to
//! this time. Work that would make the debt larger than the burst is refused. All times count from the caller's origin.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// The time at which all charges will be paid, in ns.
#[derive(Debug, Default)]
pub(crate) struct Debt(AtomicU64);

impl Debt {
    /// The part that is not paid yet.
    pub(crate) fn owed(&self, now: Duration) -> Duration {
        Duration::from_nanos(self.0.load(Relaxed)).saturating_sub(now)
    }

    /// Adds `cost` if the debt then is at most `most`. Otherwise it adds nothing, and returns the excess.
    pub(crate) fn charge(
        &self,
        now: Duration,
        cost: Duration,
        most: Duration,
    ) -> Result<(), Duration> {
        let add = |paid: u64| {
            let paid = Duration::from_nanos(paid).max(now) + cost;
            (paid <= now + most).then_some(paid.as_nanos() as u64)
        };
        match self.0.fetch_update(Relaxed, Relaxed, add) {
            Ok(_) => Ok(()),
            Err(_) => Err((self.owed(now) + cost).saturating_sub(most)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_then_as_many_as_the_rate_allows() {
        let (debt, cost) = (Debt::default(), SECOND / 4);
        let mut done = Vec::new();
        for tenth in 0..30 {
            let now = SECOND / 10 * tenth;
            while debt.charge(now, cost, SECOND).is_ok() {
                done.push(now);
            }
        }
        assert_eq!(done.iter().filter(|at| at.is_zero()).count(), 4);
        // 4 a second for 2.9 s, and the burst.
        assert_eq!(done.len(), 4 + 11);
    }

    #[test]
    fn whoever_is_refused_learns_how_long_to_wait_and_owes_no_more_for_it() {
        let debt = Debt::default();
        debt.charge(SECOND, SECOND, SECOND).unwrap();
        for _ in 0..3 {
            assert_eq!(debt.charge(SECOND, SECOND / 2, SECOND), Err(SECOND / 2));
        }
        assert_eq!(debt.owed(SECOND), SECOND);
        assert_eq!(debt.charge(SECOND * 3 / 2, SECOND / 2, SECOND), Ok(()));
    }

    #[test]
    fn what_costs_nothing_is_never_refused() {
        let debt = Debt::default();
        for _ in 0..10 {
            assert_eq!(debt.charge(SECOND, Duration::ZERO, SECOND), Ok(()));
        }
        assert_eq!(debt.owed(SECOND), Duration::ZERO);
    }
}
