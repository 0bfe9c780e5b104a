//! The gateways that share one store.
//!
//! - `frame.rs`: the words that they say to each other

mod frame;

pub use self::frame::{FleetFrame, Teller};
