//! The fields that an entry of an inbox may have besides its seq and its message.

/// The optional fields of an entry, in protobuf's encoding after its other parts. An absent field is 0 or empty and takes no
/// bytes. Numbers are final. A reader passes over the fields that it does not know.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct EntryFields {
    /// The entry's kind, from 0 for a message. A kind that a reader does not know reads as an entry without a message.
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
}
