//! `towncrier.v1`: one protobuf envelope in each binary WebSocket message. `proto/towncrier/v1/gateway.proto` is its manual.
//!
//! - `push.rs`: messages, live and from the log
//! - `close.rs`: close codes and texts

mod close;
mod push;

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use towncrier_websocket::{
    Close, Frame, Rules, Side, Violation,
    frame::{BINARY, FIN, put_header},
};

use self::proto::{ClientFrame, ServerFrame, client_frame, server_frame::Body};
use super::Codec;
use crate::{
    ids::{Seq, UserId, check_id},
    session::{
        Connect, Connected, Fetch, FromClient, Gap, GapReason, Kicked, Reason, Resume, ToClient,
    },
};

/// The prost types of `proto/towncrier/v1/gateway.proto`.
#[expect(missing_docs, reason = "generated; the .proto is the manual")]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/towncrier.v1.rs"));
}

/// The path at which its clients connect, without the leading slash.
pub(super) const PATH: &str = "ws";
/// The name of the subprotocol, which clients may offer.
const SUBPROTOCOL: &str = "towncrier.v1";
/// The largest frame of a client: `docs/protocol.md#transport`.
const FRAME_BYTES_MAX: usize = 64 * 1024;
/// The number of messages for a `Fetch` that sets no limit: `docs/protocol.md#history`.
const FETCH_DEFAULT: u32 = 100;

/// The codec. It keeps no state between frames.
#[derive(Debug, Clone, Copy)]
pub struct TowncrierV1;

impl Codec for TowncrierV1 {
    fn subprotocol(&self) -> &'static str {
        SUBPROTOCOL
    }

    fn rules(&self) -> Rules {
        Rules {
            from: Side::Client,
            takes_text: false,
            message_bytes_max: FRAME_BYTES_MAX,
        }
    }

    fn decode(&mut self, payload: Bytes) -> Result<FromClient, Reason> {
        let frame = ClientFrame::decode(payload).ok();
        let body = frame.and_then(|frame| frame.body);
        Ok(
            match body.ok_or(Reason::Protocol("an undecodable or unknown frame"))? {
                client_frame::Body::Connect(said) => FromClient::Connect(connect(said)?),
                client_frame::Body::Ack(said) => FromClient::Ack(Seq(said.seq)),
                client_frame::Body::Resend(said) => FromClient::Resend(Seq(said.after_seq)),
                client_frame::Body::Fetch(said) => FromClient::Fetch(Fetch {
                    request_id: said.request_id,
                    after: Seq(said.after_seq),
                    limit: match said.limit {
                        0 => FETCH_DEFAULT,
                        limit => limit,
                    },
                }),
                client_frame::Body::Ping(said) => FromClient::Ping(said.nonce),
            },
        )
    }

    fn encode(&mut self, user: &UserId, what: ToClient, send: &mut dyn FnMut(Frame)) {
        let body = match what {
            ToClient::Live { seq, message } => return send(push::live(user, seq, &message)),
            ToClient::Push { messages, .. } => return push::replay(user, &messages).for_each(send),
            ToClient::Connected(connected) => Body::Connected(say_connected(user, connected)),
            ToClient::CaughtUp(seq) => Body::CaughtUp(proto::CaughtUp { seq: seq.0 }),
            ToClient::Fetched {
                request_id,
                messages,
                is_end,
            } => Body::Fetched(push::fetched(user, request_id, &messages, is_end)),
            ToClient::Gap(gap) => Body::Gap(say_gap(gap)),
            ToClient::Kicked(kicked) => Body::Kicked(say_kicked(kicked)),
            ToClient::Draining(after) => Body::Draining(proto::Draining {
                reconnect_after_ms: after.as_millis() as u32,
            }),
            ToClient::Pong {
                nonce,
                server_time_ms,
            } => Body::Pong(proto::Pong {
                nonce,
                server_time_ms: server_time_ms as i64,
            }),
        };
        send(frame(body));
    }

    fn close(&self, reason: Reason) -> Close {
        close::close(reason)
    }

    fn refuse(&self, violation: Violation) -> Close {
        close::refuse(violation)
    }
}

/// Checks the parts of a `Connect` that do not depend on its user: `docs/protocol.md#a-connection-from-begin-to-end`.
fn connect(said: proto::Connect) -> Result<Connect, Reason> {
    let is_id = |text: &str| text.is_empty() || check_id(text).is_ok();
    if !is_id(&said.device_id) {
        return Err(Reason::Protocol(
            "device_id is longer than 64 bytes or not printable",
        ));
    }
    if !is_id(&said.client) {
        return Err(Reason::Protocol(
            "client is longer than 64 bytes or not printable",
        ));
    }
    let cursor = said.cursor.map(Seq);
    if said.epoch == 0 && cursor > Some(Seq::ZERO) {
        return Err(Reason::Protocol("a cursor without an epoch"));
    }
    Ok(Connect {
        token: said.token,
        device: said.device_id,
        client: said.client,
        resume: Resume {
            epoch: said.epoch,
            cursor,
        },
    })
}

fn say_connected(user: &UserId, connected: Connected) -> proto::Connected {
    proto::Connected {
        connection_id: connected.connection.to_string(),
        epoch: connected.epoch.0,
        cursor: connected.cursor.0,
        head: connected.head.0,
        first: connected.first.0,
        heartbeat_ms: connected.heartbeat.as_millis() as u32,
        window: connected.window,
        server_time_ms: connected.server_time_ms as i64,
        user_id: user.to_string(),
        platform: connected.platform.number(),
    }
}

fn say_gap(gap: Gap) -> proto::Gap {
    let reason = match gap.reason {
        GapReason::Expired => proto::gap::Reason::Expired,
        GapReason::EpochChanged => proto::gap::Reason::EpochChanged,
    };
    proto::Gap {
        from_seq: gap.from.0,
        to_seq: gap.to.0,
        reason: reason.into(),
    }
}

fn say_kicked(kicked: Kicked) -> proto::Kicked {
    let (reason, close) = match kicked {
        Kicked::Replaced => (proto::kicked::Reason::Replaced, Reason::Replaced),
        Kicked::LoggedOut => (proto::kicked::Reason::LoggedOut, Reason::LoggedOut),
    };
    proto::Kicked {
        reason: reason.into(),
        text: close::text(close).into(),
    }
}

/// A frame for any body except the messages, which `push.rs` encodes.
fn frame(body: Body) -> Frame {
    let frame = ServerFrame { body: Some(body) };
    let payload = frame.encoded_len();
    let mut head = BytesMut::with_capacity(payload + 10);
    put_header(&mut head, FIN | BINARY, payload, None);
    frame.encode(&mut head).expect("a BytesMut grows as needed");
    Frame {
        head: head.freeze(),
        body: Bytes::new(),
    }
}

#[cfg(test)]
mod tests;
