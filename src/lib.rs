//! Towncrier, a WebSocket push gateway: admin send to exactly-once landing, on a durable per-user sequence log.
//!
//! `docs/architecture.md#the-path-of-a-message` and `docs/architecture.md#the-path-of-an-ack` name each file that a message and
//! an ack pass, in order.

pub mod admin;
pub mod cli;
pub mod clock;
mod codes;
pub mod config;
pub mod connection;
pub mod delivery;
pub mod devices;
pub mod doctor;
pub mod door;
pub mod erase;
pub mod fleet;
pub mod gateway;
pub mod hints;
pub mod ids;
pub mod jwks;
pub mod lines;
pub mod log;
pub mod mesh;
pub mod message;
pub mod metrics;
pub mod openim;
pub mod outbound;
pub mod pages;
pub mod process;
pub mod protocol;
pub mod push;
pub mod reactor;
pub mod registry;
pub mod session;
pub mod threads;
pub mod token;
pub mod webhooks;
