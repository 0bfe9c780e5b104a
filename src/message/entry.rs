//! One entry of an inbox, as the log returns it.

use bytes::Bytes;

use crate::ids::{ConversationSeq, Seq, WireSeq};

/// The numbers of an entry: in the inbox, and in the conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Numbers {
    /// The seq in the inbox; 0 for an online-only message.
    pub seq: Seq,
    /// The seq in the conversation; 0 for an entry that is in none.
    pub conversation_seq: ConversationSeq,
    /// The time in the conversation, Unix ms, where it is later than the send time; else 0.
    pub later_ms: u64,
}

impl Numbers {
    /// The number in the conversation as OpenIM's v3 clients count it; zero for an entry that is in none.
    pub fn wire_seq(self) -> WireSeq {
        WireSeq(self.conversation_seq.0)
    }

    /// The conversation time, Unix ms, of a message with this send time.
    pub fn time_ms(self, send_time_ms: u64) -> u64 {
        self.later_ms.max(send_time_ms)
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
