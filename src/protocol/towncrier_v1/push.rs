//! Messages as `towncrier.v1` sends them: a small head for each receiver, and the body that all receivers share.
//!
//! Protobuf fields may come in any order. So a message on the wire is address + body, and a live push copies no body.

use bytes::{BufMut, Bytes, BytesMut};
use prost::{
    Message as _,
    encoding::{encode_varint, encoded_len_varint},
};
use towncrier_websocket::{
    Frame,
    frame::{BINARY, FIN, put_header},
};

use super::{
    SUBPROTOCOL,
    proto::{Fetched, Message},
};
use crate::{
    ids::{Seq, UserId},
    message::{self, ADDRESS_BYTES_MAX, Origin, TOGETHER_BYTES_MAX},
};

/// Field 2, length-delimited: `ServerFrame.push`. Its sibling `fetched` is field 4.
const PUSH_TAG: u8 = 2 << 3 | 2;
/// Field 1, length-delimited: `Push.messages`.
const MESSAGES_TAG: u8 = 1 << 3 | 2;

/// The part of a message that belongs to one receiver.
#[derive(Clone, PartialEq, prost::Message)]
struct PushAddress {
    #[prost(uint64, tag = "1")]
    seq: u64,
    #[prost(string, tag = "5")]
    recv_id: String,
    #[prost(string, tag = "15")]
    conversation_id: String,
}

impl PushAddress {
    fn new(seq: Seq, user: &UserId, origin: &Origin) -> Self {
        Self {
            seq: seq.0,
            recv_id: user.as_str().to_owned(),
            conversation_id: origin.conversation_id(user.as_str()),
        }
    }
}

/// The part of a message that all receivers share. The stored form has the field numbers of `Message`, so it is this part
/// without a change.
fn shared(body: &Bytes) -> &Bytes {
    body
}

/// A `Push` of one message, whose body other receivers share.
pub(super) fn live(user: &UserId, seq: Seq, message: &message::Message) -> Frame {
    let body = message.encoding(SUBPROTOCOL, |body| shared(body).clone());
    let address = PushAddress::new(seq, user, message.origin());
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
pub(super) fn replay(user: &UserId, messages: &[(Seq, Bytes)]) -> impl Iterator<Item = Frame> {
    parts(messages).map(|part| push(user, part))
}

/// A `Push` of messages whose total size is bounded.
fn push(user: &UserId, messages: &[(Seq, Bytes)]) -> Frame {
    let mut push = BytesMut::new();
    for (seq, body) in messages {
        let address = PushAddress::new(*seq, user, &Origin::of(body));
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
fn parts(mut messages: &[(Seq, Bytes)]) -> impl Iterator<Item = &[(Seq, Bytes)]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |(_, body): &&(Seq, Bytes)| {
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
pub(super) fn fetched(
    user: &UserId,
    request_id: u32,
    messages: &[(Seq, Bytes)],
    end: bool,
) -> Fetched {
    let messages = messages.iter();
    Fetched {
        request_id,
        messages: messages
            .map(|(seq, body)| message(user, *seq, body))
            .collect(),
        end,
    }
}

/// The whole message with the stored form `body`, as one receiver gets it.
fn message(user: &UserId, seq: Seq, body: &Bytes) -> Message {
    let address = PushAddress::new(seq, user, &Origin::of(body));
    let shared = Message::decode(shared(body).clone()).expect("the stored form is whole");
    Message {
        seq: address.seq,
        recv_id: address.recv_id,
        conversation_id: address.conversation_id,
        ..shared
    }
}
