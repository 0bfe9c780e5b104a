//! The writer, the only part that appends. It takes all waiting requests, assigns seqs, makes one write and one sync,
//! answers all requests, and hands the new messages on.
//!
//! No request is answered, and no row changes, before the sync has returned. A group that could not be written is cut off
//! again, so a refused message is not stored. The writer is a future that waits for work and blocks while it writes, so it
//! has a thread of its own.

use std::{
    io,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::time::{self, sleep_until, timeout_at};

use super::{
    Append, AppendError, Commit, CommitGroup, ReadError, Receipt, Refusing,
    core::Core,
    entry_fields::{MARKS, MESSAGE},
    group::{Caller, Group, answer},
    queue::{Carried, Work, WorkReceiver},
    record::{Key, MessageRecord, Position, Record},
    segment::Segment,
    settings::change_settings,
    spread::{self, Spreads},
    spread_row::SpreadRow,
    state::{Reached, StateError},
    table_id::TableId,
};
use crate::threads::Pulse;

/// A group is closed at this many bytes. A sync of more bytes takes longer than it saves.
const GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The buffer's capacity that is kept between groups. The memory of a larger buffer is freed.
const BUFFER_BYTES_KEPT: usize = 256 * 1024;
/// A group is closed at this many requests, so that the first of them does not wait for the last.
const GROUP_REQUESTS_MAX: usize = 8192;
/// The time between the beginnings of two groups while several callers append. A sync and the wake-ups after it cost as
/// much for one message as for twenty. At 10,000 messages a second they are half of the cost of a message. A single caller
/// never waits for this time.
const SPACING: Duration = Duration::from_millis(1);
/// The writer checks the free space again after this many bytes.
const FREE_CHECK_BYTES: u64 = 16 * 1024 * 1024;

/// The writer's own state.
pub(crate) struct Writer {
    core: Arc<Core>,
    queue: WorkReceiver,
    active: Arc<Segment>,
    /// The memory of a group's bytes, kept between groups.
    buffer: Vec<u8>,
    spreads: Spreads,
    /// A request that waits for a group of its own.
    held: Option<Work>,
    bytes_since_check: u64,
    /// The bytes of the last group that found no space, 0 once a group has been written. A test for space writes as many.
    refused_bytes: usize,
    /// True if the system lets no file grow beyond the active segment's length (ulimit -f). A new segment may still fit.
    is_cut_short: bool,
    segment_bytes: u64,
    /// The format of new segments.
    format: u8,
    segment_age_ms: u64,
    /// The time of the newest group.
    newest_ms: u64,
    /// The last field to be dropped: when the watch finds that the thread has ended, nothing takes appends any more.
    pulse: Pulse,
}

impl Writer {
    pub(super) fn new(
        core: Arc<Core>,
        queue: WorkReceiver,
        active: Arc<Segment>,
        spreads: Spreads,
        limits: &crate::config::Log,
        pulse: Pulse,
    ) -> Self {
        Self {
            queue,
            active,
            buffer: Vec::new(),
            spreads,
            held: None,
            bytes_since_check: FREE_CHECK_BYTES,
            refused_bytes: 0,
            is_cut_short: false,
            segment_bytes: limits.segment_bytes,
            format: limits.format,
            segment_age_ms: core.lifetimes.segment_age_ms,
            newest_ms: 0,
            pulse,
            core,
        }
    }

    /// Runs until the queue is closed and empty.
    pub(crate) async fn run(mut self) {
        let mut next_at = time::Instant::now();
        let mut is_crowded = false;
        self.pulse.rest();
        while let Some(first) = self.next().await {
            self.pulse.beat();
            if is_crowded {
                sleep_until(next_at).await;
            }
            next_at = time::Instant::now() + SPACING;
            self.measure();
            is_crowded = self.commit(first) > 1;
            self.measure();
            self.pulse.rest();
        }
    }

    /// Sets the metrics of the requests that wait, before a group and after it.
    fn measure(&self) {
        let metrics = &self.core.metrics;
        metrics.queue_depth.set(self.queue.len() as f64);
        metrics.queue_bytes.set(self.queue.bytes() as f64);
        metrics.spreads.set(self.spreads.len() as f64);
    }

    /// Waits for a request, or until the next piece of a message to everyone is due: then there is no request. The outer
    /// `None`: the queue is closed and empty.
    async fn next(&mut self) -> Option<Option<Work>> {
        if let Some(held) = self.held.take() {
            return Some(Some(held));
        }
        if !self.spreads.is_busy() {
            return self.queue.recv().await.map(Some);
        }
        let work = timeout_at(self.spreads.resume_at, self.queue.recv()).await;
        work.map_or(Some(None), |work| work.map(Some))
    }

    /// Commits the waiting requests, if there are any. Returns their number.
    fn commit(&mut self, first: Option<Work>) -> usize {
        if let Err(refusing) = self.prepare() {
            let error = refusing.into();
            self.spreads.refuse(&error);
            return first.map_or(0, |first| {
                first.refuse(&error);
                1
            });
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        buffer.shrink_to(BUFFER_BYTES_KEPT);
        let mut group = Group::new(
            self.active.end(),
            self.core.reached().crc,
            self.core.base,
            buffer,
        );
        let mut next = first;
        let mut requests = 0;
        let mut is_alone = false;
        while let Some(work) = next {
            is_alone = matches!(work, Work::Erase(..));
            if is_alone && requests > 0 {
                self.held = Some(work);
                is_alone = false;
                break;
            }
            self.add(&mut group, work);
            requests += 1;
            let has_room =
                !is_alone && group.buffer.len() < GROUP_BYTES_MAX && requests < GROUP_REQUESTS_MAX;
            next = if has_room {
                self.queue.try_recv()
            } else {
                None
            };
        }
        if !is_alone {
            self.spreads.add(&self.core, &mut group, self.active.base);
        }
        // An empty group is written only to test if a full disk has space again.
        let is_idle = group.records.is_empty() && !self.core.is_disk_full();
        let outcome = if is_idle {
            Ok(())
        } else {
            self.write(&mut group)
        };
        self.buffer = std::mem::take(&mut group.buffer);
        // Callers do not wait for the fan-out. A fan-out that panics ends the gateway, and with it every session, so each
        // session reads the log when its client returns.
        answer(group.callers, &outcome);
        self.spreads.settle(&self.core, &outcome);
        if outcome.is_ok() && !group.commits.is_empty() {
            self.hand_on(&group.commits);
        }
        requests
    }

    /// Gives durable commits to each consumer.
    fn hand_on(&self, commits: &[Commit]) {
        let consumers = self.core.consumers.read();
        for consumer in &*consumers.unwrap_or_else(PoisonError::into_inner) {
            consumer.take(commits);
        }
    }

    /// Makes sure that the next group can be written: there is space on the disk, and a segment that is not full.
    fn prepare(&mut self) -> Result<(), Refusing> {
        self.core.check_writable_for_good()?;
        if self.bytes_since_check >= FREE_CHECK_BYTES || self.core.is_disk_full() {
            self.core.check_space()?;
            self.bytes_since_check = 0;
        }
        let now_ms = self.core.clock.now_ms();
        let is_full = self.is_cut_short || self.active.length() >= self.segment_bytes;
        let is_old = now_ms.saturating_sub(self.active.created_ms) >= self.segment_age_ms;
        // The times within a segment ascend, so that a message is found by its time.
        let was_set_back = now_ms < self.newest_ms;
        let is_used = self.active.end() > self.active.first_record();
        // A segment holds records of its own format only.
        let is_foreign = self.active.format != self.format;
        if is_foreign || is_used && (is_full || is_old || was_set_back) {
            let (disk, base) = (&*self.core.disk, self.active.end());
            let crc = self.core.reached().crc;
            match Segment::create(disk, base, crc, now_ms, self.format) {
                Ok(segment) => {
                    self.active = Arc::new(segment);
                    self.is_cut_short = false;
                    self.core.segments.push(self.active.clone());
                }
                Err(error) => {
                    // The old segment is whole. The new one, if its name exists, is empty, and the next attempt makes it
                    // again.
                    return Err(self.core.refuse(refusing_for(&error)));
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, group: &mut Group, work: Work) {
        match work {
            Work::Records(records, sender) => {
                for record in records {
                    match self.core.is_of_erased_session(&record) {
                        Ok(true) => {}
                        // A record too many does less harm than one too few.
                        Ok(false) | Err(_) => drop(group.put(record)),
                    }
                }
                group.callers.push(Caller::Records(sender));
            }
            Work::Erase(user, before_ms, sender) => {
                match self.core.erase(group, &user, before_ms) {
                    Ok(erasure) => group.callers.push(Caller::Erase(sender, erasure)),
                    // The receiver may have been dropped. Then the answer is discarded.
                    Err(error) => drop(sender.send(Err(error.into()))),
                }
            }
            Work::Delete(user, seqs, sender) => {
                for seq in seqs {
                    // The user may have been erased while the request waited.
                    if matches!(self.core.is_erased(&user, seq), Ok(true)) {
                        continue;
                    }
                    if let Some(deletion) = self.core.deletion(&user, seq) {
                        group.put(deletion);
                    }
                }
                group.callers.push(Caller::Records(sender));
            }
            Work::Settings(user, changes, sender) => {
                match change_settings(&self.core, group, &user, &changes) {
                    Ok(()) => group.callers.push(Caller::Records(sender)),
                    // The receiver may have been dropped. Then the answer is discarded.
                    Err(error) => drop(sender.send(Err(ReadError::from(error).into()))),
                }
            }
            Work::Carry(facts, sender) => match self.carry(group, facts) {
                Ok(()) => group.callers.push(Caller::Records(sender)),
                // The keeper may have been stopped. Then the answer is discarded.
                Err(error) => drop(sender.send(Err(error.into()))),
            },
            Work::Everyone(append, sender) if self.spreads.is_on() => {
                self.spreads.take(&self.core, append, sender);
            }
            Work::Everyone(append, sender) => match self.core.state.all_users() {
                Ok(receivers) => {
                    let append = Append {
                        receivers,
                        ..append
                    };
                    self.add(group, Work::Append(append, sender));
                }
                Err(error) => drop(sender.send(Err(ReadError::from(error).into()))),
            },
            Work::Append(append, sender) => {
                let answer = if let Some(earlier) = group.earlier(&append) {
                    Caller::Append(sender, earlier)
                } else {
                    match self.core.earlier(&append) {
                        Ok(None) => match self.add_message(group, append) {
                            Ok(receipt) => Caller::Append(sender, Ok(receipt)),
                            Err(error) => {
                                Caller::Decided(sender, Err(ReadError::from(error).into()))
                            }
                        },
                        Ok(Some(receipt)) => Caller::Decided(sender, Ok(receipt)),
                        Err(error) => Caller::Decided(sender, Err(error)),
                    }
                };
                group.callers.push(answer);
            }
        }
    }

    /// Writes the present values of facts again. A fact that is gone needs no record.
    fn carry(&self, group: &mut Group, facts: Vec<Carried>) -> Result<(), ReadError> {
        for fact in facts {
            match fact {
                Carried::Profile(user) => {
                    if let Some(profile) = group.profile(&self.core.state, &user)? {
                        group.put(Record::Register { user, profile });
                    }
                }
                Carried::Row(table, key) => self.carry_row(group, table, key)?,
                Carried::Erasure(user) => {
                    if let Some(record) = self.core.carried_erasure(group, &user)? {
                        group.put(record);
                    }
                }
            }
        }
        Ok(())
    }

    fn carry_row(&self, group: &mut Group, table: TableId, key: Bytes) -> Result<(), ReadError> {
        let row = (table, key);
        let value = match table {
            // Its facts only grow, so entries of this group need not be in them.
            TableId::Conversations => {
                let conversation = self.core.state.conversations.get(&row.1)?;
                conversation.map(|conversation| conversation.facts())
            }
            _ => group.row(&self.core.state, &row)?,
        };
        let Some(value) = value else {
            return Ok(());
        };
        let (table, key) = row;
        if table == TableId::Spreads {
            let (row, segment) = (SpreadRow::read(value)?, self.active.base);
            return spread::carry(&self.core, group, &key, row, segment);
        }
        let value = Some(value);
        group.put(Record::Row { table, key, value });
        Ok(())
    }

    fn add_message(&mut self, group: &mut Group, append: Append) -> Result<Receipt, StateError> {
        let kind = if append.is_marks { MARKS } else { MESSAGE };
        let record = MessageRecord {
            key: Key::of(&append),
            is_keyed: append.is_keyed,
            body: append.body.clone(),
        };
        let facts = self.core.facts_of(&record);
        let of_conversation = facts.as_ref().filter(|_| kind == MESSAGE);
        // All rows are looked up before the first byte is put into the buffer. So a failure leaves no half message there.
        let mut conversations = Vec::with_capacity(append.receivers.len());
        for user in &append.receivers {
            conversations.push(group.look_up(&self.core.state, user, of_conversation)?);
        }
        let message = group.put(Record::Message(record));
        group.messages += 1;
        if let Some(facts) = facts {
            group.add_facts(message, facts);
        }
        let receivers = append.receivers.into_iter().zip(conversations);
        let entry = |(user, conversation)| {
            let numbers = group.add_entry(&user, conversation, message, kind);
            (user, numbers)
        };
        let entries: Arc<[_]> = receivers.map(entry).collect::<Vec<_>>().into();
        group.commits.push(Commit {
            epoch: self.core.epoch,
            body: append.body,
            entries: entries.clone(),
            group: CommitGroup::default(),
        });
        let receipt = Receipt {
            message_id: append.message_id,
            sender: append.sender,
            client_message_id: append.client_message_id,
            send_time_ms: append.send_time_ms,
            receivers: entries.len() as u64,
            entries,
        };
        if append.is_keyed {
            group.remember(append.fingerprint, &receipt);
        }
        Ok(receipt)
    }

    /// Closes the group: one write, one sync, then the rows.
    fn write(&mut self, group: &mut Group) -> Result<(), AppendError> {
        let begun = Instant::now();
        let time_ms = self.core.clock.now_ms();
        self.newest_ms = time_ms;
        let is_empty = group.records.is_empty();
        group.close(time_ms);
        let offset = self.active.length();
        let written = if is_empty {
            self.test_space(offset)
        } else {
            Ok(())
        };
        let written = written.and_then(|()| self.active.file.write_at(&group.buffer, offset));
        if let Err(error) = written {
            self.is_cut_short = error.kind() == io::ErrorKind::FileTooLarge;
            self.refused_bytes = self.refused_bytes.max(group.buffer.len());
            if !self.core.is_disk_full() {
                tracing::error!(%error, segment = self.active.name(), "a write failed");
            }
            return Err(self.take_back(offset, refusing_for(&error)));
        }
        if let Err(error) = self.active.file.sync() {
            tracing::error!(%error, segment = self.active.name(), "a sync failed");
            return Err(self.take_back(offset, Refusing::SyncFailed));
        }
        self.active.set_length(offset + group.buffer.len() as u64);
        self.refused_bytes = 0;
        self.bytes_since_check += group.buffer.len() as u64;
        let metrics = &self.core.metrics;
        metrics.commit_seconds.record(begun.elapsed().as_secs_f64());
        metrics.commit_messages.record(group.commits.len() as f64);
        metrics.appended.increment(group.messages);
        metrics.accepted.increment(group.entries);
        // The records are durable: from here on they are accepted, even if a row fails. Cursors and tokens come from
        // memory, where they may have changed since. Only a replay takes them from the log.
        let is_news = |(record, _): &&(Record, Position)| {
            !matches!(record, Record::Cursor { .. } | Record::Token { .. })
        };
        let applied: Result<(), _> =
            group
                .records
                .iter()
                .filter(is_news)
                .try_for_each(|(record, at)| {
                    let message = match record {
                        Record::Entry { message, .. } => group.facts(*message),
                        _ => None,
                    };
                    self.core.state.apply(record, *at, message)
                });
        if let Err(error) = applied {
            tracing::error!(%error, "the state store failed");
            self.core.refuse(Refusing::StateFailed);
        }
        self.core.publish(Reached {
            position: self.active.end(),
            crc: group.crc(),
        });
        Ok(())
    }

    /// Fails unless there is space for the last group that found none. An empty group may fit where that group does not.
    fn test_space(&self, offset: u64) -> io::Result<()> {
        let file = &self.active.file;
        file.write_at(&vec![0; self.refused_bytes], offset)?;
        file.truncate(offset)
    }

    /// Cuts off the bytes that a failed write or sync may have left.
    fn take_back(&mut self, offset: u64, refusing: Refusing) -> AppendError {
        // The cut is synced even if no closing record can be there: the next segment begins where this one then ends.
        let file = &self.active.file;
        let cut = file.truncate(offset).and_then(|()| file.sync());
        let refusing = self.core.refuse(refusing);
        match cut {
            Ok(()) => refusing.into(),
            Err(error) => {
                tracing::error!(%error, "what was written could not be taken back");
                self.core.refuse(Refusing::SyncFailed);
                AppendError::OutcomeUnknown
            }
        }
    }
}

/// The refusal of later appends that follows from a failed write.
fn refusing_for(error: &io::Error) -> Refusing {
    match error.kind() {
        // A limit on the size of files (ulimit -f) is treated as a full disk: a higher limit, or a segment that has not
        // reached the limit, ends it.
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Refusing::DiskFull
        }
        _ => Refusing::SyncFailed,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::log::tests::quiet_log, *};
    use crate::log::{Log as _, tests::conformance::message};

    /// The number of groups in which so many messages that wait together are written.
    fn groups(messages: usize, body: &str) -> usize {
        let (log, workers, _dir, metrics) = quiet_log(|job| job());
        let answers: Vec<_> = (0..messages)
            .map(|_| log.append(message(1, &["alice"], None, body)).unwrap())
            .collect();
        assert!(log.close(), "the queue is closed and not empty");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        // The queue ends when the keeper has gone as well.
        let (writer, keeper) = workers.into_futures();
        drop(keeper);
        runtime.unwrap().block_on(writer.unwrap());
        for answer in answers {
            assert!(answer.blocking_recv().unwrap().is_ok());
        }
        let text = metrics.handle().render();
        assert!(text.contains("towncrier_writer_queue_bytes 0\n"), "{text}");
        let mut lines = text.lines();
        let count = lines.find_map(|line| line.strip_prefix("towncrier_commit_seconds_count "));
        count.expect("it is there").parse().unwrap()
    }

    #[test]
    fn a_group_ends_at_its_bytes_and_the_next_one_has_the_rest() {
        let body = "x".repeat(GROUP_BYTES_MAX / 4);
        assert_eq!(groups(4, &body), 1);
        assert_eq!(groups(6, &body), 2);
    }

    #[test]
    fn a_group_ends_at_its_requests_and_the_next_one_has_the_rest() {
        assert_eq!(groups(GROUP_REQUESTS_MAX, "small"), 1);
        assert_eq!(groups(GROUP_REQUESTS_MAX + 1, "small"), 2);
    }
}
