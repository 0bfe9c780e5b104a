//! Client protocols: from a connection's bytes to what a session understands, and from what a session says to bytes. Pure.
//!
//! Each connection has a codec, which the path of its upgrade decides. A protocol is a codec, its close codes, and a line in
//! [`at`]; sessions, the registry and the log know of none.
//!
//! - `towncrier_v1/`: the protocol of `proto/towncrier/v1/gateway.proto`

pub mod towncrier_v1;

use bytes::Bytes;
use towncrier_websocket::{Close, Frame, Rules, Violation};

use self::towncrier_v1::TowncrierV1;
use crate::{
    ids::UserId,
    session::{FromClient, Reason, ToClient},
};

/// One connection's protocol.
pub trait Codec {
    /// The WebSocket subprotocol that it answers to.
    fn subprotocol(&self) -> &'static str;

    /// The bounds of a client's messages: their size, and whether text is taken.
    fn rules(&self) -> Rules;

    /// Reads one message of a client; its strings may share `payload`. An error closes the connection.
    fn decode(&mut self, payload: Bytes) -> Result<FromClient, Reason>;

    /// Gives the frames that tell `user`'s client this to `send`, in their order. Sessions share the encoding of a live message
    /// by way of [`Message::encoding`](crate::message::Message::encoding).
    fn encode(&mut self, user: &UserId, what: ToClient, send: &mut dyn FnMut(Frame));

    /// Code and text of the close for a reason of ours. The text has at most 123 bytes.
    fn close(&self, reason: Reason) -> Close;

    /// The same where the client broke RFC 6455 or the rules.
    fn refuse(&self, violation: Violation) -> Close;
}

/// The codec of the clients that connect to `path`; `None`: no client connects there. Slashes around the path do not count: a
/// base URL that ends in one makes two.
pub fn at(path: &str) -> Option<Box<dyn Codec>> {
    match path.trim_matches('/') {
        towncrier_v1::PATH => Some(Box::new(TowncrierV1)),
        _ => None,
    }
}
