//! One user's inbox in memory, with its conversations and read marks. Every number of a conversation follows from the entries,
//! and from what outlives them: how many there were, the last time and the mark.

use std::collections::BTreeMap;

use crate::{
    ids::{ConversationSeq, Epoch, Seq},
    log::{Append, Conversation, Inbox},
    message::{
        Bases, Content, ConversationSettings, Entry, EpochBase, Numbers, ReadMark, SettingsChange,
    },
};

/// A user's inbox.
#[derive(Default)]
pub(super) struct UserInbox {
    /// The entries from seq 1 on, with those that have expired.
    entries: Vec<Entry>,
    /// The number of expired entries. They are the oldest ones.
    expired: usize,
    /// The number of erased entries. They are the oldest ones.
    erased: usize,
    /// The base of the messages that are added now.
    pub(super) base: u32,
    /// The conversations by their ids.
    conversations: BTreeMap<String, ConversationRow>,
}

/// The messages of one conversation, as places in the inbox.
#[derive(Default)]
struct ConversationRow {
    /// The seq of each message, from conversation seq 1 on.
    seqs: Vec<Seq>,
    /// The conversation time of the newest message, Unix ms.
    last_time_ms: u64,
    /// The user has read everything up to here.
    mark: ConversationSeq,
    /// The bases of its messages.
    bases: Bases,
    /// The user's settings.
    settings: ConversationSettings,
}

impl UserInbox {
    fn head(&self) -> Seq {
        Seq(self.entries.len() as u64)
    }

    pub(super) fn bounds(&self, epoch: Epoch) -> Inbox {
        Inbox {
            epoch,
            head: self.head(),
            first: Seq(self.expired as u64 + 1),
        }
    }

    /// Adds an entry with these numbers, but for its seq.
    fn add(&mut self, numbers: Numbers, content: Content) -> Numbers {
        let numbers = Numbers {
            seq: self.head().next(),
            ..numbers
        };
        self.entries.push(Entry { numbers, content });
        numbers
    }

    /// Adds a message to its conversation, or to none.
    pub(super) fn add_message(&mut self, conversation: Option<String>, append: &Append) -> Numbers {
        let seq = self.head().next();
        let numbers = conversation.map(|id| {
            let row = self.conversations.entry(id).or_default();
            let after = ConversationSeq(row.seqs.len() as u64);
            let base = self.base;
            row.bases = std::mem::take(&mut row.bases).then(EpochBase { after, base });
            row.seqs.push(seq);
            row.last_time_ms = append.send_time_ms.max(row.last_time_ms + 1);
            let ahead_ms = row.last_time_ms - append.send_time_ms;
            Numbers {
                conversation_seq: ConversationSeq(row.seqs.len() as u64),
                time_ahead_ms: u32::try_from(ahead_ms).unwrap_or(u32::MAX),
                base: row.bases.newest(),
                ..Numbers::default()
            }
        });
        let content = Content::Message(append.body.clone());
        self.add(numbers.unwrap_or_default(), content)
    }

    /// Adds the entry of these marks, and moves each one forward, no further than its conversation's head.
    pub(super) fn add_marks(&mut self, marks: &[ReadMark], append: &Append) -> Numbers {
        for mark in marks {
            if let Some(row) = self.conversations.get_mut(&mark.conversation_id) {
                let read = mark.conversation_seq.min(row.seqs.len() as u64);
                row.mark = row.mark.max(ConversationSeq(read));
            }
        }
        let content = Content::Marks(append.body.clone());
        self.add(Numbers::default(), content)
    }

    /// Removes a message. Its entry stays.
    pub(super) fn delete(&mut self, seq: Seq) {
        let index = seq.0.wrapping_sub(1) as usize;
        if let Some(entry) = self.entries.get_mut(index)
            && matches!(entry.content, Content::Message(_))
        {
            entry.content = Content::Removed;
            entry.numbers.time_ahead_ms = 0;
        }
    }

    /// Changes the settings of a conversation. The messages that it clears are removed.
    pub(super) fn change_settings(&mut self, change: &SettingsChange) {
        let Some(row) = self.conversations.get_mut(&change.conversation_id) else {
            return;
        };
        let head = ConversationSeq(row.seqs.len() as u64);
        row.settings = row.settings.changed(change, head);
        let cleared = row.seqs[..row.settings.cleared.0 as usize].to_vec();
        cleared.into_iter().for_each(|seq| self.delete(seq));
    }

    /// Makes retention remove every entry.
    pub(super) fn expire(&mut self) {
        self.expired = self.entries.len();
    }

    /// Erases every entry. The heads stay.
    pub(super) fn erase(&mut self) {
        (self.expired, self.erased) = (self.entries.len(), self.entries.len());
        for entry in &mut self.entries {
            entry.content = Content::Removed;
        }
        for row in self.conversations.values_mut() {
            (row.last_time_ms, row.mark) = (0, ConversationSeq::ZERO);
            row.settings = ConversationSettings::default();
        }
    }

    /// The retained entries after this seq, ascending.
    pub(super) fn after(&self, seq: Seq) -> impl Iterator<Item = &Entry> {
        self.entries.iter().skip(self.expired.max(seq.0 as usize))
    }

    fn describe(&self, id: &str, row: &ConversationRow) -> Conversation {
        let expired = self.expired as u64;
        let gone = row.seqs.partition_point(|seq| seq.0 <= expired);
        let gone = gone.max(row.settings.cleared.0 as usize);
        let above = gone.max(row.mark.0 as usize);
        let above = row.seqs[above..].iter().map(|seq| self.entry(*seq));
        let unread = above.filter(|entry| matches!(entry.content, Content::Message(_)));
        let head = ConversationSeq(row.seqs.len() as u64);
        Conversation {
            id: id.into(),
            head,
            first: ConversationSeq(gone as u64 + 1),
            mark: row.mark,
            unread: unread.count() as u64,
            last_time_ms: row.last_time_ms,
            last_seq: self.last_seq(row),
            bases: row.bases.clone().then(EpochBase {
                after: head,
                base: self.base,
            }),
            settings: row.settings,
        }
    }

    /// The newest message's seq; 0 where it is erased.
    fn last_seq(&self, row: &ConversationRow) -> Seq {
        let last = row.seqs.last().copied();
        last.filter(|last| last.0 > self.erased as u64)
            .unwrap_or_default()
    }

    fn entry(&self, seq: Seq) -> &Entry {
        &self.entries[seq.0 as usize - 1]
    }

    /// All conversations, but for those whose messages are all erased.
    pub(super) fn conversations(&self) -> impl Iterator<Item = Conversation> {
        let rows = self.conversations.iter();
        let rows = rows.filter(|(_, row)| self.last_seq(row) > Seq::ZERO);
        rows.map(|(id, row)| self.describe(id, row))
    }

    /// The conversation with this id.
    pub(super) fn conversation(&self, id: &str) -> Option<Conversation> {
        let row = self.conversations.get(id)?;
        Some(self.describe(id, row))
    }

    /// The retained entries of a conversation among the conversation seqs `from`..=`to`, newest first.
    pub(super) fn newest(
        &self,
        conversation: &Conversation,
        (from, to): (ConversationSeq, ConversationSeq),
    ) -> impl Iterator<Item = &Entry> {
        let begin = from.max(conversation.first).previous().0 as usize;
        let end = to.min(conversation.head).0 as usize;
        let seqs = &self.conversations[&*conversation.id].seqs;
        let seqs = seqs.get(begin..end).unwrap_or_default().iter().rev();
        seqs.map(|seq| self.entry(*seq))
    }
}
