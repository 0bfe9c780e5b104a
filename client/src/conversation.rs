//! One conversation as a client knows it: its unread count and its read mark. Pure.

use crate::proto::{Conversation, Message};

/// A conversation as a client knows it. Its encoding is its row in a store.
#[derive(Clone, PartialEq, prost::Message)]
pub struct KnownConversation {
    /// Its id.
    #[prost(string, tag = "1")]
    pub conversation_id: String,
    /// The highest known conversation seq.
    #[prost(uint64, tag = "2")]
    pub head: u64,
    /// The oldest conversation seq that the gateway retained when it was last asked, or that has landed.
    #[prost(uint64, tag = "3")]
    pub first: u64,
    /// The user has read everything up to this conversation seq.
    #[prost(uint64, tag = "4")]
    pub mark: u64,
    /// Messages above the mark. The gateway does not say when it deletes a message that has landed, so until it is asked
    /// again such a message counts.
    #[prost(uint64, tag = "5")]
    pub unread: u64,
    /// The seq of the newest known message in the inbox.
    #[prost(uint64, tag = "7")]
    pub last_seq: u64,
    /// The mark that the gateway has told. A higher `mark` is to be sent.
    #[prost(uint64, tag = "8")]
    pub(crate) told_mark: u64,
    /// Every message up to this conversation seq has landed, or will not come.
    #[prost(uint64, tag = "9")]
    pub(crate) landed: u64,
    /// True if a mark moved over a part of the unread messages, some of which are deleted: `unread` may be too high.
    #[prost(bool, tag = "10")]
    pub(crate) is_estimated: bool,
}

impl KnownConversation {
    /// One whose oldest message is this one, as far as is known.
    pub(crate) fn new(conversation_id: &str, first: u64) -> Self {
        Self {
            conversation_id: conversation_id.to_owned(),
            first,
            ..Self::default()
        }
    }

    /// A message lands.
    pub(crate) fn land(&mut self, message: &Message) {
        let seq = message.conversation_seq;
        if seq > self.head {
            self.head = seq;
            self.unread += u64::from(seq > self.mark);
        }
        self.landed = self.landed.max(seq);
        self.last_seq = self.last_seq.max(message.seq);
    }

    /// Moves the mark forward. False: it is already there.
    pub(crate) fn mark_to(&mut self, mark: u64) -> bool {
        if mark <= self.mark {
            return false;
        }
        let above = |head: u64, mark: u64| head - mark.max(self.first.saturating_sub(1)).min(head);
        let is_whole = self.unread == above(self.head, self.mark);
        self.mark = mark;
        self.head = self.head.max(mark);
        self.unread = self.unread.min(above(self.head, mark));
        self.is_estimated = self.unread > 0 && (self.is_estimated || !is_whole);
        true
    }

    /// True if the gateway has to be asked for the unread count. It knows the mark.
    pub(crate) fn is_to_be_counted(&self) -> bool {
        self.is_estimated && self.mark == self.told_mark
    }

    /// Takes the gateway's answer. `cursor` is the cursor of landing.
    pub(crate) fn take(&mut self, told: &Conversation, cursor: u64, is_given_up: bool) {
        let Self { head, mark, .. } = *self;
        self.head = told.head;
        self.first = told.first;
        self.mark = told.mark;
        self.unread = told.unread.into();
        self.is_estimated = false;
        // These messages and marks have landed since the gateway made its answer.
        self.unread += head.saturating_sub(told.head);
        self.head = self.head.max(head);
        self.mark_to(self.told_mark);
        self.told_mark = self.mark;
        if !is_given_up {
            self.mark_to(mark);
        }
        self.last_seq = self.last_seq.max(told.last_seq);
        if told.last_seq <= cursor {
            self.landed = self.landed.max(told.head);
        }
    }
}

/// The extent to which the store knows the user's conversations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Knowledge {
    /// Something may be missing. The gateway has to be asked.
    #[default]
    Partial,
    /// Everything up to the cursor.
    Whole,
    /// Everything up to this gap. The gateway has to be asked; then the user is told of the gap if it held a message.
    Gap {
        /// The first missing seq.
        from_seq: u64,
        /// The last missing seq.
        to_seq: u64,
    },
}

/// The conversations in one transaction of a store.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConversationRecord {
    /// True if all rows are removed first: another log begins.
    pub is_anew: bool,
    /// The rows to write.
    pub rows: Vec<KnownConversation>,
    /// The knowledge once the rows are written.
    pub knowledge: Knowledge,
}
