//! The counts of a connection, for its one line in the log.

use std::time::Duration;

use tracing::{debug, info};

use crate::ids::{ConnectionId, SessionKey};

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

/// The owner of a connection.
#[derive(Debug)]
pub(super) struct Owner {
    pub(super) key: SessionKey,
    /// Name and version of the client.
    pub(super) client: Box<str>,
}

impl Tally {
    /// Logs the end of a connection. A connection without an owner never had a session; its line is for developers only.
    pub(super) fn log(
        &self,
        connection: ConnectionId,
        owner: Option<&Owner>,
        code: u16,
        lasted: Duration,
    ) {
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
