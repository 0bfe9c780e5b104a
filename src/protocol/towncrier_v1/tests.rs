//! Encoding and decoding of `towncrier.v1` frames.

use std::{sync::Arc, time::Duration};

use towncrier_websocket::{Reader, Received};

use super::*;
use crate::{
    ids::{ConnectionId, ConversationSeq, Epoch, ID_BYTES_MAX, Platform},
    message::{
        self, ADDRESS_BYTES_MAX, Bases, OfflinePush, ReadMark, StoredMessage, TOGETHER_BYTES_MAX,
    },
    session::Messages,
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
        marks: Vec::new(),
        no_push: false,
    }
}

/// The same message as its receiver gets it.
fn expected(content_bytes: usize) -> proto::Message {
    let body = sample(content_bytes);
    let push = body.offline_push.unwrap();
    proto::Message {
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
        conversation_seq: 5,
        marks: Vec::new(),
    }
}

/// Places of a message in its inbox and its conversation.
fn numbers(seq: u64, conversation_seq: u64) -> Numbers {
    Numbers {
        seq: Seq(seq),
        conversation_seq: ConversationSeq(conversation_seq),
        ..Numbers::default()
    }
}

fn user(id: &str) -> UserId {
    UserId::new(id).unwrap()
}

fn encode(user: &UserId, what: ToClient) -> Vec<Frame> {
    let mut frames = Vec::new();
    TowncrierV1.encode(user, what, &mut |frame| frames.push(frame));
    frames
}

fn live(user: &UserId, numbers: Numbers, body: &Bytes) -> Frame {
    let message = Arc::new(message::Message::new(body.clone()));
    let frames = encode(user, ToClient::Live(Live { numbers, message }));
    let [frame] = &frames[..] else {
        panic!("{frames:?}")
    };
    frame.clone()
}

fn replayed(user: &UserId, messages: Messages) -> Vec<Frame> {
    let resent = 0;
    encode(user, ToClient::Push { messages, resent })
}

fn read(frame: &Frame) -> Body {
    let bytes = [&frame.head[..], &frame.body[..]].concat();
    let rules = Rules {
        from: Side::Server,
        takes_text: false,
        message_bytes_max: 2 * FRAME_BYTES_MAX,
    };
    let read = Reader::default().next(&mut &bytes[..], &rules);
    let Ok(Some(Received::Binary(payload))) = read else {
        panic!("{read:?}")
    };
    assert_eq!(bytes[bytes.len() - payload.len()..], payload[..]);
    let frame = ServerFrame::decode(payload).expect("decodes");
    frame.body.expect("not empty")
}

#[test]
fn live_replayed_and_fetched_messages_carry_every_field_of_what_is_stored() {
    for content_bytes in [0, 1, 90, 100, 200, 40_000, 70_000] {
        let (user, body) = (user("u1"), sample(content_bytes).to_bytes());
        let messages = vec![expected(content_bytes)];
        let shared = proto::Message {
            seq: 0,
            recv_id: String::new(),
            conversation_id: String::new(),
            conversation_seq: 0,
            ..messages[0].clone()
        };
        assert_eq!(shared.encode_to_vec(), body, "nothing else is stored");
        let push = Body::Push(proto::Push {
            messages: messages.clone(),
        });
        assert_eq!(read(&live(&user, numbers(7, 5), &body)), push);
        let stored = vec![(numbers(7, 5), body)];
        let frames = replayed(&user, stored.clone());
        assert_eq!(frames.iter().map(read).collect::<Vec<_>>(), [push]);
        let fetched = ToClient::Fetched {
            request_id: 3,
            messages: stored,
            is_end: true,
        };
        let frames = encode(&user, fetched);
        let expected = Body::Fetched(proto::Fetched {
            request_id: 3,
            messages,
            end: true,
        });
        assert_eq!(frames.iter().map(read).collect::<Vec<_>>(), [expected]);
    }
}

#[test]
fn read_marks_have_a_seq_and_the_id_of_a_message_and_nothing_else() {
    let mark = |conversation_id: &str, conversation_seq| ReadMark {
        conversation_id: conversation_id.into(),
        conversation_seq,
        ..ReadMark::default()
    };
    let stored = StoredMessage {
        server_msg_id: "0".repeat(32),
        marks: vec![mark("si_oa_u1", 3), mark("sg_g1", 9)],
        ..StoredMessage::default()
    };
    let expected = proto::Message {
        seq: 7,
        server_msg_id: stored.server_msg_id.clone(),
        marks: [("si_oa_u1", 3), ("sg_g1", 9)]
            .map(|(id, conversation_seq)| proto::ReadMark {
                conversation_id: id.into(),
                conversation_seq,
            })
            .into(),
        ..proto::Message::default()
    };
    let push = Body::Push(proto::Push {
        messages: vec![expected],
    });
    let (user, body) = (user("u1"), stored.to_bytes());
    assert_eq!(read(&live(&user, numbers(7, 0), &body)), push);
    let frames = replayed(&user, vec![(numbers(7, 0), body)]);
    assert_eq!(frames.iter().map(read).collect::<Vec<_>>(), [push]);
}

#[test]
fn a_live_message_has_one_body_for_all_receivers() {
    let body = sample(400).to_bytes();
    let message = Arc::new(message::Message::new(body));
    let bodies = ["u1", "u2"].map(|id| {
        let message = Arc::clone(&message);
        let frames = encode(
            &user(id),
            ToClient::Live(Live {
                numbers: numbers(1, 1),
                message,
            }),
        );
        frames[0].body.as_ptr()
    });
    assert_eq!(bodies[0], bodies[1]);
}

#[test]
fn the_address_never_passes_its_bound() {
    let long = "z".repeat(ID_BYTES_MAX);
    let body = StoredMessage {
        send_id: long.clone(),
        session_type: 4,
        ..StoredMessage::default()
    };
    let frame = live(&user(&long), numbers(u64::MAX, u64::MAX), &body.to_bytes());
    let bytes = frame.head.len();
    assert!(bytes <= ADDRESS_BYTES_MAX, "{bytes}");
}

#[test]
fn every_message_is_in_one_push_and_every_push_fits_a_frame() {
    let sizes = [
        0, 100, 30_000, 35_000, 48_000, 17_000, 64_000, 1, 65_280, 70_000,
    ];
    let messages: Messages = (1..)
        .map(|seq| numbers(seq, seq))
        .zip(sizes.map(|size| sample(size).to_bytes()))
        .collect();
    let mut seqs = Vec::new();
    for frame in replayed(&user("u1"), messages) {
        let Body::Push(push) = read(&frame) else {
            panic!("not a push")
        };
        assert!(frame.len() <= TOGETHER_BYTES_MAX || push.messages.len() == 1);
        seqs.extend(push.messages.iter().map(|message| message.seq));
    }
    assert_eq!(seqs, (1..=10).collect::<Vec<_>>());
    assert!(replayed(&user("u1"), Messages::new()).is_empty());
}

fn decode(bytes: &[u8]) -> Result<FromClient, Reason> {
    TowncrierV1.decode(Bytes::copy_from_slice(bytes), false)
}

#[test]
fn empty_broken_and_unknown_frames_are_refused() {
    for bytes in [&[][..], b"\x0a\xff", &[0xfa, 1, 0]] {
        assert!(matches!(decode(bytes), Err(Reason::Protocol(_))));
    }
}

#[test]
fn only_a_good_connect_is_read_as_one() {
    let good = proto::Connect {
        token: "t".into(),
        epoch: 7,
        cursor: Some(3),
        ..proto::Connect::default()
    };
    let read = |connect| {
        let body = Some(client_frame::Body::Connect(connect));
        decode(&ClientFrame { body }.encode_to_vec())
    };
    let Ok(FromClient::Connect(connect)) = read(good.clone()) else {
        panic!("not taken")
    };
    assert_eq!(connect.resume.cursor, Some(Seq(3)));
    let bad = [
        proto::Connect {
            epoch: 0,
            ..good.clone()
        },
        proto::Connect {
            device_id: "x".repeat(65),
            ..good.clone()
        },
        proto::Connect {
            client: "a\nb".into(),
            ..good
        },
    ];
    for connect in bad {
        assert!(matches!(read(connect), Err(Reason::Protocol(_))));
    }
}

fn read_frame(marks: Vec<proto::ReadMark>) -> Vec<u8> {
    let body = Some(client_frame::Body::Read(proto::Read { marks }));
    ClientFrame { body }.encode_to_vec()
}

#[test]
fn a_read_has_at_most_100_marks_and_no_id_longer_than_a_conversation_can_have() {
    let mark = |id_bytes: usize| proto::ReadMark {
        conversation_id: "z".repeat(id_bytes),
        conversation_seq: 3,
    };
    for (marks, is_taken) in [
        (vec![mark(CONVERSATION_ID_BYTES_MAX); READ_MARKS_MAX], true),
        (vec![mark(0)], true),
        (Vec::new(), true),
        (vec![mark(1); READ_MARKS_MAX + 1], false),
        (vec![mark(1), mark(CONVERSATION_ID_BYTES_MAX + 1)], false),
    ] {
        let count = marks.len();
        match decode(&read_frame(marks)) {
            Ok(FromClient::Read(marks)) => {
                assert!(is_taken && marks.len() == count);
                assert!(marks.iter().all(|mark| mark.conversation_seq == 3));
            }
            refused => assert!(!is_taken && matches!(refused, Err(Reason::Protocol(_)))),
        }
    }
}

#[test]
fn a_question_for_conversations_begins_at_the_newest_and_has_a_limit() {
    let asked = |before_seq, limit| {
        let body = client_frame::Body::Conversations(proto::Conversations {
            request_id: 7,
            before_seq,
            limit,
        });
        let frame = ClientFrame { body: Some(body) };
        match decode(&frame.encode_to_vec()) {
            Ok(FromClient::Conversations(request)) => {
                assert_eq!(request.request_id, 7);
                (request.before.0, request.limit)
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(asked(0, 0), (u64::MAX, LIST_DEFAULT));
    assert_eq!(asked(9, 3), (9, 3));
}

#[test]
fn an_answer_with_the_longest_ids_fits_a_frame() {
    let conversation = Conversation {
        id: "z".repeat(CONVERSATION_ID_BYTES_MAX).into(),
        head: ConversationSeq(u64::MAX),
        first: ConversationSeq(u64::MAX),
        mark: ConversationSeq(u64::MAX),
        unread: u64::MAX,
        last_time_ms: i64::MAX as u64,
        last_seq: Seq(u64::MAX),
        bases: Bases::default(),
        settings: Default::default(),
    };
    let said = proto::Conversation {
        conversation_id: "z".repeat(CONVERSATION_ID_BYTES_MAX),
        head: u64::MAX,
        first: u64::MAX,
        mark: u64::MAX,
        unread: u32::MAX,
        last_time: i64::MAX,
        last_seq: u64::MAX,
    };
    let list = |count: usize| ToClient::Conversations {
        request_id: u32::MAX,
        conversations: vec![conversation.clone(); count],
        is_end: true,
    };
    let frames = encode(&user("u1"), list(1));
    let expected = Body::ConversationList(proto::ConversationList {
        request_id: u32::MAX,
        list: vec![said],
        end: true,
    });
    assert_eq!(frames.iter().map(read).collect::<Vec<_>>(), [expected]);
    // A session cuts its answers to this many.
    let fitting = TOGETHER_BYTES_MAX / (CONVERSATION_ID_BYTES_MAX + 80);
    let frames = encode(&user("u1"), list(fitting));
    assert!(frames.len() == 1 && frames[0].len() <= TOGETHER_BYTES_MAX);
}

#[test]
fn connected_says_what_the_log_has() {
    for (has_conversations, features) in [(true, READ_STATE), (false, 0)] {
        let connected = ToClient::Connected(Connected {
            connection: ConnectionId(1),
            platform: Platform::Web,
            epoch: Epoch(7),
            cursor: Seq::ZERO,
            head: Seq::ZERO,
            first: Seq(1),
            heartbeat: Duration::from_secs(30),
            window: 256,
            server_time_ms: 0,
            has_conversations,
        });
        let frames = encode(&user("u1"), connected);
        let Body::Connected(said) = read(&frames[0]) else {
            panic!("{frames:?}")
        };
        assert_eq!(said.features, features);
    }
}
