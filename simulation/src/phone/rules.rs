//! The rules by which the Go core takes messages, and asks for those that it misses. Pure.
//!
//! A Go core has one number for each conversation, the highest seq that it has taken. It asks 1001 after a connect, pulls what
//! it misses by 1002, then asks 1006; if the connect before was less than 5 s ago, it asks nothing. It takes a push that goes
//! on with what it has, drops one that it has, and pulls a hole. A pull moves the number to the end that was asked for,
//! whatever the answer holds. Pushes wait while it asks. After 1006 its user looks at the history of each conversation, by
//! 1005, and at the newest messages, by 1007.

use std::collections::{BTreeMap, VecDeque};

use super::messages::{Bundle, Heads, HistoryPage, Newest, PhoneMessage, Range, Reached, Run};

/// The number of messages that a core wants of a range: after a connect, and of a hole.
const NUM_AT_CONNECT: i64 = 1;
const NUM_OF_HOLE: i64 = 10;
/// A core asks for ranges of so many messages at once.
const PULL_MESSAGES: i64 = 100;
/// A page of history.
const PAGE_MESSAGES: i64 = 50;

/// A request. The next one waits for its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ask {
    Reached,
    Pull(Vec<Range>),
    Heads,
    History(HistoryPage),
    Newest(Vec<String>),
}

/// The news that a core tells its app, in order.
#[derive(Debug, PartialEq)]
pub(super) enum Told {
    /// A message of this conversation. With a seq it is stored.
    Message(String, PhoneMessage),
    /// The conversation is read up to this seq.
    Mark(String, i64),
    /// The newest message of a conversation, and how far it is read.
    Head(String, i64, i64),
    /// All heads are told.
    Counted,
    /// A page of history, with the messages that are there.
    History(HistoryPage, Vec<PhoneMessage>),
    /// The newest message of a conversation.
    Newest(String, PhoneMessage),
    /// A page begins, after these seqs of the conversations.
    Begin(BTreeMap<String, i64>),
}

/// The gateway broke a rule.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken(pub(super) String);

/// The memory of a core's process.
#[derive(Debug, Default)]
pub(super) struct GoCore {
    /// The highest seq that was taken, by conversation.
    synced: BTreeMap<String, i64>,
    /// The request that waits for its answer, or is to be sent; then the others.
    asks: VecDeque<Ask>,
    /// Pushes that came while it asked.
    waiting: VecDeque<Bundle>,
}

impl GoCore {
    /// A process that begins with these rows: conversations and seqs.
    pub(super) fn new<'a>(rows: impl Iterator<Item = &'a (String, i64)>) -> Self {
        let mut core = Self::default();
        for (id, seq) in rows {
            let synced = core.synced.entry(id.clone()).or_default();
            *synced = seq.max(synced).to_owned();
        }
        core
    }

    /// A connection began. `asks`: the one before began long enough ago.
    pub(super) fn connected(&mut self, asks: bool) {
        self.asks.clear();
        if asks {
            self.asks.push_back(Ask::Reached);
        }
    }

    /// The connection ended. Nothing can be pulled, so pushes with a hole before them are dropped.
    pub(super) fn lost(&mut self) -> Result<Vec<Told>, Broken> {
        let mut told = Vec::new();
        loop {
            self.asks.clear();
            if self.waiting.is_empty() {
                return Ok(told);
            }
            told.extend(self.take_waiting()?);
        }
    }

    /// The request that waits for its answer, or is to be sent.
    pub(super) fn ask(&self) -> Option<&Ask> {
        self.asks.front()
    }

    /// True while pushes wait.
    fn is_busy(&self) -> bool {
        let mut asks = self.asks.iter();
        asks.any(|ask| matches!(ask, Ask::Reached | Ask::Pull(_)))
    }

    fn synced(&self, id: &str) -> i64 {
        self.synced.get(id).copied().unwrap_or_default()
    }

    /// The answer to 1001 has come.
    pub(super) fn reached(&mut self, answer: &Reached) -> Result<Vec<Told>, Broken> {
        self.asks.pop_front();
        let (mut ranges, mut count) = (Vec::new(), 0);
        for (id, max) in &answer.max_seqs {
            let synced = self.synced(id);
            if *max <= synced {
                continue;
            }
            ranges.push(Range {
                conversation_id: id.clone(),
                // A conversation never seen is asked for from 0.
                begin: if synced == 0 { 0 } else { synced + 1 },
                end: *max,
                num: NUM_AT_CONNECT,
            });
            count += max - synced;
            if count >= PULL_MESSAGES {
                self.asks.push_back(Ask::Pull(std::mem::take(&mut ranges)));
                count = 0;
            }
        }
        if !ranges.is_empty() {
            self.asks.push_back(Ask::Pull(ranges));
        }
        self.asks.push_back(Ask::Heads);
        self.take_waiting()
    }

    /// The answer to 1006 has come.
    pub(super) fn heads(&mut self, answer: Heads) -> Vec<Told> {
        self.asks.pop_front();
        self.asks.extend(histories(&answer));
        let ids: Vec<_> = answer.seqs.keys().cloned().collect();
        self.asks.push_back(Ask::Newest(ids));
        let heads = answer.seqs.into_iter();
        let heads = heads.map(|(id, head)| Told::Head(id, head.max_seq, head.has_read_seq));
        heads.chain([Told::Counted]).collect()
    }

    /// The answer to 1005 has come.
    pub(super) fn history(&mut self, answer: Bundle) -> Result<Vec<Told>, Broken> {
        history(self.asks.pop_front(), answer)
    }

    /// The answer to 1007 has come.
    pub(super) fn newest(&mut self, answer: Newest) -> Result<Vec<Told>, Broken> {
        let Some(Ask::Newest(ids)) = self.asks.pop_front() else {
            return Err(Broken("newest messages that nobody asked for".into()));
        };
        if let Some(other) = answer.msgs.keys().find(|id| !ids.contains(id)) {
            return Err(Broken(format!("nobody asked for the newest of {other}")));
        }
        let newest = answer.msgs.into_iter();
        Ok(newest.map(|(id, one)| Told::Newest(id, one)).collect())
    }

    /// The answer to 1002 has come.
    pub(super) fn pulled(&mut self, mut answer: Bundle) -> Result<Vec<Told>, Broken> {
        let Some(Ask::Pull(ranges)) = self.asks.pop_front() else {
            return Err(Broken("messages that nobody asked for".into()));
        };
        let mut told = Vec::new();
        for range in ranges {
            let id = range.conversation_id;
            let run = answer.msgs.remove(&id).unwrap_or_default();
            let seqs: Vec<_> = run.messages.iter().map(|message| message.seq).collect();
            let is_within = seqs
                .iter()
                .all(|seq| (range.begin.max(1)..=range.end).contains(seq));
            if !is_within || !seqs.is_sorted_by(|before, after| before < after) {
                let asked = (range.begin, range.end);
                return Err(Broken(format!("{seqs:?} as the answer to {asked:?}")));
            }
            check_times(&run)?;
            let messages = run.messages.into_iter();
            told.extend(messages.map(|message| Told::Message(id.clone(), message)));
            // A message that the answer does not hold is never asked for again.
            self.synced.insert(id, range.end);
        }
        if !answer.msgs.is_empty() {
            let others = answer.msgs.into_keys();
            return Err(Broken(format!(
                "nobody asked for {:?}",
                others.collect::<Vec<_>>()
            )));
        }
        told.extend(self.take_waiting()?);
        Ok(told)
    }

    /// A push has come.
    pub(super) fn pushed(&mut self, push: Bundle) -> Result<Vec<Told>, Broken> {
        self.waiting.push_back(push);
        self.take_waiting()
    }

    fn take_waiting(&mut self) -> Result<Vec<Told>, Broken> {
        let mut told = Vec::new();
        while !self.is_busy()
            && let Some(push) = self.waiting.pop_front()
        {
            for (id, run) in push.msgs {
                self.take_run(id, run, &mut told)?;
            }
            let notices = push.notices.into_values().flat_map(|run| run.messages);
            for notice in notices {
                let mark = notice.mark();
                let (id, seq) = mark.ok_or_else(|| Broken("a notice of nothing".into()))?;
                told.push(Told::Mark(id, seq));
            }
        }
        Ok(told)
    }

    fn take_run(&mut self, id: String, run: Run, told: &mut Vec<Told>) -> Result<(), Broken> {
        check_times(&run)?;
        let (only_told, counted): (Vec<_>, Vec<_>) = run
            .messages
            .into_iter()
            .partition(|message| message.seq == 0);
        let only_told = only_told.into_iter();
        told.extend(only_told.map(|message| Told::Message(id.clone(), message)));
        let Some(last) = counted.last().map(|message| message.seq) else {
            return Ok(());
        };
        let first = last - counted.len() as i64 + 1;
        if !(first..).zip(&counted).all(|(seq, one)| one.seq == seq) {
            let seqs: Vec<_> = counted.iter().map(|message| message.seq).collect();
            return Err(Broken(format!("a push of {seqs:?}")));
        }
        let synced = self.synced(&id);
        if first == synced + 1 {
            self.synced.insert(id.clone(), last);
            let counted = counted.into_iter();
            told.extend(counted.map(|message| Told::Message(id.clone(), message)));
        } else if last > synced {
            self.asks.push_back(Ask::Pull(vec![Range {
                conversation_id: id,
                begin: synced + 1,
                end: last,
                num: NUM_OF_HOLE,
            }]));
        }
        Ok(())
    }
}

/// The first page of each conversation's history.
pub(super) fn histories(heads: &Heads) -> impl Iterator<Item = Ask> {
    let heads = heads.seqs.iter().filter(|(_, head)| head.max_seq > 0);
    heads.map(|(id, head)| {
        let oldest = (head.max_seq - PAGE_MESSAGES + 1).max(1);
        Ask::History(HistoryPage {
            conversation_id: id.clone(),
            seqs: (oldest..=head.max_seq).rev().collect(),
        })
    })
}

/// The part of the answer to 1005 that the app is told.
pub(super) fn history(asked: Option<Ask>, mut answer: Bundle) -> Result<Vec<Told>, Broken> {
    let Some(Ask::History(page)) = asked else {
        return Err(Broken("history that nobody asked for".into()));
    };
    let run = answer.msgs.remove(&page.conversation_id);
    let messages = run.unwrap_or_default().messages;
    let seqs: Vec<_> = messages.iter().map(|message| message.seq).collect();
    let is_asked = seqs.iter().all(|seq| page.seqs.contains(seq));
    if !is_asked || !seqs.is_sorted_by(|before, after| before < after) || !answer.msgs.is_empty() {
        let asked = &page.seqs;
        return Err(Broken(format!("{seqs:?} as the answer to {asked:?}")));
    }
    Ok(vec![Told::History(page, messages)])
}

/// History is paged by time: the times of a run ascend.
fn check_times(run: &Run) -> Result<(), Broken> {
    let counted = run.messages.iter().filter(|message| message.seq > 0);
    let times: Vec<_> = counted.map(|message| message.send_time).collect();
    if times.is_sorted_by(|before, after| before < after) {
        Ok(())
    } else {
        Err(Broken(format!("a run with the times {times:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(seqs: std::ops::RangeInclusive<i64>) -> Bundle {
        let messages = seqs.map(|seq| PhoneMessage {
            seq,
            send_time: seq,
            ..PhoneMessage::default()
        });
        let run = Run {
            messages: messages.collect(),
            ..Run::default()
        };
        Bundle {
            msgs: [("c".to_owned(), run)].into(),
            ..Bundle::default()
        }
    }

    fn seqs(told: Result<Vec<Told>, Broken>) -> Vec<i64> {
        let told = told.expect("no rule is broken").into_iter();
        told.map(|told| match told {
            Told::Message(_, message) => message.seq,
            other => panic!("{other:?}"),
        })
        .collect()
    }

    fn pull(begin: i64, end: i64, num: i64) -> Ask {
        Ask::Pull(vec![Range {
            conversation_id: "c".into(),
            begin,
            end,
            num,
        }])
    }

    #[test]
    fn a_run_is_taken_a_repeat_dropped_and_a_hole_pulled() {
        let rows = ("c".to_owned(), 3);
        let mut core = GoCore::new([&rows].into_iter());
        core.connected(false);
        assert_eq!(seqs(core.pushed(run(4..=5))), [4, 5]);
        assert_eq!(seqs(core.pushed(run(2..=5))), [0; 0]);
        assert_eq!(seqs(core.pushed(run(8..=8))), [0; 0]);
        assert_eq!(core.ask(), Some(&pull(6, 8, 10)));
        // The core waits for the answer, and asks for nothing again that the answer does not hold.
        assert_eq!(seqs(core.pushed(run(9..=9))), [0; 0]);
        assert_eq!(seqs(core.pulled(run(7..=8))), [7, 8, 9]);
        assert_eq!(core.ask(), None);
    }

    #[test]
    fn history_is_asked_for_by_pages_and_holds_nothing_else() {
        let mut core = GoCore::default();
        core.asks.push_back(Ask::Heads);
        let head = super::super::messages::Head {
            max_seq: 60,
            has_read_seq: 0,
        };
        let heads = Heads {
            seqs: [("c".to_owned(), head)].into(),
        };
        assert_eq!(core.heads(heads).len(), 2);
        let page = HistoryPage {
            conversation_id: "c".into(),
            seqs: (11..=60).rev().collect(),
        };
        assert_eq!(core.ask(), Some(&Ask::History(page.clone())));
        let told = core.history(run(59..=60)).expect("both were asked for");
        assert!(matches!(&told[..], [Told::History(of, two)] if *of == page && two.len() == 2));
        assert_eq!(core.ask(), Some(&Ask::Newest(vec!["c".into()])));
        assert!(history(Some(Ask::History(page)), run(10..=11)).is_err());
    }

    #[test]
    fn a_connect_asks_and_pulls_unless_another_was_just_before() {
        let mut core = GoCore::default();
        core.connected(true);
        assert_eq!(core.ask(), Some(&Ask::Reached));
        let reached = Reached {
            max_seqs: [("c".to_owned(), 2)].into(),
        };
        assert_eq!(seqs(core.reached(&reached)), [0; 0]);
        assert_eq!(core.ask(), Some(&pull(0, 2, 1)));
        // The link breaks: the pull is forgotten, and so is the push with a hole before it.
        assert_eq!(seqs(core.pushed(run(3..=3))), [0; 0]);
        assert_eq!(seqs(core.lost()), [0; 0]);
        core.connected(false);
        assert_eq!(core.ask(), None);
        assert_eq!(seqs(core.pushed(run(3..=3))), [0; 0]);
        assert_eq!(core.ask(), Some(&pull(1, 3, 10)));
    }
}
