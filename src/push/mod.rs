//! Vendor push: devices whose apps did not get a message are told by their makers' services.
//!
//! - `vendor/`: the vendors

pub mod vendor;
