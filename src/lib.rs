//! Towncrier, a WebSocket push gateway: admin send to exactly-once landing, on a durable per-user sequence log.
//!
//! The path of a send: `admin/send.rs` → `delivery/send.rs` → `log/writer.rs` (durable, gets its seq) → `registry/places.rs` →
//! `reactor/mailbox.rs` → `connection/state.rs` → `session/machine.rs` (whether to push it) → `protocol/towncrier_v1/push.rs` →
//! socket. The path of an ack: socket → `connection/state.rs` → `protocol/towncrier_v1/mod.rs` → `session/machine.rs` →
//! `delivery/ack.rs` → `log/state/cursors.rs`.

pub mod admin;
pub mod admission;
pub mod cli;
pub mod clock;
pub mod config;
pub mod connection;
pub mod delivery;
pub mod doctor;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod gateway;
pub mod ids;
pub mod lines;
pub mod log;
pub mod message;
pub mod metrics;
pub mod pages;
pub mod process;
pub mod protocol;
pub mod reactor;
pub mod registry;
mod sabotage;
pub mod session;
#[cfg(test)]
mod simulation;
pub mod tls;
pub mod token;
pub mod watch;
