//! Requests and answers of OpenIM v3's admin API, with its names.
//!
//! Strings of a request borrow from its body. Every field may be absent here. The call checks its required fields itself, so
//! that the refusal names the field.

use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::admin::{
    bodies::{self, OfflinePushInfo, SentTo, SentToMany},
    json,
    text::Text,
};

/// The form of every success.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "{T}AnswerV3")]
pub(super) struct AnswerV3<T> {
    #[serde(rename = "errCode")]
    err_code: u16,
    #[serde(rename = "errMsg")]
    err_msg: &'static str,
    #[serde(rename = "errDlt")]
    err_dlt: &'static str,
    data: T,
}

/// The form of every refusal; with HTTP 200.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin) struct FailureV3<'a> {
    /// OpenIM v3's code.
    #[serde(rename = "errCode")]
    pub(super) err_code: u16,
    /// The name of the code, e.g. `ArgsError`.
    #[serde(rename = "errMsg")]
    pub(super) err_msg: &'a str,
    /// The reason, as a sentence.
    #[serde(rename = "errDlt")]
    pub(super) err_dlt: &'a str,
}

/// `{"errCode":0,"errMsg":"","errDlt":"","data":…}` with HTTP 200.
pub(super) fn answer<T: Serialize>(data: T) -> Response {
    bodies::json(&AnswerV3 {
        err_code: 0,
        err_msg: "",
        err_dlt: "",
        data,
    })
}

/// Asks for an administrator's token.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["secret", "userID"]))]
pub(super) struct AdminTokenRequest<'a> {
    /// `auth.secret` of the gateway.
    #[serde(default, borrow)]
    pub(super) secret: Text<'a>,
    /// One of `admin.user_ids`.
    #[serde(rename = "userID", default, borrow)]
    pub(super) user_id: Text<'a>,
}

/// Asks for a registered user's token.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["platformID", "userID"]))]
pub(super) struct UserTokenRequest<'a> {
    /// OpenIM's number, e.g. 5 for Web; not 10.
    #[serde(rename = "platformID", default, deserialize_with = "json::integer")]
    pub(super) platform_id: Option<u32>,
    #[serde(rename = "userID", default, borrow)]
    pub(super) user_id: Text<'a>,
}

/// A fresh token.
#[derive(Serialize, JsonSchema)]
pub(super) struct TokenV3<'a> {
    pub(super) token: &'a str,
    /// The time for which the token is good from now on, seconds.
    #[serde(rename = "expireTimeSeconds")]
    pub(super) lifetime_s: u64,
}

/// Asks for the claims of a token.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["token"]))]
pub(super) struct ParseTokenRequest<'a> {
    #[serde(default, borrow)]
    pub(super) token: Text<'a>,
}

/// The claims of a token.
#[derive(Serialize, JsonSchema)]
pub(super) struct ParsedV3<'a> {
    #[serde(rename = "userID")]
    pub(super) user_id: &'a str,
    #[serde(rename = "platformID")]
    pub(super) platform_id: u32,
    /// The time until which the token is good, Unix seconds.
    #[serde(rename = "expireTimeSeconds")]
    pub(super) expires_at_s: u64,
}

/// Revokes a user's tokens on one platform and closes its connections there.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["platformID", "userID"]))]
pub(super) struct ForceLogoutRequest<'a> {
    #[serde(rename = "platformID", default, deserialize_with = "json::integer")]
    pub(super) platform_id: Option<u32>,
    #[serde(rename = "userID", default, borrow)]
    pub(super) user_id: Text<'a>,
}

/// Registers users.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["users"]))]
pub(super) struct RegisterUsers<'a> {
    /// At most 1000.
    #[serde(default, borrow, deserialize_with = "json::objects")]
    pub(super) users: Option<Vec<NewUser<'a>>>,
}

/// A user to register.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["userID"]))]
pub(super) struct NewUser<'a> {
    #[serde(rename = "userID", default, borrow)]
    pub(super) user_id: Text<'a>,
    #[serde(default, borrow)]
    pub(super) nickname: Text<'a>,
    #[serde(rename = "faceURL", default, borrow)]
    pub(super) face_url: Text<'a>,
    #[serde(default, borrow)]
    pub(super) ex: Text<'a>,
}

/// Changes a profile.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["userInfo"]))]
pub(super) struct UpdateUserInfo<'a> {
    #[serde(
        rename = "userInfo",
        default,
        borrow,
        deserialize_with = "json::object"
    )]
    pub(super) user_info: Option<ChangedUser<'a>>,
}

/// The changed fields of a profile. An absent field stays as it is.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["userID"]))]
pub(super) struct ChangedUser<'a> {
    /// The token's user, or any user for an administrator.
    #[serde(rename = "userID", default, borrow)]
    pub(super) user_id: Text<'a>,
    #[serde(default, borrow)]
    pub(super) nickname: Option<Text<'a>>,
    #[serde(rename = "faceURL", default, borrow)]
    pub(super) face_url: Option<Text<'a>>,
    #[serde(default, borrow)]
    pub(super) ex: Option<Text<'a>>,
}

/// Asks which users are registered.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["checkUserIDs"]))]
pub(super) struct AccountCheckRequest<'a> {
    /// At most 1000.
    #[serde(rename = "checkUserIDs", default, borrow)]
    pub(super) check_user_ids: Option<Vec<Text<'a>>>,
}

/// The users that are registered.
#[derive(Serialize, JsonSchema)]
pub(super) struct AccountsChecked<'a> {
    pub(super) results: Vec<AccountStatus<'a>>,
}

/// One user.
#[derive(Serialize, JsonSchema)]
pub(super) struct AccountStatus<'a> {
    #[serde(rename = "userID")]
    pub(super) user_id: &'a str,
    /// 1 if the user is registered, else 0.
    #[serde(rename = "accountStatus")]
    pub(super) account_status: u8,
}

/// Asks about users.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["userIDs"]))]
pub(super) struct UserIds<'a> {
    /// At most 1000 for profiles, at most 200 for presence.
    #[serde(rename = "userIDs", default, borrow)]
    pub(super) user_ids: Option<Vec<Text<'a>>>,
}

/// The profiles of registered users.
#[derive(Serialize, JsonSchema)]
pub(super) struct UsersInfoData {
    #[serde(rename = "usersInfo")]
    pub(super) users_info: Vec<UserInfo>,
}

/// The profile of one user.
#[derive(Serialize, JsonSchema)]
pub(super) struct UserInfo {
    #[serde(rename = "userID")]
    pub(super) user_id: String,
    pub(super) nickname: String,
    #[serde(rename = "faceURL")]
    pub(super) face_url: String,
    pub(super) ex: String,
    /// The time of the registration, Unix ms; 0 after a registration by v2's call.
    #[serde(rename = "createTime")]
    pub(super) create_time_ms: u64,
    /// 1 user, 2 administrator, 3 notification account.
    #[serde(rename = "appMangerLevel")]
    pub(super) level: u32,
}

/// The presence of one user.
#[derive(Serialize, JsonSchema)]
pub(super) struct OnlineStatus<'a> {
    #[serde(rename = "userID")]
    pub(super) user_id: &'a str,
    /// 1 online, 0 offline.
    pub(super) status: u8,
    /// One entry for each session. Tokens are never shown.
    #[serde(rename = "detailPlatformStatus")]
    pub(super) platforms: Vec<PlatformOnline>,
}

/// One session of a user who is online.
#[derive(Serialize, JsonSchema)]
pub(super) struct PlatformOnline {
    #[serde(rename = "platformID")]
    pub(super) platform_id: u32,
    #[serde(rename = "connID")]
    pub(super) connection_id: String,
}

/// The gateway's clock.
#[derive(Serialize, JsonSchema)]
pub(super) struct ServerTimeData {
    /// Unix ms.
    #[serde(rename = "serverTime")]
    pub(super) server_time_ms: u64,
}

/// Registers a notification account.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["nickName"]))]
pub(super) struct AddNotifier<'a> {
    /// Ten digits if absent.
    #[serde(rename = "userID", default, borrow)]
    pub(super) user_id: Text<'a>,
    #[serde(rename = "nickName", default, borrow)]
    pub(super) nickname: Text<'a>,
    #[serde(rename = "faceURL", default, borrow)]
    pub(super) face_url: Text<'a>,
    /// 3 or absent.
    #[serde(rename = "appMangerLevel", default, deserialize_with = "json::integer")]
    pub(super) level: Option<u32>,
}

/// Changes a notification account. An empty or absent name stays as it is.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["userID"]))]
pub(super) struct UpdateNotifier<'a> {
    #[serde(rename = "userID", default, borrow)]
    pub(super) user_id: Text<'a>,
    #[serde(rename = "nickName", default, borrow)]
    pub(super) nickname: Text<'a>,
    #[serde(rename = "faceURL", default, borrow)]
    pub(super) face_url: Text<'a>,
}

/// Looks for notification accounts.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["pagination"]))]
pub(super) struct SearchNotifiers<'a> {
    /// A part of the id or of the name; all accounts if empty.
    #[serde(default, borrow)]
    pub(super) keyword: Text<'a>,
    #[serde(default, deserialize_with = "json::object")]
    pub(super) pagination: Option<Pagination>,
}

/// One page of a list.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["pageNumber", "showNumber"]))]
pub(super) struct Pagination {
    /// From 1.
    #[serde(rename = "pageNumber", default, deserialize_with = "json::integer")]
    pub(super) page_number: Option<usize>,
    /// The length of a page, at most 1000.
    #[serde(rename = "showNumber", default, deserialize_with = "json::integer")]
    pub(super) show_number: Option<usize>,
}

/// The notification accounts that were found.
#[derive(Serialize, JsonSchema)]
pub(super) struct NotifiersFound {
    /// Their number on all pages together.
    pub(super) total: usize,
    /// One page, by id.
    #[serde(rename = "notificationAccounts")]
    pub(super) accounts: Vec<Notifier>,
}

/// A notification account.
#[derive(Serialize, JsonSchema)]
pub(super) struct Notifier {
    #[serde(rename = "userID")]
    pub(super) user_id: String,
    #[serde(rename = "nickName")]
    pub(super) nickname: String,
    #[serde(rename = "faceURL")]
    pub(super) face_url: String,
    /// 3.
    #[serde(rename = "appMangerLevel")]
    pub(super) level: u32,
}

/// One send, to one receiver (`send_msg`) or to many (`batch_send_msg`).
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["sendID", "content", "contentType", "sessionType"]))]
pub(super) struct SendV3<'a> {
    /// The sender: 1–64 bytes. For contentType 1400 a notification account or an administrator.
    #[serde(rename = "sendID", default, borrow)]
    pub(super) send_id: Text<'a>,
    /// `send_msg`: the receiver.
    #[serde(rename = "recvID", default, borrow)]
    pub(super) recv_id: Text<'a>,
    /// `batch_send_msg`: the receivers, at most `admin.batch_max`; each counts once.
    #[serde(rename = "recvIDs", default, borrow)]
    pub(super) recv_ids: Option<Vec<Text<'a>>>,
    /// `batch_send_msg`: the receivers are all known users; without `recvIDs`.
    #[serde(rename = "isSendAll", default)]
    pub(super) is_send_all: Option<bool>,
    /// `batch_send_msg` with sessionType 3: the group of the members in `recvIDs`.
    #[serde(rename = "groupID", default, borrow)]
    pub(super) group_id: Text<'a>,
    /// Makes a retry safe, as in v2's call.
    #[serde(rename = "clientMsgID", default, borrow)]
    pub(super) client_msg_id: Text<'a>,
    #[serde(rename = "senderNickname", default, borrow)]
    pub(super) sender_nickname: Text<'a>,
    #[serde(rename = "senderFaceURL", default, borrow)]
    pub(super) sender_face_url: Text<'a>,
    /// OpenIM's number of the sender's platform; 0 or absent: none.
    #[serde(
        rename = "senderPlatformID",
        default,
        deserialize_with = "json::integer"
    )]
    pub(super) sender_platform_id: Option<u32>,
    /// An object with the fields of its `contentType` in OpenIM v3.
    #[serde(default, borrow)]
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub(super) content: Option<&'a RawValue>,
    /// 101–106, 110 or 1400.
    #[serde(rename = "contentType", default, deserialize_with = "json::integer")]
    pub(super) content_type: Option<i32>,
    /// 1 single, 3 group, 4 notification; contentType 1400 makes it 4.
    #[serde(rename = "sessionType", default, deserialize_with = "json::integer")]
    pub(super) session_type: Option<i32>,
    /// True: push to the users who are online now, and store nothing.
    #[serde(rename = "isOnlineOnly", default)]
    pub(super) is_online_only: Option<bool>,
    /// The caller's own time, Unix ms, kept as `createTime`. The gateway's clock gives the `sendTime`.
    #[serde(rename = "sendTime", default, deserialize_with = "json::integer")]
    pub(super) send_time_ms: Option<i64>,
    #[serde(
        rename = "offlinePushInfo",
        default,
        deserialize_with = "json::object",
        borrow
    )]
    pub(super) offline_push: Option<OfflinePushInfo<'a>>,
    /// True: no vendor push tells of the message.
    #[serde(rename = "notOfflinePush", default)]
    pub(super) not_offline_push: Option<bool>,
    #[serde(default, borrow)]
    pub(super) ex: Text<'a>,
}

/// The result of a batch.
#[derive(Serialize, JsonSchema)]
pub(super) struct BatchSentV3<'a> {
    pub(super) results: Vec<SentTo<'a>>,
    /// Receivers that are not valid ids, as given.
    #[serde(rename = "failedUserIDs")]
    pub(super) failed: Vec<&'a str>,
    /// In place of the results of a send to everyone with more than `admin.batch_max` receivers.
    #[serde(flatten)]
    pub(super) count: Option<SentToMany<'a>>,
}

/// An app's own notice to one user who is online.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["sendUserID", "recvUserID"]))]
pub(super) struct BusinessRequest<'a> {
    #[serde(default, borrow)]
    pub(super) key: Text<'a>,
    #[serde(default, borrow)]
    pub(super) data: Text<'a>,
    #[serde(rename = "sendUserID", default, borrow)]
    pub(super) send_user_id: Text<'a>,
    #[serde(rename = "recvUserID", default, borrow)]
    pub(super) recv_user_id: Text<'a>,
    /// The caller's id for the message. It is only delivered with the message.
    #[serde(rename = "clientMsgID", default, borrow)]
    pub(super) client_msg_id: Text<'a>,
}

/// The content of such a notice.
#[derive(Serialize)]
pub(super) struct BusinessContent<'a> {
    pub(super) key: &'a str,
    pub(super) data: &'a str,
}
