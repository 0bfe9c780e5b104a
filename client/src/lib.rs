//! A client of the Towncrier gateway: it lands every message exactly once in a local store, whatever crashes in between.
//!
//! [`Client`] keeps one session connected: it lands what is pushed, acks after the commit, and comes back after a loss
//! as the close code says. [`AdminClient`] is the other side: tokens and sends. There is no gateway code in here, only
//! the protocol's `.proto`.
//!
//! - `client.rs`: the loop: connect, land, ack, ping, reconnect
//! - `landing.rs`: which messages to accept; pure
//! - `store.rs`, `disk.rs`: where they land: the trait, in memory, on disk
//! - `backoff.rs`: when to come back; pure
//! - `connection.rs`: one WebSocket
//! - `network.rs`: what carries it: TCP, or what a test puts in its place
//! - `trust.rs`, `carrier.rs`: whom to believe over TLS, and the stream with or without it
//! - `admin.rs`: the admin API over HTTP

pub mod admin;
mod backoff;
mod carrier;
mod client;
mod connection;
mod disk;
mod landing;
mod network;
mod store;
mod trust;

pub use admin::{AdminClient, AdminError};
pub use backoff::Backoff;
pub use carrier::Carrier;
pub use client::{Client, Ended, Event, Options, Status};
pub use connection::{Connection, Lost, SUBPROTOCOL};
pub use disk::DiskStore;
pub use landing::{Batch, Landing, Misled, Position};
pub use network::{Network, Tcp};
pub use store::{MemoryStore, Store, StoreError};
pub use trust::{Trust, TrustError};

/// The prost types of `proto/towncrier/v1/gateway.proto`.
#[expect(missing_docs, reason = "generated; the .proto is the manual")]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/towncrier.v1.rs"));
}
