//! The log that the sessions of a schedule read: one inbox in memory.

use bytes::Bytes;

use super::super::{Event, ReadOrder};
use crate::{
    ids::{ConversationSeq, Seq},
    message::{Content, Entry, Numbers},
};

/// The body of an entry. Some bodies alone exceed the window's bytes.
pub(super) fn body(epoch: u64, seq: u64) -> String {
    let width = if seq.is_multiple_of(3) { 40 } else { 0 };
    format!("{epoch}/{seq:width$}")
}

/// The places of a message; the sessions here see one conversation.
pub(super) fn numbers(seq: Seq) -> Numbers {
    Numbers {
        seq,
        conversation_seq: ConversationSeq(seq.0),
        ..Numbers::default()
    }
}

/// The one log that the sessions read.
pub(super) struct Inbox {
    pub(super) epoch: u64,
    pub(super) bodies: Vec<Option<Bytes>>,
    pub(super) first: u64,
}

impl Inbox {
    pub(super) fn head(&self) -> u64 {
        self.bodies.len() as u64
    }

    pub(super) fn append(&mut self) -> Seq {
        let body = body(self.epoch, self.head() + 1);
        self.bodies.push(Some(body.into()));
        Seq(self.head())
    }

    pub(super) fn is_gone(&self, seq: u64) -> bool {
        seq < self.first || self.bodies[seq as usize - 1].is_none()
    }

    pub(super) fn read(&self, order: ReadOrder) -> Event {
        let after = order.after.0.max(self.first - 1);
        let entries: Vec<Entry> = (after + 1..=self.head())
            .take(order.messages)
            .map(|seq| Entry {
                numbers: numbers(Seq(seq)),
                content: match self.bodies[seq as usize - 1].clone() {
                    // Marks are pushed and acked as messages are.
                    Some(body) if seq.is_multiple_of(5) => Content::Marks(body),
                    Some(body) => Content::Message(body),
                    None => Content::Removed,
                },
            })
            .collect();
        if entries.is_empty() {
            return Event::ReadNothing(Seq(self.first));
        }
        Event::Read(entries)
    }
}
