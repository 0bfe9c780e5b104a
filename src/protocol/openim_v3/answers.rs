//! The session's answers, as the data of OpenIM's answers. Pure.

use std::collections::HashMap;

use prost::Message as _;

use super::{
    envelope::Form,
    message::message,
    proto::{
        GetConversationsHasReadAndMaxSeqResp, GetLastMessageResp, GetMaxSeqResp, PullMsgs,
        PushMessages, Seqs,
    },
    requests::number,
};
use crate::{
    ids::{UserId, WireSeq},
    message::Conversation,
    session::{Answer, RangeAnswer, Standing},
};

/// A field that the JavaScript SDK skips. It trips over an answer without a byte.
const UNKNOWN_FIELD: [u8; 2] = [0x78, 0];

/// The data of the answer to a request with this number. `lowest` are the lowest seqs that it asked for, by conversation.
pub(super) fn data(
    asked: i32,
    lowest: &HashMap<String, WireSeq>,
    answer: Answer,
    user: &UserId,
    form: Form,
) -> Vec<u8> {
    match answer {
        Answer::Reached(all) => max_seqs(&all).encode_to_vec(),
        Answer::Overview(all) => read_and_max_seqs(&all).encode_to_vec(),
        Answer::Ranges(ranges) if asked == number::LAST_MESSAGES => {
            last_messages(&ranges, user, form).encode_to_vec()
        }
        Answer::Ranges(ranges) => {
            let answer = pulled(asked, lowest, &ranges, user, form).encode_to_vec();
            if answer.is_empty() && form == Form::Json {
                UNKNOWN_FIELD.to_vec()
            } else {
                answer
            }
        }
    }
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
        if conversation.first.0 > 1 {
            let first = conversation.wire_of(conversation.first).0 as i64;
            answer.min_seqs.insert(id.to_string(), first);
        }
    }
    answer
}

fn read_and_max_seqs(all: &[Conversation]) -> GetConversationsHasReadAndMaxSeqResp {
    let seqs = all.iter().map(|conversation| {
        let max = conversation.wire_of(conversation.head).0 as i64;
        let seqs = Seqs {
            max_seq: max,
            has_read_seq: (max - conversation.unread as i64).max(0),
            max_seq_time: conversation.last_time_ms as i64,
        };
        (conversation.id.to_string(), seqs)
    });
    GetConversationsHasReadAndMaxSeqResp {
        seqs: seqs.collect(),
    }
}

fn last_messages(ranges: &[RangeAnswer], user: &UserId, form: Form) -> GetLastMessageResp {
    let newest = ranges.iter().filter_map(|range| {
        let id = range.conversation.as_ref()?.id.to_string();
        let (numbers, body) = range.messages.last()?;
        Some((id, message(user, *numbers, body, form)))
    });
    GetLastMessageResp {
        msgs: newest.collect(),
    }
}

fn pulled(
    asked: i32,
    lowest: &HashMap<String, WireSeq>,
    ranges: &[RangeAnswer],
    user: &UserId,
    form: Form,
) -> PushMessages {
    let mut msgs: HashMap<String, PullMsgs> = HashMap::new();
    for range in ranges {
        let Some(conversation) = &range.conversation else {
            continue;
        };
        // A Go core that is told of a conversation without messages walks through the hole; without it, the page is whole.
        let is_history_of_core = asked == number::SEQ_MESSAGES && form == Form::Gob;
        if range.messages.is_empty() && is_history_of_core {
            continue;
        }
        let id = conversation.id.to_string();
        let first = conversation.wire_of(conversation.first);
        let is_end = lowest.get(&id).is_some_and(|lowest| *lowest < first);
        let pulled = msgs.entry(id).or_default();
        pulled.is_end = is_end;
        pulled.end_seq = if is_end { first.0 as i64 } else { 0 };
        let messages = range.messages.iter();
        pulled
            .messages
            .extend(messages.map(|(numbers, body)| message(user, *numbers, body, form)));
    }
    PushMessages {
        msgs,
        notification_msgs: HashMap::new(),
    }
}
