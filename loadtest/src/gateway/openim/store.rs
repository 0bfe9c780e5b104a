//! The rules by which an SDK takes messages, and asks for those that it misses. Pure.
//!
//! A Go core asks 1001 after a connect, pulls what it misses, then asks 1006. It takes a push that continues what it has,
//! drops one that repeats it, and pulls a hole. Pushes wait while it asks. The JavaScript SDK asks 1006, pulls what it
//! misses since its last connection, and takes every push as it comes.
//!
//! An answer may be cut, and then holds the newest part. An SDK finds the rest in the history. The rig pulls it, and lands
//! the whole range in order, because the ledger expects each message once.

use std::collections::{BTreeMap, VecDeque};

use super::{
    SdkCore,
    messages::{Bunch, HeadsAnswer, PullRange, ReachedAnswer, SdkMessage},
};

/// The number of messages that a Go core wants of a range: after a connect, and of a hole.
const NUM_AT_CONNECT: i64 = 1;
const NUM_OF_HOLE: i64 = 10;

/// A request. The next one waits for its answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum SdkAsk {
    Reached,
    Heads,
    Pull(PullRange),
}

/// The server broke the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SdkFault(pub(super) String);

/// The newest message that was taken of a conversation.
#[derive(Debug, Clone, Copy, Default)]
struct NewestTaken {
    seq: i64,
    /// Unix ms.
    send_time: i64,
}

/// The taker of messages: a conversation's id, then the message.
pub(super) type Land<'a> = &'a mut dyn FnMut(&str, &SdkMessage);

/// The state that outlives a connection, and the requests of the present one.
#[derive(Debug)]
pub(super) struct SdkStore {
    core: SdkCore,
    taken: BTreeMap<String, NewestTaken>,
    /// True until the JavaScript SDK has been told the heads once. What was sent before is history.
    is_fresh: bool,
    /// The requests of this connection: the one that was sent or is next, and those behind it.
    asks: VecDeque<SdkAsk>,
    /// The newer parts of the range that is being pulled.
    held: Vec<SdkMessage>,
    /// The end of that range.
    held_to: i64,
    /// Pushes that wait until the asking is over.
    waiting: VecDeque<Bunch>,
    /// The heads at the connect, once they are known.
    heads: Option<BTreeMap<String, i64>>,
    has_arrived: bool,
}

impl SdkStore {
    pub(super) fn new(core: SdkCore) -> Self {
        Self {
            core,
            taken: BTreeMap::new(),
            is_fresh: true,
            asks: VecDeque::new(),
            held: Vec::new(),
            held_to: 0,
            waiting: VecDeque::new(),
            heads: None,
            has_arrived: false,
        }
    }

    /// A connection began. `asks`: the connect before it is long enough ago for a Go core to ask.
    pub(super) fn connected(&mut self, asks: bool) {
        self.asks.clear();
        self.held.clear();
        self.waiting.clear();
        self.heads = None;
        self.has_arrived = false;
        match self.core {
            SdkCore::Go if asks => self.asks.push_back(SdkAsk::Reached),
            SdkCore::Go => self.has_arrived = true,
            SdkCore::JavaScript => self.asks.push_back(SdkAsk::Heads),
        }
    }

    /// Asks for the heads if nothing was asked at the connect. A Go core would not; the rig has to know when it has all.
    pub(super) fn ask_heads(&mut self) {
        let is_asked = |ask: &SdkAsk| matches!(ask, SdkAsk::Heads | SdkAsk::Reached);
        if self.heads.is_none() && !self.asks.iter().any(is_asked) {
            self.asks.push_back(SdkAsk::Heads);
        }
    }

    /// The request that waits for its answer, or is to be sent.
    pub(super) fn ask(&self) -> Option<&SdkAsk> {
        self.asks.front()
    }

    /// True once the server knows this session, so that it gets everything that is sent from now on.
    pub(super) fn has_arrived(&self) -> bool {
        self.has_arrived
    }

    /// True if everything that was there at the connect was taken.
    pub(super) fn is_caught_up(&self) -> bool {
        let has = |(id, head): (&String, &i64)| self.seq(id) >= *head;
        let heads = self.heads.as_ref();
        !self.is_busy() && heads.is_some_and(|heads| heads.iter().all(has))
    }

    /// True while pushes wait.
    fn is_busy(&self) -> bool {
        let mut asks = self.asks.iter();
        self.core == SdkCore::Go && asks.any(|ask| *ask != SdkAsk::Heads) || !self.held.is_empty()
    }

    fn seq(&self, conversation_id: &str) -> i64 {
        self.taken
            .get(conversation_id)
            .map_or(0, |newest| newest.seq)
    }

    fn pull(&mut self, conversation_id: &str, end: i64, num: i64) {
        // A conversation never seen is asked for from 0.
        let begin = self
            .taken
            .get(conversation_id)
            .map_or(0, |newest| newest.seq + 1);
        self.asks.push_back(SdkAsk::Pull(PullRange {
            conversation_id: conversation_id.to_owned(),
            begin,
            end,
            num,
        }));
    }

    /// The answer to 1001 has come.
    pub(super) fn reached(
        &mut self,
        answer: &ReachedAnswer,
        land: Land<'_>,
    ) -> Result<(), SdkFault> {
        self.asks.pop_front();
        self.has_arrived = true;
        for (id, max_seq) in &answer.max_seqs {
            if *max_seq > self.seq(id) {
                self.pull(id, *max_seq, NUM_AT_CONNECT);
            }
        }
        self.asks.push_back(SdkAsk::Heads);
        self.take_waiting(land)
    }

    /// The answer to 1006 has come.
    pub(super) fn heads(&mut self, answer: &HeadsAnswer) {
        self.asks.pop_front();
        self.has_arrived = true;
        let heads = answer
            .seqs
            .iter()
            .map(|(id, head)| (id.clone(), head.max_seq));
        let heads: BTreeMap<_, _> = heads.collect();
        if self.core == SdkCore::JavaScript {
            for (id, head) in &heads {
                if self.is_fresh {
                    self.taken.entry(id.clone()).or_default().seq = *head;
                } else if *head > self.seq(id) {
                    self.pull(id, *head, NUM_OF_HOLE);
                }
            }
        }
        self.is_fresh = false;
        self.heads = Some(heads);
    }

    /// The answer to 1002 has come.
    pub(super) fn pulled(&mut self, mut answer: Bunch, land: Land<'_>) -> Result<(), SdkFault> {
        let Some(SdkAsk::Pull(range)) = self.asks.pop_front() else {
            return Err(SdkFault("messages that nobody asked for".to_owned()));
        };
        let part = answer
            .msgs
            .remove(&range.conversation_id)
            .unwrap_or_default();
        let seqs = part.msgs.iter().map(|message| message.seq);
        if !seqs.is_sorted_by(|before, after| before < after) {
            return Err(SdkFault("an answer whose seqs do not rise".to_owned()));
        }
        if self.held.is_empty() {
            self.held_to = range.end;
        }
        let first = part.msgs.first().map(|message| message.seq);
        if let (Some(first), Some(last)) = (first, part.msgs.last())
            && (first < range.begin || last.seq > range.end)
        {
            return Err(SdkFault(
                "an answer with more than was asked for".to_owned(),
            ));
        }
        let is_cut = !part.is_end && first.is_some_and(|first| first > range.begin.max(1));
        self.held.splice(..0, part.msgs);
        if let (true, Some(first)) = (is_cut, first) {
            let end = first - 1;
            self.asks
                .push_front(SdkAsk::Pull(PullRange { end, ..range }));
            return Ok(());
        }
        let id = range.conversation_id;
        for message in std::mem::take(&mut self.held) {
            self.take(&id, &message, land)?;
        }
        // A message that an answer does not hold is never asked for again.
        let newest = self.taken.entry(id).or_default();
        newest.seq = newest.seq.max(self.held_to);
        self.take_waiting(land)
    }

    /// A push has come.
    pub(super) fn pushed(&mut self, push: Bunch, land: Land<'_>) -> Result<(), SdkFault> {
        self.waiting.push_back(push);
        self.take_waiting(land)
    }

    fn take_waiting(&mut self, land: Land<'_>) -> Result<(), SdkFault> {
        while !self.is_busy()
            && let Some(push) = self.waiting.pop_front()
        {
            for (id, run) in &push.msgs {
                match self.core {
                    SdkCore::Go => self.take_run(id, &run.msgs, land)?,
                    SdkCore::JavaScript => {
                        for message in &run.msgs {
                            self.take(id, message, land)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// A Go core takes the messages that a push has for one conversation.
    fn take_run(&mut self, id: &str, run: &[SdkMessage], land: Land<'_>) -> Result<(), SdkFault> {
        let taken = self.seq(id);
        let last = run.last().map_or(0, |message| message.seq);
        let is_run = (1..)
            .zip(run)
            .all(|(at, message)| message.seq == run[0].seq - 1 + at);
        if !is_run || last <= 0 {
            return Err(SdkFault("a push that is no contiguous run".to_owned()));
        }
        if last == taken + run.len() as i64 {
            for message in run {
                self.take(id, message, land)?;
            }
        } else if last > taken {
            self.pull(id, last, NUM_OF_HOLE);
        }
        Ok(())
    }

    fn take(&mut self, id: &str, message: &SdkMessage, land: Land<'_>) -> Result<(), SdkFault> {
        let newest = self.taken.entry(id.to_owned()).or_default();
        // History is paged by time.
        if message.seq > newest.seq && message.send_time <= newest.send_time {
            return Err(SdkFault("a sendTime that does not rise".to_owned()));
        }
        if message.seq > newest.seq {
            *newest = NewestTaken {
                seq: message.seq,
                send_time: message.send_time,
            };
        }
        land(id, message);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::openim::messages::{ConversationHead, PulledMsgs};

    fn bunch(seqs: impl IntoIterator<Item = i64>) -> Bunch {
        let msgs = seqs.into_iter().map(|seq| SdkMessage {
            seq,
            send_time: 1000 + seq,
            ..SdkMessage::default()
        });
        let msgs = PulledMsgs {
            msgs: msgs.collect(),
            is_end: false,
        };
        Bunch {
            msgs: BTreeMap::from([("c".to_owned(), msgs)]),
        }
    }

    fn reached(seq: i64) -> ReachedAnswer {
        ReachedAnswer {
            max_seqs: BTreeMap::from([("c".to_owned(), seq)]),
        }
    }

    fn heads(max_seq: i64) -> HeadsAnswer {
        let head = ConversationHead {
            max_seq,
            has_read_seq: 0,
        };
        HeadsAnswer {
            seqs: BTreeMap::from([("c".to_owned(), head)]),
        }
    }

    fn range(begin: i64, end: i64, num: i64) -> SdkAsk {
        SdkAsk::Pull(PullRange {
            conversation_id: "c".to_owned(),
            begin,
            end,
            num,
        })
    }

    /// A store with the seqs that have landed.
    struct Fixture {
        store: SdkStore,
        landed: Vec<i64>,
    }

    impl Fixture {
        /// Connected, with the messages up to this seq.
        fn new(core: SdkCore, seq: i64) -> Self {
            let mut store = SdkStore::new(core);
            store.connected(false);
            let mut fixture = Self {
                store,
                landed: Vec::new(),
            };
            if core == SdkCore::JavaScript {
                fixture.store.heads(&heads(0));
            }
            fixture.push(1..=seq);
            assert_eq!(fixture.landed, Vec::from_iter(1..=seq));
            fixture.landed.clear();
            fixture
        }

        fn push(&mut self, seqs: impl IntoIterator<Item = i64>) {
            let landed = &mut self.landed;
            let mut land = |_: &str, message: &SdkMessage| landed.push(message.seq);
            let mut push = bunch(seqs);
            push.msgs.retain(|_, run| !run.msgs.is_empty());
            self.store.pushed(push, &mut land).unwrap();
        }

        fn pulled(&mut self, seqs: impl IntoIterator<Item = i64>) {
            let landed = &mut self.landed;
            let mut land = |_: &str, message: &SdkMessage| landed.push(message.seq);
            self.store.pulled(bunch(seqs), &mut land).unwrap();
        }

        fn reached(&mut self, seq: i64) {
            let landed = &mut self.landed;
            let mut land = |_: &str, message: &SdkMessage| landed.push(message.seq);
            self.store.reached(&reached(seq), &mut land).unwrap();
        }
    }

    #[test]
    fn a_run_is_taken_a_repeat_dropped_and_a_hole_pulled() {
        let mut it = Fixture::new(SdkCore::Go, 3);
        it.push(4..=5);
        it.push(2..=5);
        assert_eq!(it.landed, [4, 5]);
        assert_eq!(it.store.ask(), None);
        it.push([8]);
        assert_eq!(it.store.ask(), Some(&range(6, 8, 10)));
        // The core waits for the answer, and then repeats nothing.
        it.push([9]);
        assert_eq!(it.landed, [4, 5]);
        it.pulled(6..=8);
        assert_eq!(it.landed, [4, 5, 6, 7, 8, 9]);
        // An overlap is a hole as well.
        it.push(9..=10);
        assert_eq!(it.store.ask(), Some(&range(10, 10, 10)));
    }

    #[test]
    fn a_go_core_asks_where_it_stands_and_pushes_wait_until_it_knows() {
        let mut it = Fixture::new(SdkCore::Go, 2);
        it.store.connected(true);
        assert_eq!(it.store.ask(), Some(&SdkAsk::Reached));
        assert!(!it.store.has_arrived());
        it.push([5]);
        it.reached(4);
        assert!(it.store.has_arrived());
        assert_eq!(it.store.ask(), Some(&range(3, 4, 1)));
        it.pulled(3..=4);
        assert_eq!(it.landed, [3, 4, 5]);
        assert_eq!(it.store.ask(), Some(&SdkAsk::Heads));
        it.store.heads(&heads(6));
        assert!(!it.store.is_caught_up());
        it.push([6]);
        assert!(it.store.is_caught_up());
    }

    #[test]
    fn the_rest_of_a_cut_answer_is_pulled_and_all_lands_in_order() {
        let mut it = Fixture::new(SdkCore::Go, 0);
        it.store.connected(true);
        it.reached(9);
        assert_eq!(it.store.ask(), Some(&range(0, 9, 1)));
        it.pulled(7..=9);
        assert_eq!(it.store.ask(), Some(&range(0, 6, 1)));
        it.pulled(4..=6);
        it.push([10]);
        assert!(it.landed.is_empty());
        // The first ones exist no more.
        it.pulled([]);
        assert_eq!(it.landed, [4, 5, 6, 7, 8, 9, 10]);
    }

    #[test]
    fn what_an_answer_lacks_is_not_asked_for_again() {
        let mut it = Fixture::new(SdkCore::Go, 1);
        it.push([4]);
        it.pulled([]);
        it.push([4]);
        assert_eq!((it.store.ask(), &it.landed[..]), (None, &[][..]));
        it.push([5]);
        assert_eq!(it.landed, [5]);
    }

    #[test]
    fn an_early_connect_asks_only_for_the_heads_and_later() {
        let mut it = Fixture::new(SdkCore::Go, 1);
        it.store.connected(false);
        assert!(it.store.has_arrived() && it.store.ask().is_none());
        assert!(!it.store.is_caught_up());
        it.store.ask_heads();
        assert_eq!(it.store.ask(), Some(&SdkAsk::Heads));
        it.push([2]);
        assert_eq!(it.landed, [2]);
        it.store.heads(&heads(2));
        assert!(it.store.is_caught_up());
        it.store.ask_heads();
        assert_eq!(it.store.ask(), None);
    }

    #[test]
    fn javascript_takes_every_push_and_pulls_what_it_missed() {
        let mut it = Fixture::new(SdkCore::JavaScript, 2);
        it.push([2]);
        it.push([4]);
        assert_eq!(it.landed, [2, 4]);
        it.store.connected(true);
        it.store.heads(&heads(6));
        assert_eq!(it.store.ask(), Some(&range(5, 6, 10)));
        it.pulled(5..=6);
        assert!(it.store.is_caught_up());
        let mut fresh = SdkStore::new(SdkCore::JavaScript);
        fresh.connected(true);
        fresh.heads(&heads(6));
        assert!(fresh.is_caught_up() && fresh.ask().is_none());
    }

    #[test]
    fn a_server_that_breaks_the_rules_is_found_out() {
        let mut land = |_: &str, _: &SdkMessage| {};
        for seqs in [vec![], vec![0], vec![4, 6], vec![5, 4], vec![4, 4]] {
            let mut store = Fixture::new(SdkCore::Go, 3).store;
            assert!(
                store.pushed(bunch(seqs.clone()), &mut land).is_err(),
                "{seqs:?}"
            );
        }
        for seqs in [vec![4, 6, 5], vec![3, 4], vec![4, 9]] {
            let mut it = Fixture::new(SdkCore::Go, 3);
            it.push([7]);
            assert!(
                it.store.pulled(bunch(seqs.clone()), &mut land).is_err(),
                "{seqs:?}"
            );
        }
        let mut same_time = bunch([4]);
        same_time.msgs.get_mut("c").unwrap().msgs[0].send_time = 1003;
        let mut store = Fixture::new(SdkCore::Go, 3).store;
        assert!(store.pushed(same_time, &mut land).is_err());
    }
}
