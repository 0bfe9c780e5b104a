//! A session is a cursor on its user's inbox: where it resumes, the reads behind it, and the acks that move it.

use super::{AppendError, AuthError, Delivery, send::durable};
use crate::{
    ids::{ConnectionId, Epoch, Fence, Seq, SessionKey, UserId},
    log::{Inbox, InboxRead, LogAnswer, LogError, ReadLimit, ResumePoint, SessionRow},
};

impl Delivery {
    /// The session's resume point, from one look at the log. Refused if the session's token, issued at this Unix ms, is
    /// revoked. Cancel safe: it only reads.
    pub async fn enter(
        &self,
        key: &SessionKey,
        token_issued_at_ms: u64,
    ) -> Result<ResumePoint, AuthError> {
        let point = self.log.enter(key).wait().await?;
        if token_issued_at_ms < point.revoked_before_ms {
            return Err(AuthError::Revoked);
        }
        Ok(point)
    }

    /// Gives the session its place among all gateways of the log. One gateway alone orders its sessions by itself. `Err`: the store
    /// could not be asked. Cancel safe: the connection's registration ends what was begun.
    pub async fn take_place(
        &self,
        key: &SessionKey,
        connection: ConnectionId,
    ) -> Result<(), LogError> {
        match self.fleet.get() {
            Some(fleet) => fleet.take_place(&key.user, connection).await,
            None => Ok(()),
        }
    }

    /// Begins the session at `cursor`, which may be lower than the stored cursor. The session is known from now on. Written
    /// behind.
    pub fn begin(
        &self,
        key: &SessionKey,
        epoch: Epoch,
        fence: Fence,
        cursor: Seq,
    ) -> Result<(), LogError> {
        self.log.store_cursor(
            key,
            epoch,
            fence,
            SessionRow {
                cursor,
                acked_at_ms: self.clock.now_ms(),
            },
        )
    }

    /// Begins a session that was never seen, and returns once a crash does not lose that. `Err`: a crash may lose it; the session is
    /// known until then. Cancel safe: the session is known all the same.
    pub async fn begin_durably(
        &self,
        key: &SessionKey,
        epoch: Epoch,
        fence: Fence,
        cursor: Seq,
    ) -> Result<(), AppendError> {
        let row = SessionRow {
            cursor,
            acked_at_ms: self.clock.now_ms(),
        };
        durable(self.log.begin_session(key, epoch, fence, row)?).await
    }

    /// The bounds of a user's inbox.
    pub fn inbox(&self, user: &UserId) -> LogAnswer<Inbox> {
        self.log.inbox(user)
    }

    /// Up to `limit` messages after `after`: at once from memory, later from the disk.
    pub fn replay(&self, user: &UserId, after: Seq, limit: ReadLimit) -> LogAnswer<InboxRead> {
        self.log.read(user, after, limit)
    }

    /// Records that the client stored everything up to `seq`. Written behind.
    pub fn ack(
        &self,
        key: &SessionKey,
        epoch: Epoch,
        fence: Fence,
        seq: Seq,
    ) -> Result<(), LogError> {
        let now_ms = self.clock.now_ms();
        self.acked.add(key, seq, now_ms);
        self.log.store_cursor(
            key,
            epoch,
            fence,
            SessionRow {
                cursor: seq,
                acked_at_ms: now_ms,
            },
        )
    }

    /// Records that everything up to `seq` was handed to the session's socket, for the trace of a message.
    pub fn pushed(&self, key: &SessionKey, seq: Seq) {
        self.pushed.add(key, seq, self.clock.now_ms());
    }
}
