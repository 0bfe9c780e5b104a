//! Fuzzing of the OpenIM codec: a client's messages in each encoding, and answers to what they ask.

use axum::http::{Request, header::UPGRADE};
use bytes::Bytes;

use towncrier::{
    ids::{ConversationSeq, Platform, Seq, UserId},
    message::{Bases, Conversation, Numbers, StoredMessage},
    protocol::{self, Codec},
    session::*,
};

use super::Input;

/// A Go core drops a connection whose frame is larger, and asks the same again.
const FRAME_BYTES_MAX: usize = 1 << 20;
/// The conversation that the answers have.
const CONVERSATION: &str = "sn_oa_u1";

/// Messages in gob.
pub fn openim_gob(data: &[u8]) {
    client("", data);
}

/// Messages in JSON.
pub fn openim_json(data: &[u8]) {
    client("&sdkType=js&isMsgResp=true", data);
}

/// Messages in gob with gzip.
pub fn openim_gzip(data: &[u8]) {
    client("&compression=gzip", data);
}

/// Reads messages from `data`, one after the other. For every input: a message is refused, or asks within the bounds, and gets one
/// answer that fits a frame.
fn client(query: &str, data: &[u8]) {
    let uri = format!("/?sendID=u1&token=t&platformID=5{query}");
    let request = Request::builder().uri(uri).header(UPGRADE, "websocket");
    let request = request.body(()).expect("a request");
    let mut codec = protocol::of(&request, true).expect("a client of OpenIM");
    assert!(codec.greet().is_some());
    let mut input = Input(data);
    // The first message is all of the input: requests with longer data than a counted one.
    if said(&mut *codec, Bytes::copy_from_slice(data), false).is_none() {
        return;
    }
    while !input.is_empty() {
        let what = input.byte();
        let message = Bytes::copy_from_slice(input.counted());
        if what & 3 == 3 {
            codec.pong();
            codec.answers();
        } else if said(&mut *codec, message, what & 3 == 2).is_none() {
            return;
        }
    }
}

/// Takes one message. `None`: it was refused.
fn said(codec: &mut dyn Codec, message: Bytes, is_text: bool) -> Option<()> {
    let said = codec.decode(message, is_text);
    let owed = codec.answers();
    let said = said.ok()?;
    let user = UserId::new("u1").expect("an id");
    let mut answers = usize::from(owed.is_some());
    let answer = match said {
        FromClient::Ask(question) => Some(ToClient::Answer(answer(question))),
        FromClient::Watch { users, .. } => {
            let seen = users.into_iter().map(|user| (user, vec![Platform::Web]));
            Some(ToClient::Presence(seen.collect()))
        }
        FromClient::Nothing | FromClient::LogOut | FromClient::Background(_) => None,
        other => panic!("{other:?}"),
    };
    let is_asked = answer.is_some();
    if let Some(answer) = answer {
        codec.encode(&user, answer, &mut |frame| {
            assert!(frame.len() < FRAME_BYTES_MAX);
            answers += 1;
        });
    }
    // A text that is no ping gets no answer.
    assert!(answers == 1 || (is_text && !is_asked && answers == 0));
    Some(())
}

fn conversation() -> Conversation {
    Conversation {
        id: CONVERSATION.into(),
        head: ConversationSeq(9),
        first: ConversationSeq(3),
        mark: ConversationSeq::ZERO,
        unread: 2,
        last_time_ms: 1,
        last_seq: Seq(9),
        bases: Bases::default(),
        settings: Default::default(),
    }
}

fn answer(question: Question) -> Answer {
    match question {
        Question::Reached => Answer::Reached(vec![Standing {
            reached: conversation().wire_of(ConversationSeq(5)),
            conversation: conversation(),
        }]),
        Question::Overview(named) => {
            assert!(named.len() <= RANGES_MAX);
            Answer::Overview(vec![conversation()])
        }
        Question::Ranges { ranges, bytes, .. } => {
            assert!(ranges.len() <= RANGES_MAX && bytes <= RANGES_BYTES_MAX);
            let found = ranges.into_iter().map(|range| {
                let is_known = range.conversation_id == CONVERSATION;
                let seqs = range.from.0.clamp(3, 10)..=range.to.0.min(9);
                let messages = seqs.filter(|_| is_known).map(message);
                RangeAnswer {
                    conversation: is_known.then(conversation),
                    messages: messages.collect(),
                }
            });
            Answer::Ranges(found.collect())
        }
    }
}

fn message(seq: u64) -> (Numbers, Bytes) {
    let numbers = Numbers {
        seq: Seq(seq),
        conversation_seq: ConversationSeq(seq),
        ..Numbers::default()
    };
    let stored = StoredMessage {
        send_id: "oa".into(),
        session_type: 4,
        content_type: 1400,
        content: Bytes::from_static(b"{}"),
        ..StoredMessage::default()
    };
    (numbers, stored.to_bytes())
}
