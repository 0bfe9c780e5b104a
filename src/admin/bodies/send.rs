//! Requests and answers of sending.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::admin::{json, text::Text};

/// One send, to one receiver (`send_msg`) or to many (`batch_send_msg`).
#[derive(Default, Deserialize, JsonSchema)]
#[schemars(extend("required" = ["operationID", "sendID", "content", "contentType", "sessionType"]))]
pub(in crate::admin) struct SendRequest<'a> {
    /// For the caller's own tracing. `check_msg_is_send_success` looks a send up by it. A caller may repeat it.
    #[serde(rename = "operationID", default, borrow)]
    pub(in crate::admin) operation_id: Text<'a>,
    /// The sender: 1–64 bytes. Need not be the token's user.
    #[serde(rename = "sendID", default, borrow)]
    pub(in crate::admin) send_id: Text<'a>,
    /// `send_msg`: the receiver.
    #[serde(rename = "recvID", default, borrow)]
    pub(in crate::admin) recv_id: Text<'a>,
    /// `batch_send_msg`: the receivers, at most `admin.batch_max`; each counts once.
    #[serde(rename = "recvIDList", default, borrow)]
    pub(in crate::admin) recv_id_list: Option<Vec<Text<'a>>>,
    /// `batch_send_msg`: the receivers are all users who ever connected, were registered or have an inbox; without
    /// `recvIDList`.
    #[serde(rename = "isSendAll", default)]
    pub(in crate::admin) is_send_all: Option<bool>,
    /// `batch_send_msg` with sessionType 2 or 3: the group of the members in `recvIDList`.
    #[serde(rename = "groupID", default, borrow)]
    pub(in crate::admin) group_id: Text<'a>,
    /// Makes a retry safe: a send with the same `sendID`, `clientMsgID` and body returns the first result. 1–64 bytes. An
    /// online-only send (`isOnlineOnly`) is not stored, so its `clientMsgID` is not remembered: it is only delivered with
    /// the message.
    #[serde(rename = "clientMsgID", default, borrow)]
    pub(in crate::admin) client_msg_id: Text<'a>,
    #[serde(rename = "senderNickname", default, borrow)]
    pub(in crate::admin) sender_nickname: Text<'a>,
    #[serde(rename = "senderFaceURL", default, borrow)]
    pub(in crate::admin) sender_face_url: Text<'a>,
    /// OpenIM's number of the sender's platform; 0 or absent: none.
    #[serde(
        rename = "senderPlatformID",
        default,
        deserialize_with = "json::integer"
    )]
    pub(in crate::admin) sender_platform_id: Option<u32>,
    /// An object with the fields of its `contentType`; delivered byte for byte.
    #[serde(default, borrow)]
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub(in crate::admin) content: Option<&'a RawValue>,
    /// 101–112, 114, 1400, and 113 (always online-only).
    #[serde(rename = "contentType", default, deserialize_with = "json::integer")]
    pub(in crate::admin) content_type: Option<i32>,
    /// 1 single, 2 and 3 group, 4 notification; contentType 1400 makes it 4.
    #[serde(rename = "sessionType", default, deserialize_with = "json::integer")]
    pub(in crate::admin) session_type: Option<i32>,
    /// True: push to the users who are online now, and store nothing.
    #[serde(rename = "isOnlineOnly", default)]
    pub(in crate::admin) is_online_only: Option<bool>,
    #[serde(
        rename = "offlinePushInfo",
        default,
        deserialize_with = "json::object",
        borrow
    )]
    pub(in crate::admin) offline_push: Option<OfflinePushInfo<'a>>,
    /// True: no vendor push tells of the message.
    #[serde(rename = "notOfflinePush", default)]
    pub(in crate::admin) not_offline_push: Option<bool>,
    #[serde(default, borrow)]
    pub(in crate::admin) ex: Text<'a>,
}

/// The texts for a vendor's offline push.
#[derive(Deserialize, JsonSchema)]
pub(in crate::admin) struct OfflinePushInfo<'a> {
    #[serde(default, borrow)]
    pub(in crate::admin) title: Text<'a>,
    #[serde(default, borrow)]
    pub(in crate::admin) desc: Text<'a>,
    #[serde(default, borrow)]
    pub(in crate::admin) ex: Text<'a>,
    #[serde(rename = "iOSPushSound", default, borrow)]
    pub(in crate::admin) ios_push_sound: Text<'a>,
    #[serde(rename = "iOSBadgeCount", default)]
    pub(in crate::admin) ios_badge_count: Option<bool>,
}

/// The result of a send.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin) struct Sent<'a> {
    /// 32 hex digits, ordered by time.
    #[serde(rename = "serverMsgID")]
    pub(in crate::admin) server_msg_id: &'a str,
    /// The caller's id, or the serverMsgID.
    #[serde(rename = "clientMsgID")]
    pub(in crate::admin) client_msg_id: &'a str,
    /// The time at which the send was accepted, Unix ms.
    #[serde(rename = "sendTime")]
    pub(in crate::admin) send_time: u64,
}

/// The result of a batch.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin) struct BatchSent<'a> {
    #[serde(rename = "resultList")]
    pub(in crate::admin) results: Vec<SentTo<'a>>,
    /// Receivers that are not valid ids, as given.
    #[serde(rename = "FailedIDList")]
    pub(in crate::admin) failed: Vec<&'a str>,
    /// In place of the results of a send to everyone with more than `admin.batch_max` receivers.
    #[serde(flatten)]
    pub(in crate::admin) count: Option<SentToMany<'a>>,
}

/// The result of a send to more receivers than an answer lists. `/msg/trace` pages through them.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin) struct SentToMany<'a> {
    #[serde(flatten)]
    pub(in crate::admin) sent: Sent<'a>,
    /// The number of receivers.
    #[serde(rename = "receiversTotal")]
    pub(in crate::admin) receivers_total: u64,
}

/// The result of a batch for one receiver.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin) struct SentTo<'a> {
    #[serde(rename = "serverMsgID")]
    pub(in crate::admin) server_msg_id: &'a str,
    #[serde(rename = "clientMsgID")]
    pub(in crate::admin) client_msg_id: &'a str,
    #[serde(rename = "sendTime")]
    pub(in crate::admin) send_time: u64,
    #[serde(rename = "recvID")]
    pub(in crate::admin) recv_id: &'a str,
}

/// Answer to `check_msg_is_send_success`.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin) struct OperationStatus {
    #[serde(rename = "errCode")]
    pub(in crate::admin) err_code: u16,
    #[serde(rename = "errMsg")]
    pub(in crate::admin) err_msg: &'static str,
    /// 0 unknown, 1 sending, 2 done, 3 had failures.
    pub(in crate::admin) status: u8,
}
