//! What a connection did, for the one line it leaves in the log.

use std::time::Duration;

use tracing::{debug, info};

use crate::ids::{ConnectionId, SessionKey};

#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Messages put into the outbox, resends included.
    pub(super) pushed: u64,
    /// Of them, those that had been pushed before.
    pub(super) resent: u64,
    /// Places that the client's acks moved the cursor by.
    pub(super) acked: u64,
    /// Frames from the client.
    pub(super) received: u64,
    /// Bytes the socket took.
    pub(super) bytes_sent: u64,
}

/// Whose connection it is.
#[derive(Debug)]
pub(super) struct Owner {
    pub(super) key: SessionKey,
    /// Name and version of the client.
    pub(super) client: Box<str>,
}

impl Tally {
    /// The connection ends. Without an owner it never was a session: that is of interest to a developer only.
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
