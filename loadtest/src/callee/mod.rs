//! The systems that a gateway calls, in the rig: a vendor of push and a receiver of webhooks, each well, slow or away.
//!
//! A callee is an HTTP server by hand on the rig's own thread, because the rig shares the machine with the measured gateway.
//! The rig checks no signature: the tests of the gateway do.
//!
//! - `server.rs`: the server, its conduct, and the traffic that it saw
//! - `vendor.rs`: the pushes that came, in a ledger
//! - `events.rs`: the events that came, and their order

mod events;
mod server;
mod vendor;

pub(crate) use self::{
    events::EventBooks,
    server::{Callee, Conduct},
    vendor::VendorBooks,
};

/// The one who reads the bodies of calls.
pub(crate) trait CallBooks {
    /// A call came. `is_taken`: it is answered with 200.
    fn call(&self, body: &[u8], is_taken: bool);
}
