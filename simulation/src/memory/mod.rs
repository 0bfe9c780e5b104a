//! A log in memory, for tests and fuzzing of the rooms above the log. It keeps every promise except durability, and fails on
//! demand.
//!
//! This log passes the same tests as the embedded log, in `src/log/tests/conformance.rs`. The library's unit tests compile
//! this folder as a module of theirs. Its files therefore name the library as `crate`.
//!
//! - this file: [`MemoryLog`], and the time of its answers
//! - `rows.rs`: the contents of the log, and the ways in which it fails
//! - `engine.rs`: a store of a fleet, with a standby, in memory; `servers.rs`: its servers; `store_rows.rs`: their rows
//! - `faults.rs`: the faults of such a store; `fleet.rs`: the gateways on it; `fleet_rows.rs`: their rows
//! - `feed.rs`: the commits so far, and the rows beside the messages
//! - `erasures.rs`: users who were erased
//! - `inbox.rs`: one user's inbox, with its conversations and read marks

mod engine;
mod erasures;
mod faults;
mod feed;
mod fleet;
mod fleet_rows;
mod inbox;
mod rows;
mod servers;
mod store_rows;

use std::sync::{Arc, Mutex, MutexGuard};

pub use self::{
    engine::SimEngine,
    rows::{Answering, EPOCH, Fault, Rows},
    servers::StoreFault,
};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::{
    ids::{ConversationSeq, Epoch, Fence, MessageId, Platform, Seq, SessionKey, UserId},
    log::{
        Append, AppendError, Consumer, Consumers, ConversationPage, ConversationRead, CursorPage,
        Erasure, FeedLimit, FeedPage, FeedPosition, Inbox, InboxRead, Log, LogAnswer, LogError,
        Lookup, Pending, ReadLimit, Receipt, ResumePoint, RowChange, RowTable, SessionRow,
        TokenTimes,
    },
    message::{Numbers, SettingsChange},
};

/// The log. An append is durable, and announced, when the call returns.
#[derive(Default)]
pub struct MemoryLog {
    rows: Mutex<Rows>,
    consumers: Consumers,
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

    /// Makes one read fail, once, after so many other reads.
    pub fn fail_read_after(&self, reads: usize) {
        self.rows().reads_before_failure = Some(reads);
    }

    /// Makes retention remove every message. Keys are still remembered.
    pub fn expire_all(&self) {
        self.rows().expire_all();
    }

    /// Loses all messages and cursors. A new epoch begins.
    pub fn lose_everything(&self) {
        self.rows().lose_everything();
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
        let result = match rows.passing_failure() {
            Some(error) => Err(error),
            None => make(&rows),
        };
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
    ) -> LogAnswer<Vec<(UserId, Numbers)>> {
        self.reply(|rows| {
            let entries = rows.entries(message).iter().skip(skip).take(limit);
            Ok(entries.cloned().collect())
        })
    }

    fn entry_of(&self, message: MessageId, user: &UserId) -> LogAnswer<Option<Numbers>> {
        self.reply(|rows| {
            let entries = rows.entries(message).iter();
            let mut of_user = entries.filter(|(owner, _)| owner == user);
            Ok(of_user.next().map(|(_, numbers)| *numbers))
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

    fn conversations(
        &self,
        user: &UserId,
        before: Seq,
        limit: usize,
    ) -> LogAnswer<ConversationPage> {
        self.reply(|rows| rows.conversations(user, before, limit))
    }

    fn read_conversation(
        &self,
        user: &UserId,
        conversation: &str,
        range: (ConversationSeq, ConversationSeq),
        limit: ReadLimit,
    ) -> LogAnswer<ConversationRead> {
        self.reply(|rows| rows.read_conversation(user, conversation, range, limit))
    }

    fn has_conversations(&self) -> bool {
        !self.rows().lacks_conversations
    }

    fn find(&self, lookup: Lookup) -> LogAnswer<Option<Receipt>> {
        self.reply(|rows| rows.find(&lookup))
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

    fn session_now(&self, key: &SessionKey) -> Option<SessionRow> {
        self.rows().sessions.get(key).copied()
    }

    fn store_cursor(
        &self,
        key: &SessionKey,
        epoch: Epoch,
        _: Fence,
        row: SessionRow,
    ) -> Result<(), LogError> {
        let mut rows = self.rows();
        if epoch == rows.epoch() {
            rows.move_cursor(key, row);
        }
        Ok(())
    }

    fn begin_session(
        &self,
        key: &SessionKey,
        epoch: Epoch,
        _: Fence,
        row: SessionRow,
    ) -> Result<Pending<()>, AppendError> {
        self.answer(|rows| {
            if epoch == rows.epoch() {
                rows.move_cursor(key, row);
            }
            Ok(())
        })
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

    fn profile(&self, user: &UserId) -> LogAnswer<Option<Bytes>> {
        self.reply(|rows| Ok(rows.profiles.get(user).cloned()))
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
            rows.delete(&user, &seqs);
            Ok(())
        })
    }

    fn change_settings(
        &self,
        user: UserId,
        changes: Vec<SettingsChange>,
    ) -> Result<Pending<()>, AppendError> {
        self.answer(|rows| rows.change_settings(&user, &changes))
    }

    fn erase(&self, user: UserId, before_ms: u64) -> Result<Pending<Erasure>, AppendError> {
        self.answer(|rows| rows.erase(user, before_ms))
    }

    fn check_erasable(&self) -> Result<(), AppendError> {
        Ok(())
    }

    fn erasure(&self, user: &UserId) -> LogAnswer<Option<Erasure>> {
        self.reply(|rows| Ok(rows.erasure(user)))
    }

    fn put_rows(&self, changes: Vec<RowChange>) -> Result<Pending<()>, AppendError> {
        self.answer(|rows| rows.put_rows(changes))
    }

    fn rows(
        &self,
        table: RowTable,
        prefix: &[u8],
        after: &[u8],
        limit: usize,
    ) -> LogAnswer<Vec<(Bytes, Bytes)>> {
        self.reply(|rows| rows.page(table, prefix, after, limit))
    }

    fn feed(&self, from: FeedPosition, limit: FeedLimit) -> LogAnswer<FeedPage> {
        self.reply(|rows| rows.feed(from, limit))
    }

    fn cursor_feed(&self, from: FeedPosition, limit: usize) -> LogAnswer<CursorPage> {
        self.reply(|rows| rows.cursor_feed(from, limit))
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
