//! The fields that an entry of an inbox may have besides its seq and its message.

use crate::{
    ids::{ConversationSeq, Seq},
    message::Numbers,
};

/// The optional fields of an entry, in protobuf's encoding after its other parts. An absent field is 0 or empty and takes no
/// bytes. Numbers are final. A reader passes over the fields that it does not know.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct EntryFields {
    /// The entry's kind: [`MESSAGE`] or [`MARKS`]. A kind that a reader does not know reads as an entry without a message.
    #[prost(uint32, tag = "1")]
    pub(super) kind: u32,
    /// The message's number in its receiver's conversation, from 1.
    #[prost(uint64, tag = "2")]
    pub(super) conversation_seq: u64,
    /// The message's time within the conversation, Unix ms, where it differs from the message's send time.
    #[prost(uint64, tag = "3")]
    pub(super) conversation_time_ms: u64,
    /// The message's receiver as the client sees it, where that is not the inbox's user.
    #[prost(string, tag = "4")]
    pub(super) recv_id: String,
    /// The conversation, where it differs from the one that follows from sender, receiver and group.
    #[prost(string, tag = "5")]
    pub(super) conversation_id: String,
    /// The position of the entry before this one in the conversation; 0 when none is retained.
    #[prost(uint64, tag = "6")]
    pub(super) conversation_previous: u64,
    /// The base of the epoch in which the message was stored.
    #[prost(uint32, tag = "7")]
    pub(super) base: u32,
}

/// The kind of an entry that holds a message.
pub(super) const MESSAGE: u32 = 0;
/// The kind of an entry that holds read marks.
pub(super) const MARKS: u32 = 1;

impl EntryFields {
    /// The conversation time of an entry whose message was accepted at this time, Unix ms.
    pub(super) fn time_ms(&self, send_time_ms: u64) -> u64 {
        match self.conversation_time_ms {
            0 => send_time_ms,
            time_ms => time_ms,
        }
    }

    /// The numbers of the entry with this seq, whose message was accepted at this time, Unix ms.
    pub(super) fn numbers(&self, seq: Seq, send_time_ms: u64) -> Numbers {
        let ahead_ms = self.time_ms(send_time_ms).saturating_sub(send_time_ms);
        Numbers {
            seq,
            conversation_seq: ConversationSeq(self.conversation_seq),
            base: self.base,
            time_ahead_ms: u32::try_from(ahead_ms).unwrap_or(u32::MAX),
        }
    }
}
