//! Messages of an inbox as pushes. A frame holds messages of several conversations, of each an unbroken run. Pure.

use bytes::{BufMut, Bytes, BytesMut};
use prost::{
    Message as _,
    encoding::{encode_varint, encoded_len_varint},
};

use super::{
    encoding::{Form, Sharing},
    envelope::Response,
    message::{OwnFields, marks, message, shared},
    proto::{MsgData, PullMsgs, PushMessages},
    requests::number,
};
use crate::{
    ids::UserId,
    message::{Live, Numbers, Origin, TOGETHER_BYTES_MAX},
};

/// Go cores need some text there in each push.
const OPERATION: &str = "push";
/// Field 1, length-delimited: `PushMessages.msgs`, the key of one of its entries, and `PullMsgs.messages`.
const FIRST_TAG: u8 = 1 << 3 | 2;
/// Field 2, length-delimited: the value of an entry of `PushMessages.msgs`.
const VALUE_TAG: u8 = 2 << 3 | 2;
/// Field 3 of `MsgData`, the group, and no bytes of it. The shared part has the group, and comes later.
const PADDING: [u8; 2] = [3 << 3 | 2, 0];

/// A message that nobody asked for, without an error.
pub(super) fn unasked(number: i32, data: &[u8]) -> Response<'_> {
    Response {
        number,
        operation_id: OPERATION,
        data,
        ..Response::default()
    }
}

/// The pushes of these messages, in their order.
pub(super) fn pushes(user: &UserId, messages: &[(Numbers, Bytes)], form: Form) -> Vec<Vec<u8>> {
    let mut pushes = Vec::new();
    let mut push = Push::default();
    for (numbers, body) in messages {
        let origin = Origin::of(body);
        if origin.marks.is_empty() {
            let id = origin.conversation_id(user.as_str());
            push.add(id, message(user, *numbers, body, form), &mut pushes);
        } else if form == Form::Gob {
            // A mark tells of the messages before it.
            push.finish(&mut pushes);
            let (id, messages) = marks(user, *numbers, body);
            let messages = PullMsgs {
                messages,
                ..PullMsgs::default()
            };
            push.messages.notification_msgs = [(id, messages)].into();
            push.finish(&mut pushes);
        }
        // The JavaScript SDK takes no notice of what its own user has read.
    }
    push.finish(&mut pushes);
    pushes
}

/// A push under construction.
#[derive(Default)]
struct Push {
    messages: PushMessages,
    bytes: usize,
}

impl Push {
    /// Adds a message, if it goes on with the run of its conversation and there is room. Otherwise it begins another push.
    fn add(&mut self, id: String, message: MsgData, done: &mut Vec<Vec<u8>>) {
        let run = self.messages.msgs.get(&id);
        let before = run.and_then(|run| run.messages.last());
        let is_run = before.is_none_or(|before| before.seq + 1 == message.seq);
        let bytes = message.encoded_len() + frame_bytes(&id);
        if !is_run || self.bytes + bytes > TOGETHER_BYTES_MAX {
            self.finish(done);
        }
        self.bytes += bytes;
        let run = self.messages.msgs.entry(id).or_default();
        run.messages.push(message);
    }

    fn finish(&mut self, done: &mut Vec<Vec<u8>>) {
        let push = std::mem::take(self).messages;
        if push != PushMessages::default() {
            done.push(push.encode_to_vec());
        }
    }
}

/// The most bytes of a message in a push beside its own: its conversation, tags and lengths.
fn frame_bytes(id: &str) -> usize {
    id.len() + 24
}

/// The push of one message: the envelope's beginning, and the end that other receivers share.
pub(super) fn live(user: &UserId, live: &Live, sharing: Sharing, form: Form) -> (Bytes, Bytes) {
    let Live { numbers, message } = live;
    let end = message.encoding(sharing.name(), |body| {
        sharing.end(&shared(body).encode_to_vec())
    });
    let shared_bytes = sharing.shared_bytes(&end);
    let origin = message.origin();
    let id = origin.conversation_id(user.as_str());
    let address = OwnFields::new(user, *numbers, origin.send_time, form);
    let mut data = (0..).map(|padding| own(&id, &address, shared_bytes, padding));
    let data = data.find(|data| data.len().is_multiple_of(sharing.step()));
    let data = data.expect("two more bytes at a time make every remainder");
    let begin = sharing.begin(&unasked(number::PUSH, &data), shared_bytes);
    (begin, end)
}

/// The data of a push up to its shared bytes: tags and lengths around the message, and its own fields.
fn own(id: &str, address: &OwnFields, shared_bytes: usize, padding: usize) -> BytesMut {
    let own = address.encoded_len() + PADDING.len() * padding;
    let message = own + shared_bytes;
    let messages = field_bytes(message);
    let entry = field_bytes(id.len()) + field_bytes(messages);
    let mut data = BytesMut::with_capacity(frame_bytes(id) + own);
    for (tag, bytes) in [(FIRST_TAG, entry), (FIRST_TAG, id.len())] {
        put_field(&mut data, tag, bytes);
    }
    data.put_slice(id.as_bytes());
    for (tag, bytes) in [(VALUE_TAG, messages), (FIRST_TAG, message)] {
        put_field(&mut data, tag, bytes);
    }
    address
        .encode(&mut data)
        .expect("a BytesMut grows as needed");
    for _ in 0..padding {
        data.put_slice(&PADDING);
    }
    data
}

/// The entry of a conversation in `PushMessages.msgs`, with an empty value.
pub(super) fn entry_without_value(id: &str) -> Vec<u8> {
    let mut data = Vec::with_capacity(frame_bytes(id));
    put_field(&mut data, FIRST_TAG, field_bytes(id.len()) + field_bytes(0));
    put_field(&mut data, FIRST_TAG, id.len());
    data.put_slice(id.as_bytes());
    put_field(&mut data, VALUE_TAG, 0);
    data
}

fn put_field(data: &mut impl BufMut, tag: u8, bytes: usize) {
    data.put_u8(tag);
    encode_varint(bytes as u64, data);
}

/// The bytes of a field with so many bytes, its tag and length among them.
fn field_bytes(bytes: usize) -> usize {
    1 + encoded_len_varint(bytes as u64) + bytes
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        ids::{ConversationSeq, MessageId, Seq},
        message::{Message, ReadMark, StoredMessage},
        protocol::openim_v3::encoding::Encoding,
    };

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn numbers(seq: u64, conversation_seq: u64) -> Numbers {
        Numbers {
            seq: Seq(seq),
            conversation_seq: ConversationSeq(conversation_seq),
            ..Numbers::default()
        }
    }

    fn stored(sender: &str, text: &str) -> Bytes {
        StoredMessage {
            server_msg_id: MessageId::new(7).to_string(),
            send_id: sender.into(),
            group_id: "g".into(),
            session_type: 4,
            content_type: 101,
            content: serde_json::json!({ "text": text }).to_string().into(),
            send_time: 1_700_000_000_000,
            ..StoredMessage::default()
        }
        .to_bytes()
    }

    fn marks(id: &str, conversation_seq: u64) -> Bytes {
        let mark = ReadMark {
            conversation_id: id.into(),
            conversation_seq,
            ..ReadMark::default()
        };
        StoredMessage {
            marks: vec![mark],
            ..StoredMessage::default()
        }
        .to_bytes()
    }

    /// Each push as `conversation: seqs` of its conversations.
    fn pushed(messages: &[(Numbers, Bytes)], form: Form) -> Vec<String> {
        let pushes = pushes(&user("u1"), messages, form).into_iter();
        let told = pushes.map(|push| {
            let push = PushMessages::decode(&push[..]).unwrap();
            let all = push.msgs.iter().chain(&push.notification_msgs);
            let told = all.map(|(id, run)| {
                let seqs: Vec<_> = run.messages.iter().map(|one| one.seq.to_string()).collect();
                format!("{id}: {}", seqs.join(" "))
            });
            told.collect::<Vec<_>>().join(", ")
        });
        told.collect()
    }

    #[test]
    fn a_push_has_unbroken_runs_and_marks_come_alone() {
        let (a, b) = (stored("a", "t"), stored("b", "t"));
        let messages = [
            (numbers(1, 4), a.clone()),
            (numbers(2, 1), b.clone()),
            (numbers(3, 5), a.clone()),
            (numbers(4, 0), marks("sn_a_u1", 5)),
            (numbers(5, 6), a.clone()),
            // 7 was deleted.
            (numbers(7, 8), a),
            (numbers(8, 2), b),
        ];
        let go = pushed(&messages, Form::Gob);
        let expected = [
            "sn_a_u1: 4 5, sn_b_u1: 1",
            "n_u1_u1: 0",
            "sn_a_u1: 6",
            "sn_a_u1: 8, sn_b_u1: 2",
        ];
        assert_eq!(go, expected);
        let js = pushed(&messages, Form::Json);
        assert_eq!(js, ["sn_a_u1: 4 5 6, sn_b_u1: 1", "sn_a_u1: 8, sn_b_u1: 2"]);
        assert!(pushed(&messages[3..4], Form::Json).is_empty());
    }

    #[test]
    fn a_push_has_at_most_64_kib_or_one_message() {
        let large = stored("a", &"x".repeat(30_000));
        let larger = stored("a", &"\"".repeat(60_000));
        let mut messages: Vec<_> = (1..=5)
            .map(|seq| (numbers(seq, seq), large.clone()))
            .collect();
        messages.push((numbers(6, 6), larger));
        let pushes = pushes(&user("u1"), &messages, Form::Gob);
        let lengths: Vec<_> = pushes.iter().map(Vec::len).collect();
        assert_eq!(pushes.len(), 4, "{lengths:?}");
        assert!(
            lengths[..3]
                .iter()
                .all(|bytes| *bytes <= TOGETHER_BYTES_MAX)
        );
    }

    /// For every length of ids, in every form: the two parts are an envelope with the same push as one that is not shared.
    #[test]
    fn the_shared_push_of_each_receiver_is_its_whole_message() {
        let forms = [
            (Sharing::Gob, Form::Gob, false),
            (Sharing::GobGzip, Form::Gob, true),
            (Sharing::Json, Form::Json, false),
        ];
        for text in ["t".to_owned(), "long ".repeat(4_000)] {
            let body = stored("sender", &text);
            let message = Arc::new(Message::new(body.clone()));
            let mut ends = Vec::new();
            for (sharing, form, is_gzip) in forms {
                for length in 1..=64 {
                    let user = user(&"u".repeat(length));
                    for numbers in [numbers(3, 2), numbers(1 << 40, 1 << 40), numbers(0, 0)] {
                        let one = Live {
                            numbers,
                            message: Arc::clone(&message),
                        };
                        let (begin, end) = live(&user, &one, sharing, form);
                        ends.push((sharing.name(), end.as_ptr()));
                        let frame: Bytes = [begin, end].concat().into();
                        let encoding = Encoding { form, is_gzip };
                        let read = encoding.decode(frame).unwrap();
                        assert_eq!(read.number, 2001);
                        assert_eq!(&*read.operation_id, "push");
                        let whole = pushes(&user, &[(numbers, body.clone())], form);
                        assert_eq!(
                            PushMessages::decode(read.data),
                            PushMessages::decode(&whole[0][..])
                        );
                    }
                }
            }
            ends.dedup();
            assert_eq!(ends.len(), forms.len(), "each form is encoded once");
        }
    }
}
