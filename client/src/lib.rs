//! A client of the Towncrier gateway. It lands every message exactly once in a local store, whatever crashes in between.
//!
//! [`Client`] keeps one session connected: it lands pushes, acks after the commit, and reconnects after a loss if the close
//! code allows it. [`AdminClient`] is the other side: tokens and sends. This crate holds no gateway code, only the
//! protocol's `.proto`.
//!
//! - `client.rs`: the loop: connect, land, ack, ping, reconnect
//! - `landing.rs`: which messages to accept; pure
//! - `conversations.rs`, `conversation.rs`: the conversations, each with its unread count and read mark; pure
//! - `store.rs`, `disk.rs`: the store: the trait, in memory, on disk
//! - `read_state.rs`: a store and its conversations, for the loop and the application together
//! - `backoff.rs`: the wait before a reconnect; pure
//! - `connection.rs`: one WebSocket
//! - `network.rs`: the network below it: TCP, or one that a test supplies
//! - `trust.rs`, `carrier.rs`: the trusted certificates over TLS, and the stream with or without TLS
//! - `admin.rs`: the admin API over HTTP
//! - `token.rs`: tokens, for a holder of the gateway's key

pub mod admin;
mod backoff;
mod carrier;
mod client;
mod connection;
mod conversation;
mod conversations;
mod disk;
mod landing;
mod network;
mod read_state;
mod store;
pub mod token;
mod trust;

pub use admin::{AdminClient, AdminError};
pub use backoff::Backoff;
pub use carrier::Carrier;
pub use client::{Client, ClientEvent, Ended, Options, Status};
pub use connection::{ClientConnection, Lost, SUBPROTOCOL};
pub use conversation::{ConversationRecord, Knowledge, KnownConversation};
pub use disk::DiskStore;
pub use landing::{Batch, Landing, Misled, StorePosition};
pub use network::{Network, Tcp};
pub use read_state::ReadState;
pub use store::{MemoryStore, Store, StoreError};
pub use trust::{Trust, TrustError};

/// The prost types of `proto/towncrier/v1/gateway.proto`.
#[expect(missing_docs, reason = "generated; the .proto is the manual")]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/towncrier.v1.rs"));
}
