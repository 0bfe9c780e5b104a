//! Cursors: where a session resumes, and how it moves on.

use super::{AuthError, Delivery};
use crate::{
    ids::{Seq, SessionKey},
    log::{LogError, ResumePoint, SessionRow},
};

impl Delivery {
    /// Where a session goes on, in one look at the log. Refused where its token, issued at this Unix ms, is revoked.
    pub fn enter(
        &self,
        key: &SessionKey,
        token_issued_at_ms: u64,
    ) -> Result<ResumePoint, AuthError> {
        let point = self.log.enter(key)?;
        if token_issued_at_ms < point.revoked_before_ms {
            return Err(AuthError::Revoked);
        }
        Ok(point)
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
