//! The section `push`: pushes by the vendors' services to devices whose apps did not get a message otherwise.

use serde::{Deserialize, Serialize};

/// Vendor push.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Push {
    /// The most devices of a user. A further one takes the place of the one that was registered first.
    pub devices_per_user_max: usize,
}

impl Default for Push {
    fn default() -> Self {
        Self {
            devices_per_user_max: 16,
        }
    }
}
