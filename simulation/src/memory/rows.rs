//! The contents of the log in memory, and the ways in which it fails.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use bytes::Bytes;

use super::{erasures::Erasures, feed::FeedRows, inbox::UserInbox};
use crate::{
    ids::{ConversationSeq, Epoch, MessageId, Platform, Seq, SessionKey, UserId},
    log::{
        Append, AppendError, Cause, Commit, CommitGroup, ConversationPage, ConversationRead, Inbox,
        InboxRead, LogError, Lookup, ReadLimit, Receipt, SessionRow, TokenTimes,
    },
    message::{Entry, Numbers, Origin, SettingsChange},
};

/// The first epoch of every [`MemoryLog`](super::MemoryLog).
pub const EPOCH: u64 = 7;

/// The way in which the log fails from now on.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Every append is refused at once.
    Refuse(AppendError),
    /// Every append is accepted into the queue and refused later.
    FailLater(AppendError),
    /// No append is answered.
    Hang,
    /// The sender of every answer is dropped.
    Vanish,
    /// Reads fail.
    Read(LogError),
    /// The entry with this seq cannot be read in any inbox.
    Damaged(Seq),
    /// `inbox` panics.
    Panic,
}

/// The time at which the log answers questions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Answering {
    /// At once.
    #[default]
    Now,
    /// Later. The answer is there when somebody waits for it.
    Later,
    /// At the next [`MemoryLog::release`](super::MemoryLog::release), as things are at the time of the question.
    Held,
}

/// The contents of the log. Tests look at them and change them.
#[derive(Default)]
pub struct Rows {
    /// The number of losses: each began another epoch.
    losses: u64,
    /// The base of the messages that are appended now.
    base: u32,
    /// The way in which the log fails now.
    pub fault: Option<Fault>,
    /// The reads that are answered before one of them fails; `None`: no read fails in this way.
    pub reads_before_failure: Option<usize>,
    /// The time at which questions are answered.
    pub answering: Answering,
    /// True if the log says that its format has no conversations.
    pub lacks_conversations: bool,
    /// Gives the answers that are held.
    pub(super) held: Vec<Box<dyn FnOnce() + Send>>,
    /// Every append that made an entry, oldest first.
    pub appends: Vec<Append>,
    /// The profile of each registered user.
    pub profiles: BTreeMap<UserId, Bytes>,
    /// The state of each session.
    pub sessions: BTreeMap<SessionKey, SessionRow>,
    pub(super) remembered: Vec<Remembered>,
    pub(super) inboxes: BTreeMap<UserId, UserInbox>,
    pub(super) tokens: BTreeMap<(UserId, Platform), TokenTimes>,
    pub(super) erasures: Erasures,
    pub(super) feed: FeedRows,
    /// The senders of answers that never come.
    pub hanging: Vec<Box<dyn std::any::Any + Send>>,
}

/// The remembered facts of an append of a message.
pub(super) struct Remembered {
    /// The digest of the append's request, if it had a key.
    fingerprint: Option<[u8; 16]>,
    pub(super) receipt: Receipt,
    /// True if only the key is still known.
    pub(super) is_expired: bool,
}

impl Rows {
    /// The failure of this read, if this read is the one that fails.
    pub(super) fn passing_failure(&mut self) -> Option<LogError> {
        let others = self.reads_before_failure.take()?;
        if others == 0 {
            return Some(LogError::new(Cause::ReadFailed, "this read fails"));
        }
        self.reads_before_failure = Some(others - 1);
        None
    }

    /// Messages have this base from now on.
    pub fn begin_base(&mut self, base: u32) {
        self.base = base;
        let inboxes = self.inboxes.values_mut();
        inboxes.for_each(|inbox| inbox.base = base);
    }

    /// The receipt, and the commit unless this is a repeat.
    pub(super) fn append(
        &mut self,
        append: Append,
    ) -> Result<(Receipt, Option<Commit>), AppendError> {
        let is_first = |Remembered {
                            fingerprint,
                            receipt,
                            ..
                        }: &&Remembered| {
            fingerprint.is_some()
                && receipt.sender == append.sender
                && receipt.client_message_id == append.client_message_id
        };
        if append.is_keyed
            && let Some(first) = self.remembered.iter().find(is_first)
        {
            return match first.fingerprint == Some(append.fingerprint) {
                true => Ok((first.receipt.clone(), None)),
                false => Err(AppendError::KeyReused),
            };
        }
        if append.is_marks && self.lacks_conversations {
            let failure = LogError::new(Cause::LookupFailed, "the format has no conversations");
            return Err(AppendError::Refusing(failure));
        }
        let origin = Origin::of(&append.body);
        let mut entries = Vec::new();
        for user in &append.receivers {
            let inbox = self.inboxes.entry(user.clone()).or_default();
            inbox.base = self.base;
            self.erasures.know(user);
            let numbers = if append.is_marks {
                inbox.add_marks(&origin.marks, &append)
            } else {
                let conversation = || origin.conversation_id(user.as_str());
                inbox.add_message((!self.lacks_conversations).then(conversation), &append)
            };
            entries.push((user.clone(), numbers));
        }
        let receipt = Receipt {
            message_id: append.message_id,
            sender: append.sender.clone(),
            client_message_id: append.client_message_id.clone(),
            send_time_ms: append.send_time_ms,
            receivers: entries.len() as u64,
            entries: entries.into(),
        };
        // Marks are no message: they are in the inbox, and nothing finds them by their id.
        if !append.is_marks {
            self.remembered.push(Remembered {
                fingerprint: append.is_keyed.then_some(append.fingerprint),
                receipt: receipt.clone(),
                is_expired: false,
            });
        }
        let commit = Commit {
            epoch: self.epoch(),
            body: append.body.clone(),
            entries: receipt.entries.clone(),
            group: CommitGroup::default(),
        };
        self.feed.add(&append, &receipt);
        self.appends.push(append);
        Ok((receipt, Some(commit)))
    }

    pub(super) fn check_readable(&self) -> Result<(), LogError> {
        match &self.fault {
            Some(Fault::Read(error)) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// The present epoch.
    pub fn epoch(&self) -> Epoch {
        Epoch(EPOCH + self.losses)
    }

    pub(super) fn inbox(&self, user: &UserId) -> Result<Inbox, LogError> {
        self.check_readable()?;
        let empty = UserInbox::default();
        let inbox = self.inboxes.get(user).unwrap_or(&empty);
        Ok(inbox.bounds(self.epoch()))
    }

    pub(super) fn read(
        &self,
        user: &UserId,
        after: Seq,
        limit: ReadLimit,
    ) -> Result<InboxRead, LogError> {
        let inbox = self.inbox(user)?;
        let entries = self.inboxes.get(user).into_iter();
        let entries = entries.flat_map(|inbox| inbox.after(after));
        Ok(InboxRead {
            inbox,
            entries: self.within(limit, entries)?,
        })
    }

    /// The first of these entries: as many as the limit allows.
    fn within<'a>(
        &self,
        limit: ReadLimit,
        entries: impl Iterator<Item = &'a Entry>,
    ) -> Result<Vec<Entry>, LogError> {
        let (mut within, mut bytes) = (Vec::new(), 0);
        for entry in entries.take(limit.messages.max(1)) {
            bytes += entry.content.body().map_or(0, Bytes::len);
            if bytes > limit.bytes && !within.is_empty() {
                break;
            }
            if matches!(self.fault, Some(Fault::Damaged(damaged)) if damaged == entry.numbers.seq) {
                return Err(LogError::new(Cause::Damaged, "it was damaged for a test"));
            }
            within.push(entry.clone());
        }
        Ok(within)
    }

    pub(super) fn conversations(
        &self,
        user: &UserId,
        before: Seq,
        limit: usize,
    ) -> Result<ConversationPage, LogError> {
        self.check_readable()?;
        let inbox = self.inboxes.get(user).into_iter();
        let all = inbox.flat_map(UserInbox::conversations);
        let mut conversations: Vec<_> = all.filter(|one| one.last_seq < before).collect();
        conversations.sort_unstable_by_key(|one| Reverse(one.last_seq));
        let is_end = conversations.len() <= limit;
        conversations.truncate(limit);
        Ok(ConversationPage {
            epoch: self.epoch(),
            conversations,
            is_end,
        })
    }

    pub(super) fn read_conversation(
        &self,
        user: &UserId,
        id: &str,
        range: (ConversationSeq, ConversationSeq),
        limit: ReadLimit,
    ) -> Result<ConversationRead, LogError> {
        self.check_readable()?;
        let mut read = ConversationRead {
            epoch: self.epoch(),
            conversation: None,
            entries: Vec::new(),
        };
        if let Some(inbox) = self.inboxes.get(user)
            && let Some(conversation) = inbox.conversation(id)
        {
            read.entries = self.within(limit, inbox.newest(&conversation, range))?;
            read.entries.reverse();
            read.conversation = Some(conversation);
        }
        Ok(read)
    }

    /// Makes retention remove every message. Keys are still remembered.
    pub(super) fn expire_all(&mut self) {
        self.inboxes.values_mut().for_each(UserInbox::expire);
        self.feed.expire();
        self.remembered
            .retain(|remembered| remembered.fingerprint.is_some());
        for remembered in &mut self.remembered {
            remembered.receipt.receivers = 0;
            remembered.receipt.entries = [].into();
            remembered.is_expired = true;
        }
    }

    /// Loses all messages and cursors. A new epoch begins.
    pub(super) fn lose_everything(&mut self) {
        self.inboxes.clear();
        self.feed.expire();
        self.remembered.clear();
        self.begin_epoch();
    }

    /// Begins a new epoch. No cursor counts in it.
    pub(super) fn begin_epoch(&mut self) {
        self.losses += 1;
        self.sessions.clear();
        self.feed.forget_cursors();
    }

    /// The number of epochs that began after the first.
    pub(super) fn losses(&self) -> u64 {
        self.losses
    }

    pub(super) fn delete(&mut self, user: &UserId, seqs: &[Seq]) {
        if let Some(inbox) = self.inboxes.get_mut(user) {
            seqs.iter().for_each(|seq| inbox.delete(*seq));
        }
    }

    pub(super) fn change_settings(
        &mut self,
        user: &UserId,
        changes: &[SettingsChange],
    ) -> Result<(), AppendError> {
        if self.lacks_conversations {
            let failure = LogError::new(Cause::LookupFailed, "the format has no conversations");
            return Err(AppendError::Refusing(failure));
        }
        if let Some(inbox) = self.inboxes.get_mut(user) {
            let change = |change| inbox.change_settings(change);
            changes.iter().for_each(change);
        }
        Ok(())
    }

    pub(super) fn find(&self, lookup: &Lookup) -> Result<Option<Receipt>, LogError> {
        self.check_readable()?;
        let is_it = |remembered: &&Remembered| match lookup {
            Lookup::Id(id) => remembered.receipt.message_id == *id && !remembered.is_expired,
            Lookup::Key {
                sender,
                client_message_id,
            } => {
                let receipt = &remembered.receipt;
                receipt.sender == *sender && receipt.client_message_id == *client_message_id
            }
        };
        let found = self.remembered.iter().find(is_it);
        Ok(found.map(|remembered| remembered.receipt.clone()))
    }

    pub(super) fn token_times(&self, user: &UserId, platform: Platform) -> TokenTimes {
        let times = self.tokens.get(&(user.clone(), platform));
        times.copied().unwrap_or_default()
    }

    /// The entries of a message.
    pub(super) fn entries(&self, message: MessageId) -> &[(UserId, Numbers)] {
        let mut remembered = self.remembered.iter();
        let found = remembered.find(|remembered| remembered.receipt.message_id == message);
        found.map_or(&[], |found| &found.receipt.entries)
    }

    pub(super) fn users(&self) -> Vec<UserId> {
        let with_inbox = self.inboxes.keys();
        let with_inbox = with_inbox.filter(|user| !self.erasures.is_unknown(user));
        let with_inbox = with_inbox.chain(self.profiles.keys());
        let with_session = self.sessions.keys().map(|key| &key.user);
        let users: BTreeSet<_> = with_inbox.chain(with_session).cloned().collect();
        users.into_iter().collect()
    }

    pub(super) fn raise_tokens(&mut self, user: UserId, platform: Platform, times: TokenTimes) {
        let row = self.tokens.entry((user, platform)).or_default();
        row.revoked_before_ms = row.revoked_before_ms.max(times.revoked_before_ms);
        row.newest_ms = row.newest_ms.max(times.newest_ms);
    }
}
