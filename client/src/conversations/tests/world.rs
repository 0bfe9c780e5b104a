//! A gateway with messages, marks, deletions and retention, a wire, and a client that crashes, all from one seed.

use std::collections::VecDeque;

use super::*;

const CONVERSATIONS: [&str; 3] = [A, B, "sn_office_me"];

/// An entry of the inbox; its seq is its place.
#[derive(Clone)]
enum Entry {
    Message(Box<Message>),
    Marks(ReadMark),
    Deleted,
}

enum Frame {
    Push(u64, Entry),
    Gap(Gap),
    List(ConversationList),
}

struct World {
    random: fastrand::Rng,
    /// The inbox, from seq 1 on.
    inbox: Vec<Entry>,
    /// The oldest retained seq.
    first: u64,
    marks: BTreeMap<&'static str, u64>,
    /// The seqs of each conversation's messages, also of those that are gone.
    messages: BTreeMap<&'static str, Vec<u64>>,
    /// The present connection: the last seq sent, the frames on the wire, and an answer that was made and not yet sent.
    sent: u64,
    wire: VecDeque<Frame>,
    answer: Option<ConversationList>,
    now: Instant,
    /// True while a session of the gateway may end with marks that wait in it.
    loses_marks: bool,
    known: KnownConversations,
    /// The store.
    cursor: u64,
    knowledge: Knowledge,
    rows: BTreeMap<String, KnownConversation>,
    /// The gaps that were sent, and those that were shown, by their first and last seq.
    gaps: Vec<(u64, u64)>,
    shown: BTreeSet<(u64, u64)>,
    /// The user's marks on this device. They never go back.
    own: BTreeMap<&'static str, u64>,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            inbox: Vec::new(),
            first: 1,
            marks: BTreeMap::new(),
            messages: BTreeMap::new(),
            sent: 0,
            wire: VecDeque::new(),
            answer: None,
            now: Instant::now(),
            loses_marks: true,
            known: KnownConversations::default(),
            cursor: 0,
            knowledge: Knowledge::default(),
            rows: BTreeMap::new(),
            gaps: Vec::new(),
            shown: BTreeSet::new(),
            own: BTreeMap::new(),
        }
    }

    fn head(&self) -> u64 {
        self.inbox.len() as u64
    }

    fn append(&mut self) {
        let id = CONVERSATIONS[self.random.usize(..CONVERSATIONS.len())];
        let seq = self.head() + 1;
        let messages = self.messages.entry(id).or_default();
        messages.push(seq);
        let message = message(seq, id, messages.len() as u64);
        self.inbox.push(Entry::Message(message.into()));
    }

    /// The gateway's part of `Read`, and of a mark by another session.
    fn mark(&mut self, id: &str, seq: u64) {
        let Some((id, messages)) = self.messages.get_key_value(id) else {
            return;
        };
        let seq = seq.min(messages.len() as u64);
        if self.marks.get(id).is_none_or(|mark| *mark < seq) {
            self.marks.insert(id, seq);
            self.inbox.push(Entry::Marks(mark(id, seq)));
        }
    }

    /// Retention and deletions, of entries that the client does not have.
    fn remove(&mut self) {
        let after = self.cursor.max(self.sent);
        if after < self.head() {
            let seq = self.random.u64(after + 1..=self.head());
            if self.random.bool() {
                self.first = self.first.max(seq + 1);
            } else if let entry @ Entry::Message(_) = &mut self.inbox[seq as usize - 1] {
                *entry = Entry::Deleted;
            }
        }
    }

    fn list(&self) -> Vec<Conversation> {
        let conversation = |(id, messages): (&&'static str, &Vec<u64>)| {
            let mark = self.marks.get(id).copied().unwrap_or(0);
            let is_there = |seq: &u64| {
                *seq >= self.first && matches!(self.inbox[*seq as usize - 1], Entry::Message(_))
            };
            let gone = messages.iter().filter(|seq| **seq < self.first).count();
            let unread = messages
                .iter()
                .skip(mark as usize)
                .filter(|seq| is_there(seq));
            Conversation {
                conversation_id: (*id).into(),
                head: messages.len() as u64,
                first: gone as u64 + 1,
                mark,
                unread: unread.count() as u32,
                last_time: 0,
                last_seq: *messages.last().unwrap(),
            }
        };
        let mut list: Vec<_> = self.messages.iter().map(conversation).collect();
        list.sort_by_key(|told| std::cmp::Reverse(told.last_seq));
        list
    }

    /// The gateway sends the next entry, or the gap before it.
    fn send(&mut self) {
        let next = self.sent + 1;
        let is_gone =
            |seq: u64| seq < self.first || matches!(self.inbox[seq as usize - 1], Entry::Deleted);
        let gone = (next..=self.head()).take_while(|seq| is_gone(*seq)).count() as u64;
        if gone > 0 {
            let to_seq = self.sent + gone;
            self.wire.push_back(Frame::Gap(expired(next, to_seq)));
            self.sent = to_seq;
        } else if next <= self.head() {
            let entry = self.inbox[next as usize - 1].clone();
            self.wire.push_back(Frame::Push(next, entry));
            self.sent = next;
        }
    }

    fn keep(&mut self, outcome: ConversationOutcome) {
        for row in outcome.record.rows {
            self.rows.insert(row.conversation_id.clone(), row);
        }
        self.knowledge = outcome.record.knowledge;
        for gap in outcome.gaps {
            self.shown.insert((gap.from_seq, gap.to_seq));
        }
        for (id, mark) in &self.own {
            assert!(self.rows[*id].mark >= *mark, "{id} went back from {mark}");
        }
    }

    /// A new connection, perhaps of a new process.
    fn connect(&mut self, is_new_process: bool) {
        self.wire.clear();
        self.answer = None;
        self.sent = self.cursor;
        if is_new_process {
            let rows = self.rows.values().cloned().collect();
            self.known = KnownConversations::new(self.knowledge, rows);
        }
        let outcome = self.known.begin(true);
        self.keep(outcome);
    }

    fn receive(&mut self) {
        let outcome = match self.wire.pop_front() {
            None => return,
            Some(Frame::Push(seq, entry)) => {
                self.cursor = seq;
                match entry {
                    Entry::Message(message) => self.known.land(seq, &[*message], &[]),
                    Entry::Marks(mark) => self.known.land(seq, &[], &[mark]),
                    Entry::Deleted => unreachable!("it is sent as a gap"),
                }
            }
            Some(Frame::Gap(gap)) => {
                self.cursor = gap.to_seq;
                self.gaps.push((gap.from_seq, gap.to_seq));
                self.known.skip(&gap)
            }
            Some(Frame::List(list)) => {
                let answered = self.known.answered(&list, self.cursor);
                answered.expect("it was asked")
            }
        };
        self.keep(outcome);
    }

    /// The client speaks; the gateway hears it, unless the mark is lost.
    fn speak(&mut self) {
        match self.known.next_frame(self.now) {
            None => {}
            Some(client_frame::Body::Read(read)) => {
                if !self.loses_marks || self.random.bool() {
                    for mark in read.marks {
                        self.mark(&mark.conversation_id, mark.conversation_seq);
                    }
                }
            }
            Some(client_frame::Body::Conversations(asked)) => {
                let list = self.list().into_iter();
                let rest =
                    list.filter(|told| asked.before_seq == 0 || told.last_seq < asked.before_seq);
                let mut list: Vec<_> = rest.collect();
                let end = list.len() <= 2;
                list.truncate(2);
                self.answer = Some(ConversationList {
                    request_id: asked.request_id,
                    list,
                    end,
                });
            }
            other => panic!("{other:?}"),
        }
    }

    fn answer(&mut self) {
        self.wire.extend(self.answer.take().map(Frame::List));
    }

    fn read(&mut self) {
        let id = CONVERSATIONS[self.random.usize(..CONVERSATIONS.len())];
        let Some(row) = self.rows.get(id) else { return };
        let seq = self.random.u64(0..=row.head);
        if let Some(outcome) = self.known.mark_read(id, seq) {
            self.own.insert(id, seq);
            self.keep(outcome);
        }
    }

    fn step(&mut self) {
        match self.random.u32(0..100) {
            0..12 => self.append(),
            12..20 => {
                let id = CONVERSATIONS[self.random.usize(..CONVERSATIONS.len())];
                let seq = self.random.u64(1..20);
                self.mark(id, seq);
            }
            20..40 => self.send(),
            40..62 => self.receive(),
            62..76 => self.speak(),
            76..90 => self.answer(),
            90..92 => self.read(),
            // Fewer than three times the wait: no mark is given up while the wire is slow.
            92..95 => self.now += Duration::from_millis(100),
            95 => self.remove(),
            _ => {
                let is_new_process = self.random.bool();
                self.connect(is_new_process);
            }
        }
    }

    /// Everything arrives.
    fn settle(&mut self) {
        self.connect(false);
        self.loses_marks = false;
        for _ in 0..1000 {
            self.speak();
            self.answer();
            self.send();
            self.receive();
            self.now += Duration::from_millis(10);
        }
        assert!(self.wire.is_empty() && self.cursor == self.head());
    }

    fn held_a_message(&self, (from, to): (u64, u64)) -> bool {
        (from..=to).any(|seq| !matches!(self.inbox[seq as usize - 1], Entry::Marks(_)))
    }
}

#[test]
fn whatever_is_lost_late_or_crashed_the_counts_are_the_gateways_in_the_end() {
    let start = std::env::var("TOWNCRIER_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let start = start.unwrap_or_else(|| fastrand::u64(..));
    for seed in (0..300).map(|i| start.wrapping_add(i)) {
        println!("TOWNCRIER_SEED={seed}");
        let mut world = World::new(seed);
        world.connect(true);
        for _ in 0..400 {
            world.step();
        }
        world.settle();
        assert_eq!(world.knowledge, Knowledge::Whole);
        let rows = |row: &KnownConversation| (row.head, row.mark, row.unread);
        for told in world.list() {
            let row = &world.rows[&told.conversation_id];
            let told = (told.head, told.mark, told.unread.into());
            assert_eq!(rows(row), told, "{}", row.conversation_id);
        }
        for gap in &world.gaps {
            assert!(
                world.shown.contains(gap) || !world.held_a_message(*gap),
                "{gap:?} went in silence"
            );
        }
    }
}
