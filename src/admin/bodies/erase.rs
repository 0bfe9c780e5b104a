//! Request and answer of `/user/erase`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::text::Text;

/// Erases a user.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["operationID", "userID"]))]
pub(in crate::admin) struct EraseRequest<'a> {
    #[serde(rename = "operationID", default, borrow)]
    pub(in crate::admin) operation_id: Text<'a>,
    /// 1–64 bytes. Need not be known.
    #[serde(rename = "userID", default, borrow)]
    pub(in crate::admin) user_id: Text<'a>,
}

/// The user is erased: nothing of before is read, pushed or traced from now on.
#[derive(Serialize, JsonSchema)]
pub(in crate::admin) struct Erased {
    /// The time by which the stored bytes are gone as well, Unix ms.
    #[serde(rename = "untilTime")]
    pub(in crate::admin) until_ms: u64,
    /// Connections that were told to close.
    pub(in crate::admin) connections: usize,
}
