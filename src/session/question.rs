//! A question of the client that has no answer yet. An answer to a `Fetch` or a list of conversations is at most
//! [`TOGETHER_BYTES_MAX`], or a single message. The answers of `asked.rs` have bounds of their own.

use bytes::Bytes;

use super::{
    Fetch, ListRequest, Messages, Question, ReadOrder, ToClient,
    asked::{RANGES_BYTES_MAX, RANGES_MAX},
    hold::AskKind,
};
use crate::{
    ids::Seq,
    message::{ADDRESS_BYTES_MAX, Conversation, Entry, TOGETHER_BYTES_MAX},
};

/// The most messages that a `Fetch` returns: `docs/protocol.md#history`.
pub(super) const FETCH_MAX: u32 = 500;
/// The most conversations of one answer: `docs/protocol.md#read-state`.
const LIST_MAX: u32 = 500;
/// The most bytes of a conversation in an answer of any protocol, besides its id: six numbers, tags and lengths.
const CONVERSATION_BYTES_MAX: usize = 80;

/// A question that is not answered yet. The session has one at a time.
#[derive(Debug)]
pub(super) enum OpenQuestion {
    /// A `Fetch`.
    History(History),
    /// A list of conversations.
    Conversations(ListRequest),
    /// A [`Question`].
    Asked {
        /// The question, until it is put.
        question: Option<Question>,
        /// Its part in a wait of pushes.
        kind: AskKind,
    },
}

/// A `Fetch`, with the messages that were found so far.
#[derive(Debug)]
pub(super) struct History {
    /// Its `after` advances with the reads.
    fetch: Fetch,
    found: Messages,
    /// The most bytes of the found messages in an answer.
    bytes: usize,
    /// The number of entries to read next.
    entries: u32,
}

impl History {
    pub(super) fn new(fetch: Fetch) -> Self {
        let limit = fetch.limit.clamp(1, FETCH_MAX);
        Self {
            fetch: Fetch { limit, ..fetch },
            found: Messages::new(),
            bytes: 0,
            entries: limit,
        }
    }

    /// The next read, in an inbox with this head.
    pub(super) fn order(&self, head: Seq) -> ReadOrder {
        ReadOrder {
            after: self.fetch.after.min(head),
            messages: self.entries as usize,
        }
    }

    /// Takes the entries of a read; none, if there is nothing to read. Returns the answer. `None`: read on, because entries
    /// without a message do not count.
    pub(super) fn take(&mut self, entries: Vec<Entry>, head: Seq) -> Option<ToClient> {
        let reached = entries.last().map_or(head, |last| last.numbers.seq);
        let mut is_end = reached >= head;
        let mut is_full = false;
        for entry in entries {
            let Some(body) = entry.content.into_message() else {
                continue;
            };
            self.bytes += wire_bytes(&body);
            let is_too_much = self.bytes > TOGETHER_BYTES_MAX && !self.found.is_empty();
            if is_too_much || self.is_enough() {
                (is_end, is_full) = (false, true);
                break;
            }
            self.found.push((entry.numbers, body));
        }
        if !is_end && !is_full && !self.is_enough() {
            self.fetch.after = reached;
            // The entries so far had few messages, and so may the next ones.
            self.entries = FETCH_MAX;
            return None;
        }
        Some(ToClient::Fetched {
            request_id: self.fetch.request_id,
            messages: std::mem::take(&mut self.found),
            is_end,
        })
    }

    fn is_enough(&self) -> bool {
        self.found.len() >= self.fetch.limit as usize
    }
}

impl OpenQuestion {
    /// The question within its bounds.
    pub(super) fn asked(mut question: Question) -> Self {
        match &mut question {
            Question::Reached => {}
            Question::Overview(named) => named.truncate(RANGES_MAX),
            Question::Ranges { ranges, bytes, .. } => {
                ranges.truncate(RANGES_MAX);
                *bytes = (*bytes).min(RANGES_BYTES_MAX);
            }
        }
        Self::Asked {
            kind: AskKind::of(&question),
            question: Some(question),
        }
    }
}

impl ListRequest {
    /// The request within its bound.
    pub(super) fn bounded(self) -> Self {
        Self {
            limit: self.limit.clamp(1, LIST_MAX),
            ..self
        }
    }

    /// The answer: as many of the conversations as fit.
    pub(super) fn answer(self, mut conversations: Vec<Conversation>, is_end: bool) -> ToClient {
        let mut bytes = 0;
        let fits = |conversation: &&Conversation| {
            bytes += conversation.id.len() + CONVERSATION_BYTES_MAX;
            bytes <= TOGETHER_BYTES_MAX
        };
        let fitting = conversations.iter().take_while(fits).count();
        let is_end = is_end && fitting == conversations.len();
        conversations.truncate(fitting);
        ToClient::Conversations {
            request_id: self.request_id,
            conversations,
            is_end,
        }
    }
}

/// The most bytes that a message takes in an answer.
fn wire_bytes(body: &Bytes) -> usize {
    body.len() + ADDRESS_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ids::{ConversationSeq, WireSeq},
        message::{Bases, CONVERSATION_ID_BYTES_MAX, Content, Numbers},
        session::Range,
    };

    /// An inbox, as letters: `m` a message, `L` a large one, `r` read marks, `-` a deleted message.
    fn read(inbox: &str, order: ReadOrder) -> Vec<Entry> {
        let entries = (1..).map(Seq).zip(inbox.chars()).map(|(seq, kind)| Entry {
            numbers: Numbers {
                seq,
                conversation_seq: ConversationSeq::ZERO,
                ..Numbers::default()
            },
            content: match kind {
                'm' => Content::Message(Bytes::from_static(b"m")),
                'L' => Content::Message(vec![b'L'; 40_000].into()),
                'r' => Content::Marks(Bytes::from_static(b"r")),
                _ => Content::Removed,
            },
        });
        let after = order.after.0 as usize;
        entries.skip(after).take(order.messages).collect()
    }

    /// The seqs and the end of the answer to a `Fetch`, and the number of reads.
    fn fetched(inbox: &str, after: u64, limit: u32) -> (Vec<u64>, bool, usize) {
        let head = Seq(inbox.len() as u64);
        let mut history = History::new(Fetch {
            request_id: 7,
            after: Seq(after),
            limit,
        });
        for reads in 1.. {
            let entries = read(inbox, history.order(head));
            let Some(ToClient::Fetched {
                request_id,
                messages,
                is_end,
            }) = history.take(entries, head)
            else {
                continue;
            };
            assert_eq!(request_id, 7);
            let seqs = messages.iter().map(|(numbers, _)| numbers.seq.0);
            return (seqs.collect(), is_end, reads);
        }
        unreachable!("the inbox ends")
    }

    #[test]
    fn history_counts_messages_and_leaves_out_marks_and_deletions() {
        assert_eq!(fetched("mrm-mm", 0, 3), (vec![1, 3, 5], false, 2));
        assert_eq!(fetched("mrm-mm", 0, 4), (vec![1, 3, 5, 6], true, 2));
        assert_eq!(fetched("rrr", 0, 1), (vec![], true, 2));
        assert_eq!(fetched("mmr", 0, 2), (vec![1, 2], false, 1));
        assert_eq!(fetched("mmr", 2, 2), (vec![], true, 1));
        assert_eq!(fetched("mm", 9, 2), (vec![], true, 1));
    }

    #[test]
    fn history_ends_before_64_kib_however_many_reads_it_takes() {
        assert_eq!(fetched("LrL", 0, 2), (vec![1], false, 2));
        assert_eq!(fetched("LL", 0, 5), (vec![1], false, 1));
        assert_eq!(fetched("LL", 1, 5), (vec![2], true, 1));
        let many = "m".repeat(600);
        let (seqs, is_end, _) = fetched(&many, 0, 1000);
        assert!(
            !is_end && seqs.len() * wire_bytes(&Bytes::from_static(b"m")) <= TOGETHER_BYTES_MAX
        );
    }

    /// A user may have a thousand marks between two messages.
    #[test]
    fn entries_without_messages_cost_few_reads() {
        let inbox = ["m", &"r".repeat(1000), "m"].concat();
        assert_eq!(fetched(&inbox, 0, 2), (vec![1, 1002], true, 3));
    }

    fn conversation(id: String) -> Conversation {
        Conversation {
            id: id.into(),
            head: ConversationSeq(u64::MAX),
            first: ConversationSeq(1),
            mark: ConversationSeq::ZERO,
            unread: 0,
            last_time_ms: 0,
            last_seq: Seq(1),
            bases: Bases::default(),
            settings: Default::default(),
        }
    }

    #[test]
    fn a_question_is_cut_to_its_bounds() {
        let range = Range {
            conversation_id: "a".into(),
            from: WireSeq::ZERO,
            to: WireSeq::ZERO,
        };
        let question = Question::Ranges {
            ranges: vec![range; RANGES_MAX + 1],
            bytes: usize::MAX,
            is_pull: true,
        };
        let OpenQuestion::Asked {
            question: Some(Question::Ranges { ranges, bytes, .. }),
            ..
        } = OpenQuestion::asked(question)
        else {
            panic!("another question")
        };
        assert_eq!((ranges.len(), bytes), (RANGES_MAX, RANGES_BYTES_MAX));
        let named = Question::Overview(vec![String::new(); RANGES_MAX + 1]);
        let OpenQuestion::Asked {
            question: Some(Question::Overview(named)),
            ..
        } = OpenQuestion::asked(named)
        else {
            panic!("another question")
        };
        assert_eq!(named.len(), RANGES_MAX);
    }

    #[test]
    fn a_list_is_cut_before_64_kib_and_then_is_not_the_end() {
        let request = ListRequest {
            request_id: 7,
            before: Seq(9),
            limit: 0,
        };
        assert_eq!(request.bounded().limit, 1);
        let many = ListRequest {
            limit: 1000,
            ..request
        };
        assert_eq!(many.bounded().limit, LIST_MAX);
        let listed = |count: usize, id_bytes: usize| {
            let list = vec![conversation("z".repeat(id_bytes)); count];
            match request.answer(list, true) {
                ToClient::Conversations {
                    conversations,
                    is_end,
                    ..
                } => (conversations.len(), is_end),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(listed(500, 20), (500, true));
        let fitting = TOGETHER_BYTES_MAX / (CONVERSATION_ID_BYTES_MAX + CONVERSATION_BYTES_MAX);
        assert_eq!(listed(500, CONVERSATION_ID_BYTES_MAX), (fitting, false));
        assert_eq!(listed(0, 0), (0, true));
    }
}
