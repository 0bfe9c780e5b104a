//! The rules of the JavaScript SDK, which has no store. Pure.
//!
//! A page asks 1006 at each connect. The maxima of its first connect are where it begins; after a later one it pulls by 1002 what is
//! above the highest message that it has been told of. It tells a push as it comes. Its user looks at the history by 1005.

use std::collections::{BTreeMap, VecDeque};

use super::{
    messages::{Bundle, Heads, PhoneMessage, Range},
    rules::{Ask, Broken, Told, histories, history},
};

/// The number of messages that a page wants of a range. It takes all that come.
const NUM: i64 = 10;
/// After a pull of so many messages, a page asks once more, for nothing.
const MANY: usize = 100;

/// The memory of a page.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// The highest seq, by conversation.
    known: BTreeMap<String, i64>,
    /// True once it has been told where it begins.
    has_begun: bool,
    /// The request that waits for its answer, or is to be sent; then the other.
    asks: VecDeque<Ask>,
}

impl Page {
    /// A connection began.
    pub(super) fn connected(&mut self) {
        self.asks = [Ask::Heads].into();
    }

    /// The connection ended.
    pub(super) fn lost(&mut self) {
        self.asks.clear();
    }

    /// The request that waits for its answer, or is to be sent.
    pub(super) fn ask(&self) -> Option<&Ask> {
        self.asks.front()
    }

    /// The answer to 1006 has come.
    pub(super) fn heads(&mut self, answer: Heads) -> Vec<Told> {
        self.asks.pop_front();
        let histories: Vec<_> = histories(&answer).collect();
        let heads = answer.seqs.into_iter();
        let heads: BTreeMap<_, _> = heads.map(|(id, head)| (id, head.max_seq)).collect();
        if !self.has_begun {
            self.has_begun = true;
            self.known.clone_from(&heads);
            self.asks.extend(histories);
            return vec![Told::Begin(heads)];
        }
        let ranges = heads.into_iter().map(|(id, max)| Range {
            begin: self.known.get(&id).copied().unwrap_or_default() + 1,
            conversation_id: id,
            end: max,
            num: NUM,
        });
        let ranges: Vec<_> = ranges.filter(|range| range.begin <= range.end).collect();
        if !ranges.is_empty() {
            self.asks.push_back(Ask::Pull(ranges));
        }
        self.asks.extend(histories);
        Vec::new()
    }

    /// The answer to 1005 has come.
    pub(super) fn history(&mut self, answer: Bundle) -> Result<Vec<Told>, Broken> {
        // A page trips over an answer without its conversation.
        if answer.msgs.is_empty() {
            return Err(Broken("history without an entry".into()));
        }
        history(self.asks.pop_front(), answer)
    }

    /// The answer to 1002 has come.
    pub(super) fn pulled(&mut self, data: &[u8], answer: Bundle) -> Result<Vec<Told>, Broken> {
        self.asks.pop_front();
        // A page trips over an answer of no bytes.
        if data.is_empty() {
            return Err(Broken("an answer of no bytes".into()));
        }
        let told = self.tell(answer);
        if told.len() >= MANY {
            self.asks.push_front(Ask::Pull(Vec::new()));
        }
        Ok(told)
    }

    /// Tells messages as they come.
    pub(super) fn tell(&mut self, bundle: Bundle) -> Vec<Told> {
        let runs = bundle.msgs.into_iter();
        let messages = runs.flat_map(|(id, run)| {
            let messages = run.messages.into_iter();
            messages.map(move |message| (id.clone(), message))
        });
        let mut told = Vec::new();
        for (id, message) in messages {
            self.know(&id, &message);
            told.push(Told::Message(id, message));
        }
        told
    }

    fn know(&mut self, id: &str, message: &PhoneMessage) {
        let known = self.known.entry(id.to_owned()).or_default();
        *known = message.seq.max(*known);
    }
}
