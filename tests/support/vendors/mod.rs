//! Stand-ins of the vendors of push services: strict servers on this machine that check what the vendor checks.
//!
//! A request that the vendor would refuse for its credentials gets the vendor's answer. One that breaks the vendor's rules is a
//! fault, which [`StandIn::assert_no_faults`] shows. A test orders other answers one by one.
//!
//! - `server.rs`: the server behind all of them
//! - `claims.rs`: signed claims, verified
//! - `http.rs`, `jpush.rs`, `getui.rs`, `apns.rs`, `fcm.rs`, `webpush.rs`: the vendors
//! - `browser.rs`: a browser with a subscription, which decrypts

pub(crate) mod apns;
pub(crate) mod browser;
mod claims;
pub(crate) mod fcm;
pub(crate) mod getui;
pub(crate) mod http;
pub(crate) mod jpush;
mod server;
pub(crate) mod webpush;

pub(crate) use self::server::{Order, StandIn, answer, body_of};
