//! Requests and answers as JSON, by OpenIM's names.
//!
//! Strings of a request borrow from its body, and `content` stays the text it is. Every field may be absent here: what a
//! call requires it asks for itself, so that the refusal names the field.

use axum::{
    body::Body,
    http::{HeaderValue, header},
    response::Response,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::text::Text;

/// One send, to one receiver (`send_msg`) or to many (`batch_send_msg`).
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["operationID", "sendID", "content", "contentType", "sessionType"]))]
pub(super) struct SendRequest<'a> {
    /// For the caller's own tracing; `check_msg_is_send_success` asks by it. Repeating it is allowed.
    #[serde(rename = "operationID", default, borrow)]
    pub(super) operation_id: Text<'a>,
    /// Who sends: 1–64 bytes. Need not be the token's user.
    #[serde(rename = "sendID", default, borrow)]
    pub(super) send_id: Text<'a>,
    /// `send_msg`: who receives.
    #[serde(rename = "recvID", default, borrow)]
    pub(super) recv_id: Text<'a>,
    /// `batch_send_msg`: who receives, at most `admin.batch_max`; each counts once.
    #[serde(rename = "recvIDList", default, borrow)]
    pub(super) recv_id_list: Option<Vec<Text<'a>>>,
    /// `batch_send_msg`: everyone who ever connected, was registered or has an inbox; `recvIDList` is then not looked at.
    #[serde(rename = "isSendAll", default)]
    pub(super) is_send_all: Option<bool>,
    /// `batch_send_msg` with sessionType 2 or 3: the group whose members `recvIDList` names.
    #[serde(rename = "groupID", default, borrow)]
    pub(super) group_id: Text<'a>,
    /// Makes a retry safe: with the same `sendID` and body it returns the first result. 1–64 bytes.
    #[serde(rename = "clientMsgID", default, borrow)]
    pub(super) client_msg_id: Text<'a>,
    #[serde(rename = "senderNickname", default, borrow)]
    pub(super) sender_nickname: Text<'a>,
    #[serde(rename = "senderFaceURL", default, borrow)]
    pub(super) sender_face_url: Text<'a>,
    #[serde(rename = "senderPlatformID", default)]
    pub(super) sender_platform_id: Option<i32>,
    /// An object with the fields of its `contentType`; delivered byte for byte.
    #[serde(default, borrow)]
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub(super) content: Option<&'a RawValue>,
    /// 101–112, 114, 1400, and 113 (always online-only).
    #[serde(rename = "contentType", default)]
    pub(super) content_type: Option<i32>,
    /// 1 single, 2 and 3 group, 4 notification; contentType 1400 makes it 4.
    #[serde(rename = "sessionType", default)]
    pub(super) session_type: Option<i32>,
    /// Push to whoever is online now and store nothing.
    #[serde(rename = "isOnlineOnly", default)]
    pub(super) is_online_only: Option<bool>,
    #[serde(rename = "offlinePushInfo", default, borrow)]
    pub(super) offline_push: Option<OfflinePushInfo<'a>>,
    #[serde(default, borrow)]
    pub(super) ex: Text<'a>,
}

/// What a vendor's offline push would show.
#[derive(Deserialize, JsonSchema)]
pub(super) struct OfflinePushInfo<'a> {
    #[serde(default, borrow)]
    pub(super) title: Text<'a>,
    #[serde(default, borrow)]
    pub(super) desc: Text<'a>,
    #[serde(default, borrow)]
    pub(super) ex: Text<'a>,
    #[serde(rename = "iOSPushSound", default, borrow)]
    pub(super) ios_push_sound: Text<'a>,
    #[serde(rename = "iOSBadgeCount", default)]
    pub(super) ios_badge_count: Option<bool>,
}

/// What a send became.
#[derive(Serialize, JsonSchema)]
pub(super) struct Sent<'a> {
    /// 32 hex digits, ordered by time.
    #[serde(rename = "serverMsgID")]
    pub(super) server_msg_id: &'a str,
    /// The caller's id, or the serverMsgID.
    #[serde(rename = "clientMsgID")]
    pub(super) client_msg_id: &'a str,
    /// When the send was accepted, Unix ms.
    #[serde(rename = "sendTime")]
    pub(super) send_time: u64,
}

/// What a batch became.
#[derive(Serialize, JsonSchema)]
pub(super) struct BatchSent<'a> {
    #[serde(rename = "resultList")]
    pub(super) results: Vec<SentTo<'a>>,
    /// Receivers that are no ids, as given.
    #[serde(rename = "FailedIDList")]
    pub(super) failed: Vec<&'a str>,
}

/// What a batch became for one receiver.
#[derive(Serialize, JsonSchema)]
pub(super) struct SentTo<'a> {
    #[serde(rename = "serverMsgID")]
    pub(super) server_msg_id: &'a str,
    #[serde(rename = "clientMsgID")]
    pub(super) client_msg_id: &'a str,
    #[serde(rename = "sendTime")]
    pub(super) send_time: u64,
    #[serde(rename = "recvID")]
    pub(super) recv_id: &'a str,
}

/// A request that carries nothing but its operationID.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["operationID"]))]
pub(super) struct Operation<'a> {
    #[serde(rename = "operationID", default, borrow)]
    pub(super) operation_id: Text<'a>,
}

/// Answer to `check_msg_is_send_success`.
#[derive(Serialize, JsonSchema)]
pub(super) struct OperationStatus {
    #[serde(rename = "errCode")]
    pub(super) err_code: u16,
    #[serde(rename = "errMsg")]
    pub(super) err_msg: &'static str,
    /// 0 unknown, 1 sending, 2 done, 3 had failures.
    pub(super) status: u8,
}

/// Where is my message: by `serverMsgID`, or by `sendID` and `clientMsgID`.
#[derive(Deserialize, JsonSchema)]
pub(super) struct TraceRequest<'a> {
    #[serde(rename = "serverMsgID", default, borrow)]
    pub(super) server_msg_id: Text<'a>,
    #[serde(rename = "sendID", default, borrow)]
    pub(super) send_id: Text<'a>,
    #[serde(rename = "clientMsgID", default, borrow)]
    pub(super) client_msg_id: Text<'a>,
    /// Only this receiver.
    #[serde(rename = "userID", default, borrow)]
    pub(super) user_id: Text<'a>,
    /// Receivers to pass over.
    #[serde(default)]
    pub(super) offset: Option<usize>,
    /// Receivers wanted: 100 when absent or 0, at most 1000.
    #[serde(default)]
    pub(super) limit: Option<usize>,
}

/// A message and what became of it.
#[derive(Serialize, JsonSchema)]
pub(super) struct Traced<'a> {
    #[serde(rename = "serverMsgID")]
    pub(super) server_msg_id: String,
    #[serde(rename = "clientMsgID")]
    pub(super) client_msg_id: &'a str,
    #[serde(rename = "sendID")]
    pub(super) send_id: &'a str,
    /// When it was accepted, Unix ms.
    #[serde(rename = "sendTime")]
    pub(super) send_time: u64,
    /// How many it was sent to, all pages together.
    #[serde(rename = "receiversTotal")]
    pub(super) receivers_total: usize,
    pub(super) receivers: Vec<TracedReceiver<'a>>,
}

/// A message in one inbox.
#[derive(Serialize, JsonSchema)]
pub(super) struct TracedReceiver<'a> {
    #[serde(rename = "userID")]
    pub(super) user_id: &'a str,
    pub(super) seq: u64,
    /// The furthest of its sessions: `pending`, `sent`, `acked` or `expired`.
    pub(super) state: &'static str,
    pub(super) sessions: Vec<TracedSession<'a>>,
}

/// A message and one session.
#[derive(Serialize, JsonSchema)]
pub(super) struct TracedSession<'a> {
    /// By name, e.g. `Web`.
    pub(super) platform: &'static str,
    #[serde(rename = "deviceID")]
    pub(super) device_id: &'a str,
    /// `pending`, `sent`, `acked` or `expired`.
    pub(super) state: &'static str,
    /// Unix ms; null when not sent, or when that is no longer remembered.
    #[serde(rename = "sentTime")]
    pub(super) sent_time: Option<u64>,
    /// Unix ms; null when not acked.
    #[serde(rename = "ackedTime")]
    pub(super) acked_time: Option<u64>,
}

/// Asks for a token.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["secret", "platform", "userID", "operationID"]))]
pub(super) struct TokenRequest<'a> {
    /// `auth.secret` of the gateway.
    #[serde(default, borrow)]
    pub(super) secret: Text<'a>,
    /// 1–11.
    #[serde(default)]
    pub(super) platform: Option<u32>,
    /// 1–64 bytes. Need not be registered.
    #[serde(rename = "userID", default, borrow)]
    pub(super) user_id: Text<'a>,
    #[serde(rename = "operationID", default, borrow)]
    pub(super) operation_id: Text<'a>,
}

/// What a user says about itself when registered; kept as it is.
#[derive(Serialize, Deserialize, JsonSchema)]
pub(super) struct Profile<'a> {
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub(super) nickname: Option<Text<'a>>,
    #[serde(
        rename = "faceURL",
        default,
        borrow,
        skip_serializing_if = "Option::is_none"
    )]
    pub(super) face_url: Option<Text<'a>>,
    /// 0 unknown, 1 male, 2 female.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) gender: Option<i32>,
    #[serde(
        rename = "phoneNumber",
        default,
        borrow,
        skip_serializing_if = "Option::is_none"
    )]
    pub(super) phone_number: Option<Text<'a>>,
    /// A date in the caller's own form.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "serde_json::Value")]
    pub(super) birth: Option<&'a RawValue>,
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub(super) email: Option<Text<'a>>,
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub(super) ex: Option<Text<'a>>,
}

/// A fresh token.
#[derive(Serialize, JsonSchema)]
pub(super) struct TokenIssued<'a> {
    #[serde(rename = "userID")]
    pub(super) user_id: &'a str,
    pub(super) token: &'a str,
    /// Until when it is good, Unix seconds.
    #[serde(rename = "expiredTime")]
    pub(super) expired_time: u64,
}

/// What a token says.
#[derive(Serialize, JsonSchema)]
pub(super) struct TokenParsed<'a> {
    #[serde(rename = "UID")]
    pub(super) user_id: &'a str,
    /// By name, e.g. `Web`.
    #[serde(rename = "Platform")]
    pub(super) platform: &'static str,
    /// Until when it is good, Unix seconds.
    #[serde(rename = "ExpireTimeSeconds")]
    pub(super) expires_at_s: u64,
}

/// Revokes a user's tokens on one platform and closes its connections there.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["platform", "fromUserID", "operationID"]))]
pub(super) struct LogoutRequest<'a> {
    /// 1–11.
    #[serde(default)]
    pub(super) platform: Option<u32>,
    #[serde(rename = "fromUserID", default, borrow)]
    pub(super) from_user_id: Text<'a>,
    #[serde(rename = "operationID", default, borrow)]
    pub(super) operation_id: Text<'a>,
}

/// What a logout did.
#[derive(Serialize, JsonSchema)]
pub(super) struct LoggedOut {
    /// Connections that were told to close.
    pub(super) connections: usize,
}

/// Asks who is online.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["userIDList", "operationID"]))]
pub(super) struct PresenceRequest<'a> {
    /// At most 200.
    #[serde(rename = "userIDList", default, borrow)]
    pub(super) user_id_list: Option<Vec<Text<'a>>>,
    #[serde(rename = "operationID", default, borrow)]
    pub(super) operation_id: Text<'a>,
}

/// Whether one user is online, and where.
#[derive(Serialize, JsonSchema)]
pub(super) struct UserPresence<'a> {
    #[serde(rename = "userID")]
    pub(super) user_id: &'a str,
    /// `online` or `offline`.
    pub(super) status: &'static str,
    #[serde(rename = "detailPlatformStatus", skip_serializing_if = "Vec::is_empty")]
    pub(super) platforms: Vec<PlatformPresence>,
}

/// One platform that a user is online on.
#[derive(Serialize, JsonSchema)]
pub(super) struct PlatformPresence {
    /// By name, e.g. `IOS`.
    pub(super) platform: &'static str,
    /// `online`.
    pub(super) status: &'static str,
}

/// Asks for the bounds of an inbox.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["reqIdentifier", "sendID", "operationID", "msgIncr"]))]
pub(super) struct NewestSeqRequest<'a> {
    /// Echoed.
    #[serde(rename = "reqIdentifier", default)]
    pub(super) req_identifier: Option<i32>,
    /// Whose inbox: the token's user, or anyone for an administrator.
    #[serde(rename = "sendID", default, borrow)]
    pub(super) send_id: Text<'a>,
    #[serde(rename = "operationID", default, borrow)]
    pub(super) operation_id: Text<'a>,
    /// Echoed.
    #[serde(rename = "msgIncr", default)]
    pub(super) msg_incr: Option<i64>,
}

/// The bounds of an inbox.
#[derive(Serialize, JsonSchema)]
pub(super) struct SeqBounds {
    /// Highest assigned seq; 0 when there is none.
    #[serde(rename = "maxSeq")]
    pub(super) max_seq: u64,
    /// Oldest retained seq; maxSeq + 1 when none is.
    #[serde(rename = "minSeq")]
    pub(super) min_seq: u64,
}

/// Answer to `newest_seq`.
#[derive(Serialize, JsonSchema)]
pub(super) struct NewestSeq {
    #[serde(rename = "errCode")]
    pub(super) err_code: u16,
    #[serde(rename = "errMsg")]
    pub(super) err_msg: &'static str,
    #[serde(rename = "msgIncr")]
    pub(super) msg_incr: i64,
    #[serde(rename = "reqIdentifier")]
    pub(super) req_identifier: i32,
    pub(super) data: SeqBounds,
}

/// Asks for messages of an inbox.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["reqIdentifier", "sendID", "operationID"]))]
pub(super) struct PullRequest<'a> {
    /// Echoed.
    #[serde(rename = "reqIdentifier", default)]
    pub(super) req_identifier: Option<i32>,
    /// Whose inbox: the token's user, or anyone for an administrator.
    #[serde(rename = "sendID", default, borrow)]
    pub(super) send_id: Text<'a>,
    #[serde(rename = "operationID", default, borrow)]
    pub(super) operation_id: Text<'a>,
    /// At most 500. Places that are not retained or were deleted are left out of the answer.
    #[serde(rename = "seqList", default)]
    pub(super) seq_list: Option<Vec<u64>>,
}

/// Answer to `pull_msg_by_seq`.
#[derive(Serialize, JsonSchema)]
pub(super) struct Pulled {
    #[serde(rename = "errCode")]
    pub(super) err_code: u16,
    #[serde(rename = "errMsg")]
    pub(super) err_msg: &'static str,
    #[serde(rename = "reqIdentifier")]
    pub(super) req_identifier: i32,
    pub(super) data: Vec<MsgData>,
}

/// A message as OpenIM shows it over HTTP.
#[derive(Serialize, JsonSchema)]
pub(super) struct MsgData {
    #[serde(rename = "sendID")]
    pub(super) send_id: String,
    #[serde(rename = "recvID")]
    pub(super) recv_id: String,
    #[serde(rename = "groupID")]
    pub(super) group_id: String,
    #[serde(rename = "clientMsgID")]
    pub(super) client_msg_id: String,
    #[serde(rename = "serverMsgID")]
    pub(super) server_msg_id: String,
    #[serde(rename = "senderPlatformID")]
    pub(super) sender_platform_id: i32,
    #[serde(rename = "senderNickname")]
    pub(super) sender_nickname: String,
    #[serde(rename = "senderFaceURL")]
    pub(super) sender_face_url: String,
    #[serde(rename = "sessionType")]
    pub(super) session_type: i32,
    /// 200: the system.
    #[serde(rename = "msgFrom")]
    pub(super) msg_from: i32,
    #[serde(rename = "contentType")]
    pub(super) content_type: i32,
    /// The JSON object of the send request, in base64.
    pub(super) content: String,
    pub(super) seq: u64,
    #[serde(rename = "sendTime")]
    pub(super) send_time: i64,
    #[serde(rename = "createTime")]
    pub(super) create_time: i64,
    #[serde(rename = "offlinePushInfo", skip_serializing_if = "Option::is_none")]
    pub(super) offline_push: Option<PulledOfflinePush>,
    pub(super) ex: String,
}

/// What a vendor's offline push would show.
#[derive(Serialize, JsonSchema)]
pub(super) struct PulledOfflinePush {
    pub(super) title: String,
    pub(super) desc: String,
    pub(super) ex: String,
    #[serde(rename = "iOSPushSound")]
    pub(super) ios_push_sound: String,
    #[serde(rename = "iOSBadgeCount")]
    pub(super) ios_badge_count: bool,
}

/// Removes messages from an inbox; their places stay, empty.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["userID", "seqList", "operationID"]))]
pub(super) struct DeleteRequest<'a> {
    /// Whose inbox: the token's user, or anyone for an administrator.
    #[serde(rename = "userID", default, borrow)]
    pub(super) user_id: Text<'a>,
    /// At most 500.
    #[serde(rename = "seqList", default)]
    pub(super) seq_list: Option<Vec<u64>>,
    #[serde(rename = "operationID", default, borrow)]
    pub(super) operation_id: Text<'a>,
}

/// Nothing more to say.
#[derive(Serialize, JsonSchema)]
pub(super) struct Nothing {}

/// What every success looks like.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "{T}Answer")]
pub(super) struct Answer<T> {
    #[serde(rename = "errCode")]
    err_code: u16,
    #[serde(rename = "errMsg")]
    err_msg: &'static str,
    data: T,
}

/// `{"errCode":0,"errMsg":"","data":…}` with HTTP 200.
pub(super) fn answer<T: Serialize>(data: T) -> Response {
    json(&Answer {
        err_code: 0,
        err_msg: "",
        data,
    })
}

/// Any JSON with HTTP 200.
pub(super) fn json<T: Serialize>(value: &T) -> Response {
    let bytes =
        serde_json::to_vec(value).expect("our own types have string keys and finite numbers");
    json_bytes(bytes.into())
}

/// JSON that is written already, with HTTP 200.
pub(super) fn json_bytes(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}
