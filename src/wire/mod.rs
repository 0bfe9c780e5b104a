//! What goes over a client's WebSocket: the protobuf types, their encoding into frames, and the close codes. Pure.
//!
//! - `frame.rs`: encode, decode, size
//! - `close.rs`: every reason for which we close a connection, with its code and text

pub mod close;
pub mod frame;

/// The prost types of `proto/towncrier/v1/gateway.proto`.
#[expect(missing_docs, reason = "generated; the .proto is the manual")]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/towncrier.v1.rs"));
}
