//! The requests of the rooms above: the embedded log as a [`Log`].
//!
//! Appends go to the writer's queue. A question is answered at once if its answer is in memory, or is one row. All other
//! questions are answered where a wait for the disk delays nobody.

use std::{
    path::Path,
    sync::{Arc, PoisonError},
};

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use super::{
    Append, AppendError, BackupError, BackupState, Cause, Consumer, ConversationPage,
    ConversationRead, CursorPage, EmbeddedLog, Erasure, FeedLimit, FeedPage, FeedPosition, Inbox,
    InboxRead, Log, LogAnswer, LogError, Lookup, Patience, Pending, ReadError, ReadLimit, Receipt,
    Refusing, ResumePoint, RowChange, RowTable, SessionRow, TokenTimes, core::Core, erase,
    lock::lock, queue::Work, record::Record, table_id::TableId,
};
use crate::{
    ids::{ConversationSeq, Epoch, Fence, MessageId, Platform, Seq, SessionKey, UserId},
    message::{Numbers, SettingsChange},
    metrics::ByKind,
};

impl EmbeddedLog {
    /// The same as [`Log::read`], on the caller's thread, which may wait for the disk.
    pub fn read_blocking(
        &self,
        user: &UserId,
        after: Seq,
        limit: ReadLimit,
    ) -> Result<InboxRead, LogError> {
        Ok(self.core.read(user, after, limit, Patience::Disk)?)
    }

    /// The same as [`Log::find`], on the caller's thread, which may wait for the disk.
    pub fn find_blocking(&self, lookup: &Lookup) -> Result<Option<Receipt>, LogError> {
        Ok(self.core.find(lookup)?)
    }

    /// Looks into the log where a wait for the disk delays nobody.
    fn aside<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Core) -> Result<T, LogError> + Send + 'static,
    ) -> LogAnswer<T> {
        let Some(read) = self.reads.add() else {
            let error = LogError::new(Cause::ReadFailed, "too many reads wait for the disk");
            return LogAnswer::Now(Err(error));
        };
        let (sender, receiver) = oneshot::channel();
        let core = self.core.clone();
        (self.aside)(Box::new(move || {
            // A caller that has gone while the read waited needs no answer.
            if !sender.is_closed() {
                drop(sender.send(look(&core)));
            }
            drop(read);
        }));
        LogAnswer::Later(receiver)
    }

    /// The answer of a read from memory, or of the same read from the disk, `again`, where a wait delays nobody.
    fn or_aside<T: Send + 'static>(
        &self,
        read: Result<T, ReadError>,
        again: impl FnOnce(&Core) -> Result<T, ReadError> + Send + 'static,
    ) -> LogAnswer<T> {
        if matches!(read, Err(ReadError::NotInMemory)) {
            self.core.metrics.disk_reads.increment(1);
            return self.aside(|core| Ok(again(core)?));
        }
        LogAnswer::Now(read.map_err(LogError::from))
    }

    fn resume_point(&self, key: &SessionKey) -> Result<ResumePoint, LogError> {
        let state = &self.core.state;
        let tokens = state.tokens.get(&key.user, key.platform)?;
        Ok(ResumePoint {
            revoked_before_ms: tokens.revoked_before_ms,
            stored: state.cursors.get(key)?,
            inbox: self.core.inbox(&key.user)?,
        })
    }

    /// Refuses with this text if the format of the log has no conversations.
    fn check_conversations(&self, text: &'static str) -> Result<(), AppendError> {
        if self.core.has_conversations() {
            return Ok(());
        }
        Err(AppendError::Refusing(LogError::new(
            Cause::LookupFailed,
            text,
        )))
    }

    pub(super) fn enqueue<T>(
        &self,
        work: impl FnOnce(oneshot::Sender<Result<T, AppendError>>) -> Work,
    ) -> Result<Pending<T>, AppendError> {
        self.core.check_writable_for_good()?;
        let (sender, pending) = oneshot::channel();
        let mut queue = lock(&self.writer);
        let queue = queue.as_mut().ok_or(Refusing::Closed)?;
        queue.put(work(sender))?;
        Ok(pending)
    }
}

impl Log for EmbeddedLog {
    fn append(&self, append: Append) -> Result<Pending<Receipt>, AppendError> {
        if append.is_marks {
            self.check_conversations("log.format is held back to one without read marks")?;
        }
        self.enqueue(|sender| Work::Append(append, sender))
    }

    fn append_to_everyone(&self, append: Append) -> Result<Pending<Receipt>, AppendError> {
        self.enqueue(|sender| Work::Everyone(append, sender))
    }

    fn entries(
        &self,
        message: MessageId,
        skip: usize,
        limit: usize,
    ) -> LogAnswer<Vec<(UserId, Numbers)>> {
        self.aside(move |core| Ok(core.entries(message, skip, limit)?))
    }

    fn entry_of(&self, message: MessageId, user: &UserId) -> LogAnswer<Option<Numbers>> {
        let user = user.clone();
        self.aside(move |core| Ok(core.entry_of(message, &user)?))
    }

    fn inbox(&self, user: &UserId) -> LogAnswer<Inbox> {
        LogAnswer::Now(self.core.inbox(user).map_err(LogError::from))
    }

    fn read(&self, user: &UserId, after: Seq, limit: ReadLimit) -> LogAnswer<InboxRead> {
        let read = self.core.read(user, after, limit, Patience::MemoryOnly);
        let user = user.clone();
        self.or_aside(read, move |core| {
            core.read(&user, after, limit, Patience::Disk)
        })
    }

    fn conversations(
        &self,
        user: &UserId,
        before: Seq,
        limit: usize,
    ) -> LogAnswer<ConversationPage> {
        let user = user.clone();
        self.aside(move |core| Ok(core.conversations(&user, before, limit)?))
    }

    fn read_conversation(
        &self,
        user: &UserId,
        conversation: &str,
        range: (ConversationSeq, ConversationSeq),
        limit: ReadLimit,
    ) -> LogAnswer<ConversationRead> {
        let now = Patience::MemoryOnly;
        let read = self
            .core
            .read_conversation(user, conversation, range, limit, now);
        let (user, conversation) = (user.clone(), conversation.to_owned());
        self.or_aside(read, move |core| {
            core.read_conversation(&user, &conversation, range, limit, Patience::Disk)
        })
    }

    fn has_conversations(&self) -> bool {
        self.core.has_conversations()
    }

    fn find(&self, lookup: Lookup) -> LogAnswer<Option<Receipt>> {
        self.aside(move |core| Ok(core.find(&lookup)?))
    }

    fn enter(&self, key: &SessionKey) -> LogAnswer<ResumePoint> {
        LogAnswer::Now(self.resume_point(key))
    }

    fn sessions(&self, user: &UserId) -> LogAnswer<Vec<(SessionKey, SessionRow)>> {
        let user = user.clone();
        self.aside(move |core| Ok(core.state.cursors.of(&user)?))
    }

    fn session_now(&self, key: &SessionKey) -> Option<SessionRow> {
        self.core.state.cursors.recent(key)
    }

    fn store_cursor(
        &self,
        key: &SessionKey,
        epoch: Epoch,
        _: Fence,
        row: SessionRow,
    ) -> Result<(), LogError> {
        if epoch != self.core.epoch {
            return Ok(());
        }
        // The last acks of a session that ends because its user was erased.
        if self
            .core
            .state
            .erasures
            .has_erased_session(&key.user, &row)?
        {
            return Ok(());
        }
        let acked = self.core.state.store_cursor(key, row)?;
        self.core.metrics.acked.increment(acked);
        if acked != ByKind::default() {
            self.core.metrics.pending.set(self.core.state.pending());
        }
        Ok(())
    }

    fn begin_session(
        &self,
        key: &SessionKey,
        epoch: Epoch,
        fence: Fence,
        row: SessionRow,
    ) -> Result<Pending<()>, AppendError> {
        let stored = self.store_cursor(key, epoch, fence, row);
        stored.map_err(AppendError::Refusing)?;
        let record = Record::Cursor {
            session: key.clone(),
            cursor: row.cursor,
            acked_at_ms: row.acked_at_ms,
        };
        let is_current = epoch == self.core.epoch;
        let records = is_current.then_some(record).into_iter().collect();
        self.enqueue(|sender| Work::Records(records, sender))
    }

    fn users(&self) -> LogAnswer<Vec<UserId>> {
        self.aside(|core| Ok(core.state.all_users()?))
    }

    fn register(&self, user: UserId, profile: Bytes) -> Result<Pending<()>, AppendError> {
        self.enqueue(|sender| Work::Records(vec![Record::Register { user, profile }], sender))
    }

    fn profile(&self, user: &UserId) -> LogAnswer<Option<Bytes>> {
        let profile = self.core.state.profile(user);
        LogAnswer::Now(profile.map_err(LogError::from))
    }

    fn revoke(
        &self,
        user: UserId,
        platform: Platform,
        before_ms: u64,
    ) -> Result<Pending<()>, AppendError> {
        self.enqueue(|sender| {
            Work::Records(
                vec![Record::Revoke {
                    user,
                    platform,
                    before_ms,
                }],
                sender,
            )
        })
    }

    fn token_times(&self, user: &UserId, platform: Platform) -> LogAnswer<TokenTimes> {
        let times = self.core.state.tokens.get(user, platform);
        LogAnswer::Now(times.map_err(LogError::from))
    }

    fn note_token(
        &self,
        user: &UserId,
        platform: Platform,
        issued_at_ms: u64,
    ) -> Result<(), LogError> {
        Ok(self.core.state.tokens.note(user, platform, issued_at_ms)?)
    }

    fn delete(&self, user: UserId, seqs: Vec<Seq>) -> Result<Pending<()>, AppendError> {
        let inbox = self.core.inbox(&user)?;
        let retained = seqs
            .into_iter()
            .filter(|seq| (inbox.first..=inbox.head).contains(seq));
        let retained = retained.collect();
        self.enqueue(|sender| Work::Delete(user, retained, sender))
    }

    fn change_settings(
        &self,
        user: UserId,
        changes: Vec<SettingsChange>,
    ) -> Result<Pending<()>, AppendError> {
        self.check_conversations("log.format is held back to one without settings")?;
        self.enqueue(|sender| Work::Settings(user, changes, sender))
    }

    fn erase(&self, user: UserId, before_ms: u64) -> Result<Pending<Erasure>, AppendError> {
        self.check_erasable()?;
        self.enqueue(|sender| Work::Erase(user, before_ms, sender))
    }

    fn check_erasable(&self) -> Result<(), AppendError> {
        erase::check(self.format)
    }

    fn erasure(&self, user: &UserId) -> LogAnswer<Option<Erasure>> {
        LogAnswer::Now(self.core.erasure(user).map_err(LogError::from))
    }

    fn put_rows(&self, rows: Vec<RowChange>) -> Result<Pending<()>, AppendError> {
        self.check_conversations("log.format is held back to one without rows")?;
        if !rows.iter().all(RowChange::fits) {
            let text = "a row has no key, or is too long";
            let failure = LogError::new(Cause::LookupFailed, text);
            return Err(AppendError::Refusing(failure));
        }
        let record = |row: RowChange| Record::Row {
            table: row.table.into(),
            key: row.key,
            value: row.value,
        };
        let records = rows.into_iter().map(record).collect();
        self.enqueue(|sender| Work::Records(records, sender))
    }

    fn rows(
        &self,
        table: RowTable,
        prefix: &[u8],
        after: &[u8],
        limit: usize,
    ) -> LogAnswer<Vec<(Bytes, Bytes)>> {
        let (table, prefix, after) = (TableId::from(table), prefix.to_vec(), after.to_vec());
        self.aside(move |core| Ok(core.state.page_of(table, &prefix, &after, limit)?))
    }

    fn feed(&self, from: FeedPosition, limit: FeedLimit) -> LogAnswer<FeedPage> {
        self.aside(move |core| Ok(core.feed(from, limit)?))
    }

    fn cursor_feed(&self, from: FeedPosition, limit: usize) -> LogAnswer<CursorPage> {
        self.aside(move |core| Ok(core.cursor_feed(from, limit)?))
    }

    fn commits(&self, consumer: Arc<dyn Consumer>) {
        let consumers = self.core.consumers.write();
        consumers
            .unwrap_or_else(PoisonError::into_inner)
            .push(consumer);
    }

    fn check_writable(&self) -> Result<(), LogError> {
        Ok(self.core.check_writable()?)
    }

    fn back_up(
        &self,
        id: &str,
        destination: &Path,
    ) -> Result<watch::Receiver<BackupState>, BackupError> {
        self.begin_backup(id, destination)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::{Cell, RefCell};

    use super::{
        super::{Aside, Directories, Workers, disk::RealDisk, state::MemoryHome},
        *,
    };
    use crate::{clock::Clock, config, metrics::Metrics};

    /// A log whose threads do not run, its directory, and its metrics.
    pub(crate) fn quiet_log(
        aside: Aside,
    ) -> (EmbeddedLog, Workers, tempfile::TempDir, Arc<Metrics>) {
        let dir = tempfile::tempdir().unwrap();
        let disk = || Arc::new(RealDisk::open(dir.path()).unwrap());
        let directories = Directories {
            root: disk(),
            segments: disk(),
            state: Box::new(MemoryHome::default()),
        };
        let metrics = Arc::new(Metrics::new());
        let clock = Arc::new(Clock::system());
        let config = config::Log {
            dir: dir.path().into(),
            ..config::Log::default()
        };
        let opened =
            EmbeddedLog::open_in(&directories, &config, clock, Arc::clone(&metrics), aside);
        let (log, workers) = opened.expect("opens");
        (log, workers, dir, metrics)
    }

    #[test]
    fn the_row_of_a_session_that_acked_is_at_hand() {
        let (log, _workers, _dir, _metrics) = quiet_log(|_| panic!("no read waits"));
        let key = SessionKey {
            user: UserId::new("u").unwrap(),
            platform: Platform::Ios,
            device: "".into(),
        };
        assert_eq!(log.session_now(&key), None);
        let row = SessionRow {
            cursor: Seq(3),
            acked_at_ms: 5,
        };
        log.store_cursor(&key, log.core.epoch, Fence::NONE, row)
            .unwrap();
        assert_eq!(log.session_now(&key), Some(row));
    }

    /// Reads that wait for the disk of a test.
    type Jobs = Vec<Box<dyn FnOnce() + Send>>;

    thread_local! {
        static JOBS: RefCell<Jobs> = RefCell::default();
        static READS_MADE: Cell<u64> = Cell::default();
    }

    #[test]
    fn a_read_whose_caller_has_gone_is_not_made() {
        let (log, _workers, _dir, metrics) =
            quiet_log(|job| JOBS.with_borrow_mut(|jobs| jobs.push(job)));
        let read = || {
            log.aside(|_| {
                READS_MADE.set(READS_MADE.get() + 1);
                Ok(())
            })
        };
        let waiting = |count: u64| {
            let text = metrics.handle().render();
            text.contains(&format!("towncrier_log_reads_waiting {count}\n"))
        };
        let stays = read();
        drop(read());
        assert!(waiting(2));
        JOBS.take().into_iter().for_each(|job| job());
        assert_eq!(READS_MADE.get(), 1);
        assert!(stays.blocking_wait().is_ok());
        assert!(waiting(0));
    }
}
