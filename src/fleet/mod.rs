//! The gateways that share one store: this gateway's number among them, and the sessions of all.
//!
//! The registry decides in its own process which session has a place. The store decides between gateways: the last to register has
//! the place, and the session before it is told. A gateway learns that by a frame, at the latest by its next heartbeat, and without
//! any of these by its sweep.
//!
//! - `member.rs`: [`Fleet`], as the rooms above see it
//! - `heartbeat.rs`: the heartbeat, and what it learns
//! - `registrar.rs`: brings the places of sessions to the store
//! - `turn.rs`: takes the turn for work that one gateway does at a time
//! - `frame.rs`: the words that gateways say to each other
//! - `core.rs`: what these parts share
//!
//! Leaves to others: the links between gateways, and the store's statements.

mod core;
mod frame;
mod heartbeat;
mod member;
mod registrar;
#[cfg(test)]
mod tests;
mod turn;

pub use self::{
    frame::{FleetFrame, Teller},
    member::{Fleet, FleetParts},
};
