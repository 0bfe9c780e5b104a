//! The read marks that a session's client sent: merged, and given to the log at most once a second.
//!
//! Marks wait here, and are lost with the session at worst. A client repeats a mark that does not come back to it.

use std::{collections::BTreeMap, iter::from_fn, time::Duration};

use super::Moment;
use crate::message::{ADDRESS_BYTES_MAX, CONVERSATION_ID_BYTES_MAX, ReadMark, TOGETHER_BYTES_MAX};

/// The most bytes of one mark in the stored form: its id and seq, with tags and lengths.
const MARK_BYTES_MAX: usize = CONVERSATION_ID_BYTES_MAX + 18;

/// The most conversations that one entry marks. With the longest ids the entry still fits a frame.
const ENTRY_MARKS_MAX: usize = 300;
const _: () =
    assert!(ENTRY_MARKS_MAX * MARK_BYTES_MAX + 2 * ADDRESS_BYTES_MAX <= TOGETHER_BYTES_MAX);

/// The least time between two entries of marks.
const MARKS_INTERVAL: Duration = Duration::from_secs(1);

/// No frame is taken while marks of this many conversations wait. With the longest ids they take some 200 KB, which is less
/// than an outbox may hold.
const MARKS_WAITING_MAX: usize = 1000;

/// The marks of one session that the log does not have yet.
#[derive(Debug, Default)]
pub(super) struct WaitingMarks {
    /// The highest mark of each conversation.
    waiting: BTreeMap<String, u64>,
    /// True while marks are on their way to the log.
    is_under_way: bool,
    /// The next marks go to the log at this moment or later.
    next: Moment,
}

impl WaitingMarks {
    /// The client sent these marks.
    pub(super) fn add(&mut self, marks: Vec<ReadMark>) {
        for mark in marks {
            let highest = self.waiting.entry(mark.conversation_id).or_default();
            *highest = mark.conversation_seq.max(*highest);
        }
    }

    /// True if more marks may come. One frame may bring 99 above the limit.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < MARKS_WAITING_MAX
    }

    /// The marks that go to the log now. [`Self::arrive`] has to follow.
    pub(super) fn due(&mut self, now: Moment) -> Option<Vec<ReadMark>> {
        if self.waiting.is_empty() || self.is_under_way || now < self.next {
            return None;
        }
        self.is_under_way = true;
        let marks = from_fn(|| self.waiting.pop_first()).take(ENTRY_MARKS_MAX);
        let marks = marks.map(|(conversation_id, conversation_seq)| ReadMark {
            conversation_id,
            conversation_seq,
            ..ReadMark::default()
        });
        Some(marks.collect())
    }

    /// The marks on their way arrived, or failed.
    pub(super) fn arrive(&mut self, now: Moment) {
        self.is_under_way = false;
        self.next = now.plus(MARKS_INTERVAL);
    }

    /// True if nothing here matters any more.
    pub(super) fn is_over(&self, now: Moment) -> bool {
        self.waiting.is_empty() && !self.is_under_way && now >= self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(conversation: usize, seq: u64) -> ReadMark {
        ReadMark {
            conversation_id: format!("c{conversation:04}"),
            conversation_seq: seq,
            ..ReadMark::default()
        }
    }

    fn at(ms: u64) -> Moment {
        Moment(ms)
    }

    #[test]
    fn marks_of_one_conversation_become_the_highest_of_them() {
        let mut marks = WaitingMarks::default();
        marks.add(vec![mark(1, 3), mark(2, 1), mark(1, 2)]);
        marks.add(vec![mark(2, 5), mark(1, 1)]);
        assert_eq!(marks.due(at(0)), Some(vec![mark(1, 3), mark(2, 5)]));
        assert_eq!(marks.due(at(0)), None);
    }

    #[test]
    fn an_entry_has_at_most_300_conversations_and_the_next_one_waits_for_a_second() {
        let mut marks = WaitingMarks::default();
        marks.add((0..700).map(|conversation| mark(conversation, 1)).collect());
        let mut taken = Vec::new();
        for (now, arrived) in [(0, 40), (1040, 1100), (2100, 2100)] {
            if now > 0 {
                assert_eq!(marks.due(at(now - 1)), None);
            }
            let due = marks.due(at(now)).expect("they are due");
            // The marks that the log has not taken yet hold up the next ones.
            assert_eq!(marks.due(at(now + 5000)), None);
            marks.arrive(at(arrived));
            taken.push(due.len());
        }
        assert_eq!(taken, [300, 300, 100]);
        assert!(!marks.is_over(at(3099)) && marks.is_over(at(3100)));
    }

    #[test]
    fn so_many_conversations_leave_no_room_until_some_went_to_the_log() {
        let mut marks = WaitingMarks::default();
        marks.add(
            (1..MARKS_WAITING_MAX)
                .map(|conversation| mark(conversation, 1))
                .collect(),
        );
        marks.add(vec![mark(1, 2)]);
        assert!(marks.has_room());
        marks.add(vec![mark(0, 1)]);
        assert!(!marks.has_room());
        assert!(marks.due(at(0)).is_some() && marks.has_room());
    }

    #[test]
    fn the_longest_marks_of_an_entry_take_no_more_than_their_bound() {
        let longest = ReadMark {
            conversation_id: "z".repeat(CONVERSATION_ID_BYTES_MAX),
            conversation_seq: u64::MAX,
            ..ReadMark::default()
        };
        let entry = |marks| crate::message::StoredMessage {
            marks: vec![longest.clone(); marks],
            ..Default::default()
        };
        assert_eq!(entry(1).to_bytes().len(), MARK_BYTES_MAX);
        assert!(
            entry(ENTRY_MARKS_MAX).to_bytes().len() <= TOGETHER_BYTES_MAX - 2 * ADDRESS_BYTES_MAX
        );
    }
}
