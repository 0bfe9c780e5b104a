//! Cursors: where a session resumes, and how it moves on.

use super::Delivery;
use crate::{
    ids::{Seq, SessionKey},
    log::{Inbox, LogError, SessionRow},
};

/// What the server knows of a session when it connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Bounds of the inbox now.
    pub inbox: Inbox,
    /// The cursor remembered; `None` for a session never seen.
    pub stored: Option<Seq>,
}

impl Delivery {
    /// What is known of a session.
    pub fn resume(&self, key: &SessionKey) -> Result<Standing, LogError> {
        let stored = self.log.session(key)?.map(|row| row.cursor);
        Ok(Standing {
            inbox: self.log.inbox(&key.user)?,
            stored,
        })
    }

    /// The session begins at `cursor`, which may be behind what was remembered; from now on it is known. Written behind.
    pub fn begin(&self, key: &SessionKey, cursor: Seq) -> Result<(), LogError> {
        self.log.store_cursor(
            key,
            SessionRow {
                cursor,
                acked_at_ms: self.clock.now_ms(),
            },
        )
    }

    /// The client stored everything up to `seq`. Written behind.
    pub fn ack(&self, key: &SessionKey, seq: Seq) -> Result<(), LogError> {
        let now_ms = self.clock.now_ms();
        self.acked.add(key, seq, now_ms);
        self.log.store_cursor(
            key,
            SessionRow {
                cursor: seq,
                acked_at_ms: now_ms,
            },
        )
    }

    /// Everything up to `seq` was handed to the session's socket, for whoever asks where a message is.
    pub fn sent(&self, key: &SessionKey, seq: Seq) {
        self.sent.add(key, seq, self.clock.now_ms());
    }
}
