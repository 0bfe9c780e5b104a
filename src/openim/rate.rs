//! A rate of changes for each user: a program that marks, sets or deletes in a loop would fill the log.
//!
//! The table has a fixed size, and users share its slots by a secret hash. With a thousand users that loop at once, another
//! user has a chance of 1.5 % to share a slot with one.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use tokio::time::Instant;

use super::failure::CallFailure;
use crate::{door::Debt, ids::UserId};

/// The number of slots: 512 KiB.
const SLOTS: usize = 1 << 16;
/// The changes that a user may make at once: an app that marks all conversations as read makes a call for each.
pub(super) const CHANGES_AT_ONCE_MAX: u32 = 300;
/// The time that one more change takes: as a session of `towncrier.v1` has one entry of marks a second.
const CHANGE_COST: Duration = Duration::from_secs(1);

/// The changes of all users, as far as they are ahead of the rate.
pub(super) struct ChangeRate {
    begun: Instant,
    debts: Box<[Debt]>,
    hash: RandomState,
}

impl ChangeRate {
    pub(super) fn new() -> Self {
        Self {
            begun: Instant::now(),
            debts: (0..SLOTS).map(|_| Debt::default()).collect(),
            hash: RandomState::new(),
        }
    }

    /// Counts a change of this user, or refuses it.
    pub(super) fn charge(&self, user: &UserId) -> Result<(), CallFailure> {
        let most = CHANGE_COST * CHANGES_AT_ONCE_MAX;
        let charged = self
            .debt(user)
            .charge(self.begun.elapsed(), CHANGE_COST, most);
        charged.map_err(|_| CallFailure::TooOften)
    }

    fn debt(&self, user: &UserId) -> &Debt {
        &self.debts[self.hash.hash_one(user.as_str()) as usize % SLOTS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_user_has_a_burst_of_changes_and_then_one_a_second() {
        let rate = ChangeRate::new();
        let [looping, other] = ["u1", "u2"].map(|id| UserId::new(id).unwrap());
        let made = |user, tries: u32| (0..tries).filter(|_| rate.charge(user).is_ok()).count();
        assert_eq!(made(&looping, 1000), CHANGES_AT_ONCE_MAX as usize);
        tokio::time::advance(CHANGE_COST * 2).await;
        assert_eq!(made(&looping, 1000), 2);
        // Both users may have the same hash, which happens with one seed of 65,536.
        let is_alike = std::ptr::eq(rate.debt(&looping), rate.debt(&other));
        assert!(is_alike || made(&other, 1) == 1);
    }
}
