//! The session's answers, as the data of OpenIM's answers. Pure.

use std::collections::BTreeMap;

use prost::Message as _;

use super::{
    encoding::Form,
    message::message,
    proto::{
        GetConversationsHasReadAndMaxSeqResp, GetLastMessageResp, GetMaxSeqResp, MsgData, PullMsgs,
        PushMessages, Seqs, SubUserOnlineStatusElem, SubUserOnlineStatusTips,
    },
    push::entry_without_value,
    requests::number,
};
use crate::{
    ids::{Platform, UserId, WireSeq},
    message::Conversation,
    session::{Answer, RangeAnswer, Standing},
};

/// The most bytes of the messages of one answer. A Go core drops a connection whose frame has more than 1 MiB, and asks the same
/// again. Wrapped content may have twice the bytes that are stored.
const MESSAGES_BYTES_MAX: usize = 900 * 1024;
/// A field that the JavaScript SDK skips. It trips over an answer without a byte.
const UNKNOWN_FIELD: [u8; 2] = [0x78, 0];

/// The ranges that a request asked for: conversation and first seq.
pub(super) type AskedRanges = Vec<(String, WireSeq)>;

/// The data of the answer to a request with this number, which asked for these ranges.
pub(super) fn data(
    asked: i32,
    ranges: AskedRanges,
    answer: Answer,
    user: &UserId,
    form: Form,
) -> Vec<u8> {
    match answer {
        Answer::Reached(all) => max_seqs(&all).encode_to_vec(),
        Answer::Overview(all) => read_and_max_seqs(&all).encode_to_vec(),
        Answer::Ranges(found) if asked == number::LAST_MESSAGES => {
            last_messages(&found, user, form).encode_to_vec()
        }
        Answer::Ranges(found) => {
            let is_history = asked == number::SEQ_MESSAGES;
            let mut answer = pulled(is_history, ranges, &found, user, form);
            cut(&mut answer.msgs, MESSAGES_BYTES_MAX);
            match form {
                Form::Gob => answer.encode_to_vec(),
                Form::Json => encode_whole(answer),
            }
        }
    }
}

/// The presence of these users.
pub(super) fn presence(users: &[(UserId, Vec<Platform>)]) -> Vec<u8> {
    let subscribers = users
        .iter()
        .map(|(user, platforms)| SubUserOnlineStatusElem {
            user_id: user.as_str().to_owned(),
            platforms: platforms
                .iter()
                .map(|platform| platform.number() as i32)
                .collect(),
        });
    let subscribers = subscribers.collect();
    SubUserOnlineStatusTips { subscribers }.encode_to_vec()
}

fn max_seqs(all: &[Standing]) -> GetMaxSeqResp {
    let mut answer = GetMaxSeqResp::default();
    for Standing {
        conversation,
        reached,
    } in all
    {
        let id = &conversation.id;
        let reached = reached.0 as i64;
        if reached > 0 {
            answer.max_seqs.insert(id.to_string(), reached);
        }
        if let Some(first) = conversation.first_after_others() {
            answer.min_seqs.insert(id.to_string(), first.0 as i64);
        }
    }
    answer
}

/// The unread messages are the ones that the gateway counts: a phone and the inbox page show the same number.
fn read_and_max_seqs(all: &[Conversation]) -> GetConversationsHasReadAndMaxSeqResp {
    let seqs = all.iter().map(|conversation| {
        let (head, read) = conversation.head_and_read();
        let seqs = Seqs {
            max_seq: head.0 as i64,
            has_read_seq: read.0 as i64,
            max_seq_time: conversation.last_time_ms as i64,
        };
        (conversation.id.to_string(), seqs)
    });
    GetConversationsHasReadAndMaxSeqResp {
        seqs: seqs.collect(),
    }
}

fn last_messages(found: &[RangeAnswer], user: &UserId, form: Form) -> GetLastMessageResp {
    let newest = found.iter().filter_map(|range| {
        let id = range.conversation.as_ref()?.id.to_string();
        let (numbers, body) = range.messages.last()?;
        Some((id, message(user, *numbers, body, form)))
    });
    let mut bytes = 0;
    let fits = |(id, message): &(String, MsgData)| {
        bytes += wire_bytes(message) + id.len();
        bytes <= MESSAGES_BYTES_MAX
    };
    GetLastMessageResp {
        msgs: newest.take_while(fits).collect(),
    }
}

fn pulled(
    is_history: bool,
    ranges: AskedRanges,
    found: &[RangeAnswer],
    user: &UserId,
    form: Form,
) -> PushMessages {
    let mut msgs: BTreeMap<String, PullMsgs> = BTreeMap::new();
    for ((id, from), range) in ranges.into_iter().zip(found) {
        let is_empty = range.messages.is_empty();
        match form {
            // A Go core that is told of a conversation without messages walks through all of the hole, page by page. One
            // that is not told takes the page as it is.
            Form::Gob if is_empty && (is_history || range.conversation.is_none()) => continue,
            // The JavaScript SDK needs an entry of each conversation.
            Form::Gob | Form::Json => {}
        }
        let pulled = msgs.entry(id).or_default();
        if let Some(conversation) = &range.conversation {
            let first = conversation.wire_of(conversation.first);
            if from < first {
                pulled.is_end = true;
                pulled.end_seq = first.0 as i64;
            }
        }
        let messages = range.messages.iter();
        let messages = messages.map(|(numbers, body)| message(user, *numbers, body, form));
        pulled.messages.extend(messages);
    }
    PushMessages {
        msgs,
        ..PushMessages::default()
    }
}

/// The answer for the JavaScript SDK, which trips over a conversation without a value, and over an answer without a byte. A value that
/// says nothing is left out by the usual encoding.
fn encode_whole(mut answer: PushMessages) -> Vec<u8> {
    let nothing = PullMsgs::default();
    let (empty, msgs) = std::mem::take(&mut answer.msgs)
        .into_iter()
        .partition(|(_, run)| *run == nothing);
    answer.msgs = msgs;
    let mut data = answer.encode_to_vec();
    let empty: BTreeMap<String, PullMsgs> = empty;
    for id in empty.keys() {
        data.extend(entry_without_value(id));
    }
    if data.is_empty() {
        data.extend(UNKNOWN_FIELD);
    }
    data
}

/// Takes out the oldest messages of the conversation that has most, until all of them have at most `bytes_max`. The last message of
/// a conversation stays.
fn cut(msgs: &mut BTreeMap<String, PullMsgs>, bytes_max: usize) {
    let mut runs: Vec<_> = msgs
        .values_mut()
        .map(|run| {
            let sizes: Vec<_> = run.messages.iter().map(wire_bytes).collect();
            (sizes.iter().sum::<usize>(), 0, sizes, run)
        })
        .collect();
    let mut bytes: usize = runs.iter().map(|(bytes, ..)| bytes).sum();
    while bytes > bytes_max {
        let longer = runs
            .iter_mut()
            .filter(|(_, cut, sizes, _)| cut + 1 < sizes.len());
        let Some((run_bytes, cut, sizes, _)) = longer.max_by_key(|(bytes, ..)| *bytes) else {
            break;
        };
        let size = sizes[*cut];
        *cut += 1;
        *run_bytes -= size;
        bytes -= size;
    }
    for (_, cut, _, run) in runs {
        run.messages.drain(..cut);
    }
}

/// The bytes of a message in an answer, its tag and length among them.
fn wire_bytes(message: &MsgData) -> usize {
    message.encoded_len() + 8
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        ids::{ConversationSeq, Seq},
        message::{Bases, Numbers, StoredMessage},
        session::Messages,
    };

    fn user() -> UserId {
        UserId::new("u1").unwrap()
    }

    fn conversation(id: &str, first: u64, head: u64, unread: u64) -> Conversation {
        Conversation {
            id: id.into(),
            head: ConversationSeq(head),
            first: ConversationSeq(first),
            mark: ConversationSeq::ZERO,
            unread,
            last_time_ms: 77,
            last_seq: Seq(9),
            bases: Bases::default(),
            settings: Default::default(),
        }
    }

    fn stored(text_bytes: usize) -> Bytes {
        StoredMessage {
            content_type: 110,
            content: serde_json::json!({ "data": "x".repeat(text_bytes) })
                .to_string()
                .into(),
            ..StoredMessage::default()
        }
        .to_bytes()
    }

    fn messages(seqs: impl IntoIterator<Item = u64>, text_bytes: usize) -> Messages {
        let numbers = seqs.into_iter().map(|seq| Numbers {
            seq: Seq(seq),
            conversation_seq: ConversationSeq(seq),
            ..Numbers::default()
        });
        numbers
            .map(|numbers| (numbers, stored(text_bytes)))
            .collect()
    }

    fn found(conversation: Option<Conversation>, messages: Messages) -> RangeAnswer {
        RangeAnswer {
            conversation,
            messages,
        }
    }

    /// The answer to a request for these conversations, each from a seq on.
    fn pull(asked: i32, form: Form, ranges: &[(&str, u64)], found: Vec<RangeAnswer>) -> Vec<u8> {
        let ranges = ranges
            .iter()
            .map(|(id, from)| ((*id).to_owned(), WireSeq(*from)));
        data(
            asked,
            ranges.collect(),
            Answer::Ranges(found),
            &user(),
            form,
        )
    }

    fn seqs(run: &PullMsgs) -> Vec<i64> {
        run.messages.iter().map(|message| message.seq).collect()
    }

    #[test]
    fn how_far_a_session_has_come_leaves_out_what_is_not_begun() {
        let standing = |id, first, reached| Standing {
            conversation: conversation(id, first, 9, 0),
            reached: WireSeq(reached),
        };
        let all = vec![
            standing("a", 1, 5),
            standing("b", 4, 3),
            standing("c", 1, 0),
        ];
        let answer = data(1001, Vec::new(), Answer::Reached(all), &user(), Form::Gob);
        let answer = GetMaxSeqResp::decode(&answer[..]).unwrap();
        let expected = [("a".to_owned(), 5), ("b".to_owned(), 3)];
        assert_eq!(answer.max_seqs, BTreeMap::from(expected));
        assert_eq!(answer.min_seqs, BTreeMap::from([("b".to_owned(), 4)]));
    }

    #[test]
    fn what_is_read_follows_from_what_is_unread() {
        let all = vec![conversation("a", 1, 9, 2), conversation("b", 1, 3, 4)];
        let answer = data(1006, Vec::new(), Answer::Overview(all), &user(), Form::Gob);
        let answer = GetConversationsHasReadAndMaxSeqResp::decode(&answer[..]).unwrap();
        let seqs = |max_seq, has_read_seq| Seqs {
            max_seq,
            has_read_seq,
            max_seq_time: 77,
        };
        let expected = [("a".to_owned(), seqs(9, 7)), ("b".to_owned(), seqs(3, 0))];
        assert_eq!(answer.seqs, BTreeMap::from(expected));
    }

    #[test]
    fn a_pull_has_the_messages_of_each_conversation_and_says_where_it_ends() {
        let ranges = [("a", 7), ("a", 2), ("b", 1)];
        let a = || Some(conversation("a", 3, 9, 0));
        let b = || Some(conversation("b", 1, 9, 0));
        let found = vec![
            found(a(), messages(7..=8, 1)),
            found(a(), messages(3..=3, 1)),
            found(b(), messages(1..=2, 1)),
        ];
        let answer = pull(1005, Form::Gob, &ranges, found);
        let answer = PushMessages::decode(&answer[..]).unwrap();
        assert_eq!(seqs(&answer.msgs["a"]), [7, 8, 3]);
        assert_eq!(
            (answer.msgs["a"].is_end, answer.msgs["a"].end_seq),
            (true, 3)
        );
        assert_eq!(
            (answer.msgs["b"].is_end, answer.msgs["b"].end_seq),
            (false, 0)
        );
    }

    #[test]
    fn a_go_core_is_not_told_of_a_conversation_without_messages_in_its_history() {
        let ranges = [("a", 1), ("none", 1)];
        let nothing = || {
            let a = found(Some(conversation("a", 6, 9, 0)), Messages::new());
            vec![a, found(None, Messages::new())]
        };
        assert!(pull(1005, Form::Gob, &ranges, nothing()).is_empty());
        let pulled = |asked, form| {
            let answer = pull(asked, form, &ranges, nothing());
            let answer = PushMessages::decode(&answer[..]).unwrap();
            answer.msgs.into_iter().collect::<Vec<_>>()
        };
        let end = PullMsgs {
            is_end: true,
            end_seq: 6,
            ..PullMsgs::default()
        };
        assert_eq!(pulled(1002, Form::Gob), [("a".into(), end.clone())]);
        let all = [("a".into(), end), ("none".into(), PullMsgs::default())];
        assert_eq!(pulled(1005, Form::Json), all);
        assert_eq!(pulled(1002, Form::Json), all);
        // The value is there, and is empty.
        let data = pull(
            1005,
            Form::Json,
            &[("none", 1)],
            vec![found(None, Vec::new())],
        );
        assert_eq!(data, b"\x0a\x08\x0a\x04none\x12\x00");
    }

    #[test]
    fn the_javascript_sdk_gets_no_answer_without_a_byte() {
        assert_eq!(pull(1002, Form::Json, &[], Vec::new()), [0x78, 0]);
        assert!(pull(1002, Form::Gob, &[], Vec::new()).is_empty());
    }

    #[test]
    fn an_answer_fits_a_frame_of_a_go_core_and_keeps_the_newest() {
        let ranges = [("a", 1), ("b", 1), ("c", 1)];
        let known = |id| Some(conversation(id, 1, 99, 0));
        let found = vec![
            found(known("a"), messages(1..=30, 60_000)),
            found(known("b"), messages(1..=3, 100)),
            found(known("c"), messages(1..=30, 20_000)),
        ];
        let answer = pull(1002, Form::Gob, &ranges, found);
        assert!(
            (850 * 1024..1 << 20).contains(&answer.len()),
            "{}",
            answer.len()
        );
        let answer = PushMessages::decode(&answer[..]).unwrap();
        assert_eq!(seqs(&answer.msgs["b"]), [1, 2, 3]);
        for id in ["a", "c"] {
            let seqs = seqs(&answer.msgs[id]);
            assert!(seqs.len() < 30, "{seqs:?}");
            let first = 31 - seqs.len() as i64;
            assert_eq!(seqs, (first..=30).collect::<Vec<_>>());
        }
    }

    #[test]
    fn only_the_newest_message_is_the_last_one() {
        let found = vec![
            found(Some(conversation("a", 1, 9, 0)), messages(1..=9, 1)),
            found(Some(conversation("b", 1, 9, 0)), Messages::new()),
            found(None, Messages::new()),
        ];
        let answer = pull(1007, Form::Gob, &[("a", 1), ("b", 1), ("c", 1)], found);
        let answer = GetLastMessageResp::decode(&answer[..]).unwrap();
        let last: Vec<_> = answer
            .msgs
            .iter()
            .map(|(id, one)| (&**id, one.seq))
            .collect();
        assert_eq!(last, [("a", 9)]);
    }
}
