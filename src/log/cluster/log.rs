//! The requests of the rooms above: the cluster log as a [`Log`].
//!
//! Appends go to a lane, changes of rows to the writer of rows. Each question is asked of the store in a task of its own, and is
//! answered once all that it saw is confirmed.

use std::{
    future::Future,
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
    sync::{Arc, PoisonError},
};

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use super::{
    ClusterLog, LogSenders, OWN_BACKUP,
    core::ClusterCore,
    engine::{EngineError, StoreChange, answer_of},
    everyone::ToEveryone,
    lock,
    rows::{RowWork, flush},
};
use crate::{
    ids::{ConversationSeq, Epoch, Fence, MessageId, Platform, Seq, SessionKey, UserId},
    log::{
        Append, AppendError, BackupError, BackupState, Cause, Consumer, ConversationPage,
        ConversationRead, CursorPage, Erasure, FeedLimit, FeedPage, FeedPosition, Inbox, InboxRead,
        Log, LogAnswer, LogError, Lookup, Pending, ReadLimit, Receipt, ResumePoint, RowChange,
        RowTable, SessionRow, TokenTimes, TurnNumber, WorkTurn,
    },
    message::{Numbers, SettingsChange},
};

/// The answer to a read that failed.
fn read_failed(error: EngineError) -> LogError {
    let cause = match error {
        EngineError::Away(_) => Cause::Away,
        EngineError::Unknown(_) | EngineError::Refused(_) => Cause::ReadFailed,
        EngineError::Damaged(_) => Cause::Damaged,
    };
    LogError::new(cause, error)
}

impl ClusterLog {
    /// Asks the store. Nobody's thread waits.
    fn ask<T, F>(&self, ask: impl FnOnce(Arc<ClusterCore>) -> F) -> LogAnswer<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, EngineError>> + Send + 'static,
    {
        let Ok(permit) = Arc::clone(&self.questions).try_acquire_owned() else {
            let error = LogError::new(Cause::ReadFailed, "too many reads wait for the store");
            return LogAnswer::Now(Err(error));
        };
        let (mut sender, receiver) = oneshot::channel();
        let patience = self.core.answer_within;
        let answer = answer_of(ask(Arc::clone(&self.core)), patience);
        self.runtime.spawn(async move {
            tokio::select! {
                biased;
                // A caller that has gone needs no answer.
                () = sender.closed() => {}
                answer = answer => drop(sender.send(answer.map_err(read_failed))),
            }
            drop(permit);
        });
        LogAnswer::Later(receiver)
    }

    /// The same, after everything that is written behind is stored.
    fn ask_after_flush<T, F>(
        &self,
        ask: impl FnOnce(Arc<ClusterCore>) -> F + Send + 'static,
    ) -> LogAnswer<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, EngineError>> + Send + 'static,
    {
        let rows = self.sender(|senders| Ok(senders.rows.clone()));
        self.ask(move |core| async move {
            let closed = |_| EngineError::Away("the log is closed".into());
            flush(&rows.map_err(closed)?).await?;
            ask(core).await
        })
    }

    /// The epoch and the head of each user's inbox, once they are confirmed. One round trip.
    pub fn heads(&self, users: Vec<UserId>) -> LogAnswer<Vec<(Epoch, Seq)>> {
        self.ask(move |core| async move {
            let horizon = core.barrier.horizon();
            let seen = core.engine.heads(users, horizon).await?;
            core.barrier.confirmed(seen).await
        })
    }

    /// The platforms of these users on which all known tokens are revoked, with the time of the revocation, Unix ms. A token that this
    /// gateway has accepted is known.
    pub fn logged_out(&self, users: Vec<UserId>) -> LogAnswer<Vec<(UserId, Platform, u64)>> {
        self.ask_after_flush(move |core| async move { core.engine.logged_out(users).await })
    }

    /// Uses the callers' end of a task, unless the log is closed.
    pub(super) fn sender<T>(
        &self,
        with: impl FnOnce(&LogSenders) -> Result<T, AppendError>,
    ) -> Result<T, AppendError> {
        let senders = self.senders.read().unwrap_or_else(PoisonError::into_inner);
        let senders = senders.as_ref();
        with(senders.ok_or_else(ClusterCore::closed)?)
    }

    /// Makes a change durable.
    fn change(&self, change: StoreChange) -> Result<Pending<()>, AppendError> {
        let (caller, pending) = oneshot::channel();
        let work = RowWork::change(change, caller);
        self.sender(|senders| {
            let sent = senders.rows.try_send(work);
            sent.map_err(|_| AppendError::QueueFull)
        })?;
        Ok(pending)
    }
}

/// True if this is a session of before the erasure. One that acked late may still be in memory.
fn is_erased(erasure: Option<Erasure>, row: &SessionRow) -> bool {
    erasure.is_some_and(|erasure| erasure.covers_session(row))
}

fn check_rows(rows: &[RowChange]) -> Result<(), AppendError> {
    if rows.iter().all(RowChange::fits) {
        return Ok(());
    }
    let text = "a row has no key, or is too long";
    let failure = LogError::new(Cause::LookupFailed, text);
    Err(AppendError::Refusing(failure))
}

impl Log for ClusterLog {
    fn append(&self, append: Append) -> Result<Pending<Receipt>, AppendError> {
        self.check_writable().map_err(AppendError::Refusing)?;
        // The messages of one user go one way, so they are handed on in the order of their seqs.
        let mut hasher = DefaultHasher::new();
        append.receivers.first().hash(&mut hasher);
        let hash = hasher.finish() as usize;
        let (caller, pending) = oneshot::channel();
        self.sender(|senders| senders.lanes[hash % senders.lanes.len()].put(append, caller))?;
        Ok(pending)
    }

    fn append_to_everyone(&self, append: Append) -> Result<Pending<Receipt>, AppendError> {
        self.check_writable().map_err(AppendError::Refusing)?;
        let (caller, pending) = oneshot::channel();
        let (permit, rows) = self.sender(|senders| {
            let permit = senders.everyone.clone().try_reserve_owned();
            let permit = permit.map_err(|_| AppendError::QueueFull)?;
            Ok((permit, senders.rows.clone()))
        })?;
        // The store knows a user by a session only once the session's cursor is written.
        self.runtime.spawn(async move {
            match flush(&rows).await {
                Ok(()) => drop(permit.send(ToEveryone { append, caller })),
                Err(_) => drop(caller.send(Err(ClusterCore::away()))),
            }
        });
        Ok(pending)
    }

    fn entries(
        &self,
        message: MessageId,
        skip: usize,
        limit: usize,
    ) -> LogAnswer<Vec<(UserId, Numbers)>> {
        self.ask(|core| async move {
            let entries = core.engine.entries(message, skip, limit).await?;
            core.barrier.pass().await?;
            Ok(entries)
        })
    }

    fn entry_of(&self, message: MessageId, user: &UserId) -> LogAnswer<Option<Numbers>> {
        let user = user.clone();
        self.ask(|core| async move {
            let entry = core.engine.entry_of(message, user).await?;
            core.barrier.pass().await?;
            Ok(entry)
        })
    }

    fn inbox(&self, user: &UserId) -> LogAnswer<Inbox> {
        let user = user.clone();
        self.ask(|core| async move {
            let horizon = core.barrier.horizon();
            let seen = core.engine.inbox(user, horizon).await?;
            core.barrier.confirmed(seen).await
        })
    }

    fn read(&self, user: &UserId, after: Seq, limit: ReadLimit) -> LogAnswer<InboxRead> {
        let user = user.clone();
        self.ask(move |core| async move {
            let horizon = core.barrier.horizon();
            let seen = core.engine.read(user, after, limit, horizon).await?;
            core.barrier.confirmed(seen).await
        })
    }

    fn conversations(
        &self,
        user: &UserId,
        before: Seq,
        limit: usize,
    ) -> LogAnswer<ConversationPage> {
        let user = user.clone();
        self.ask(move |core| async move {
            let horizon = core.barrier.horizon();
            let page = core.engine.conversations(user, before, limit, horizon);
            core.barrier.confirmed(page.await?).await
        })
    }

    fn read_conversation(
        &self,
        user: &UserId,
        conversation: &str,
        range: (ConversationSeq, ConversationSeq),
        limit: ReadLimit,
    ) -> LogAnswer<ConversationRead> {
        let (user, id) = (user.clone(), conversation.to_owned());
        self.ask(move |core| async move {
            let horizon = core.barrier.horizon();
            let engine = &core.engine;
            let read = engine.read_conversation(user, id, range, limit, horizon);
            core.barrier.confirmed(read.await?).await
        })
    }

    fn has_conversations(&self) -> bool {
        true
    }

    fn find(&self, lookup: Lookup) -> LogAnswer<Option<Receipt>> {
        self.ask(|core| async move {
            let found = core.engine.find(lookup).await?;
            if found.is_some() {
                core.barrier.pass().await?;
            }
            Ok(found)
        })
    }

    fn enter(&self, key: &SessionKey) -> LogAnswer<ResumePoint> {
        let key = key.clone();
        self.ask(|core| async move {
            loop {
                let held = core.cursors.held_of(&key.user);
                let horizon = core.barrier.horizon();
                let seen = core.engine.enter(key.clone(), horizon).await?;
                let entered = core.barrier.confirmed(seen).await?;
                let mut point = entered.point;
                let epoch = point.inbox.epoch;
                let stored = point.stored.map(|row| (entered.fence, row));
                let newest = core.cursors.newest(&key, epoch, stored);
                let newest = newest.map(|(_, row)| row);
                point.stored = newest.filter(|row| !is_erased(entered.erasure, row));
                // Otherwise the cursor may have reached the store after the read.
                if core.cursors.holds(&key.user, &held) {
                    return Ok(point);
                }
            }
        })
    }

    fn sessions(&self, user: &UserId) -> LogAnswer<Vec<(SessionKey, SessionRow)>> {
        let user = user.clone();
        self.ask(|core| async move {
            loop {
                let held = core.cursors.held_of(&user);
                let mut sessions = core.engine.sessions(user.clone()).await?;
                let rows = &mut sessions.rows;
                core.cursors.complete(&user, sessions.epoch, rows);
                rows.retain(|(_, row)| !is_erased(sessions.erasure, row));
                if core.cursors.holds(&user, &held) {
                    return Ok(sessions.rows);
                }
            }
        })
    }

    fn store_cursor(
        &self,
        key: &SessionKey,
        epoch: Epoch,
        fence: Fence,
        row: SessionRow,
    ) -> Result<(), LogError> {
        self.core.cursors.store(key, epoch, fence, row);
        Ok(())
    }

    fn begin_session(
        &self,
        key: &SessionKey,
        epoch: Epoch,
        fence: Fence,
        row: SessionRow,
    ) -> Result<Pending<()>, AppendError> {
        self.core.cursors.store(key, epoch, fence, row);
        self.change(StoreChange::Cursor(key.clone(), epoch, fence, row))
    }

    fn users(&self) -> LogAnswer<Vec<UserId>> {
        self.ask_after_flush(|core| async move { core.engine.users().await })
    }

    fn register(&self, user: UserId, profile: Bytes) -> Result<Pending<()>, AppendError> {
        self.change(StoreChange::Register(user, profile))
    }

    fn profile(&self, user: &UserId) -> LogAnswer<Option<Bytes>> {
        let user = user.clone();
        self.ask(|core| async move { core.engine.profile(user).await })
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
        self.change(StoreChange::Tokens(user, platform, times))
    }

    fn token_times(&self, user: &UserId, platform: Platform) -> LogAnswer<TokenTimes> {
        let user = user.clone();
        self.ask(move |core| async move {
            loop {
                let held = core.cursors.held_of(&user);
                let stored = core.engine.token_times(user.clone(), platform).await?;
                let times = core.cursors.complete_tokens(&user, platform, stored);
                if core.cursors.holds(&user, &held) {
                    return Ok(times);
                }
            }
        })
    }

    fn note_token(
        &self,
        user: &UserId,
        platform: Platform,
        issued_at_ms: u64,
    ) -> Result<(), LogError> {
        self.core.cursors.note(user, platform, issued_at_ms);
        Ok(())
    }

    fn delete(&self, user: UserId, seqs: Vec<Seq>) -> Result<Pending<()>, AppendError> {
        self.change(StoreChange::Delete(user, seqs))
    }

    fn change_settings(
        &self,
        user: UserId,
        changes: Vec<SettingsChange>,
    ) -> Result<Pending<()>, AppendError> {
        self.change(StoreChange::Settings(user, changes))
    }

    fn erase(&self, user: UserId, before_ms: u64) -> Result<Pending<Erasure>, AppendError> {
        self.begin_erasure(user, before_ms)
    }

    fn check_erasable(&self) -> Result<(), AppendError> {
        Ok(())
    }

    fn erasure(&self, user: &UserId) -> LogAnswer<Option<Erasure>> {
        let user = user.clone();
        self.ask(|core| async move { core.engine.erasure(user).await })
    }

    fn put_rows(&self, rows: Vec<RowChange>) -> Result<Pending<()>, AppendError> {
        check_rows(&rows)?;
        self.change(StoreChange::Rows(rows))
    }

    fn turn(&self) -> WorkTurn {
        WorkTurn::of(&self.turns)
    }

    fn put_rows_in(
        &self,
        turn: TurnNumber,
        rows: Vec<RowChange>,
    ) -> Result<Pending<()>, AppendError> {
        check_rows(&rows)?;
        self.change(StoreChange::RowsIn(turn, rows))
    }

    fn rows(
        &self,
        table: RowTable,
        prefix: &[u8],
        after: &[u8],
        limit: usize,
    ) -> LogAnswer<Vec<(Bytes, Bytes)>> {
        let (prefix, after) = (prefix.to_vec(), after.to_vec());
        self.ask(move |core| async move {
            let horizon = core.barrier.horizon();
            let rows = core.engine.rows(table, prefix, after, limit, horizon);
            core.barrier.confirmed(rows.await?).await
        })
    }

    fn feed(&self, from: FeedPosition, limit: FeedLimit) -> LogAnswer<FeedPage> {
        self.ask(move |core| async move { core.engine.feed(core.barrier.lane, from, limit).await })
    }

    fn cursor_feed(&self, from: FeedPosition, limit: usize) -> LogAnswer<CursorPage> {
        self.ask(move |core| async move {
            let lane = core.barrier.lane;
            core.engine.cursor_feed(lane, from, limit).await
        })
    }

    fn commits(&self, consumer: Arc<dyn Consumer>) {
        let consumers = self.core.consumers.write();
        consumers
            .unwrap_or_else(PoisonError::into_inner)
            .push(consumer);
    }

    fn check_writable(&self) -> Result<(), LogError> {
        self.core.check_writable()
    }

    fn check_store(&self) -> Result<(), String> {
        let fault = lock(&self.core.store_fault).clone();
        fault.map_or(Ok(()), Err)
    }

    fn back_up(&self, _: &str, _: &Path) -> Result<watch::Receiver<BackupState>, BackupError> {
        Err(BackupError::Elsewhere(OWN_BACKUP))
    }
}
