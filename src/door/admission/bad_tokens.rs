//! A limit on bad tokens by address, against clients that guess tokens. Such attempts cannot succeed, but cost work and
//! fill logs.
//!
//! Many people share one address, for instance an office behind its NAT. A token counts only once, because a guess is
//! another token each time. So one program that repeats one bad token keeps no neighbour out.
//!
//! The table has a fixed size: no number of addresses makes it grow, or pushes an address out. Addresses share its slots by
//! a secret hash. With a thousand addresses that guess at once, an honest address has a chance of 1.5 % to share a slot
//! with one.

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::{Address, Debt};

/// The number of slots: 512 KiB of debts, and as much of tokens.
const SLOTS: usize = 1 << 16;
/// The period over which the limit counts.
const PERIOD: Duration = Duration::from_secs(60);

pub(super) struct BadTokens {
    /// Empty: no limit.
    slots: Box<[Debt]>,
    /// Hashes of bad tokens, each with its address. A slot keeps the newest.
    known: Box<[AtomicU64]>,
    /// The cost of one bad token, as a part of [`PERIOD`].
    cost: Duration,
    hash: RandomState,
}

impl BadTokens {
    /// Allows at most `max` different bad tokens a minute from one address; 0: no limit.
    pub(super) fn new(max: u32) -> Self {
        let slots = if max == 0 { 0 } else { SLOTS };
        Self {
            slots: (0..slots).map(|_| Debt::default()).collect(),
            known: (0..slots).map(|_| AtomicU64::new(0)).collect(),
            cost: PERIOD.checked_div(max).unwrap_or_default(),
            hash: RandomState::new(),
        }
    }

    /// Counts a bad token from this address.
    pub(super) fn note(&self, address: Address, token: &str, now: Duration) {
        let hash = self.hash.hash_one((address, token));
        if let Some(known) = self.known.get(hash as usize % SLOTS)
            && known.swap(hash, Relaxed) == hash
        {
            return;
        }
        if let Some(debt) = self.slot(address) {
            // A debt at its limit stays there, so further bad tokens do not lock an address out for longer.
            let _ = debt.charge(now, self.cost, PERIOD);
        }
    }

    /// The time for which this address is refused, if it sent too many bad tokens.
    pub(super) fn wait(&self, address: Address, now: Duration) -> Option<Duration> {
        let owed = self.slot(address)?.owed(now) + self.cost;
        owed.checked_sub(PERIOD).filter(|wait| !wait.is_zero())
    }

    fn slot(&self, address: Address) -> Option<&Debt> {
        let hash = self.hash.hash_one(address) as usize;
        self.slots.get(hash % SLOTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_sent_too_many_waits_and_others_do_not() {
        let bad_tokens = BadTokens::new(3);
        let (guesser, other) = (Address::V4(1), Address::V4(2));
        let now = Duration::from_secs(100);
        for guess in ["a", "b", "c"] {
            assert_eq!(bad_tokens.wait(guesser, now), None);
            bad_tokens.note(guesser, guess, now);
        }
        assert_eq!(bad_tokens.wait(guesser, now), Some(PERIOD / 3));
        // Bad tokens of clients that were admitted before the limit do not make it longer.
        bad_tokens.note(guesser, "d", now);
        assert_eq!(bad_tokens.wait(guesser, now + PERIOD / 3), None);
        // Both addresses may have the same hash, which happens with one seed of 65,536.
        let is_alike = std::ptr::eq(
            bad_tokens.slot(guesser).unwrap(),
            bad_tokens.slot(other).unwrap(),
        );
        assert!(is_alike || bad_tokens.wait(other, now).is_none());
    }

    #[test]
    fn one_bad_token_counts_once_however_often_it_comes() {
        let bad_tokens = BadTokens::new(2);
        let office = Address::V4(1);
        for attempt in 0..10_000 {
            let now = Duration::from_millis(attempt);
            bad_tokens.note(office, "expired", now);
            assert_eq!(bad_tokens.wait(office, now), None);
        }
    }
}
