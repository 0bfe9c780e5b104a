//! A log in memory, for tests and fuzzing of the rooms above the log. It keeps every promise except durability, and fails on
//! demand.
//!
//! This log passes the same tests as the embedded log, in `src/log/tests/conformance.rs`. The library's unit tests compile
//! this file as a module of theirs. The file therefore names the library as `crate`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::{
    ids::{Epoch, MessageId, Platform, Seq, SessionKey, UserId},
    log::{
        Append, AppendError, Cause, Commit, Consumer, Consumers, Inbox, InboxRead, Log, LogAnswer,
        LogError, Lookup, Pending, ReadLimit, Receipt, ResumePoint, SessionRow, Stored, TokenTimes,
    },
};

/// The first epoch of every [`MemoryLog`].
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
    /// At the next [`MemoryLog::release`], as things are at the time of the question.
    Held,
}

/// The log. An append is durable, and announced, when the call returns.
#[derive(Default)]
pub struct MemoryLog {
    rows: Mutex<Rows>,
    consumers: Consumers,
}

/// The contents of the log. Tests look at them and change them.
#[derive(Default)]
pub struct Rows {
    /// The number of losses: each began another epoch.
    losses: u64,
    /// The way in which the log fails now.
    pub fault: Option<Fault>,
    /// The time at which questions are answered.
    pub answering: Answering,
    /// Gives the answers that are held.
    held: Vec<Box<dyn FnOnce() + Send>>,
    /// Every append that made a message, oldest first.
    pub appends: Vec<Append>,
    /// The profile of each registered user.
    pub profiles: BTreeMap<UserId, Bytes>,
    /// The state of each session.
    pub sessions: BTreeMap<SessionKey, SessionRow>,
    remembered: Vec<Remembered>,
    inboxes: BTreeMap<UserId, Entries>,
    tokens: BTreeMap<(UserId, Platform), TokenTimes>,
    /// The senders of answers that never come.
    pub hanging: Vec<Box<dyn std::any::Any + Send>>,
}

/// The remembered facts of an append that made a message.
struct Remembered {
    /// The digest of the append's request, if it had a key.
    fingerprint: Option<[u8; 16]>,
    receipt: Receipt,
    /// True if only the key is still known.
    is_expired: bool,
}

/// One inbox.
#[derive(Default)]
struct Entries {
    /// The bodies from seq 1 on; `None` for a message that was deleted or has expired.
    bodies: Vec<Option<Bytes>>,
    /// The number of expired messages.
    expired: usize,
}

impl Entries {
    fn head(&self) -> Seq {
        Seq(self.bodies.len() as u64)
    }

    fn bounds(&self, epoch: Epoch) -> Inbox {
        Inbox {
            epoch,
            head: self.head(),
            first: Seq(self.expired as u64 + 1),
        }
    }
}

impl MemoryLog {
    /// The contents of the log.
    pub fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().expect("no holder panics")
    }

    /// Makes the log fail in this way from now on.
    pub fn fail(&self, fault: Fault) {
        self.rows().fault = Some(fault);
    }

    /// Makes retention remove every message. Keys are still remembered.
    pub fn expire_all(&self) {
        let mut rows = self.rows();
        for entries in rows.inboxes.values_mut() {
            entries.expired = entries.bodies.len();
        }
        rows.remembered
            .retain(|remembered| remembered.fingerprint.is_some());
        for remembered in &mut rows.remembered {
            remembered.receipt.receivers = 0;
            remembered.receipt.entries = [].into();
            remembered.is_expired = true;
        }
    }

    /// Loses all messages and cursors. A new epoch begins.
    pub fn lose_everything(&self) {
        let rows = &mut *self.rows();
        rows.losses += 1;
        rows.inboxes.clear();
        rows.remembered.clear();
        rows.sessions.clear();
    }

    /// The session's cursor.
    pub fn cursor(&self, key: &SessionKey) -> Option<Seq> {
        Some(self.rows().sessions.get(key)?.cursor)
    }

    /// Appends, and gives the commit to no consumer.
    pub fn append_unannounced(&self, append: Append) -> Result<Receipt, AppendError> {
        self.rows().append(append).map(|(receipt, _)| receipt)
    }

    fn answer<T: Send + 'static>(
        &self,
        make: impl FnOnce(&mut Rows) -> Result<T, AppendError>,
    ) -> Result<Pending<T>, AppendError> {
        let (answer, pending) = oneshot::channel();
        let mut rows = self.rows();
        match rows.fault.clone() {
            Some(Fault::Refuse(error)) => return Err(error),
            Some(Fault::FailLater(error)) => drop(answer.send(Err(error))),
            Some(Fault::Hang) => rows.hanging.push(Box::new(answer)),
            Some(Fault::Vanish) => drop(answer),
            _ => drop(answer.send(make(&mut rows))),
        }
        Ok(pending)
    }

    /// Gives the answers that are held, and returns their number.
    pub fn release(&self) -> usize {
        let held = std::mem::take(&mut self.rows().held);
        let count = held.len();
        held.into_iter().for_each(|answer| answer());
        count
    }

    fn reply<T: Send + 'static>(
        &self,
        make: impl FnOnce(&Rows) -> Result<T, LogError>,
    ) -> LogAnswer<T> {
        let mut rows = self.rows();
        let result = make(&rows);
        if rows.answering == Answering::Now {
            return LogAnswer::Now(result);
        }
        let (sender, receiver) = oneshot::channel();
        // The receiver may be dropped by then.
        let answer = move || drop(sender.send(result));
        if rows.answering == Answering::Held {
            rows.held.push(Box::new(answer));
        } else {
            answer();
        }
        LogAnswer::Later(receiver)
    }
}

impl Rows {
    /// The receipt, and the commit unless this is a repeat.
    fn append(&mut self, append: Append) -> Result<(Receipt, Option<Commit>), AppendError> {
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
        let mut entries = Vec::new();
        for user in &append.receivers {
            let inbox = self.inboxes.entry(user.clone()).or_default();
            inbox.bodies.push(Some(append.body.clone()));
            entries.push((user.clone(), inbox.head()));
        }
        let receipt = Receipt {
            message_id: append.message_id,
            sender: append.sender.clone(),
            client_message_id: append.client_message_id.clone(),
            send_time_ms: append.send_time_ms,
            receivers: entries.len() as u64,
            entries: entries.into(),
        };
        self.remembered.push(Remembered {
            fingerprint: append.is_keyed.then_some(append.fingerprint),
            receipt: receipt.clone(),
            is_expired: false,
        });
        let commit = Commit {
            epoch: self.epoch(),
            body: append.body.clone(),
            entries: receipt.entries.clone(),
        };
        self.appends.push(append);
        Ok((receipt, Some(commit)))
    }

    fn check_readable(&self) -> Result<(), LogError> {
        match &self.fault {
            Some(Fault::Read(error)) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// The present epoch.
    pub fn epoch(&self) -> Epoch {
        Epoch(EPOCH + self.losses)
    }

    fn inbox(&self, user: &UserId) -> Result<Inbox, LogError> {
        self.check_readable()?;
        let empty = Entries::default();
        let entries = self.inboxes.get(user).unwrap_or(&empty);
        Ok(entries.bounds(self.epoch()))
    }

    fn read(&self, user: &UserId, after: Seq, limit: ReadLimit) -> Result<InboxRead, LogError> {
        let inbox = self.inbox(user)?;
        let (mut stored, mut bytes) = (Vec::new(), 0);
        let bodies = self
            .inboxes
            .get(user)
            .map_or(&[][..], |entries| &entries.bodies);
        let skipped = after.max(inbox.first.previous()).0 as usize;
        let retained = (1..).map(Seq).zip(bodies).skip(skipped);
        for (seq, body) in retained.take(limit.messages.max(1)) {
            bytes += body.as_ref().map_or(0, Bytes::len);
            if bytes > limit.bytes && !stored.is_empty() {
                break;
            }
            if matches!(self.fault, Some(Fault::Damaged(damaged)) if damaged == seq) {
                return Err(LogError::new(Cause::Damaged, "it was damaged for a test"));
            }
            stored.push(Stored {
                seq,
                body: body.clone(),
            });
        }
        Ok(InboxRead { inbox, stored })
    }

    fn token_times(&self, user: &UserId, platform: Platform) -> TokenTimes {
        let times = self.tokens.get(&(user.clone(), platform));
        times.copied().unwrap_or_default()
    }

    /// The entries of a message.
    fn entries(&self, message: MessageId) -> &[(UserId, Seq)] {
        let mut remembered = self.remembered.iter();
        let found = remembered.find(|remembered| remembered.receipt.message_id == message);
        found.map_or(&[], |found| &found.receipt.entries)
    }

    fn users(&self) -> Vec<UserId> {
        let with_inbox = self.inboxes.keys().chain(self.profiles.keys());
        let with_session = self.sessions.keys().map(|key| &key.user);
        let users: BTreeSet<_> = with_inbox.chain(with_session).cloned().collect();
        users.into_iter().collect()
    }

    fn raise_tokens(&mut self, user: UserId, platform: Platform, times: TokenTimes) {
        let row = self.tokens.entry((user, platform)).or_default();
        row.revoked_before_ms = row.revoked_before_ms.max(times.revoked_before_ms);
        row.newest_ms = row.newest_ms.max(times.newest_ms);
    }
}

impl Log for MemoryLog {
    fn append(&self, append: Append) -> Result<Pending<Receipt>, AppendError> {
        self.answer(|rows| {
            let (receipt, commit) = rows.append(append)?;
            let consumers = self.consumers.read().expect("no holder panics");
            let take = |to: &Arc<dyn Consumer>| to.take(commit.as_slice());
            consumers.iter().for_each(take);
            Ok(receipt)
        })
    }

    fn append_to_everyone(&self, append: Append) -> Result<Pending<Receipt>, AppendError> {
        let receivers = self.rows().users();
        self.append(Append {
            receivers,
            ..append
        })
    }

    fn entries(
        &self,
        message: MessageId,
        skip: usize,
        limit: usize,
    ) -> LogAnswer<Vec<(UserId, Seq)>> {
        self.reply(|rows| {
            let entries = rows.entries(message).iter().skip(skip).take(limit);
            Ok(entries.cloned().collect())
        })
    }

    fn entry_of(&self, message: MessageId, user: &UserId) -> LogAnswer<Option<Seq>> {
        self.reply(|rows| {
            let entries = rows.entries(message).iter();
            let mut of_user = entries.filter(|(owner, _)| owner == user);
            Ok(of_user.next().map(|(_, seq)| *seq))
        })
    }

    fn inbox(&self, user: &UserId) -> LogAnswer<Inbox> {
        assert!(
            !matches!(self.rows().fault, Some(Fault::Panic)),
            "the test asked for this panic"
        );
        self.reply(|rows| rows.inbox(user))
    }

    fn read(&self, user: &UserId, after: Seq, limit: ReadLimit) -> LogAnswer<InboxRead> {
        self.reply(|rows| rows.read(user, after, limit))
    }

    fn find(&self, lookup: Lookup) -> LogAnswer<Option<Receipt>> {
        let is_it = |remembered: &&Remembered| match &lookup {
            Lookup::Id(id) => remembered.receipt.message_id == *id && !remembered.is_expired,
            Lookup::Key {
                sender,
                client_message_id,
            } => {
                let receipt = &remembered.receipt;
                receipt.sender == *sender && receipt.client_message_id == *client_message_id
            }
        };
        self.reply(|rows| {
            rows.check_readable()?;
            let found = rows.remembered.iter().find(is_it);
            Ok(found.map(|remembered| remembered.receipt.clone()))
        })
    }

    fn enter(&self, key: &SessionKey) -> LogAnswer<ResumePoint> {
        self.reply(|rows| {
            let times = rows.token_times(&key.user, key.platform);
            Ok(ResumePoint {
                revoked_before_ms: times.revoked_before_ms,
                stored: rows.sessions.get(key).copied(),
                inbox: rows.inbox(&key.user)?,
            })
        })
    }

    fn sessions(&self, user: &UserId) -> LogAnswer<Vec<(SessionKey, SessionRow)>> {
        self.reply(|rows| {
            let of_user = rows.sessions.iter().filter(|(key, _)| key.user == *user);
            Ok(of_user.map(|(key, row)| (key.clone(), *row)).collect())
        })
    }

    fn store_cursor(
        &self,
        key: &SessionKey,
        epoch: Epoch,
        row: SessionRow,
    ) -> Result<(), LogError> {
        let mut rows = self.rows();
        if epoch == rows.epoch() {
            rows.sessions.insert(key.clone(), row);
        }
        Ok(())
    }

    fn users(&self) -> LogAnswer<Vec<UserId>> {
        self.reply(|rows| Ok(rows.users()))
    }

    fn register(&self, user: UserId, profile: Bytes) -> Result<Pending<()>, AppendError> {
        self.answer(|rows| {
            rows.profiles.insert(user, profile);
            Ok(())
        })
    }

    fn revoke(
        &self,
        user: UserId,
        platform: Platform,
        before_ms: u64,
    ) -> Result<Pending<()>, AppendError> {
        let times = TokenTimes {
            revoked_before_ms: before_ms,
            newest_ms: 0,
        };
        self.answer(|rows| {
            rows.raise_tokens(user, platform, times);
            Ok(())
        })
    }

    fn token_times(&self, user: &UserId, platform: Platform) -> LogAnswer<TokenTimes> {
        self.reply(|rows| Ok(rows.token_times(user, platform)))
    }

    fn note_token(
        &self,
        user: &UserId,
        platform: Platform,
        issued_at_ms: u64,
    ) -> Result<(), LogError> {
        let times = TokenTimes {
            revoked_before_ms: 0,
            newest_ms: issued_at_ms,
        };
        self.rows().raise_tokens(user.clone(), platform, times);
        Ok(())
    }

    fn delete(&self, user: UserId, seqs: Vec<Seq>) -> Result<Pending<()>, AppendError> {
        self.answer(|rows| {
            if let Some(entries) = rows.inboxes.get_mut(&user) {
                let indices = seqs.iter().map(|seq| seq.0.wrapping_sub(1) as usize);
                for index in indices {
                    if let Some(body) = entries.bodies.get_mut(index) {
                        *body = None;
                    }
                }
            }
            Ok(())
        })
    }

    fn commits(&self, consumer: Arc<dyn Consumer>) {
        let mut consumers = self.consumers.write().expect("no holder panics");
        consumers.push(consumer);
    }

    fn check_writable(&self) -> Result<(), LogError> {
        match &self.rows().fault {
            Some(Fault::Refuse(AppendError::Refusing(failure))) => Err(failure.clone()),
            _ => Ok(()),
        }
    }
}
