//! Requests and answers of `/conversation/list` and `/conversation/mark_read`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::{json, text::Text};

/// Asks for a user's conversations, those with the newest messages first.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["operationID", "userID"]))]
pub(in crate::admin) struct ListConversations<'a> {
    #[serde(rename = "operationID", default, borrow)]
    pub(in crate::admin) operation_id: Text<'a>,
    /// The user: the token's, or any user for an administrator.
    #[serde(rename = "userID", default, borrow)]
    pub(in crate::admin) user_id: Text<'a>,
    /// Only conversations whose `lastSeq` is below this: the `lastSeq` of the last one of the page before. 0 or absent: from the
    /// newest on.
    #[serde(rename = "beforeSeq", default, deserialize_with = "json::integer")]
    pub(in crate::admin) before_seq: Option<u64>,
    /// The number of conversations wanted: 100 when absent or 0, at most 500.
    #[serde(default, deserialize_with = "json::integer")]
    pub(in crate::admin) limit: Option<usize>,
}

/// A page of a user's conversations.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin) struct ConversationsListed<'a> {
    /// By `lastSeq`, descending.
    pub(in crate::admin) list: Vec<ListedConversation<'a>>,
    /// True if no conversation follows.
    pub(in crate::admin) end: bool,
}

/// One conversation of a user.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin) struct ListedConversation<'a> {
    #[serde(rename = "conversationID")]
    pub(in crate::admin) conversation_id: &'a str,
    /// Highest conversation seq.
    pub(in crate::admin) head: u64,
    /// Oldest retained conversation seq; head + 1 when none is.
    pub(in crate::admin) first: u64,
    /// The user has read everything up to this conversation seq.
    pub(in crate::admin) mark: u64,
    /// Messages above the mark that are retained and not deleted.
    pub(in crate::admin) unread: u64,
    /// Time of the newest message, Unix ms.
    #[serde(rename = "lastTime")]
    pub(in crate::admin) last_time_ms: u64,
    /// Seq of the newest message in the inbox.
    #[serde(rename = "lastSeq")]
    pub(in crate::admin) last_seq: u64,
}

/// Marks a conversation as read up to a message. A mark moves forward only. A mark that is not higher, or of an unknown
/// conversation, is ignored; one above the head counts as the head.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["operationID", "userID", "conversationID", "conversationSeq"]))]
pub(in crate::admin) struct MarkRead<'a> {
    #[serde(rename = "operationID", default, borrow)]
    pub(in crate::admin) operation_id: Text<'a>,
    /// The user: the token's, or any user for an administrator.
    #[serde(rename = "userID", default, borrow)]
    pub(in crate::admin) user_id: Text<'a>,
    #[serde(rename = "conversationID", default, borrow)]
    pub(in crate::admin) conversation_id: Text<'a>,
    /// The conversation seq of the newest message that was read.
    #[serde(
        rename = "conversationSeq",
        default,
        deserialize_with = "json::integer"
    )]
    pub(in crate::admin) conversation_seq: Option<u64>,
}
