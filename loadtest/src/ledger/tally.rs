//! The closed books: how many deliveries landed, and how many did not land as they must.

use std::{fmt, ops::AddAssign};

use serde::{Deserialize, Serialize};

/// The closed books. They count deliveries, unless said otherwise: a message for three sessions counts three times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerTally {
    /// Deliveries that must land once each: landed + lost + pending.
    pub accepted: u64,
    /// Accepted, and landed.
    pub landed: u64,
    /// Accepted, and missing at a session that has everything in its inbox.
    pub lost: u64,
    /// Landed again; or landed for the first time, long after the refusal.
    pub duplicated: u64,
    /// Landed after a message that must come later.
    pub reordered: u64,
    /// Landed although refused, altered, at the wrong session, or never sent.
    pub ghost: u64,
    /// Accepted, and not yet landed at a session that is behind.
    pub pending: u64,
    /// Messages that were refused.
    pub refused: u64,
    /// Messages whose outcome stayed unknown. They may land once.
    pub unknown: u64,
}

impl LedgerTally {
    /// True if there was no fault so far.
    pub fn is_faultless(&self) -> bool {
        [self.lost, self.duplicated, self.reordered, self.ghost] == [0; 4]
    }

    /// The counts of landings, by name. The refused and unknown messages stand beside them.
    pub fn counts(&self) -> [(&'static str, u64); 7] {
        [
            ("accepted", self.accepted),
            ("landed", self.landed),
            ("lost", self.lost),
            ("duplicated", self.duplicated),
            ("reordered", self.reordered),
            ("ghost", self.ghost),
            ("pending", self.pending),
        ]
    }

    /// True if every accepted message landed once and in order, and no other message did.
    pub fn is_exactly_once(&self) -> bool {
        self.is_faultless() && self.pending == 0 && self.accepted == self.landed
    }
}

impl AddAssign for LedgerTally {
    /// The sum of two ledgers' books, whose messages and sessions do not overlap.
    fn add_assign(&mut self, other: Self) {
        let Self {
            accepted,
            landed,
            lost,
            duplicated,
            reordered,
            ghost,
            pending,
            refused,
            unknown,
        } = other;
        self.accepted += accepted;
        self.landed += landed;
        self.lost += lost;
        self.duplicated += duplicated;
        self.reordered += reordered;
        self.ghost += ghost;
        self.pending += pending;
        self.refused += refused;
        self.unknown += unknown;
    }
}

impl fmt::Display for LedgerTally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in self.counts() {
            write!(f, "{name} {count} ")?;
        }
        write!(
            f,
            "(messages refused {}, unknown {})",
            self.refused, self.unknown
        )
    }
}
