//! Client protocols: decode a connection's bytes into what a session understands, and encode what a session says. Pure.
//!
//! Each connection has a codec; the path of its upgrade decides which. A protocol is a codec, its close codes, and a line
//! in [`at`]. Sessions, the registry and the log know of no protocol.
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
    /// The name of its WebSocket subprotocol.
    fn subprotocol(&self) -> &'static str;

    /// The bounds of a client's messages: their size, and if text is allowed.
    fn rules(&self) -> Rules;

    /// Decodes one message of a client. Its strings may share `payload`. An error closes the connection.
    fn decode(&mut self, payload: Bytes) -> Result<FromClient, Reason>;

    /// Encodes `what` for `user`'s client and gives the frames to `send` in order. Sessions share the encoding of a live
    /// message through [`Message::encoding`](crate::message::Message::encoding).
    fn encode(&mut self, user: &UserId, what: ToClient, send: &mut dyn FnMut(Frame));

    /// The close code and text for a reason of ours. The text has at most 123 bytes.
    fn close(&self, reason: Reason) -> Close;

    /// The close code and text for a client that broke RFC 6455 or the rules.
    fn refuse(&self, violation: Violation) -> Close;
}

/// The codec of the clients that connect to `path`; `None` if no client connects there. Slashes around the path are
/// ignored, because a base URL that ends in a slash makes two of them.
pub fn at(path: &str) -> Option<Box<dyn Codec>> {
    match path.trim_matches('/') {
        towncrier_v1::PATH => Some(Box::new(TowncrierV1)),
        _ => None,
    }
}
