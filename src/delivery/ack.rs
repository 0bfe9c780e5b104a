//! Cursors: where a session resumes, and how it moves on.

use super::{Delivery, trail::Fact};
use crate::{
    config::NewSession,
    ids::{Seq, SessionKey},
    log::{Inbox, ReadError, SessionRow},
};

/// What the server knows of a session when it connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Bounds of the inbox now.
    pub inbox: Inbox,
    /// Where the session resumes unless its client knows better.
    pub stored: Seq,
}

impl Delivery {
    /// Where a session resumes. One never seen before begins where `delivery.new_session` says, and is known from now on.
    pub fn resume(&self, key: &SessionKey) -> Result<Standing, ReadError> {
        let inbox = self.log.inbox(&key.user)?;
        if let Some(row) = self.log.session(key)? {
            return Ok(Standing {
                inbox,
                stored: row.cursor,
            });
        }
        let stored = match self.new_session {
            NewSession::Backlog => inbox.first.previous(),
            NewSession::Head => inbox.head,
        };
        self.log.store_cursor(
            key,
            SessionRow {
                cursor: stored,
                acked_at_ms: self.clock.now_ms(),
            },
        )?;
        Ok(Standing { inbox, stored })
    }

    /// The client stored everything up to `seq`. Written behind.
    pub fn ack(&self, key: &SessionKey, seq: Seq) -> Result<(), ReadError> {
        let now_ms = self.clock.now_ms();
        self.trail.add(key, Fact::Acked, seq, now_ms);
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
        self.trail.add(key, Fact::Sent, seq, self.clock.now_ms());
    }
}
