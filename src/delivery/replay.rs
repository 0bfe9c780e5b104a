//! A session reads the log.

use super::Delivery;
use crate::{
    ids::{Seq, UserId},
    log::{Inbox, InboxRead, LogAnswer, ReadLimit},
};

impl Delivery {
    /// Up to `limit` messages after `after`: at once from memory, later from the disk.
    pub fn replay(&self, user: &UserId, after: Seq, limit: ReadLimit) -> LogAnswer<InboxRead> {
        self.log.read(user, after, limit)
    }

    /// The bounds of a user's inbox.
    pub fn inbox(&self, user: &UserId) -> LogAnswer<Inbox> {
        self.log.inbox(user)
    }
}
