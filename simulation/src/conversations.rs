//! The conversations of all users, as an executable model: the numbers of their messages, and how far each user has read.
//!
//! Numbers are dense, and ascend with the inbox (P4); so do the times. A mark goes where somebody asked for, up to the newest
//! message. Once the gateway told it, it never goes back.

use std::collections::BTreeMap;

use super::trace::violated;
use towncrier::log;

/// A user's conversations in one log: its epoch, and the user.
pub(super) type Reader = (u64, usize);

/// One conversation of a user in one log.
#[derive(Default)]
struct Conversation {
    /// The seq in the inbox of each message, by its conversation seq.
    seqs: BTreeMap<u64, u64>,
    /// The conversation times that the gateway listed, by its head at that time.
    times_ms: BTreeMap<u64, u64>,
    /// The highest mark that somebody asked for.
    asked: u64,
    /// The highest mark that the gateway told.
    told: u64,
}

/// All known facts about conversations.
#[derive(Default)]
pub(super) struct Conversations {
    of: BTreeMap<(Reader, String), Conversation>,
}

impl Conversations {
    fn get(&mut self, reader: Reader, id: &str) -> &mut Conversation {
        self.of.entry((reader, id.to_owned())).or_default()
    }

    fn all(&self, reader: Reader) -> impl Iterator<Item = (&String, &Conversation)> {
        let all = self.of.range((reader, String::new())..);
        all.take_while(move |((of, _), _)| *of == reader)
            .map(|((_, id), conversation)| (id, conversation))
    }

    /// The entry `seq` of an inbox has this number in its conversation.
    pub(super) fn has_number(&mut self, reader: Reader, id: &str, number: u64, seq: u64) {
        let seqs = &mut self.get(reader, id).seqs;
        let there = *seqs.entry(number).or_insert(seq);
        let before = seqs.range(..number).next_back();
        let after = seqs.range(number + 1..).next();
        let is_ascending = before.is_none_or(|(_, before)| *before < seq)
            && after.is_none_or(|(_, after)| seq < *after);
        if number == 0 || there != seq || !is_ascending {
            violated(
                "P4",
                format_args!(
                    "{id} of {reader:?} has {number} at {seq}, and {there} there, between {before:?} and {after:?}"
                ),
            );
        }
    }

    /// Every number that is missing between known ones belongs to an entry whose content nobody ever saw. `unseen` counts
    /// these entries above one seq and below another one.
    pub(super) fn are_dense(&self, reader: Reader, unseen: impl Fn(u64, u64) -> u64) {
        for (id, conversation) in self.all(reader) {
            let (mut number_before, mut seq_before) = (0, 0);
            for (number, seq) in &conversation.seqs {
                if number - number_before - 1 > unseen(seq_before, *seq) {
                    violated(
                        "P4",
                        format_args!(
                            "{id} of {reader:?} goes from {number_before} at {seq_before} to {number} at {seq}"
                        ),
                    );
                }
                (number_before, seq_before) = (*number, *seq);
            }
        }
    }

    /// The id of a user's conversation with a known message, by any number, and the highest number in it.
    pub(super) fn any(&self, reader: Reader, number: usize) -> Option<(String, u64)> {
        let count = self.all(reader).count();
        let (id, conversation) = self.all(reader).nth(number.checked_rem(count)?)?;
        let head = conversation.seqs.keys().next_back().copied();
        Some((id.clone(), head.unwrap_or_default()))
    }

    /// The seq in the inbox of a message.
    pub(super) fn seq_of(&self, reader: Reader, id: &str, number: u64) -> Option<u64> {
        let conversation = self.of.get(&(reader, id.to_owned()))?;
        conversation.seqs.get(&number).copied()
    }

    /// The number of the message at this seq of the inbox.
    pub(super) fn number_of(&self, reader: Reader, id: &str, seq: u64) -> Option<u64> {
        let conversation = self.of.get(&(reader, id.to_owned()))?;
        let mut seqs = conversation.seqs.iter();
        seqs.find(|(_, at)| **at == seq).map(|(number, _)| *number)
    }

    /// The ids of a user's conversations.
    pub(super) fn ids(&self, reader: Reader) -> impl Iterator<Item = &String> {
        self.all(reader).map(|(id, _)| id)
    }

    /// Somebody asks for a mark.
    pub(super) fn asks(&mut self, reader: Reader, id: &str, mark: u64) {
        let asked = &mut self.get(reader, id).asked;
        *asked = mark.max(*asked);
    }

    /// The gateway told a mark, in whatever way.
    pub(super) fn tells(&mut self, reader: Reader, id: &str, mark: u64) {
        let conversation = self.get(reader, id);
        conversation.told = mark.max(conversation.told);
        if mark > conversation.asked {
            let asked = conversation.asked;
            violated(
                "marks",
                format_args!("{id} of {reader:?} is marked up to {mark}, asked was {asked}"),
            );
        }
    }

    /// The gateway lists all conversations of a user.
    pub(super) fn lists(&mut self, reader: Reader, list: &[log::Conversation]) {
        for (id, known) in self.all(reader) {
            let is_listed = list.iter().any(|listed| *listed.id == **id);
            if !is_listed && !known.seqs.is_empty() {
                violated(
                    "P1",
                    format_args!("{id} of {reader:?} is not listed: {list:?}"),
                );
            }
        }
        for listed in list {
            self.tells(reader, &listed.id, listed.mark.0);
            let known = self.get(reader, &listed.id);
            let head = listed.head.0;
            if listed.mark.0 < known.told {
                violated(
                    "marks",
                    format_args!("{reader:?}: {listed:?}, marked up to {} before", known.told),
                );
            }
            let newest = known.seqs.last_key_value();
            let is_lost = newest.is_some_and(|(newest, _)| head < *newest);
            let is_other = known
                .seqs
                .get(&head)
                .is_some_and(|seq| listed.last_seq.0 != *seq);
            if is_lost || is_other || listed.mark.0 > head || listed.first.0 > head + 1 {
                violated(
                    "P4",
                    format_args!("{reader:?}: {listed:?}, although {newest:?} is known"),
                );
            }
            let time_ms = listed.last_time_ms;
            let there_ms = *known.times_ms.entry(head).or_insert(time_ms);
            let before = known.times_ms.range(..head).next_back();
            if there_ms != time_ms || before.is_some_and(|(_, before_ms)| *before_ms >= time_ms) {
                violated(
                    "P4",
                    format_args!("{reader:?}: {listed:?}, at {there_ms}, after {before:?}"),
                );
            }
        }
    }
}
