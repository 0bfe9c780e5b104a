//! The numbers by which a client counts that knows nothing of epochs.

use super::Conversation;
use crate::ids::{ConversationSeq, WireSeq};

/// The way in which a client without epochs counts the messages of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    /// Each message keeps the number of the epoch in which it was stored. For a client with a store: a message with a second number
    /// would be another one there.
    Kept,
    /// Every message has the newest base. For a client without a store: its history ends at a hole.
    Dense,
}

impl Counting {
    /// The conversation with the numbers that the client is told.
    pub fn tell(self, conversation: Conversation) -> Conversation {
        match self {
            Self::Kept => conversation,
            Self::Dense => conversation.dense(),
        }
    }

    /// The newest message whose number is at most this one.
    pub fn seq_of(self, conversation: &Conversation, wire: WireSeq) -> ConversationSeq {
        match self {
            Self::Kept => conversation.seq_of(wire),
            Self::Dense => conversation.bases.dense().seq_of(wire),
        }
    }

    /// The message behind which a range begins, if the number before its first one is `had`. `is_pull`: the client has everything up
    /// to that number, which may be of an earlier epoch.
    pub fn seq_before(
        self,
        conversation: &Conversation,
        had: WireSeq,
        is_pull: bool,
    ) -> ConversationSeq {
        match self {
            Self::Dense if is_pull => conversation.held_by(had),
            Self::Kept | Self::Dense => self.seq_of(conversation, had),
        }
    }
}
