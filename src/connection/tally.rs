//! The counts of a connection, for its one line in the stderr log.

use std::time::Duration;

use tracing::{debug, info};

use super::life::{End, Owner};
use crate::ids::ConnectionId;

#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Messages put into the outbox, resends included.
    pub(super) pushed: u64,
    /// The part of them that had been pushed before.
    pub(super) resent: u64,
    /// Entries by which the client's acks moved the cursor.
    pub(super) acked: u64,
    /// Frames from the client.
    pub(super) received: u64,
    /// Bytes the socket took.
    pub(super) bytes_sent: u64,
}

impl Tally {
    /// Logs the end of a connection. A connection without an owner never had a session; its line is for developers only.
    pub(super) fn log(&self, connection: ConnectionId, end: &End, lasted: Duration) {
        let End { owner, code } = end;
        let Some(Owner { key, client }) = owner else {
            return debug!(%connection, code, lasted_ms = lasted.as_millis() as u64, "connection ended before Connect");
        };
        info!(
            user = %key.user,
            platform = %key.platform,
            device = %key.device,
            %connection,
            client = %client,
            code,
            pushed = self.pushed,
            resent = self.resent,
            acked = self.acked,
            received = self.received,
            bytes_sent = self.bytes_sent,
            lasted_ms = lasted.as_millis() as u64,
            "connection ended"
        );
    }
}
