//! The newest message of a conversation, as the SDKs' REST calls tell it. Pure.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use prost::Message as _;
use serde_json::{Value, json};

use super::{encoding::Form, message::message};
use crate::{ids::UserId, message::Numbers};

/// The message with the stored form `body`, for this user's JavaScript SDK: protobuf.
pub fn newest_as_protobuf(user: &UserId, numbers: Numbers, body: &Bytes) -> Bytes {
    let message = message(user, numbers, body, Form::Json);
    message.encode_to_vec().into()
}

/// The same for a Go core, which asks for JSON: the names are those of the protobuf fields as Go writes them.
pub fn newest_as_json(user: &UserId, numbers: Numbers, body: &Bytes) -> Value {
    let message = message(user, numbers, body, Form::Gob);
    json!({
        "sendID": message.send_id,
        "recvID": message.recv_id,
        "groupID": message.group_id,
        "clientMsgID": message.client_msg_id,
        "serverMsgID": message.server_msg_id,
        "senderPlatformID": message.sender_platform_id,
        "senderNickname": message.sender_nickname,
        "senderFaceURL": message.sender_face_url,
        "sessionType": message.session_type,
        "msgFrom": message.msg_from,
        "contentType": message.content_type,
        "content": BASE64_STANDARD.encode(&message.content),
        "seq": message.seq,
        "sendTime": message.send_time,
        "createTime": message.create_time,
        "ex": message.ex,
    })
}

#[cfg(test)]
mod tests {
    use super::{super::proto::MsgData, *};
    use crate::{
        ids::{ConversationSeq, Seq},
        message::StoredMessage,
    };

    #[test]
    fn both_forms_have_the_same_message() {
        let user = UserId::new("u1").unwrap();
        let numbers = Numbers {
            seq: Seq(9),
            conversation_seq: ConversationSeq(7),
            ..Numbers::default()
        };
        let body = StoredMessage {
            client_msg_id: "c1".into(),
            send_id: "oa".into(),
            sender_nickname: "OA".into(),
            session_type: 4,
            content_type: 101,
            content: Bytes::from_static(b"{\"text\":\"hello\"}"),
            send_time: 5,
            ..StoredMessage::default()
        };
        let body = body.to_bytes();
        let decoded = MsgData::decode(newest_as_protobuf(&user, numbers, &body)).unwrap();
        let json = newest_as_json(&user, numbers, &body);
        assert_eq!(decoded.content, r#"{"content":"hello"}"#);
        assert_eq!(json["content"], BASE64_STANDARD.encode(&decoded.content));
        assert_eq!((decoded.seq, decoded.send_time), (7, 5));
        assert_eq!((&json["seq"], &json["sendTime"]), (&json!(7), &json!(5)));
        assert_eq!(json["recvID"], decoded.recv_id);
        assert_eq!(json["senderNickname"], "OA");
    }
}
