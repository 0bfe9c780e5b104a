//! Requests, answers and pushes, and the data inside of them: OpenIM v3's protobuf messages, as far as the rig needs them.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The numbers of requests and pushes.
pub(super) const REACHED: i64 = 1001;
pub(super) const PULL: i64 = 1002;
pub(super) const HEADS: i64 = 1006;
pub(super) const PUSH: i64 = 2001;
pub(super) const KICK: i64 = 2002;
pub(super) const PRESENCE: i64 = 2005;

/// A request of a client.
#[derive(Debug, Clone, Copy)]
pub struct SdkRequest<'a> {
    /// 1001 and so on.
    pub number: i64,
    /// The user.
    pub send_id: &'a str,
    /// A name for the gateway's traces; not empty.
    pub operation_id: &'a str,
    /// The mark by which the client knows the answer.
    pub msg_incr: &'a str,
    /// The question: a protobuf message.
    pub data: &'a [u8],
}

/// An answer, or a push.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SdkResponse {
    /// The request's number; of a push, its own.
    pub number: i64,
    /// 0: none.
    pub error: i64,
    /// The text of the error.
    pub text: String,
    /// The request's mark; empty in a push.
    pub msg_incr: String,
    /// The request's; in a push the gateway's own.
    pub operation_id: String,
    /// The answer: a protobuf message.
    pub data: Vec<u8>,
}

/// The question of 1001 and of 1006. It asks for all conversations.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SdkQuestion {
    #[prost(string, tag = "1")]
    pub(super) user_id: String,
}

/// The answer to 1001.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ReachedAnswer {
    #[prost(btree_map = "string, int64", tag = "1")]
    pub(super) max_seqs: BTreeMap<String, i64>,
}

/// The answer to 1006.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HeadsAnswer {
    #[prost(btree_map = "string, message", tag = "1")]
    pub(super) seqs: BTreeMap<String, ConversationHead>,
}

/// The head of a conversation.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct ConversationHead {
    #[prost(int64, tag = "1")]
    pub(super) max_seq: i64,
    #[prost(int64, tag = "2")]
    pub(super) has_read_seq: i64,
}

/// The request 1002.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SdkPull {
    #[prost(string, tag = "1")]
    pub(super) user_id: String,
    #[prost(message, repeated, tag = "2")]
    pub(super) ranges: Vec<PullRange>,
}

/// Messages of one conversation, both ends included.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PullRange {
    #[prost(string, tag = "1")]
    pub(super) conversation_id: String,
    #[prost(int64, tag = "2")]
    pub(super) begin: i64,
    #[prost(int64, tag = "3")]
    pub(super) end: i64,
    /// The number of messages that the SDK wants. The rig sends the number that it sends, and takes all.
    #[prost(int64, tag = "4")]
    pub(super) num: i64,
}

/// The answer to 1002, and a push.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Bunch {
    #[prost(btree_map = "string, message", tag = "1")]
    pub(super) msgs: BTreeMap<String, PulledMsgs>,
}

/// Messages of one conversation.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PulledMsgs {
    #[prost(message, repeated, tag = "1")]
    pub(super) msgs: Vec<SdkMessage>,
    /// True: a lower seq than the first that still exists was asked for.
    #[prost(bool, tag = "2")]
    pub(super) is_end: bool,
}

/// A message.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SdkMessage {
    #[prost(string, tag = "1")]
    pub(super) send_id: String,
    #[prost(string, tag = "2")]
    pub(super) recv_id: String,
    #[prost(string, tag = "4")]
    pub(super) client_msg_id: String,
    #[prost(string, tag = "5")]
    pub(super) server_msg_id: String,
    #[prost(int32, tag = "9")]
    pub(super) session_type: i32,
    #[prost(int32, tag = "11")]
    pub(super) content_type: i32,
    #[prost(bytes = "vec", tag = "12")]
    pub(super) content: Vec<u8>,
    #[prost(int64, tag = "14")]
    pub(super) seq: i64,
    /// Unix ms.
    #[prost(int64, tag = "15")]
    pub(super) send_time: i64,
}

impl SdkMessage {
    /// The content as it was sent: v3's text element back in the form of v2's admin API. `None`: it is no text element.
    pub(super) fn sent_content(&self) -> Option<String> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct SdkTextElement {
            content: String,
        }
        let element: SdkTextElement = serde_json::from_slice(&self.content).ok()?;
        let text = serde_json::to_string(&element.content).ok()?;
        Some(format!(r#"{{"text":{text}}}"#))
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn a_push_has_the_numbers_of_the_protocol() {
        // Written by hand from the protocol's tables: msgs 1 {key 1, value 2 {Msgs 1 [MsgData]}}.
        let message = b"\x0a\x01a\x12\x01b\x22\x01c\x2a\x01d\x48\x01\x58\x65\x62\x10{\"content\":\"hi\"}\x70\x07\x78\x09\x90\x01\x01";
        let pulled = [&[0x0a, message.len() as u8][..], message].concat();
        let entry = [b"\x0a\x02si\x12".as_slice(), &[pulled.len() as u8], &pulled].concat();
        let push = [&[0x0a, entry.len() as u8][..], &entry].concat();
        let push = Bunch::decode(&push[..]).unwrap();
        let message = &push.msgs["si"].msgs[0];
        assert_eq!(message.sent_content().unwrap(), r#"{"text":"hi"}"#);
        assert_eq!((message.seq, message.send_time), (7, 9));
        assert_eq!((message.session_type, message.content_type), (1, 101));
        let ids = [
            &message.send_id,
            &message.recv_id,
            &message.client_msg_id,
            &message.server_msg_id,
        ];
        assert_eq!(ids, ["a", "b", "c", "d"]);
    }

    #[test]
    fn only_a_text_element_is_a_text() {
        for content in [
            "",
            "{}",
            r#"{"content":1}"#,
            r#"{"content":"a","text":"a"}"#,
            r#"{"text":"a"}"#,
        ] {
            let message = SdkMessage {
                content: content.into(),
                ..SdkMessage::default()
            };
            assert_eq!(message.sent_content(), None, "{content}");
        }
    }
}
