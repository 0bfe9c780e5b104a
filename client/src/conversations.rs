//! The user's conversations as a client knows them, and the frames about them: `docs/protocol.md#read-state`. Pure.
//!
//! A landed message raises head and unread count of its conversation, a landed mark lowers the count. The gateway's answer to
//! `Conversations` corrects both. It may be older or newer than the last landing, and every merge allows for that. The
//! user's own mark counts at once; it is sent until the gateway has told it. A gap waits for the gateway's answer: it is
//! for the user only if it held a message.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    conversation::{ConversationRecord, Knowledge, KnownConversation},
    proto::{
        ConversationList, Conversations, Gap, Message, Read, ReadMark, client_frame, gap::Reason,
    },
};

/// The gateway closes with 4400 for a `Read` with more marks.
const READ_MARKS_MAX: usize = 100;
/// Marks sent and not yet told. The gateway puts as many into one entry, and makes one entry a second. So none of them is
/// repeated only because it waited at the gateway.
const SENT_MARKS_MAX: usize = 300;
/// The wait for a sent mark before it is sent again.
const REPEAT_AFTER: Duration = Duration::from_secs(2);
/// A mark is sent this many times. Then the gateway is asked for its own.
const SENT_TIMES_MAX: u32 = 3;
/// The most conversations that the gateway puts into one answer.
const PAGE_MAX: u32 = 500;

/// The outcome of an event.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct ConversationOutcome {
    /// For the store, in the transaction of the event.
    pub(crate) record: ConversationRecord,
    /// The marks that the gateway told and that it had not told before.
    pub(crate) marks: Vec<ReadMark>,
    /// The gaps that the user is to be told of, before the messages of the event.
    pub(crate) gaps: Vec<Gap>,
}

/// The conversations of one session, over any number of connections.
#[derive(Debug, Default)]
pub(crate) struct KnownConversations {
    rows: BTreeMap<String, KnownConversation>,
    knowledge: Knowledge,
    /// True if the gateway of the present connection takes `Read` and `Conversations`.
    is_served: bool,
    /// The conversations with a mark that the gateway has not told and that is not given up.
    waiting: BTreeSet<String>,
    /// The marks under way on the present connection.
    sent: BTreeMap<String, SentMark>,
    /// Conversations whose mark was sent in vain. The next answer decides.
    given_up: BTreeSet<String>,
    /// True if the gateway has to be asked once more.
    is_asked_for: bool,
    inquiry: Option<Inquiry>,
    /// The number of the last `Conversations`.
    request_id: u32,
    /// The gateway has been asked about the gap that waits. Every conversation's next message behind the gap has landed
    /// once the cursor is here.
    judged_at: Option<u64>,
}

#[derive(Debug)]
struct SentMark {
    mark: u64,
    times: u32,
    repeat_at: Instant,
}

/// A question for all conversations, page by page. While it goes on, a conversation may move from a page to come onto one that
/// has come. So after several pages it begins at the newest conversation again, down to those that it had listed, until
/// one page is enough.
#[derive(Debug, Default)]
struct Inquiry {
    /// The page to ask for, by its `before_seq`; `None`: it is asked for.
    next: Option<u64>,
    /// The `before_seq` of the page that is asked for; 0: it begins at the newest conversation.
    before_seq: u64,
    /// Conversations up to this `last_seq` are listed already.
    listed: u64,
    /// The seq of the newest message listed.
    newest: u64,
    /// The given up conversations that its answer decides about.
    given_up: BTreeSet<String>,
}

impl Inquiry {
    /// A page has come.
    fn turn_page(&mut self, list: &ConversationList) {
        let is_first = self.before_seq == 0;
        let goes_on = |last: &u64| {
            // An answer that does not go on would be asked for without end.
            let is_lower = is_first || *last < self.before_seq;
            !list.end && is_lower && *last > self.listed
        };
        let last = list.list.last().map(|told| told.last_seq);
        self.next = last.filter(goes_on);
        if self.next.is_none() && !is_first {
            self.listed = self.newest;
            self.next = Some(0);
        }
    }
}

impl KnownConversations {
    /// Continues from the contents of a store.
    pub(crate) fn new(knowledge: Knowledge, rows: Vec<KnownConversation>) -> Self {
        let rows = rows.into_iter();
        Self {
            rows: rows.map(|row| (row.conversation_id.clone(), row)).collect(),
            knowledge,
            ..Self::default()
        }
    }

    /// The conversations, by id.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &KnownConversation> {
        self.rows.values()
    }

    /// Begins a new connection. What was sent on the last one may be lost.
    pub(crate) fn begin(&mut self, is_served: bool) -> ConversationOutcome {
        self.is_served = is_served;
        self.sent.clear();
        self.given_up.clear();
        self.inquiry = None;
        self.judged_at = None;
        let waiting = self.rows.values().filter(|row| row.mark > row.told_mark);
        self.waiting = waiting.map(|row| row.conversation_id.clone()).collect();
        let mut gaps = Vec::new();
        if !is_served {
            // This gateway cannot be asked.
            gaps.extend(self.show_gap());
        }
        let is_uncounted = self.rows().any(KnownConversation::is_to_be_counted);
        self.is_asked_for = is_uncounted || self.knowledge != Knowledge::Whole;
        self.outcome(BTreeSet::new(), gaps)
    }

    /// Messages and marks land, and the cursor moves to `cursor`.
    pub(crate) fn land(
        &mut self,
        cursor: u64,
        messages: &[Message],
        marks: &[ReadMark],
    ) -> ConversationOutcome {
        let mut changed = BTreeSet::new();
        let mut gaps = Vec::new();
        for message in messages {
            let seq = message.conversation_seq;
            if seq == 0 {
                // A gateway without conversations delivered it.
                self.know_partly();
                continue;
            }
            let id = &message.conversation_id;
            let landed = self.rows.get(id).map_or(0, |row| row.landed);
            if seq > landed + 1 {
                // The messages between went in the gap that waits.
                gaps.extend(self.show_gap());
            }
            if self.know(id, seq).is_none() && seq > 1 {
                self.know_partly();
            }
            self.rows.get_mut(id).expect("it is known").land(message);
            changed.insert(id.clone());
        }
        let mut told = Vec::new();
        for mark in marks {
            let (id, seq) = (&mark.conversation_id, mark.conversation_seq);
            if self.know(id, seq).is_none() {
                self.know_partly();
            }
            let row = self.rows.get_mut(id).expect("it is known");
            row.mark_to(seq);
            if seq > row.told_mark {
                row.told_mark = seq;
                told.push(mark.clone());
                changed.insert(id.clone());
            }
            if row.is_to_be_counted() {
                self.know_partly();
                // A question under way may have passed the conversation.
                self.is_asked_for = true;
            }
            self.stop_waiting(id);
        }
        self.judge(cursor);
        ConversationOutcome {
            marks: told,
            ..self.outcome(changed, gaps)
        }
    }

    /// The cursor moves over a gap.
    pub(crate) fn skip(&mut self, gap: &Gap) -> ConversationOutcome {
        let mut gaps = Vec::from_iter(self.show_gap());
        let is_anew = gap.reason() == Reason::EpochChanged;
        if is_anew {
            self.rows.clear();
            self.waiting.clear();
            self.sent.clear();
            self.given_up.clear();
            self.inquiry = None;
            self.knowledge = Knowledge::Partial;
        }
        if self.is_served && self.knowledge == Knowledge::Whole {
            self.knowledge = Knowledge::Gap {
                from_seq: gap.from_seq,
                to_seq: gap.to_seq,
            };
        } else {
            gaps.push(*gap);
            self.knowledge = Knowledge::Partial;
        }
        self.judged_at = None;
        self.is_asked_for = true;
        let mut outcome = self.outcome(BTreeSet::new(), gaps);
        outcome.record.is_anew = is_anew;
        outcome
    }

    /// The user has read a conversation up to this message. `None`: nothing changes.
    pub(crate) fn mark_read(
        &mut self,
        id: &str,
        conversation_seq: u64,
    ) -> Option<ConversationOutcome> {
        let row = self.rows.get_mut(id)?;
        if !row.mark_to(conversation_seq.min(row.head)) {
            return None;
        }
        self.waiting.insert(id.to_owned());
        Some(self.outcome(BTreeSet::from([id.to_owned()]), Vec::new()))
    }

    /// A page of the gateway's answer. `cursor` is the cursor of landing.
    pub(crate) fn answered(
        &mut self,
        list: &ConversationList,
        cursor: u64,
    ) -> Option<ConversationOutcome> {
        let is_awaited =
            |inquiry: &mut Inquiry| inquiry.next.is_none() && list.request_id == self.request_id;
        let mut inquiry = self.inquiry.take_if(is_awaited)?;
        let mut changed = BTreeSet::new();
        let mut gaps = Vec::new();
        let mut told_marks = Vec::new();
        for told in &list.list {
            let id = &told.conversation_id;
            let before = self.know(id, told.first).map(|row| row.told_mark);
            let row = self.rows.get_mut(id).expect("it is known");
            let is_unlanded = told.head > row.landed;
            let is_given_up = inquiry.given_up.contains(id) && !self.waiting.contains(id);
            row.take(told, cursor, is_given_up);
            if before.is_some_and(|before| row.told_mark > before) {
                told_marks.push(ReadMark {
                    conversation_id: id.clone(),
                    conversation_seq: row.told_mark,
                });
            }
            if let Knowledge::Gap { to_seq, .. } = self.knowledge
                && is_unlanded
                && told.last_seq <= to_seq
            {
                gaps.extend(self.show_gap());
            }
            // The answer is older than the mark.
            self.is_asked_for |= self.rows[id].is_to_be_counted();
            self.stop_waiting(id);
            changed.insert(id.clone());
            inquiry.newest = inquiry.newest.max(told.last_seq);
        }
        inquiry.turn_page(list);
        if inquiry.next.is_some() {
            self.inquiry = Some(inquiry);
        } else if !self.is_asked_for {
            self.judged_at = Some(inquiry.newest);
            if self.knowledge == Knowledge::Partial {
                self.knowledge = Knowledge::Whole;
            }
            self.judge(cursor);
        }
        Some(ConversationOutcome {
            marks: told_marks,
            ..self.outcome(changed, gaps)
        })
    }

    /// The next frame to send, if there is one.
    pub(crate) fn next_frame(&mut self, now: Instant) -> Option<client_frame::Body> {
        if !self.is_served {
            return None;
        }
        self.give_up(now);
        let marks = self.due_marks(now);
        if !marks.is_empty() {
            return Some(client_frame::Body::Read(Read { marks }));
        }
        if self.inquiry.is_none() && std::mem::take(&mut self.is_asked_for) {
            self.inquiry = Some(Inquiry {
                next: Some(0),
                given_up: std::mem::take(&mut self.given_up),
                ..Inquiry::default()
            });
        }
        let inquiry = self.inquiry.as_mut()?;
        let before_seq = inquiry.next.take()?;
        inquiry.before_seq = before_seq;
        self.request_id = self.request_id.wrapping_add(1);
        Some(client_frame::Body::Conversations(Conversations {
            request_id: self.request_id,
            before_seq,
            limit: PAGE_MAX,
        }))
    }

    /// The time at which a mark has to be repeated or given up, if no frame changes that before.
    pub(crate) fn due_at(&self) -> Option<Instant> {
        self.sent.values().map(|sent| sent.repeat_at).min()
    }

    fn give_up(&mut self, now: Instant) {
        let in_vain = self
            .sent
            .extract_if(.., |_, sent| {
                sent.times == SENT_TIMES_MAX && sent.repeat_at <= now
            })
            .map(|(id, _)| id);
        for id in in_vain {
            self.waiting.remove(&id);
            self.given_up.insert(id);
            self.is_asked_for = true;
        }
    }

    fn due_marks(&mut self, now: Instant) -> Vec<ReadMark> {
        let mut marks = Vec::new();
        for id in &self.waiting {
            let mark = self.rows[id].mark;
            let times = match self.sent.get(id) {
                None if self.sent.len() == SENT_MARKS_MAX => continue,
                None => 0,
                Some(sent) if sent.mark < mark => 0,
                Some(sent) if sent.repeat_at <= now => sent.times,
                Some(_) => continue,
            };
            let sent = SentMark {
                mark,
                times: times + 1,
                repeat_at: now + REPEAT_AFTER,
            };
            self.sent.insert(id.clone(), sent);
            marks.push(ReadMark {
                conversation_id: id.clone(),
                conversation_seq: mark,
            });
            if marks.len() == READ_MARKS_MAX {
                break;
            }
        }
        marks
    }

    /// The conversation, if it was known. It is known from now on.
    fn know(&mut self, id: &str, first: u64) -> Option<&KnownConversation> {
        let is_known = self.rows.contains_key(id);
        let row = self.rows.entry(id.to_owned());
        let row = row.or_insert_with(|| KnownConversation::new(id, first));
        is_known.then_some(&*row)
    }

    /// Something is missing, so the gateway is asked, unless it is asked already.
    fn know_partly(&mut self) {
        if self.knowledge == Knowledge::Whole {
            self.knowledge = Knowledge::Partial;
            self.is_asked_for = true;
        }
    }

    /// The gap that waits, if there is one: it is for the user.
    fn show_gap(&mut self) -> Option<Gap> {
        let Knowledge::Gap { from_seq, to_seq } = self.knowledge else {
            return None;
        };
        self.knowledge = match self.judged_at {
            Some(_) => Knowledge::Whole,
            None => Knowledge::Partial,
        };
        Some(Gap {
            from_seq,
            to_seq,
            reason: Reason::Expired.into(),
        })
    }

    /// A gap that held no message waits no longer.
    fn judge(&mut self, cursor: u64) {
        if self.judged_at.is_some_and(|at| at <= cursor)
            && let Knowledge::Gap { .. } = self.knowledge
        {
            self.knowledge = Knowledge::Whole;
        }
    }

    fn stop_waiting(&mut self, id: &str) {
        let row = &self.rows[id];
        if row.mark <= row.told_mark {
            self.waiting.remove(id);
            self.sent.remove(id);
            self.given_up.remove(id);
        }
    }

    fn outcome(&self, changed: BTreeSet<String>, gaps: Vec<Gap>) -> ConversationOutcome {
        let rows = changed.iter().map(|id| self.rows[id].clone());
        ConversationOutcome {
            record: ConversationRecord {
                is_anew: false,
                rows: rows.collect(),
                knowledge: self.knowledge,
            },
            marks: Vec::new(),
            gaps,
        }
    }
}

#[cfg(test)]
mod tests;
