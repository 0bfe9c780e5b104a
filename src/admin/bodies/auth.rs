//! Requests and answers of `/auth/…`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::admin::{json, text::Text};

/// Asks for a token.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["secret", "platform", "userID", "operationID"]))]
pub(in crate::admin) struct TokenRequest<'a> {
    /// `auth.secret` of the gateway.
    #[serde(default, borrow)]
    pub(in crate::admin) secret: Text<'a>,
    /// OpenIM's number, e.g. 5 for Web.
    #[serde(default, deserialize_with = "json::integer")]
    pub(in crate::admin) platform: Option<u32>,
    /// 1–64 bytes. Need not be registered.
    #[serde(rename = "userID", default, borrow)]
    pub(in crate::admin) user_id: Text<'a>,
    #[serde(rename = "operationID", default, borrow)]
    pub(in crate::admin) operation_id: Text<'a>,
}

/// A user's own data, given at registration; kept unchanged.
#[derive(Serialize, Deserialize, JsonSchema)]
pub(in crate::admin) struct Profile<'a> {
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub(in crate::admin) nickname: Option<Text<'a>>,
    #[serde(
        rename = "faceURL",
        default,
        borrow,
        skip_serializing_if = "Option::is_none"
    )]
    pub(in crate::admin) face_url: Option<Text<'a>>,
    /// 0 unknown, 1 male, 2 female.
    #[serde(
        default,
        deserialize_with = "json::integer",
        skip_serializing_if = "Option::is_none"
    )]
    pub(in crate::admin) gender: Option<i32>,
    #[serde(
        rename = "phoneNumber",
        default,
        borrow,
        skip_serializing_if = "Option::is_none"
    )]
    pub(in crate::admin) phone_number: Option<Text<'a>>,
    /// A date in the caller's own form.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "serde_json::Value")]
    pub(in crate::admin) birth: Option<&'a RawValue>,
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub(in crate::admin) email: Option<Text<'a>>,
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub(in crate::admin) ex: Option<Text<'a>>,
}

/// A fresh token.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin) struct TokenIssued<'a> {
    #[serde(rename = "userID")]
    pub(in crate::admin) user_id: &'a str,
    pub(in crate::admin) token: &'a str,
    /// The time until which the token is good, Unix seconds.
    #[serde(rename = "expiredTime")]
    pub(in crate::admin) expired_time: u64,
}

/// The claims of a token.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin) struct TokenParsed<'a> {
    #[serde(rename = "UID")]
    pub(in crate::admin) user_id: &'a str,
    /// By name, e.g. `Web`.
    #[serde(rename = "Platform")]
    pub(in crate::admin) platform: &'static str,
    /// The time until which the token is good, Unix seconds.
    #[serde(rename = "ExpireTimeSeconds")]
    pub(in crate::admin) expires_at_s: u64,
}

/// Revokes a user's tokens on one platform and closes its connections there.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["platform", "fromUserID", "operationID"]))]
pub(in crate::admin) struct LogoutRequest<'a> {
    /// OpenIM's number, e.g. 5 for Web.
    #[serde(default, deserialize_with = "json::integer")]
    pub(in crate::admin) platform: Option<u32>,
    #[serde(rename = "fromUserID", default, borrow)]
    pub(in crate::admin) from_user_id: Text<'a>,
    #[serde(rename = "operationID", default, borrow)]
    pub(in crate::admin) operation_id: Text<'a>,
}

/// The result of a logout.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin) struct LoggedOut {
    /// Connections that were told to close.
    pub(in crate::admin) connections: usize,
}
