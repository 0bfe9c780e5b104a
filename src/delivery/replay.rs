//! A session reads the log: from memory at once, from the disk on a thread that may block.

use super::Delivery;
use crate::{
    ids::{Seq, UserId},
    log::{LogError, ReadLimit, Stored},
};

impl Delivery {
    /// Up to `limit` messages after `after`, if no wait is needed, else `None`.
    pub fn replay_now(
        &self,
        user: &UserId,
        after: Seq,
        limit: ReadLimit,
    ) -> Result<Option<Vec<Stored>>, LogError> {
        self.log.read_now(user, after, limit)
    }

    /// The same messages. Waits for them on a blocking thread of the runtime this is called on. Cancel safe.
    pub async fn replay(
        &self,
        user: UserId,
        after: Seq,
        limit: ReadLimit,
    ) -> Result<Vec<Stored>, LogError> {
        let log = self.log.clone();
        self.aside(move || log.read(&user, after, limit)).await
    }
}
