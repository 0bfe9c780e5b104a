//! Requests and answers of `/device/list` and `/device/remove`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::text::Text;

/// Names the user whose devices for push are meant.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["operationID", "userID"]))]
pub(in crate::admin) struct DeviceRequest<'a> {
    #[serde(rename = "operationID", default, borrow)]
    pub(in crate::admin) operation_id: Text<'a>,
    #[serde(rename = "userID", default, borrow)]
    pub(in crate::admin) user_id: Text<'a>,
}

/// The devices of a user, those registered first before the others.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin) struct DevicesListed<'a> {
    pub(in crate::admin) list: Vec<ListedDevice<'a>>,
}

/// One device.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin) struct ListedDevice<'a> {
    /// The first eight digits of a digest of the vendor's token.
    pub(in crate::admin) id: String,
    /// `apns`, `fcm`, `webpush` or `http`.
    pub(in crate::admin) provider: &'static str,
    /// By name, e.g. `IOS`.
    pub(in crate::admin) platform: &'static str,
    /// As its app named itself; may be empty.
    pub(in crate::admin) app: &'a str,
    /// As a tag, e.g. `zh-CN`; may be empty.
    pub(in crate::admin) lang: &'a str,
    /// Unix ms.
    #[serde(rename = "registeredTime")]
    pub(in crate::admin) registered_at_ms: u64,
}

/// The result of a removal.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin) struct DevicesRemoved {
    /// The number of devices.
    pub(in crate::admin) removed: usize,
}
