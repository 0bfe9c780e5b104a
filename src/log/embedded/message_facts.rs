//! The facts of a message that its entries need: where it belongs, and when it was accepted.

use super::record::MessageRecord;
use crate::{ids::UserId, message::Origin};

/// The key of a conversation of a user in the state store. Ids contain no control characters, so `\0` separates them.
pub(super) fn conversation_key(user: &UserId, id: &str) -> Vec<u8> {
    [user.as_str(), "\0", id].concat().into_bytes()
}

/// The facts of one message.
#[derive(Debug, Clone)]
pub(super) struct MessageFacts {
    pub(super) origin: Origin,
    /// The time at which it was accepted, Unix ms.
    pub(super) send_time_ms: u64,
}

impl MessageFacts {
    pub(super) fn of(message: &MessageRecord) -> Self {
        Self {
            origin: Origin::of(&message.body),
            send_time_ms: message.key.send_time_ms,
        }
    }

    /// The key of the conversation in which a receiver has the message.
    pub(super) fn conversation_key(&self, user: &UserId) -> Vec<u8> {
        let [kind, low, between, high] = self.origin.conversation_id_parts(user.as_str());
        let key = [user.as_str(), "\0", kind, low, between, high];
        key.concat().into_bytes()
    }
}
