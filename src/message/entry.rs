//! One entry of an inbox, as the log returns it.

use bytes::Bytes;

use crate::ids::{ConversationSeq, Seq, WireSeq};

/// The numbers of an entry: in the inbox, and in the conversation with its base and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Numbers {
    /// The seq in the inbox; 0 for an online-only message.
    pub seq: Seq,
    /// The seq in the conversation; 0 for an entry that is in none.
    pub conversation_seq: ConversationSeq,
    /// The base of the epoch in which the entry was stored; 0 for an entry that is in no conversation.
    pub base: u32,
    /// The conversation time minus the send time, in ms: times ascend within a conversation. 0 for an entry that has no message.
    pub time_ahead_ms: u32,
}

impl Numbers {
    /// The number under which clients without epochs know the entry.
    pub fn wire_seq(self) -> WireSeq {
        WireSeq(self.conversation_seq.0.saturating_add(self.base.into()))
    }

    /// The conversation time of a message with this send time, Unix ms.
    pub fn time_ms(self, send_time_ms: u64) -> u64 {
        send_time_ms.saturating_add(self.time_ahead_ms.into())
    }
}

/// One entry of an inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The entry's numbers.
    pub numbers: Numbers,
    /// The entry's content.
    pub content: Content,
}

/// The content of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A message, in its stored form.
    Message(Bytes),
    /// Read marks, in the stored form of a message that has nothing else. Clients land and ack them as messages. Counts and lists of
    /// messages leave them out.
    Marks(Bytes),
    /// Nothing: the message was deleted.
    Removed,
}

impl Content {
    /// The stored form that is pushed to clients; `None` for a removed message.
    pub fn body(&self) -> Option<&Bytes> {
        match self {
            Self::Message(body) | Self::Marks(body) => Some(body),
            Self::Removed => None,
        }
    }

    /// The stored form of a message; `None` for anything else.
    pub fn into_message(self) -> Option<Bytes> {
        match self {
            Self::Message(body) => Some(body),
            Self::Marks(_) | Self::Removed => None,
        }
    }
}
