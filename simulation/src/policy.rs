//! The login policies, as a table independent of the gateway's: which sessions may be online together.

use super::{
    device::{Connected, Owner},
    model::{Model, user_id},
    trace::violated,
};
use towncrier::ids::Platform;

/// An answer that took longer says nothing about the gateway's clock.
const ANSWER_MS_MAX: i64 = 100;

impl Model {
    /// A device was told that a newer connection replaced its own. So no older connection may hold the place.
    pub(super) fn replaced(&self, owner: &Owner, connected: &Connected) {
        let (Some(registry), Some(clock)) = (&self.registry, &self.gateway_clock) else {
            return;
        };
        // Times tell the order only if the gateway's clock did not move meanwhile. The answer took a moment to arrive.
        let ahead_ms = |gateway_ms: u64, true_ms: u64| gateway_ms as i64 - true_ms as i64;
        let moved_ms = ahead_ms(clock.now_ms(), self.clock.now_ms())
            - ahead_ms(connected.since_ms, connected.read_at_ms);
        if !(0..=ANSWER_MS_MAX).contains(&moved_ms) {
            return;
        }
        for present in registry.presence(user_id(owner.user).as_str()) {
            let is_older = present.since_ms < connected.since_ms
                && present.connection.to_string() != connected.id;
            if is_older
                && self.conflicts(
                    (owner.platform, &owner.id),
                    (present.platform, &present.device),
                )
            {
                violated(
                    "policy",
                    format_args!(
                        "{:?} of user {} was replaced, the older {:?} was not",
                        owner.platform, owner.user, present.platform
                    ),
                );
            }
        }
    }

    /// No two sessions of a user hold one place.
    pub(super) fn check_presence(&self, user: usize) {
        let Some(registry) = &self.registry else {
            return;
        };
        let present = registry.presence(user_id(user).as_str());
        for (index, one) in present.iter().enumerate() {
            for other in &present[index + 1..] {
                if self.conflicts((one.platform, &one.device), (other.platform, &other.device)) {
                    violated(
                        "policy",
                        format_args!("user {user} is there twice: {one:?} and {other:?}"),
                    );
                }
            }
        }
    }

    /// The table of `docs/protocol.md#login-policy`: true if two sessions of a user share a place.
    fn conflicts(&self, one: (Platform, &str), other: (Platform, &str)) -> bool {
        let class = |platform: Platform| match platform.number() {
            1 | 2 | 11 => "mobile",
            3 | 4 | 7 => "pc",
            8 | 9 => "pad",
            5 | 6 => "web",
            _ => "admin",
        };
        let (a, b) = (class(one.0), class(other.0));
        match self.policy {
            0 => one == other,
            1 => one.0 == other.0,
            2 => true,
            3 => (a == "web") == (b == "web"),
            4 => a == b,
            _ => (a == "pc") == (b == "pc"),
        }
    }
}
