//! One message as the SDKs know it: the part that belongs to one receiver, and the part that all receivers share. And the news that
//! the user has read something. Pure.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    element::element,
    encoding::Form,
    proto::{MsgData, OfflinePushInfo},
};
use crate::{
    ids::{MessageId, UserId},
    message::{Numbers, ReadMark, StoredMessage},
};

/// Sent by the system, not by a user.
const FROM_SYSTEM: i32 = 200;
/// A single chat.
const SINGLE: i32 = 1;
/// The type of a message that says what the user has read.
const HAS_READ: i32 = 2200;

/// The fields of `MsgData` that belong to one receiver. Protobuf fields may come in any order: these and the shared ones, one behind
/// the other, are a message.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct OwnFields {
    #[prost(string, tag = "2")]
    recv_id: String,
    #[prost(int64, tag = "14")]
    seq: i64,
    #[prost(int64, tag = "15")]
    send_time: i64,
    #[prost(btree_map = "string, bool", tag = "19")]
    options: BTreeMap<String, bool>,
}

impl OwnFields {
    /// The fields for this user. `send_time_ms` is the one of the stored form.
    pub(super) fn new(user: &UserId, numbers: Numbers, send_time_ms: i64, form: Form) -> Self {
        let is_told_only = numbers.conversation_seq.0 == 0;
        Self {
            recv_id: user.as_str().to_owned(),
            seq: numbers.wire_seq().0 as i64,
            send_time: numbers.time_ms(send_time_ms as u64) as i64,
            options: if is_told_only {
                told_only(form)
            } else {
                BTreeMap::new()
            },
        }
    }
}

/// The message with the stored form `body`, without the fields of [`OwnFields`].
pub(super) fn shared(body: &Bytes) -> MsgData {
    without_address(StoredMessage::from_bytes(body))
}

/// The whole message with the stored form `body`, for this user.
pub(super) fn message(user: &UserId, numbers: Numbers, body: &Bytes, form: Form) -> MsgData {
    let stored = StoredMessage::from_bytes(body);
    let OwnFields {
        recv_id,
        seq,
        send_time,
        options,
    } = OwnFields::new(user, numbers, stored.send_time, form);
    MsgData {
        recv_id,
        seq,
        send_time,
        options,
        ..without_address(stored)
    }
}

fn without_address(stored: StoredMessage) -> MsgData {
    MsgData {
        content: element(stored.content_type, &stored.content).into(),
        send_id: stored.send_id,
        group_id: stored.group_id,
        client_msg_id: stored.client_msg_id,
        server_msg_id: stored.server_msg_id,
        sender_platform_id: stored.sender_platform_id,
        sender_nickname: stored.sender_nickname,
        sender_face_url: stored.sender_face_url,
        session_type: stored.session_type,
        msg_from: FROM_SYSTEM,
        content_type: stored.content_type,
        create_time: stored.create_time,
        offline_push_info: stored.offline_push.map(|push| OfflinePushInfo {
            title: push.title,
            desc: push.desc,
            ex: push.ex,
            ios_push_sound: push.ios_push_sound,
            ios_badge_count: push.ios_badge_count,
        }),
        ex: stored.ex,
        ..MsgData::default()
    }
}

/// The options of a message that is told and not kept. A Go core tells it twice unless it is kept from the conversation; the
/// JavaScript SDK then does not tell it at all.
fn told_only(form: Form) -> BTreeMap<String, bool> {
    let mut names = vec!["history", "persistent", "senderSync", "unreadCount"];
    if form == Form::Gob {
        names.push("conversationUpdate");
    }
    off(&names)
}

fn off(names: &[&str]) -> BTreeMap<String, bool> {
    names.iter().map(|name| (name.to_string(), false)).collect()
}

/// The notifications by which a Go core learns that its user has read something: the conversation that they belong to, and one for
/// each mark of the entry with the stored form `body`.
pub(super) fn marks(user: &UserId, numbers: Numbers, body: &Bytes) -> (String, Vec<MsgData>) {
    let stored = StoredMessage::from_bytes(body);
    // The time of the newest message that is marked.
    let time_ms = stored
        .server_msg_id
        .parse()
        .map(|id: MessageId| id.time_ms());
    let time_ms = time_ms.unwrap_or_default() as i64;
    let marks = stored.marks.iter();
    let messages = marks.map(|mark| has_read(user, numbers, mark, time_ms));
    (format!("n_{user}_{user}"), messages.collect())
}

fn has_read(user: &UserId, numbers: Numbers, mark: &ReadMark, time_ms: i64) -> MsgData {
    let detail = serde_json::json!({
        "markAsReadUserID": user.as_str(),
        "conversationID": mark.conversation_id,
        "seqs": [],
        "hasReadSeq": mark.wire_seq().0,
    });
    let content = serde_json::json!({ "detail": detail.to_string() });
    // Ids are unique within a conversation: the entry's place, and the conversation that was read.
    let id = format!("read_{}_{}", numbers.seq, mark.conversation_id);
    MsgData {
        send_id: user.as_str().to_owned(),
        recv_id: user.as_str().to_owned(),
        client_msg_id: id.clone(),
        server_msg_id: id,
        session_type: SINGLE,
        msg_from: FROM_SYSTEM,
        content_type: HAS_READ,
        content: content.to_string().into(),
        send_time: time_ms,
        create_time: time_ms,
        options: off(&[
            "history",
            "persistent",
            "offlinePush",
            "unreadCount",
            "conversationUpdate",
            "senderSync",
            "isNotNotification",
        ]),
        ..MsgData::default()
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::{
        ids::{ConversationSeq, Seq},
        message::OfflinePush,
    };

    fn numbers(seq: u64, conversation_seq: u64) -> Numbers {
        Numbers {
            seq: Seq(seq),
            conversation_seq: ConversationSeq(conversation_seq),
            ..Numbers::default()
        }
    }

    fn stored() -> Bytes {
        StoredMessage {
            server_msg_id: MessageId::new(1_700_000_000_000).to_string(),
            client_msg_id: "c1".into(),
            send_id: "oa".into(),
            group_id: "g1".into(),
            sender_platform_id: 10,
            sender_nickname: "OA".into(),
            sender_face_url: "https://oa.example/face".into(),
            session_type: 4,
            content_type: 1400,
            content: Bytes::from_static(b"{\"text\":\"t\"}"),
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
        .to_bytes()
    }

    #[test]
    fn address_and_shared_part_are_the_whole_message() {
        let user = UserId::new("u1").unwrap();
        let stored = stored();
        for form in [Form::Gob, Form::Json] {
            for numbers in [numbers(9, 7), numbers(0, 0)] {
                let address = OwnFields::new(&user, numbers, 1_700_000_000_000, form);
                let mut bytes = address.encode_to_vec();
                shared(&stored).encode(&mut bytes).unwrap();
                let whole = message(&user, numbers, &stored, form);
                assert_eq!(MsgData::decode(&bytes[..]), Ok(whole));
            }
        }
    }

    #[test]
    fn a_message_has_the_fields_of_its_stored_form() {
        let user = UserId::new("u1").unwrap();
        let message = message(&user, numbers(9, 7), &stored(), Form::Gob);
        let expected = MsgData {
            send_id: "oa".into(),
            recv_id: "u1".into(),
            group_id: "g1".into(),
            client_msg_id: "c1".into(),
            server_msg_id: message.server_msg_id.clone(),
            sender_platform_id: 10,
            sender_nickname: "OA".into(),
            sender_face_url: "https://oa.example/face".into(),
            session_type: 4,
            msg_from: 200,
            content_type: 1400,
            content: Bytes::from_static(br#"{"detail":"{\"text\":\"t\"}"}"#),
            seq: 7,
            send_time: 1_700_000_000_000,
            create_time: 1_600_000_000_000,
            options: BTreeMap::new(),
            offline_push_info: Some(OfflinePushInfo {
                title: "t".into(),
                desc: "d".into(),
                ex: "e".into(),
                ios_push_sound: "default".into(),
                ios_badge_count: true,
            }),
            ex: "more".into(),
        };
        assert_eq!(message, expected);
    }

    #[test]
    fn what_is_told_only_has_no_seq_and_options_of_its_form() {
        let user = UserId::new("u1").unwrap();
        let options = |form| {
            let message = message(&user, Numbers::default(), &stored(), form);
            assert_eq!(message.seq, 0);
            assert!(message.options.values().all(|is| !is));
            let names: Vec<_> = message.options.into_keys().collect();
            names.join(" ")
        };
        assert_eq!(
            options(Form::Json),
            "history persistent senderSync unreadCount"
        );
        assert_eq!(
            options(Form::Gob),
            "conversationUpdate history persistent senderSync unreadCount"
        );
    }

    #[test]
    fn marks_are_notifications_of_the_user_to_itself() {
        let mark = |id: &str, conversation_seq, base| ReadMark {
            conversation_id: id.into(),
            conversation_seq,
            base,
        };
        let body = StoredMessage {
            server_msg_id: MessageId::new(1_700_000_000_000).to_string(),
            marks: vec![mark("sn_oa_u1", 7, 1000), mark("sg_g", 2, 0)],
            ..StoredMessage::default()
        };
        let user = UserId::new("u1").unwrap();
        let (conversation, messages) = marks(&user, numbers(9, 0), &body.to_bytes());
        assert_eq!(conversation, "n_u1_u1");
        let ids: Vec<_> = messages.iter().map(|one| &*one.client_msg_id).collect();
        assert_eq!(ids, ["read_9_sn_oa_u1", "read_9_sg_g"]);
        let first = &messages[0];
        assert_eq!((first.seq, first.send_time), (0, 1_700_000_000_000));
        assert_eq!((first.session_type, first.content_type), (1, 2200));
        assert_eq!(first.options.get("isNotNotification"), Some(&false));
        let content: serde_json::Value = serde_json::from_slice(&first.content).unwrap();
        let detail: serde_json::Value =
            serde_json::from_str(content["detail"].as_str().unwrap()).unwrap();
        assert_eq!(detail["hasReadSeq"], 1007);
        assert_eq!(detail["conversationID"], "sn_oa_u1");
        assert_eq!(detail["markAsReadUserID"], "u1");
    }
}
