//! One message as the SDKs know it, for one receiver. Pure.

use std::collections::HashMap;

use bytes::Bytes;

use super::{
    element::element,
    envelope::Form,
    proto::{MsgData, OfflinePushInfo, PullMsgs, PushMessages},
};
use crate::{
    ids::UserId,
    message::{Numbers, ReadMark, StoredMessage},
};

/// Sent by the system, not by a user.
const FROM_SYSTEM: i32 = 200;
/// A single chat.
const SINGLE: i32 = 1;
/// The type of a message that says what the user has read.
const HAS_READ: i32 = 2200;

/// The message with the stored form `body`.
pub(super) fn message(user: &UserId, numbers: Numbers, body: &Bytes, form: Form) -> MsgData {
    let stored = StoredMessage::from_bytes(body);
    let is_online_only = numbers.conversation_seq.0 == 0;
    MsgData {
        recv_id: user.as_str().to_owned(),
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
        seq: numbers.wire_seq().0 as i64,
        send_time: numbers.time_ms(stored.send_time as u64) as i64,
        create_time: stored.create_time,
        options: if is_online_only {
            only_told(form)
        } else {
            HashMap::new()
        },
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
fn only_told(form: Form) -> HashMap<String, bool> {
    let mut names = vec!["history", "persistent", "senderSync", "unreadCount"];
    if form == Form::Gob {
        names.push("conversationUpdate");
    }
    let options = names.into_iter().map(|name| (name.to_owned(), false));
    options.collect()
}

/// The notification by which a Go core learns that the user has read a conversation.
fn has_read(user: &UserId, mark: &ReadMark, time_ms: u64) -> MsgData {
    let detail = serde_json::json!({
        "markAsReadUserID": user.as_str(),
        "conversationID": mark.conversation_id,
        "seqs": null,
        "hasReadSeq": mark.conversation_seq,
    });
    let options = [
        "history",
        "persistent",
        "offlinePush",
        "unreadCount",
        "conversationUpdate",
        "senderSync",
        "isNotNotification",
    ];
    let id = format!("read_{time_ms}_{}", mark.conversation_id);
    MsgData {
        send_id: user.as_str().to_owned(),
        recv_id: user.as_str().to_owned(),
        client_msg_id: id.clone(),
        server_msg_id: id,
        session_type: SINGLE,
        msg_from: FROM_SYSTEM,
        content_type: HAS_READ,
        content: serde_json::json!({ "detail": detail.to_string() })
            .to_string()
            .into(),
        send_time: time_ms as i64,
        create_time: time_ms as i64,
        options: options.map(|name| (name.to_owned(), false)).into(),
        ..MsgData::default()
    }
}

/// The push of these marks.
pub(super) fn marks(user: &UserId, marks: &[ReadMark], time_ms: u64) -> PushMessages {
    let conversation = format!("n_{user}_{user}");
    let messages = marks.iter().map(|mark| has_read(user, mark, time_ms));
    let messages = PullMsgs {
        messages: messages.collect(),
        ..PullMsgs::default()
    };
    PushMessages {
        msgs: HashMap::new(),
        notification_msgs: [(conversation, messages)].into(),
    }
}
