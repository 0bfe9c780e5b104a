//! `towncrier.v1`: one protobuf envelope in each binary WebSocket message. `proto/towncrier/v1/gateway.proto` is its manual.
//!
//! A message on the wire has a small head for each receiver, its address, and the body that all receivers share. Protobuf
//! fields may come in any order. So a message is address + body, and a live push copies no body.

use bytes::{BufMut, Bytes, BytesMut};
use prost::{
    Message as _,
    encoding::{encode_varint, encoded_len_varint},
};
use towncrier_websocket::{
    Close, Frame, Rules, Side, Violation,
    frame::{BINARY, FIN, put_header},
};

use self::proto::{ClientFrame, ServerFrame, client_frame, server_frame::Body};
use super::{Codec, close};
use crate::{
    ids::{Seq, UserId, check_id},
    message::{
        ADDRESS_BYTES_MAX, CONVERSATION_ID_BYTES_MAX, Conversation, Live, Numbers, Origin,
        ReadMark, TOGETHER_BYTES_MAX,
    },
    session::{
        Connect, Connected, Fetch, FromClient, Gap, GapReason, Kicked, ListRequest, Manner, Reason,
        Resume, ToClient,
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
pub(crate) const FRAME_BYTES_MAX: usize = 64 * 1024;
/// The number of messages for a `Fetch` that sets no limit: `docs/protocol.md#history`.
const FETCH_DEFAULT: u32 = 100;
/// The number of conversations for a question that sets no limit: `docs/protocol.md#read-state`.
const LIST_DEFAULT: u32 = 100;
/// The most marks of a `Read`: `docs/protocol.md#read-state`.
const READ_MARKS_MAX: usize = 100;
/// The bit of `Connected.features` for `Read` and `Conversations`.
const READ_STATE: u64 = 1;
/// Field 2, length-delimited: `ServerFrame.push`. Its sibling `fetched` is field 4.
const PUSH_TAG: u8 = 2 << 3 | 2;
/// Field 1, length-delimited: `Push.messages`.
const MESSAGES_TAG: u8 = 1 << 3 | 2;

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

    fn decode(&mut self, payload: Bytes, _is_text: bool) -> Result<FromClient, Reason> {
        let frame = ClientFrame::decode(payload).ok();
        let body = frame.and_then(|frame| frame.body);
        Ok(match body.ok_or(Reason::UNKNOWN_FRAME)? {
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
            client_frame::Body::Read(said) => FromClient::Read(read_marks(said)?),
            client_frame::Body::Conversations(said) => FromClient::Conversations(ListRequest {
                request_id: said.request_id,
                before: match said.before_seq {
                    0 => Seq(u64::MAX),
                    seq => Seq(seq),
                },
                limit: match said.limit {
                    0 => LIST_DEFAULT,
                    limit => limit,
                },
            }),
        })
    }

    fn encode(&mut self, user: &UserId, what: ToClient, send: &mut dyn FnMut(Frame)) {
        let body = match what {
            ToClient::Live(live) => return send(push_live(user, &live)),
            ToClient::Push { messages, .. } => return replay(user, &messages).for_each(send),
            ToClient::Connected(connected) => Body::Connected(say_connected(user, connected)),
            ToClient::CaughtUp(seq) => Body::CaughtUp(proto::CaughtUp { seq: seq.0 }),
            ToClient::Fetched {
                request_id,
                messages,
                is_end,
            } => Body::Fetched(fetched(user, request_id, &messages, is_end)),
            ToClient::Conversations {
                request_id,
                conversations,
                is_end,
            } => Body::ConversationList(proto::ConversationList {
                request_id,
                list: conversations.into_iter().map(say_conversation).collect(),
                end: is_end,
            }),
            // This protocol has no question that these answer.
            ToClient::Answer(_) | ToClient::Presence(_) | ToClient::Newest(_) | ToClient::Ping => {
                return;
            }
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
        manner: Manner::Acks,
        named: None,
        is_background: false,
    })
}

/// Checks the bounds of a `Read`.
fn read_marks(said: proto::Read) -> Result<Vec<ReadMark>, Reason> {
    if said.marks.len() > READ_MARKS_MAX {
        return Err(Reason::Protocol("more than 100 marks in one Read"));
    }
    let is_too_long =
        |mark: &proto::ReadMark| mark.conversation_id.len() > CONVERSATION_ID_BYTES_MAX;
    if said.marks.iter().any(is_too_long) {
        return Err(Reason::Protocol("a conversation_id of more than 132 bytes"));
    }
    let marks = said.marks.into_iter().map(|mark| ReadMark {
        conversation_id: mark.conversation_id,
        conversation_seq: mark.conversation_seq,
        ..ReadMark::default()
    });
    Ok(marks.collect())
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
        features: match connected.has_conversations {
            true => READ_STATE,
            false => 0,
        },
    }
}

fn say_conversation(conversation: Conversation) -> proto::Conversation {
    proto::Conversation {
        conversation_id: conversation.id.into(),
        head: conversation.head.0,
        first: conversation.first.0,
        mark: conversation.mark.0,
        unread: u32::try_from(conversation.unread).unwrap_or(u32::MAX),
        last_time: conversation.last_time_ms as i64,
        last_seq: conversation.last_seq.0,
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

/// A frame for any body without messages, or with the messages of a `Fetch`.
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

/// The part of a message that belongs to one receiver.
#[derive(Clone, PartialEq, prost::Message)]
struct PushAddress {
    #[prost(uint64, tag = "1")]
    seq: u64,
    #[prost(string, tag = "5")]
    recv_id: String,
    #[prost(string, tag = "15")]
    conversation_id: String,
    #[prost(uint64, tag = "18")]
    conversation_seq: u64,
}

impl PushAddress {
    fn new(numbers: Numbers, user: &UserId, origin: &Origin) -> Self {
        let seq = numbers.seq.0;
        if !origin.marks.is_empty() {
            // Read marks are in no conversation, and need no more than their place.
            return Self {
                seq,
                ..Self::default()
            };
        }
        Self {
            seq,
            recv_id: user.as_str().to_owned(),
            conversation_id: origin.conversation_id(user.as_str()),
            conversation_seq: numbers.conversation_seq.0,
        }
    }
}

/// The part of a message that all receivers share. The stored form has the field numbers of `Message`, so it is this part
/// without a change.
fn shared(body: &Bytes) -> &Bytes {
    body
}

/// A `Push` of one message, whose body other receivers share.
fn push_live(user: &UserId, live: &Live) -> Frame {
    let Live { numbers, message } = live;
    let body = message.encoding(SUBPROTOCOL, |body| shared(body).clone());
    let address = PushAddress::new(*numbers, user, message.origin());
    let message = address.encoded_len() + body.len();
    let push = 1 + encoded_len_varint(message as u64) + message;
    let payload = 1 + encoded_len_varint(push as u64) + push;
    let mut head = BytesMut::with_capacity(24 + address.encoded_len());
    put_header(&mut head, FIN | BINARY, payload, None);
    head.put_u8(PUSH_TAG);
    encode_varint(push as u64, &mut head);
    head.put_u8(MESSAGES_TAG);
    encode_varint(message as u64, &mut head);
    address
        .encode(&mut head)
        .expect("a BytesMut grows as needed");
    Frame {
        head: head.freeze(),
        body,
    }
}

/// Contiguous messages in as few pushes as the frame size allows. This is the replay path; it copies the messages.
fn replay(user: &UserId, messages: &[(Numbers, Bytes)]) -> impl Iterator<Item = Frame> {
    parts(messages).map(|part| push(user, part))
}

/// A `Push` of messages whose total size is bounded.
fn push(user: &UserId, messages: &[(Numbers, Bytes)]) -> Frame {
    let mut push = BytesMut::new();
    for (numbers, body) in messages {
        let address = PushAddress::new(*numbers, user, &Origin::of(body));
        let body = shared(body);
        push.put_u8(MESSAGES_TAG);
        encode_varint((address.encoded_len() + body.len()) as u64, &mut push);
        address
            .encode(&mut push)
            .expect("a BytesMut grows as needed");
        push.put_slice(body);
    }
    let mut head = BytesMut::with_capacity(16);
    let payload = 1 + encoded_len_varint(push.len() as u64) + push.len();
    put_header(&mut head, FIN | BINARY, payload, None);
    head.put_u8(PUSH_TAG);
    encode_varint(push.len() as u64, &mut head);
    Frame {
        head: head.freeze(),
        body: push.freeze(),
    }
}

/// Splits `messages` into parts. Each part fits a frame, or is a single message.
fn parts(mut messages: &[(Numbers, Bytes)]) -> impl Iterator<Item = &[(Numbers, Bytes)]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |(_, body): &&(Numbers, Bytes)| {
            bytes += body.len() + ADDRESS_BYTES_MAX;
            bytes <= TOGETHER_BYTES_MAX
        };
        let count = messages.iter().take_while(fits).count().max(1);
        let (part, rest) = messages.split_at_checked(count)?;
        messages = rest;
        Some(part)
    })
}

/// The answer to a `Fetch`.
fn fetched(
    user: &UserId,
    request_id: u32,
    messages: &[(Numbers, Bytes)],
    end: bool,
) -> proto::Fetched {
    let messages = messages.iter();
    proto::Fetched {
        request_id,
        messages: messages
            .map(|(numbers, body)| message(user, *numbers, body))
            .collect(),
        end,
    }
}

/// The whole message with the stored form `body`, as one receiver gets it.
fn message(user: &UserId, numbers: Numbers, body: &Bytes) -> proto::Message {
    let address = PushAddress::new(numbers, user, &Origin::of(body));
    let shared = proto::Message::decode(shared(body).clone()).expect("the stored form is whole");
    proto::Message {
        seq: address.seq,
        recv_id: address.recv_id,
        conversation_id: address.conversation_id,
        conversation_seq: address.conversation_seq,
        ..shared
    }
}

#[cfg(test)]
mod tests;
