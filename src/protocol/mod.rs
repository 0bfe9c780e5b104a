//! Client protocols: decode a connection's bytes into what a session understands, and encode what a session says. Pure.
//!
//! Each connection has a codec; the request of its upgrade decides which. A protocol is a codec, its close codes, and a line
//! in [`of`]. Sessions, the registry and the log know of no protocol.
//!
//! - `towncrier_v1/`: the protocol of `proto/towncrier/v1/gateway.proto`
//! - `openim_v3/`: the protocol of OpenIM's v3 SDKs
//! - `close.rs`: close codes and texts

mod close;
mod openim_v3;
pub mod towncrier_v1;

use bytes::Bytes;
use towncrier_websocket::{Close, Frame, Rules, Violation, handshake::Request};

pub use self::openim_v3::{newest_as_json, newest_as_protobuf};
use self::towncrier_v1::TowncrierV1;
use crate::{
    ids::UserId,
    session::{Connect, FromClient, Reason, ToClient},
};

/// One connection's protocol.
pub trait Codec {
    /// The name of its WebSocket subprotocol.
    fn subprotocol(&self) -> &'static str;

    /// The bounds of a client's messages: their size, and if text is allowed.
    fn rules(&self) -> Rules;

    /// The login of a client that reads a refusal only as the answer to its request; it is checked before the upgrade. `None`: the
    /// client reads a refusal on its WebSocket.
    fn asks_first(&self) -> Option<&Connect> {
        None
    }

    /// The body of the HTTP answer, JSON under status 200, that refuses the login of [`Self::asks_first`].
    fn refuse_upgrade(&self, _reason: Reason) -> Bytes {
        Bytes::new()
    }

    /// The login that came with the upgrade, once. `None`: it comes in a frame, or was taken.
    fn greet(&mut self) -> Option<Connect> {
        None
    }

    /// Decodes one message of a client: text, or binary. Its strings may share `payload`. An error closes the connection.
    fn decode(&mut self, payload: Bytes, is_text: bool) -> Result<FromClient, Reason>;

    /// The frame that answers the message decoded last, if no session is needed for that. It leaves before anything that the session
    /// says.
    fn answers(&mut self) -> Option<Frame> {
        None
    }

    /// The meaning of a pong that has come, if it answers a ping of [`Self::encode`].
    fn pong(&mut self) -> Option<FromClient> {
        None
    }

    /// The frame that tells the client why it gets no session. A close frame follows.
    fn refuse_login(&mut self, _reason: Reason) -> Option<Frame> {
        None
    }

    /// Encodes `what` for `user`'s client and gives the frames to `send` in order; none, if the protocol has no word for it. Sessions share the encoding of a live
    /// message through [`Message::encoding`](crate::message::Message::encoding).
    fn encode(&mut self, user: &UserId, what: ToClient, send: &mut dyn FnMut(Frame));

    /// The close code and text for a reason of ours. The text has at most 123 bytes.
    fn close(&self, reason: Reason) -> Close;

    /// The close code and text for a client that broke RFC 6455 or the rules.
    fn refuse(&self, violation: Violation) -> Close;
}

/// The codec of the client that sends this request; `None` if it asks for no protocol. Slashes around the path are ignored,
/// because a base URL that ends in a slash makes two of them. `has_openim`: OpenIM's SDKs are served.
pub fn of(request: &Request, has_openim: bool) -> Option<Box<dyn Codec>> {
    match request.uri().path().trim_matches('/') {
        towncrier_v1::PATH => Some(Box::new(TowncrierV1)),
        _ if has_openim => openim_v3::of(request),
        _ => None,
    }
}
