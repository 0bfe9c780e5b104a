//! Idempotency keys: the result of the first message sent with a sender's own id (P3).

use super::{
    StateError,
    keys::{self, position_at, u64_at},
    table::{Row, Table},
};
use crate::{
    ids::MessageId,
    log::embedded::record::{Key, Position},
};

/// The result that belongs to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::log::embedded) struct KeyRow {
    /// The first message sent with the key.
    pub(in crate::log::embedded) message_id: MessageId,
    /// The time at which that message was accepted, Unix ms.
    pub(in crate::log::embedded) send_time_ms: u64,
    /// The digest of the message's request.
    pub(in crate::log::embedded) fingerprint: [u8; 16],
    /// The position of the message's record; [`Position::NONE`] when the message is no longer retained.
    pub(in crate::log::embedded) position: Position,
}

impl Row for KeyRow {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.message_id.0.to_vec();
        bytes.extend(self.send_time_ms.to_le_bytes());
        bytes.extend(self.fingerprint);
        bytes.extend(self.position.0.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            message_id: MessageId(bytes.get(..16)?.try_into().ok()?),
            send_time_ms: u64_at(bytes, 16)?,
            fingerprint: bytes.get(24..40)?.try_into().ok()?,
            position: position_at(bytes, 40)?,
        })
    }
}

/// The valid keys.
pub(in crate::log::embedded) struct Keys {
    pub(super) rows: Table<KeyRow>,
}

impl Keys {
    /// The row of the key, if there is one.
    pub(in crate::log::embedded) fn get(
        &self,
        sender: &str,
        client_message_id: &str,
    ) -> Result<Option<KeyRow>, StateError> {
        self.rows.get(&keys::idempotency(sender, client_message_id))
    }

    /// Stores a key whose message is at `position`.
    pub(in crate::log::embedded) fn put(&self, key: &Key, position: Position) {
        let row = KeyRow {
            message_id: key.message_id,
            send_time_ms: key.send_time_ms,
            fingerprint: key.fingerprint,
            position,
        };
        self.rows
            .put(keys::idempotency(&key.sender, &key.client_message_id), row);
    }

    /// Forgets a key.
    pub(in crate::log::embedded) fn remove(&self, key: &Key) {
        self.rows
            .remove(keys::idempotency(&key.sender, &key.client_message_id));
    }
}
