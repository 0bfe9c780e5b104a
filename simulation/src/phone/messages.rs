//! The data inside OpenIM's frames, as far as a phone needs it. Written from the protocol's tables alone.

use std::collections::BTreeMap;

/// The numbers of requests and pushes.
pub(super) const REACHED: i64 = 1001;
pub(super) const PULL: i64 = 1002;
pub(super) const HISTORY: i64 = 1005;
pub(super) const HEADS: i64 = 1006;
pub(super) const NEWEST: i64 = 1007;
pub(super) const PUSH: i64 = 2001;
pub(super) const KICK: i64 = 2002;

/// The question of 1001 and of 1006: all conversations.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct OwnQuestion {
    #[prost(string, tag = "1")]
    pub(super) user_id: String,
}

/// The answer to 1001.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Reached {
    #[prost(btree_map = "string, int64", tag = "1")]
    pub(super) max_seqs: BTreeMap<String, i64>,
}

/// The answer to 1006.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Heads {
    #[prost(btree_map = "string, message", tag = "1")]
    pub(super) seqs: BTreeMap<String, Head>,
}

/// The head of a conversation.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Head {
    #[prost(int64, tag = "1")]
    pub(super) max_seq: i64,
    #[prost(int64, tag = "2")]
    pub(super) has_read_seq: i64,
}

/// The question of 1002.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Pull {
    #[prost(string, tag = "1")]
    pub(super) user_id: String,
    #[prost(message, repeated, tag = "2")]
    pub(super) ranges: Vec<Range>,
}

/// Messages of a conversation, both ends included.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Range {
    #[prost(string, tag = "1")]
    pub(super) conversation_id: String,
    #[prost(int64, tag = "2")]
    pub(super) begin: i64,
    #[prost(int64, tag = "3")]
    pub(super) end: i64,
    /// The number of messages that the core asks for. It takes all that come.
    #[prost(int64, tag = "4")]
    pub(super) num: i64,
}

/// The question of 1005.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HistoryQuestion {
    #[prost(string, tag = "1")]
    pub(super) user_id: String,
    #[prost(message, repeated, tag = "2")]
    pub(super) pages: Vec<HistoryPage>,
}

/// Messages of a conversation by their seqs.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct HistoryPage {
    #[prost(string, tag = "2")]
    pub(super) conversation_id: String,
    #[prost(int64, repeated, tag = "3")]
    pub(super) seqs: Vec<i64>,
}

/// The question of 1007.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct NewestQuestion {
    #[prost(string, tag = "1")]
    pub(super) user_id: String,
    #[prost(string, repeated, tag = "2")]
    pub(super) conversation_ids: Vec<String>,
}

/// The answer to 1007.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Newest {
    #[prost(btree_map = "string, message", tag = "1")]
    pub(super) msgs: BTreeMap<String, PhoneMessage>,
}

/// A push, and the answer to 1002 and 1005.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Bundle {
    #[prost(btree_map = "string, message", tag = "1")]
    pub(super) msgs: BTreeMap<String, Run>,
    /// The news that the user has read something.
    #[prost(btree_map = "string, message", tag = "2")]
    pub(super) notices: BTreeMap<String, Run>,
}

/// Messages of one conversation.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Run {
    #[prost(message, repeated, tag = "1")]
    pub(super) messages: Vec<PhoneMessage>,
    /// A seq below the smallest that is still there was asked for.
    #[prost(bool, tag = "2")]
    pub(super) is_end: bool,
    /// That smallest seq.
    #[prost(int64, tag = "3")]
    pub(super) end_seq: i64,
}

/// A message.
#[derive(Clone, PartialEq, prost::Message)]
pub(in super::super) struct PhoneMessage {
    #[prost(string, tag = "2")]
    pub(in super::super) recv_id: String,
    #[prost(string, tag = "5")]
    pub(in super::super) server_msg_id: String,
    #[prost(int32, tag = "11")]
    pub(super) content_type: i32,
    #[prost(bytes = "vec", tag = "12")]
    pub(super) content: Vec<u8>,
    /// 0: it is only told.
    #[prost(int64, tag = "14")]
    pub(in super::super) seq: i64,
    /// Unix ms.
    #[prost(int64, tag = "15")]
    pub(in super::super) send_time: i64,
}

impl PhoneMessage {
    /// The content as its caller sent it, which has no element of its own in v3. Empty for anything else.
    pub(in super::super) fn sent(&self) -> String {
        let element: serde_json::Value = serde_json::from_slice(&self.content).unwrap_or_default();
        element["detail"].as_str().unwrap_or_default().to_owned()
    }

    /// The mark that the message tells: a conversation, and the seq up to which it is read.
    pub(super) fn mark(&self) -> Option<(String, i64)> {
        let detail: serde_json::Value = serde_json::from_str(&self.sent()).ok()?;
        let id = detail["conversationID"].as_str()?.to_owned();
        Some((id, detail["hasReadSeq"].as_i64()?))
    }
}
