//! Request and answer of `/log/backup`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::text::Text;

/// Asks for a backup of the log.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["operationID", "destination"]))]
pub(in crate::admin) struct BackupRequest<'a> {
    /// Names this backup. A repeat with the same operationID and destination asks for the state of the same backup.
    #[serde(rename = "operationID", default, borrow)]
    pub(in crate::admin) operation_id: Text<'a>,
    /// The absolute path of a directory on the gateway's machine. It is empty or holds the backup before, or it is made.
    #[serde(default, borrow)]
    pub(in crate::admin) destination: Text<'a>,
}

/// The state of a backup. While it is `running`, repeat the request.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::admin) struct BackupTold {
    /// `running` or `done`.
    pub(in crate::admin) state: &'static str,
    /// The bytes in the destination that are checked.
    pub(in crate::admin) done_bytes: u64,
    /// The bytes of the whole backup; 0 while its extent is not known.
    pub(in crate::admin) all_bytes: u64,
    /// Once it is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::admin) backup: Option<BackupMade>,
}

/// A finished backup.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::admin) struct BackupMade {
    /// The log's epoch, 16 hexadecimal digits.
    pub(in crate::admin) epoch: String,
    /// The end of the part of the log that it holds.
    pub(in crate::admin) position: u64,
    /// The time at which that end was taken, Unix ms.
    pub(in crate::admin) taken_time: u64,
    /// The files with messages.
    pub(in crate::admin) segments: usize,
    /// The bytes that the earlier backups in the destination did not have.
    pub(in crate::admin) copied_bytes: u64,
    /// The duration, ms.
    pub(in crate::admin) took_ms: u64,
}
