//! The conversations of which users want no push: do-not-disturb.

use std::collections::BTreeMap;

use tokio::time::Instant;

/// A user's wish for a conversation.
#[derive(Debug, Clone, Copy)]
struct PushWish {
    /// `None` while it is not known whether the change was made.
    is_silent: Option<bool>,
    /// The time of the last change.
    since: Instant,
    /// The same, of the gateway's clock, Unix ms.
    since_ms: u64,
}

/// All wishes in the present log.
#[derive(Default)]
pub(super) struct PushWishes(BTreeMap<(usize, String), PushWish>);

impl PushWishes {
    /// A change is under way.
    pub(super) fn asks(&mut self, user: usize, conversation: &str) {
        self.set(user, conversation, (None, 0));
    }

    /// The change is durable, at this time of the gateway, Unix ms.
    pub(super) fn has(&mut self, user: usize, conversation: &str, is_silent: bool, now_ms: u64) {
        self.set(user, conversation, (Some(is_silent), now_ms));
    }

    fn set(&mut self, user: usize, conversation: &str, (is_silent, since_ms): (Option<bool>, u64)) {
        let wish = PushWish {
            is_silent,
            since: Instant::now(),
            since_ms,
        };
        self.0.insert((user, conversation.to_owned()), wish);
    }

    /// No wish is certain any more.
    pub(super) fn forget(&mut self) {
        let wishes = self.0.values_mut();
        wishes.for_each(|wish| wish.is_silent = None);
    }

    /// True if a push at this time of the gateway, Unix ms, is against a wish.
    pub(super) fn forbid(&self, user: usize, conversation: &str, at_ms: u64) -> bool {
        let wish = self.0.get(&(user, conversation.to_owned()));
        wish.is_some_and(|wish| wish.is_silent == Some(true) && wish.since_ms < at_ms)
    }

    /// True if the user certainly wanted pushes of the conversation since this time.
    pub(super) fn want(&self, user: usize, conversation: &str, since: Instant) -> bool {
        let wish = self.0.get(&(user, conversation.to_owned()));
        wish.is_none_or(|wish| wish.is_silent == Some(false) && wish.since < since)
    }
}
