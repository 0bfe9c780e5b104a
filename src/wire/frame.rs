//! Frames: one protobuf envelope in one binary WebSocket message, encoded once and shared by whoever needs it.
//!
//! Protobuf fields may come in any order, so a message on the wire is its address and then its body, and a fan-out copies no
//! body.

use std::sync::OnceLock;

use bytes::{BufMut, Bytes, BytesMut};
use prost::{
    Message as _,
    encoding::{encode_varint, encoded_len_varint},
};
use towncrier_websocket::{
    Frame, Rules, Side,
    frame::{BINARY, FIN, put_header},
};

use super::proto::{ClientFrame, Message, ServerFrame, client_frame};
use crate::{ids::Seq, message::Origin};

/// Largest frame a client may send: design section 4, rule 7.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;

/// What a client may send.
pub const RULES: Rules = Rules {
    from: Side::Client,
    takes_text: false,
    message_bytes_max: FRAME_BYTES_MAX,
};

/// A frame from a client that is not one.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are not this protobuf message.
    #[error("undecodable frame")]
    Protobuf(#[from] prost::DecodeError),
    /// No body, or one this version does not know.
    #[error("empty or unknown frame")]
    Empty,
}

/// Reads one client frame; the strings and bytes in it share `bytes`.
pub fn decode(bytes: Bytes) -> Result<client_frame::Body, DecodeError> {
    ClientFrame::decode(bytes)?.body.ok_or(DecodeError::Empty)
}

/// Encodes a server frame that is not a push of stored bodies.
pub fn encode(frame: &ServerFrame) -> Frame {
    let payload = frame.encoded_len();
    let mut head = BytesMut::with_capacity(payload + 10);
    put_header(&mut head, FIN | BINARY, payload, None);
    frame.encode(&mut head).expect("a BytesMut grows as needed");
    Frame {
        head: head.freeze(),
        body: Bytes::new(),
    }
}

/// The part of a message that is one receiver's own.
#[derive(Clone, PartialEq, prost::Message)]
struct Address {
    #[prost(uint64, tag = "1")]
    seq: u64,
    #[prost(string, tag = "5")]
    recv_id: String,
    #[prost(string, tag = "15")]
    conversation_id: String,
}

impl Address {
    fn new(seq: Seq, recv_id: &str, origin: &Origin) -> Self {
        Self {
            seq: seq.0,
            recv_id: recv_id.to_owned(),
            conversation_id: origin.conversation_id(recv_id),
        }
    }
}

/// The whole message that `body` is, as one receiver gets it. The stored form has the numbers of `Message`, so it reads as
/// one without an address.
pub fn message(seq: Seq, recv_id: &str, body: &Bytes) -> Message {
    let address = Address::new(seq, recv_id, &Origin::of(body));
    let shared = Message::decode(body.clone()).expect("the stored form is whole");
    Message {
        seq: address.seq,
        recv_id: address.recv_id,
        conversation_id: address.conversation_id,
        ..shared
    }
}

/// Field 2, length-delimited: `ServerFrame.push`. Its sibling `fetched` is field 4.
const PUSH_TAG: u8 = 2 << 3 | 2;
/// Field 1, length-delimited: `Push.messages`.
const MESSAGES_TAG: u8 = 1 << 3 | 2;

/// A message on its way to whoever is online: the live path. What its receivers' addresses have in common is decoded once,
/// however many they are, if there are any.
#[derive(Debug)]
pub struct Live {
    body: Bytes,
    origin: OnceLock<Origin>,
}

impl Live {
    /// The message that `body` is.
    pub fn new(body: &Bytes) -> Self {
        Self {
            body: body.clone(),
            origin: OnceLock::new(),
        }
    }

    /// A `Push` of it alone to one receiver. The body is shared, not copied.
    pub fn push(&self, seq: Seq, recv_id: &str) -> Frame {
        let origin = self.origin.get_or_init(|| Origin::of(&self.body));
        let address = Address::new(seq, recv_id, origin);
        let message = address.encoded_len() + self.body.len();
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
            body: self.body.clone(),
        }
    }
}

/// A `Push` of contiguous messages, copied into one frame: the replay path. The caller keeps the sum under
/// [`FRAME_BYTES_MAX`], counting [`ADDRESS_BYTES_MAX`] for each.
pub fn push_replay<'a>(recv_id: &str, messages: impl Iterator<Item = (Seq, &'a Bytes)>) -> Frame {
    let mut push = BytesMut::new();
    for (seq, body) in messages {
        let address = Address::new(seq, recv_id, &Origin::of(body));
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

#[cfg(test)]
mod tests {
    use towncrier_websocket::{Message as WsMessage, Reader};

    use super::*;
    use crate::{
        message::{ADDRESS_BYTES_MAX, OfflinePush, StoredMessage},
        wire::proto::{self, Push, server_frame},
    };

    fn sample(content_bytes: usize) -> StoredMessage {
        StoredMessage {
            server_msg_id: "0".repeat(32),
            client_msg_id: "c1".into(),
            send_id: "openIM123456".into(),
            group_id: "g1".into(),
            sender_platform_id: 10,
            sender_nickname: "OA".into(),
            sender_face_url: "https://oa.example/face".into(),
            session_type: 4,
            content_type: 1400,
            content: vec![b'x'; content_bytes].into(),
            send_time: 1_700_000_000_000,
            create_time: 1_600_000_000_000,
            offline_push: Some(OfflinePush {
                title: "t".into(),
                desc: "d".into(),
                ex: "e".into(),
                ios_push_sound: "default".into(),
                ios_badge_count: true,
            }),
            ex: "more".into(),
        }
    }

    /// What a client of ours gets of that.
    fn expected(content_bytes: usize) -> Message {
        let body = sample(content_bytes);
        let push = body.offline_push.unwrap();
        Message {
            seq: 7,
            server_msg_id: body.server_msg_id,
            client_msg_id: body.client_msg_id,
            send_id: body.send_id,
            recv_id: "u1".into(),
            group_id: body.group_id,
            sender_platform_id: body.sender_platform_id,
            sender_nickname: body.sender_nickname,
            sender_face_url: body.sender_face_url,
            session_type: body.session_type,
            content_type: body.content_type,
            content: body.content,
            send_time: body.send_time,
            create_time: body.create_time,
            conversation_id: "sn_openIM123456_u1".into(),
            offline_push: Some(proto::OfflinePush {
                title: push.title,
                desc: push.desc,
                ex: push.ex,
                ios_push_sound: push.ios_push_sound,
                ios_badge_count: push.ios_badge_count,
            }),
            ex: body.ex,
        }
    }

    fn unframe(frame: &Frame) -> ServerFrame {
        let bytes: Vec<u8> = [&frame.head[..], &frame.body[..]].concat();
        let rules = Rules {
            from: Side::Server,
            message_bytes_max: 2 * FRAME_BYTES_MAX,
            ..RULES
        };
        let read = Reader::default().next(&mut &bytes[..], &rules);
        let Ok(Some(WsMessage::Binary(payload))) = read else {
            panic!("{read:?}")
        };
        assert_eq!(bytes[bytes.len() - payload.len()..], payload[..]);
        ServerFrame::decode(payload).expect("decodes")
    }

    #[test]
    fn live_and_replayed_pushes_carry_every_field_of_what_is_stored() {
        for content_bytes in [0, 1, 90, 100, 200, 40_000, 70_000] {
            let body = sample(content_bytes).to_bytes();
            let expected = expected(content_bytes);
            assert_eq!(message(Seq(7), "u1", &body), expected);
            let shared = Message {
                seq: 0,
                recv_id: String::new(),
                conversation_id: String::new(),
                ..expected.clone()
            };
            assert_eq!(shared.encode_to_vec(), body, "nothing else is stored");
            let push = Some(server_frame::Body::Push(Push {
                messages: vec![expected],
            }));
            assert_eq!(unframe(&Live::new(&body).push(Seq(7), "u1")).body, push);
            assert_eq!(
                unframe(&push_replay("u1", [(Seq(7), &body)].into_iter())).body,
                push
            );
        }
    }

    #[test]
    fn the_address_never_passes_its_bound() {
        let long = "z".repeat(crate::ids::ID_BYTES_MAX);
        let body = StoredMessage {
            send_id: long.clone(),
            session_type: 4,
            ..StoredMessage::default()
        };
        let body = body.to_bytes();
        let frame = Live::new(&body).push(Seq(u64::MAX), &long);
        assert!(
            frame.head.len() <= ADDRESS_BYTES_MAX,
            "{}",
            frame.head.len()
        );
    }

    #[test]
    fn empty_and_broken_client_frames_are_refused() {
        assert!(matches!(decode(Bytes::new()), Err(DecodeError::Empty)));
        assert!(matches!(
            decode(Bytes::from_static(b"\x0a\xff")),
            Err(DecodeError::Protobuf(_))
        ));
        assert!(matches!(
            decode(Bytes::from_static(&[0xfa, 1, 0])),
            Err(DecodeError::Empty)
        ));
    }
}
