//! Requests and answers of `newest_seq`, `pull_msg_by_seq` and `del_msg`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::{json, text::Text};

/// Asks for the bounds of an inbox.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["reqIdentifier", "sendID", "operationID", "msgIncr"]))]
pub(in crate::admin) struct NewestSeqRequest<'a> {
    /// Returned in the answer.
    #[serde(rename = "reqIdentifier", default, deserialize_with = "json::integer")]
    pub(in crate::admin) req_identifier: Option<i32>,
    /// The owner of the inbox: the token's user, or any user for an administrator.
    #[serde(rename = "sendID", default, borrow)]
    pub(in crate::admin) send_id: Text<'a>,
    #[serde(rename = "operationID", default, borrow)]
    pub(in crate::admin) operation_id: Text<'a>,
    /// Returned in the answer.
    #[serde(rename = "msgIncr", default, deserialize_with = "json::integer")]
    pub(in crate::admin) msg_incr: Option<i64>,
}

/// The bounds of an inbox.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin) struct SeqBounds {
    /// Highest assigned seq; 0 for an inbox without messages.
    #[serde(rename = "maxSeq")]
    pub(in crate::admin) max_seq: u64,
    /// Oldest retained seq; maxSeq + 1 when nothing is retained.
    #[serde(rename = "minSeq")]
    pub(in crate::admin) min_seq: u64,
}

/// Answer to `newest_seq`.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin) struct NewestSeq {
    #[serde(rename = "errCode")]
    pub(in crate::admin) err_code: u16,
    #[serde(rename = "errMsg")]
    pub(in crate::admin) err_msg: &'static str,
    #[serde(rename = "msgIncr")]
    pub(in crate::admin) msg_incr: i64,
    #[serde(rename = "reqIdentifier")]
    pub(in crate::admin) req_identifier: i32,
    pub(in crate::admin) data: SeqBounds,
}

/// Asks for messages of an inbox.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["reqIdentifier", "sendID", "operationID"]))]
pub(in crate::admin) struct PullRequest<'a> {
    /// Returned in the answer.
    #[serde(rename = "reqIdentifier", default, deserialize_with = "json::integer")]
    pub(in crate::admin) req_identifier: Option<i32>,
    /// The owner of the inbox: the token's user, or any user for an administrator.
    #[serde(rename = "sendID", default, borrow)]
    pub(in crate::admin) send_id: Text<'a>,
    #[serde(rename = "operationID", default, borrow)]
    pub(in crate::admin) operation_id: Text<'a>,
    /// At most 500. The answer leaves out messages that were deleted or are not retained.
    #[serde(rename = "seqList", default, deserialize_with = "json::integers")]
    pub(in crate::admin) seq_list: Option<Vec<u64>>,
    /// OpenIM v3's form. Together with `seqList` at most 500 entries.
    #[serde(
        rename = "seqRanges",
        default,
        borrow,
        deserialize_with = "json::objects"
    )]
    pub(in crate::admin) seq_ranges: Option<Vec<SeqRange<'a>>>,
}

/// A range of a conversation.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["conversationID", "begin", "end"]))]
pub(in crate::admin) struct SeqRange<'a> {
    #[serde(rename = "conversationID", default, borrow)]
    pub(in crate::admin) conversation_id: Text<'a>,
    /// The first conversation seq.
    #[serde(default, deserialize_with = "json::integer")]
    pub(in crate::admin) begin: Option<u64>,
    /// The last conversation seq.
    #[serde(default, deserialize_with = "json::integer")]
    pub(in crate::admin) end: Option<u64>,
    /// Only so many entries, the newest of the range; all when absent or 0.
    #[serde(default, deserialize_with = "json::integer")]
    pub(in crate::admin) num: Option<u64>,
}

/// Answer to `pull_msg_by_seq`.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin) struct Pulled {
    #[serde(rename = "errCode")]
    pub(in crate::admin) err_code: u16,
    #[serde(rename = "errMsg")]
    pub(in crate::admin) err_msg: &'static str,
    #[serde(rename = "reqIdentifier")]
    pub(in crate::admin) req_identifier: i32,
    pub(in crate::admin) data: Vec<MsgData>,
}

/// A message as OpenIM shows it over HTTP.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin) struct MsgData {
    #[serde(rename = "sendID")]
    pub(in crate::admin) send_id: String,
    #[serde(rename = "recvID")]
    pub(in crate::admin) recv_id: String,
    #[serde(rename = "groupID")]
    pub(in crate::admin) group_id: String,
    #[serde(rename = "clientMsgID")]
    pub(in crate::admin) client_msg_id: String,
    #[serde(rename = "serverMsgID")]
    pub(in crate::admin) server_msg_id: String,
    #[serde(rename = "senderPlatformID")]
    pub(in crate::admin) sender_platform_id: i32,
    #[serde(rename = "senderNickname")]
    pub(in crate::admin) sender_nickname: String,
    #[serde(rename = "senderFaceURL")]
    pub(in crate::admin) sender_face_url: String,
    #[serde(rename = "sessionType")]
    pub(in crate::admin) session_type: i32,
    /// 200: the system.
    #[serde(rename = "msgFrom")]
    pub(in crate::admin) msg_from: i32,
    #[serde(rename = "contentType")]
    pub(in crate::admin) content_type: i32,
    /// The JSON object of the send request, in base64.
    pub(in crate::admin) content: String,
    pub(in crate::admin) seq: u64,
    /// Place in the receiver's conversation; 0 where the log keeps no conversations.
    #[serde(rename = "conversationSeq")]
    pub(in crate::admin) conversation_seq: u64,
    #[serde(rename = "sendTime")]
    pub(in crate::admin) send_time: i64,
    #[serde(rename = "createTime")]
    pub(in crate::admin) create_time: i64,
    #[serde(rename = "offlinePushInfo", skip_serializing_if = "Option::is_none")]
    pub(in crate::admin) offline_push: Option<PulledOfflinePush>,
    pub(in crate::admin) ex: String,
}

/// The texts for a vendor's offline push.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin) struct PulledOfflinePush {
    pub(in crate::admin) title: String,
    pub(in crate::admin) desc: String,
    pub(in crate::admin) ex: String,
    #[serde(rename = "iOSPushSound")]
    pub(in crate::admin) ios_push_sound: String,
    #[serde(rename = "iOSBadgeCount")]
    pub(in crate::admin) ios_badge_count: bool,
}

/// Removes messages from an inbox. Their entries stay, without a message.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["userID", "seqList", "operationID"]))]
pub(in crate::admin) struct DeleteRequest<'a> {
    /// The owner of the inbox: the token's user, or any user for an administrator.
    #[serde(rename = "userID", default, borrow)]
    pub(in crate::admin) user_id: Text<'a>,
    /// At most 500.
    #[serde(rename = "seqList", default, deserialize_with = "json::integers")]
    pub(in crate::admin) seq_list: Option<Vec<u64>>,
    #[serde(rename = "operationID", default, borrow)]
    pub(in crate::admin) operation_id: Text<'a>,
}
