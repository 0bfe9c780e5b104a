//! A session reads the log: from memory at once, from the disk on a thread that may block.

use super::Delivery;
use crate::{
    ids::{Seq, UserId},
    log::{Patience, ReadError, ReadLimit, Stored},
};

impl Delivery {
    /// Up to `limit` messages after `after` if they are in memory, else [`ReadError::NotInMemory`]. Never waits.
    pub fn replay_now(
        &self,
        user: &UserId,
        after: Seq,
        limit: ReadLimit,
    ) -> Result<Vec<Stored>, ReadError> {
        self.log.read(user, after, limit, Patience::MemoryOnly)
    }

    /// The same, waiting for the disk on a blocking thread of the runtime this is called on. Cancel safe.
    pub async fn replay(
        &self,
        user: UserId,
        after: Seq,
        limit: ReadLimit,
    ) -> Result<Vec<Stored>, ReadError> {
        let log = self.log.clone();
        self.aside(move || log.read(&user, after, limit, Patience::Disk))
            .await
    }
}
