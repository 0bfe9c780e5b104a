//! Who guesses tokens: a limit by address on what cannot succeed but costs work and fills logs.
//!
//! Many people share one address: an office behind its NAT. One program among them that tries one bad token again and again
//! keeps no neighbour out, because a token counts once: a guess is another token each time.
//!
//! The table has a fixed size, so that no number of addresses makes it grow or pushes one out of it. Addresses share its
//! slots by a secret hash: with a thousand guessing at once, an honest one has a chance of 1.5 % to share the debt of one.

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::{Address, Debt};

/// 512 KiB of debts, and as much of tokens.
const SLOTS: usize = 1 << 16;
/// What the limit counts over.
const PERIOD: Duration = Duration::from_secs(60);

pub(super) struct BadTokens {
    /// Empty: no limit.
    slots: Box<[Debt]>,
    /// Hashes of tokens that were bad, each with its address, the newest of those that share a slot.
    known: Box<[AtomicU64]>,
    /// What one bad token costs of [`PERIOD`].
    cost: Duration,
    hash: RandomState,
}

impl BadTokens {
    /// At most `max` different ones a minute from one address; 0: no limit.
    pub(super) fn new(max: u32) -> Self {
        let slots = if max == 0 { 0 } else { SLOTS };
        Self {
            slots: (0..slots).map(|_| Debt::default()).collect(),
            known: (0..slots).map(|_| AtomicU64::new(0)).collect(),
            cost: PERIOD.checked_div(max).unwrap_or_default(),
            hash: RandomState::new(),
        }
    }

    /// One came from there.
    pub(super) fn note(&self, address: Address, token: &str, now: Duration) {
        let hash = self.hash.hash_one((address, token));
        if let Some(known) = self.known.get(hash as usize % SLOTS)
            && known.swap(hash, Relaxed) == hash
        {
            return;
        }
        if let Some(debt) = self.slot(address) {
            // A debt at its limit stays there: more of the same does not lock an address out for longer.
            let _ = debt.charge(now, self.cost, PERIOD);
        }
    }

    /// How long nobody from there is let in, if there were too many.
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
        // Those that were let in before it was too many make it no longer.
        bad_tokens.note(guesser, "d", now);
        assert_eq!(bad_tokens.wait(guesser, now + PERIOD / 3), None);
        // Unless both hash alike, which one seed of 65,536 does.
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
