//! Requests and answers of `get_users_online_status` and `get_online_users`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::{json, text::Text};

/// Asks for the presence of users.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["userIDList", "operationID"]))]
pub(in crate::admin) struct PresenceRequest<'a> {
    /// At most 200.
    #[serde(rename = "userIDList", default, borrow)]
    pub(in crate::admin) user_id_list: Option<Vec<Text<'a>>>,
    #[serde(rename = "operationID", default, borrow)]
    pub(in crate::admin) operation_id: Text<'a>,
}

/// The presence of one user, and its platforms.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin) struct UserPresence<'a> {
    #[serde(rename = "userID")]
    pub(in crate::admin) user_id: &'a str,
    /// `online` or `offline`.
    pub(in crate::admin) status: &'static str,
    #[serde(rename = "detailPlatformStatus", skip_serializing_if = "Vec::is_empty")]
    pub(in crate::admin) platforms: Vec<PlatformPresence>,
}

/// One platform that a user is online on.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin) struct PlatformPresence {
    /// By name, e.g. `IOS`.
    pub(in crate::admin) platform: &'static str,
    /// `online`.
    pub(in crate::admin) status: &'static str,
}

/// Asks for users who are online.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["operationID"]))]
pub(in crate::admin) struct OnlineRequest<'a> {
    /// The answer contains only users with a session on this platform, by OpenIM's number; all users when absent or 0.
    #[serde(default, deserialize_with = "json::integer")]
    pub(in crate::admin) platform: Option<u32>,
    /// The number of users wanted: 100 when absent or 0, at most 1000.
    #[serde(default, deserialize_with = "json::integer")]
    pub(in crate::admin) limit: Option<usize>,
    #[serde(rename = "operationID", default, borrow)]
    pub(in crate::admin) operation_id: Text<'a>,
}

/// Some of the users who are online, in no order.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin) struct OnlineUsers {
    /// All sessions that are connected now, on every platform.
    #[serde(rename = "sessionsTotal")]
    pub(in crate::admin) sessions_total: usize,
    pub(in crate::admin) users: Vec<OnlineUser>,
}

/// A user who is online.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin) struct OnlineUser {
    #[serde(rename = "userID")]
    pub(in crate::admin) user_id: String,
    pub(in crate::admin) sessions: Vec<OnlineSession>,
}

/// One of the user's sessions.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin) struct OnlineSession {
    /// By name, e.g. `Web`.
    pub(in crate::admin) platform: &'static str,
    /// By number, as for `/auth/force_logout`.
    #[serde(rename = "platformID")]
    pub(in crate::admin) platform_id: u32,
    #[serde(rename = "deviceID")]
    pub(in crate::admin) device_id: String,
    /// The time at which it connected, Unix ms.
    #[serde(rename = "connectedTime")]
    pub(in crate::admin) connected_time: u64,
    /// The gateway of the fleet that holds the session; absent where there is one gateway only.
    #[serde(rename = "gatewayID", skip_serializing_if = "Option::is_none")]
    pub(in crate::admin) gateway_id: Option<u64>,
    /// The client's address, also behind a proxy that the configuration names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::admin) address: Option<String>,
}
