//! The vendors of push services: one call for one notice, and what the answer means.
//!
//! Promises: a call ends within [`VENDOR_TIMEOUT`], its payload keeps the vendor's bounds, and each device of the call has one
//! [`Outcome`]. No outcome and no print shows a secret. A vendor tries nothing twice by itself, except after its own access
//! token ran out. Leaves to others: which device gets a notice and when, retries, and how many calls run at once.
//!
//! - `notice.rs`: a notice, and what became of it at a device
//! - `payload.rs`: the parts that all payloads share, and their bounds
//! - `answer.rs`: what an answer means where a vendor has no words of its own
//! - `access.rs`: access tokens that run out
//! - `jwt.rs`: signed claims, and the key files they are signed with
//! - `setup.rs`: the vendors of a configuration
//! - `http.rs`, `jpush.rs`, `getui.rs`, `apns.rs`, `fcm.rs`, `webpush/`: the vendors

mod access;
mod answer;
mod apns;
mod fcm;
mod getui;
mod http;
mod jpush;
mod jwt;
mod notice;
mod payload;
mod setup;
mod webpush;

use std::time::Duration;

use futures_util::future::BoxFuture;

pub use self::{
    notice::{Notice, Outcome},
    setup::{VendorFault, vendors},
};
use crate::message::{Device, Provider};

/// The longest time of one call to a vendor, its access token included: a vendor that works answers within a second.
pub const VENDOR_TIMEOUT: Duration = Duration::from_secs(10);

/// A vendor of push services.
pub trait Vendor: Send + Sync {
    /// Its name, and that of its devices.
    fn provider(&self) -> Provider;

    /// The most devices of one call, at least 1.
    fn devices_max(&self) -> usize;

    /// True if one call may have devices of several users. The payload is then the same for all of them: without conversation
    /// and seq, and the badge goes up by one.
    fn takes_many_users(&self) -> bool {
        false
    }

    /// Pushes a notice to some devices, and answers one outcome for each, in their order. Cancel safe: devices may have got the
    /// notice.
    fn push<'a>(&'a self, notice: &'a Notice, devices: &'a [Device])
    -> BoxFuture<'a, Vec<Outcome>>;
}
