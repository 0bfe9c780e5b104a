//! Request and answer of `get_users_online_status`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::text::Text;

/// Asks who is online.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["userIDList", "operationID"]))]
pub(in crate::admin) struct PresenceRequest<'a> {
    /// At most 200.
    #[serde(rename = "userIDList", default, borrow)]
    pub(in crate::admin) user_id_list: Option<Vec<Text<'a>>>,
    #[serde(rename = "operationID", default, borrow)]
    pub(in crate::admin) operation_id: Text<'a>,
}

/// Whether one user is online, and where.
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
