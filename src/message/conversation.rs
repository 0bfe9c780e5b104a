//! A conversation of a user, as the log describes it.

use super::{Bases, ConversationSettings};
use crate::ids::{ConversationSeq, ID_BYTES_MAX, Seq, WireSeq};

/// The most bytes of a conversation's id: `si_` or `sn_`, and two ids joined by `_`.
pub const CONVERSATION_ID_BYTES_MAX: usize = 3 + ID_BYTES_MAX + 1 + ID_BYTES_MAX;

/// The most conversations of one answer to a v3 client of OpenIM.
pub const OVERVIEW_MAX: usize = 2000;

/// A user's conversation, with what the user has read of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// Its id.
    pub id: Box<str>,
    /// Highest assigned conversation seq.
    pub head: ConversationSeq,
    /// Oldest conversation seq that is retained and not cleared; `head` + 1 when there is none.
    pub first: ConversationSeq,
    /// The user has read everything up to this conversation seq. It never goes back.
    pub mark: ConversationSeq,
    /// Messages above the mark that are retained, not cleared and not deleted.
    pub unread: u64,
    /// The conversation time of the newest message, Unix ms: its send time, or later, so that times ascend within a conversation.
    pub last_time_ms: u64,
    /// The seq of the newest message in the inbox.
    pub last_seq: Seq,
    /// The bases of its messages, one for each epoch but the first; with the base of the messages that are stored now.
    pub bases: Bases,
    /// The user's settings.
    pub settings: ConversationSettings,
}

impl Conversation {
    /// The number under which clients without epochs know a conversation seq.
    pub fn wire_of(&self, seq: ConversationSeq) -> WireSeq {
        self.bases.wire_of(seq)
    }

    /// The conversation seq that clients without epochs know under this number. A number within a hole gives the newest message
    /// before the hole. The result may be above the head, as the number may be.
    pub fn seq_of(&self, wire: WireSeq) -> ConversationSeq {
        self.bases.seq_of(wire)
    }

    /// The conversation seq up to which a client without epochs has messages, or has read them, that names the last one by this
    /// number. The number may be of an earlier epoch. The result may be above the head, as the number may be.
    pub fn held_by(&self, wire: WireSeq) -> ConversationSeq {
        self.bases.held_by(wire)
    }

    /// The head and the highest read message as clients without epochs know them. The count of unread messages leaves out deleted
    /// ones, so what counts as read is that far below the head.
    pub fn head_and_read(&self) -> (WireSeq, WireSeq) {
        let head = self.wire_of(self.head);
        (head, WireSeq(head.0.saturating_sub(self.unread)))
    }

    /// The number of the first retained message as clients without epochs know it; `None` if none has left the conversation.
    pub fn first_after_others(&self) -> Option<WireSeq> {
        (self.first > ConversationSeq(1)).then(|| self.wire_of(self.first))
    }

    /// The conversation for a client that takes no hole between the numbers: all its messages have the newest base.
    #[must_use]
    pub fn dense(self) -> Self {
        let bases = self.bases.dense();
        Self { bases, ..self }
    }
}
