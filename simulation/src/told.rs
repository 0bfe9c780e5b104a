//! The promises about what phones are told. A phone knows a message by its conversation and its number there, and knows nothing of
//! the inbox.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    conversations::Reader,
    letter::number_in,
    model::{Model, SLACK_MS, user_id},
    phone::PhoneMessage,
    trace::violated,
    world::base_of,
};
use towncrier::ids::MessageId;

/// The id of each message that a phone stored, by reader, conversation and number.
pub(super) type ToldToPhones = BTreeMap<(Reader, String), BTreeMap<u64, String>>;

impl Model {
    /// A phone stores a message of a conversation.
    pub(super) fn stored_by_phone(&mut self, user: usize, id: &str, message: &PhoneMessage) {
        self.landings += 1;
        self.seen_by_phone(user, id, message);
    }

    /// A phone's user sees a message: it is the one that was sent, at its place.
    pub(super) fn seen_by_phone(&mut self, user: usize, id: &str, message: &PhoneMessage) {
        let server_id = &message.server_msg_id;
        let (Some(number), Ok(parsed)) = (
            number_in(message.sent().as_bytes()),
            server_id.parse::<MessageId>(),
        ) else {
            return violated("P8", format_args!("{message:?} was never sent"));
        };
        self.is_message(number, server_id, self.epoch, parsed.time_ms());
        let Some(letter) = self.letters.get(&number) else {
            return;
        };
        let is_receiver = letter
            .receivers
            .as_ref()
            .is_none_or(|receivers| receivers.contains(&user));
        let is_here = letter.talk.conversation_id(user) == id;
        let is_named = message.recv_id == user_id(user).as_str();
        if !is_receiver || !is_here || !is_named || letter.is_online_only {
            violated(
                "P2",
                format_args!("letter {number} came to user {user} in {id}: {message:?}"),
            );
        }
        let reader = (self.epoch, user);
        let Some(seq) = self.seq_on_phones(message.seq) else {
            return violated(
                "P4",
                format_args!("{message:?} has a number of an earlier log"),
            );
        };
        let told = self.told.entry((reader, id.to_owned())).or_default();
        let before = told.entry(seq).or_insert_with(|| server_id.clone());
        let inbox_seq = self.conversations.seq_of(reader, id, seq);
        let inbox = self.inboxes.get(&reader);
        let there = inbox_seq.and_then(|at| inbox?.letters.get(&at));
        if before != server_id || there.is_some_and(|(_, there)| there != server_id) {
            violated(
                "P4",
                format_args!("{id}/{seq} of user {user} is {message:?}, {before}, {there:?}"),
            );
        }
    }

    /// A phone shows a message that it does not store.
    pub(super) fn told_only(&self, user: usize, message: &PhoneMessage) {
        let number = number_in(message.sent().as_bytes());
        self.shown_letter(user, number);
    }

    /// A phone is told how far a conversation is read.
    pub(super) fn mark_told(&mut self, user: usize, id: &str, mark: i64) {
        self.marks += 1;
        let reader = (self.epoch, user);
        match self.seq_on_phones(mark) {
            Some(mark) => self.conversations.tells(reader, id, mark),
            None => violated(
                "P4",
                format_args!("the mark {mark} in {id} is of an earlier log"),
            ),
        }
    }

    /// The seq of the message that phones know under this number; `None`: of an earlier log.
    fn seq_on_phones(&self, number: i64) -> Option<u64> {
        let base = base_of(self.epoch).into();
        (number as u64).checked_sub(base).filter(|seq| *seq > 0)
    }

    /// In a log that was read as a whole, each message that a phone stored is there, under the same number, or was allowed to go.
    /// `deleted_unread`: the users of whom messages were deleted that nobody had read.
    pub(super) fn settle_told(&self, deleted_unread: &BTreeSet<usize>) {
        let here = self
            .told
            .iter()
            .filter(|((reader, _), _)| reader.0 == self.epoch);
        for ((reader, id), told) in here {
            for (number, server_id) in told {
                let seq = self.conversations.seq_of(*reader, id, *number);
                let inbox = self.inboxes.get(reader);
                match seq.and_then(|seq| inbox?.letters.get(&seq)) {
                    Some((_, there)) if there == server_id => {}
                    None if deleted_unread.contains(&reader.1) || self.has_expired(server_id) => {}
                    there => violated(
                        "P1",
                        format_args!(
                            "a phone of user {} has {id}/{number} as {server_id}, the log has {there:?}",
                            reader.1
                        ),
                    ),
                }
            }
        }
    }

    fn has_expired(&self, server_id: &str) -> bool {
        let of_it = |letter: &super::letter::Letter| letter.messages.get(server_id).copied();
        let known = self.letters.values().find_map(of_it);
        let now_ms = self.clock.now_ms();
        known.is_none_or(|known| known.at_ms + self.retention_ms <= now_ms + SLACK_MS)
    }
}
