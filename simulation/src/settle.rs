//! The model against a log that is read as a whole.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use towncrier_client::proto::Message;

use super::{
    conversations::Reader,
    letter::{Letter, number_in},
    model::{Model, SLACK_MS, at_once, listed, user_id},
    trace::{note, violated},
};
use towncrier::{
    ids::{ConversationSeq, Seq},
    log::{Log as _, ReadLimit, embedded::EmbeddedLog},
    message::{Content, Entry, StoredMessage},
};

/// The messages that are in an inbox, by conversation: the seq of each conversation seq.
type Numbered = BTreeMap<String, BTreeMap<u64, u64>>;

/// No limit of a read.
pub(super) const ALL: ReadLimit = ReadLimit {
    messages: usize::MAX,
    bytes: usize::MAX,
};

impl Model {
    /// Reads all inboxes of a healthy log: every accepted message is there or was allowed to go, and no other message is
    /// there. A message that is missing now must never appear later, unless it was deleted before any read. The gateway
    /// counts as unread what is there above a mark.
    pub(super) fn settle(&mut self, users: usize, log: &EmbeddedLog) {
        let mut deleted_unread = BTreeSet::new();
        for user in 0..users {
            let reader = (self.epoch, user);
            let mut after = Seq::ZERO;
            let limit = ReadLimit {
                messages: 100,
                bytes: 1 << 20,
            };
            let (mut seen, mut numbered) = (BTreeSet::new(), Numbered::new());
            loop {
                let entries = match log.read_blocking(&user_id(user), after, limit) {
                    Ok(read) => read.entries,
                    Err(error) => {
                        return violated(
                            "P1",
                            format_args!("the inbox of user {user} does not read: {error}"),
                        );
                    }
                };
                let Some(last) = entries.last() else { break };
                after = last.numbers.seq;
                for entry in entries {
                    let seq = entry.numbers.seq.0;
                    seen.insert(seq);
                    if entry.content == Content::Removed && !self.is_known(reader, seq) {
                        deleted_unread.insert(user);
                    } else {
                        self.settle_entry(reader, entry, &mut numbered);
                    }
                }
            }
            let inbox = log.inbox(&user_id(user)).blocking_wait();
            let head = inbox.map_or(0, |inbox| inbox.head.0);
            for seq in 1..=head.max(self.head(user)) {
                if !seen.contains(&seq) && !self.may_be_gone(user, self.epoch, seq) {
                    violated("P1", format_args!("entry {seq} of user {user} is lost"));
                }
            }
            self.settle_conversations(reader, log, &numbered);
        }
        self.settle_told(&deleted_unread);
        let is_spreading = log.is_spreading().unwrap_or(true);
        if !is_spreading {
            self.check_everyone(&deleted_unread);
        }
        let now_ms = self.clock.now_ms();
        for letter in self.letters.values_mut() {
            let may_be_deleted = letter.receivers.as_ref().map_or_else(
                || !deleted_unread.is_empty(),
                |receivers| !receivers.is_disjoint(&deleted_unread),
            );
            // The key of a message may outlive the message, if that has expired or was deleted.
            let may_come = is_spreading && letter.receivers.is_none() || may_be_deleted;
            if !may_come && letter.tried_ms + self.retention_ms > now_ms + SLACK_MS {
                letter.unknown = 0;
            }
            // Every stored message was accepted, even if no caller was told.
            for known in letter.messages.values_mut() {
                known.is_answered = true;
            }
        }
        note(format_args!("settled: {} letters", self.letters.len()));
    }

    fn settle_entry(&mut self, reader: Reader, entry: Entry, numbered: &mut Numbered) {
        let ((epoch, user), seq) = (reader, entry.numbers.seq.0);
        match entry.content {
            Content::Removed if self.may_be_gone(user, epoch, seq) => {}
            Content::Removed => violated("P1", format_args!("entry {seq} of user {user} is empty")),
            Content::Marks(body) => {
                self.has_marks(reader, seq);
                for mark in StoredMessage::from_bytes(&body).marks {
                    self.conversations
                        .tells(reader, &mark.conversation_id, mark.conversation_seq);
                }
            }
            Content::Message(body) => match Message::decode(body) {
                Err(error) => violated("P8", format_args!("a message does not decode: {error}")),
                Ok(mut message) => {
                    message.seq = seq;
                    message.conversation_seq = entry.numbers.conversation_seq.0;
                    self.is_read(user, epoch, &message);
                    let number = number_in(&message.content);
                    let letter = number.and_then(|number| self.letters.get(&number));
                    if let Some(letter) = letter {
                        let id = letter.talk.conversation_id(user);
                        let numbers = numbered.entry(id).or_default();
                        numbers.insert(message.conversation_seq, seq);
                    }
                }
            },
        }
    }

    /// The conversations of a user are numbered without holes, hold the messages of the inbox, and count what is unread.
    fn settle_conversations(&mut self, reader: Reader, log: &EmbeddedLog, numbered: &Numbered) {
        let list = listed(log, reader.1);
        self.conversations.lists(reader, &list);
        self.conversations.are_dense(reader, |after, before| {
            let between = after + 1..before;
            between.filter(|seq| !self.is_known(reader, *seq)).count() as u64
        });
        let inbox = self.inboxes.get(&reader);
        let miscounted = inbox.map_or(0, |inbox| inbox.deleted_in_damage);
        for listed in list {
            let range = (ConversationSeq(1), ConversationSeq(u64::MAX));
            let read = log.read_conversation(&user_id(reader.1), &listed.id, range, ALL);
            let entries = at_once(read).map_or_else(|_| Vec::new(), |read| read.entries);
            let numbers = entries.iter().map(|entry| entry.numbers.conversation_seq.0);
            let is_whole = numbers.eq(listed.first.0..=listed.head.0);
            let messages = entries
                .iter()
                .filter(|entry| entry.content != Content::Removed)
                .map(|entry| (entry.numbers.conversation_seq.0, entry.numbers.seq.0))
                .collect::<BTreeMap<_, _>>();
            // A crash within retention may leave the inbox and the conversation with different beginnings for a moment.
            let of_inbox = numbered.get(&*listed.id).cloned().unwrap_or_default();
            let begin = of_inbox
                .first_key_value()
                .map_or(u64::MAX, |(first, _)| *first);
            let begin = begin.max(listed.first.0);
            let is_same = messages.range(begin..).eq(of_inbox.range(begin..));
            let unread = messages.range(listed.mark.0 + 1..).count() as u64;
            let is_counted = (unread..=unread + miscounted).contains(&listed.unread);
            if !is_whole || !is_same || !is_counted {
                violated(
                    "unread",
                    format_args!(
                        "of {reader:?}: {listed:?}, {messages:?}, in the inbox {of_inbox:?}"
                    ),
                );
            }
        }
    }

    /// A message to all users is in the inbox of each user who was known before it, unless it was allowed to go.
    fn check_everyone(&self, deleted_unread: &BTreeSet<usize>) {
        let (epoch, kept_ms) = (self.epoch, self.clock.now_ms() + SLACK_MS);
        let has = |user: &usize, id: &String| {
            let inbox = self.inboxes.get(&(epoch, *user));
            inbox.is_some_and(|inbox| inbox.letters.values().any(|(_, there)| there == id))
        };
        let is_to_all = |letter: &&Letter| letter.receivers.is_none() && !letter.is_online_only;
        for letter in self.letters.values().filter(is_to_all) {
            let reaches = letter.reaches.get(&epoch).into_iter().flatten();
            let reaches = reaches.filter(|user| !deleted_unread.contains(user));
            let here = letter.messages.iter().filter(|(_, known)| {
                known.epoch == epoch && known.at_ms + self.retention_ms > kept_ms
            });
            for ((id, _), user) in
                here.flat_map(|known| reaches.clone().map(move |user| (known, user)))
            {
                if !has(user, id) {
                    violated(
                        "P1",
                        format_args!("{id}, to all users, did not come to user {user}"),
                    );
                }
            }
        }
    }
}
