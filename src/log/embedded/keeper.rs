//! The keeper runs beside the writer: checkpoints, the numbers of older conversations, the watermark, readings of the wall clock, retention, and another try
//! when the disk was full.
//!
//! The keeper is a future, as the writer is. Its thread has a lower priority, because both need the same cores.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use super::{
    AppendError, ReadError, Refusing,
    core::Core,
    disk::is_short_of_space,
    erase,
    queue::{Carried, UncountedSender, Work},
    record::{Position, ROWS_SINCE, Record},
    retention::{self, Leaving, RetentionLimits, SizeBound},
    segment::Segment,
    state::{ChangedRows, Checkpoint, Cursors, Row, Table, TokenTable},
    table_id::TableId,
    time_mark::TimeMark,
    watermark::Watermark,
};
use crate::{config, threads::Pulse};

/// The time between two rounds.
pub(super) const TICK: Duration = Duration::from_secs(1);
/// A checkpoint hurries at this many changed rows: some 40 MB.
pub(super) const DIRTY_ROWS_MAX: usize = 200_000;
/// A checkpoint comes early at this many changed rows, so that it need not hurry.
const DIRTY_ROWS_MANY: usize = DIRTY_ROWS_MAX / 4;
/// A checkpoint comes every so many intervals of `log.checkpoint_interval`. In between, cursors and tokens go into the
/// segments only. A checkpoint makes the disk busy for everyone, and saves no more than the time of a replay.
const INTERVALS: u32 = 6;
/// A checkpoint comes early when a start would have to replay this much: less than a second's work.
const REPLAYED_BYTES_MAX: u64 = 256 << 20;
/// A checkpoint writes this part of the changed rows in each round. Written at once, they would keep the disk from the
/// writer: `docs/measured.md#throughput`.
const ROUNDS: usize = 10;
/// A round writes at least this many: they are one short write.
const ROUND_ROWS_MIN: usize = 1024;
/// The records that are carried over into the log in one request to the writer.
pub(super) const CARRIED_AT_ONCE: usize = 1024;

/// The keeper's own state.
pub(crate) struct Keeper {
    core: Arc<Core>,
    writer: UncountedSender,
    watermark: Watermark,
    time_mark: TimeMark,
    limits: RetentionLimits,
    /// The format of new segments.
    format: u8,
    checkpoint_interval: Duration,
    /// The time at which cursors and tokens were last put into the segments.
    logged: Instant,
    /// The time and the log's end at the begin of the last checkpoint.
    checkpointed: (Instant, Position),
    /// The checkpoint under way.
    checkpoint: Option<Checkpoint>,
    /// True if the oldest segment is damaged. Then it stays, because the facts that must outlive it are not known.
    is_retention_stuck: bool,
    /// True if the last attempt to write down the time failed, and so was logged.
    has_warned_of_time: bool,
    /// The same for the watermark.
    has_warned_of_mark: bool,
    /// Rests while the keeper waits for its next round or for the writer. Beats with each part of a long work.
    pulse: Pulse,
}

impl Keeper {
    /// A keeper of a log that was just opened, with its files of marks. Writes down the time.
    pub(super) fn new(
        core: Arc<Core>,
        writer: UncountedSender,
        (watermark, time_mark): (Watermark, TimeMark),
        config: &config::Log,
        pulse: Pulse,
    ) -> Self {
        let now = Instant::now();
        let mut keeper = Self {
            writer,
            watermark,
            time_mark,
            limits: RetentionLimits {
                age: config.retention,
                size: SizeBound::new(config.retention_bytes),
                keys: config.idempotency_retention,
            },
            format: config.format,
            checkpoint_interval: config.checkpoint_interval,
            logged: now,
            checkpointed: (now, core.reached().position),
            checkpoint: None,
            is_retention_stuck: false,
            has_warned_of_time: false,
            has_warned_of_mark: false,
            pulse,
            core,
        };
        keeper.mark_time();
        keeper
    }

    /// Runs until the other end of `stop` is dropped, then makes a last checkpoint. Ends earlier when only a restart helps:
    /// the watch then drains the gateway.
    pub(crate) async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        self.pulse.rest();
        while timeout(TICK, &mut stop).await.is_err() {
            self.pulse.beat();
            self.tick().await;
            if self.must_restart() {
                tracing::error!("the state store failed: the next start rebuilds it");
                return;
            }
            self.pulse.rest();
        }
        self.pulse.beat();
        self.checkpoint_now().await;
        self.mark();
    }

    /// True if the state store has failed and could be rebuilt. On a full disk the gateway goes on: it can still be read.
    fn must_restart(&self) -> bool {
        let is_failed = self.core.check_writable() == Err(Refusing::StateFailed);
        is_failed && !is_short_of_space(&*self.core.disk)
    }

    async fn tick(&mut self) {
        self.core.clock.observe();
        if self.time_mark.is_outdated(self.core.clock.mark()) {
            // A confirmed or proved time is stored at once, so that it need not be confirmed again after a crash.
            self.mark_time();
        }
        let ahead_ms = self.core.clock.wall_ahead_ms();
        self.core.metrics.clock_ahead.set(ahead_ms as f64 / 1000.0);
        if self.logged.elapsed() >= self.checkpoint_interval {
            self.mark_time();
            self.log_rows().await;
        }
        self.record_conversations().await;
        self.go_on().await;
        self.mark();
        self.measure();
        if self.core.is_disk_full() || self.must_end_segment() {
            // An empty group shows if there is space again, and ends a segment that is old.
            self.append(Vec::new()).await;
        }
        self.give_cut().await;
        while !self.is_retention_stuck
            && let Some(segment) = retention::next_to_remove(&self.core, &self.limits)
        {
            if let Err(error) = self.remove(&segment).await {
                tracing::error!(%error, segment = segment.name(), "retention could not remove a segment");
                // A full disk may get space again. A damaged segment will not be readable in a second either.
                self.is_retention_stuck = matches!(error, ReadError::Damaged(_));
                break;
            }
            self.measure();
            // Under a high load there may always be one more segment to remove.
            self.give_cut().await;
        }
    }

    /// True if the last segment is old, and holds bytes of users who were erased. Without it, a quiet log would keep them for long.
    fn must_end_segment(&self) -> bool {
        let last = self.core.segments.all().last().cloned();
        let age_ms = self.core.lifetimes.segment_age_ms;
        let now_ms = self.core.clock.now_ms();
        let is_old = |last: Arc<Segment>| {
            let is_used = last.end() > last.first_record();
            is_used && now_ms.saturating_sub(last.created_ms) >= age_ms
        };
        self.core.state.erasures.has_some() && last.is_some_and(is_old)
    }

    /// Sets the metrics of the log's size.
    fn measure(&self) {
        let Core {
            segments, metrics, ..
        } = &*self.core;
        metrics.log_segments.set(segments.all().len() as f64);
        metrics.log_bytes.set(segments.bytes() as f64);
        let waiting = self.core.state.dirty_rows();
        metrics.state_rows_waiting.set(waiting as f64);
    }

    /// Writes down the position up to which the log is synced.
    fn mark(&mut self) {
        let is_intact = !matches!(self.core.check_writable(), Err(Refusing::Damaged(_)));
        let marked = if is_intact {
            self.watermark.set_synced(self.core.reached().position)
        } else {
            Ok(())
        };
        let has_warned = &mut self.has_warned_of_mark;
        warn_once(marked, has_warned, "the watermark could not be written");
    }

    /// Writes down the time, even when nothing else changed.
    fn mark_time(&mut self) {
        let written = self.time_mark.write(self.core.clock.mark());
        let has_warned = &mut self.has_warned_of_time;
        warn_once(written, has_warned, "the time could not be written down");
    }

    /// Puts the cursors and tokens that changed into the segments: from then on they survive a crash. Returns false while the
    /// log refuses appends.
    async fn log_rows(&mut self) -> bool {
        self.logged = Instant::now();
        let state = &self.core.state;
        self.log_table(&state.cursors.rows, Cursors::records).await
            && self
                .log_table(&state.tokens.rows, TokenTable::records)
                .await
    }

    async fn log_table<R: Row>(
        &self,
        table: &Table<R>,
        records: fn(&ChangedRows<R>) -> Vec<Record>,
    ) -> bool {
        // Rows that change meanwhile wait for the next time.
        let mut left = table.unlogged_rows();
        while left > 0 && self.can_write() {
            let rows = table.take_unlogged();
            let records = self.without_later(records(&rows));
            left = left.saturating_sub(rows.len());
            if rows.is_empty() {
                break;
            }
            if !self.append(records).await {
                table.put_back(rows);
                return false;
            }
        }
        left == 0
    }

    /// Writes the rows of conversations that an earlier version did not number, so that the numbers outlive those entries.
    async fn record_conversations(&self) {
        loop {
            let keys = self.core.state.conversations.unrecorded(CARRIED_AT_ONCE);
            if keys.is_empty() || !self.can_write() {
                return;
            }
            let rows = keys.into_iter();
            let rows = rows.map(|key| Carried::Row(TableId::Conversations, key));
            let rows: Vec<_> = rows.collect();
            if !self.ask(|sender| Work::Carry(rows, sender)).await {
                return;
            }
        }
    }

    /// The records that the format of new segments has. The other facts stay in the state store only.
    fn without_later(&self, mut records: Vec<Record>) -> Vec<Record> {
        records.retain(|record| record.format() <= self.format);
        records
    }

    /// True while the log takes appends and the disk has space for the state store. On a full disk sled would fail until the
    /// next start, so the rows wait in memory. The writer checks the space only now and then, and other files may have filled
    /// the disk since.
    fn can_write(&self) -> bool {
        self.core.check_writable().is_ok() && self.core.check_space().is_ok()
    }

    /// Gives a backup its part of the log. Cursors and tokens go into the segments first, because a backup has nothing else.
    async fn give_cut(&mut self) {
        if self.core.backups.is_wanted() {
            // A log that refuses appends is backed up with the cursors that it has.
            self.log_rows().await;
            self.core.backups.give(|| self.core.cut());
        }
    }

    /// Begins a checkpoint when one is due, and goes on with the one under way.
    async fn go_on(&mut self) {
        let dirty = self.core.state.dirty_rows();
        if self.checkpoint.is_none() {
            let (at, position) = self.checkpointed;
            let replayed = self.core.reached().position.0 - position.0;
            let is_due = at.elapsed() >= self.checkpoint_interval * INTERVALS
                || dirty > DIRTY_ROWS_MANY
                || replayed > REPLAYED_BYTES_MAX;
            if dirty == 0 || !is_due {
                return;
            }
            self.begin();
        }
        let rows = if dirty > DIRTY_ROWS_MAX {
            usize::MAX
        } else {
            ROUND_ROWS_MIN.max(dirty / ROUNDS)
        };
        self.write(rows).await;
    }

    fn begin(&mut self) {
        let reached = self.core.reached();
        self.checkpointed = (Instant::now(), reached.position);
        self.checkpoint = Some(self.core.state.begin_checkpoint(reached));
    }

    /// Writes rows of the checkpoint under way to the state store. Returns true when the checkpoint is done.
    async fn write(&mut self, rows: usize) -> bool {
        let Some(mut checkpoint) = self.checkpoint.take() else {
            return true;
        };
        if !self.can_write() {
            self.checkpoint = Some(checkpoint);
            return false;
        }
        let core = self.core.clone();
        let written = core
            .state
            .go_on(&mut checkpoint, rows, core.epoch, &self.pulse);
        match written.await {
            Ok(true) => {
                let elapsed = self.checkpointed.0.elapsed();
                let seconds = elapsed.as_secs_f64();
                core.metrics.checkpoint_seconds.record(seconds);
                tracing::debug!(rows = checkpoint.rows, ?elapsed, "checkpoint");
                true
            }
            Ok(false) => {
                self.checkpoint = Some(checkpoint);
                false
            }
            Err(error) => {
                tracing::error!(%error, "a checkpoint failed");
                core.refuse(Refusing::StateFailed);
                false
            }
        }
    }

    /// Makes a checkpoint of everything at once. Returns false if it could not.
    async fn checkpoint_now(&mut self) -> bool {
        self.mark_time();
        if !self.log_rows().await {
            return false;
        }
        if self.core.state.dirty_rows() == 0 && self.checkpoint.is_none() {
            return true;
        }
        // A checkpoint under way would claim less. It is abandoned.
        self.begin();
        self.write(usize::MAX).await
    }

    /// Carries over the facts that must outlive a segment, forgets the others, and removes the file.
    async fn remove(&mut self, segment: &Segment) -> Result<(), ReadError> {
        let end = self.core.reached().position;
        let is_too_much = self.limits.size.is_passed(self.core.segments.bytes());
        let leaving = Leaving::read(&self.core, segment, &self.pulse)?;
        let carried = leaving.carried(&self.core, segment, &self.limits, &self.pulse)?;
        let carried = self.without_later(carried);
        for records in carried.chunks(CARRIED_AT_ONCE) {
            if !self.append(records.to_vec()).await {
                return Err(ReadError::Io(std::io::ErrorKind::StorageFull));
            }
        }
        let mut facts = leaving.carried_profiles();
        if self.format >= ROWS_SINCE {
            let expiries = leaving.expiries(&self.core, segment, &self.pulse)?;
            for records in expiries.chunks(CARRIED_AT_ONCE) {
                if !self.append(records.to_vec()).await {
                    return Err(ReadError::Io(std::io::ErrorKind::StorageFull));
                }
            }
            facts.extend(leaving.carried_rows(&self.core, segment, &self.pulse)?);
        }
        if erase::check(self.format).is_ok() {
            facts.extend(leaving.carried_erasures());
        }
        for facts in facts.chunks(CARRIED_AT_ONCE) {
            if !self.ask(|sender| Work::Carry(facts.to_vec(), sender)).await {
                return Err(ReadError::Io(std::io::ErrorKind::StorageFull));
            }
        }
        // A checkpoint under way could write that a row is gone, and not what the users' rows say then.
        self.checkpoint = None;
        let expired = leaving.forget(&self.core, segment, &self.limits, &self.pulse)?;
        self.core.metrics.expired.increment(expired);
        self.core.metrics.pending.set(self.core.state.pending());
        // The forgetting must be durable before the file is removed, because no record in the log says it.
        if !self.checkpoint_now().await {
            return Err(ReadError::State);
        }
        // The file is removed first. A file that stayed while a later one is removed would leave a hole in the log.
        let io = |error: std::io::Error| ReadError::Io(error.kind());
        self.watermark.set_begin(segment.end()).map_err(io)?;
        self.core.disk.remove(&segment.name()).map_err(io)?;
        self.core.segments.remove_oldest();
        self.core.disk.sync_names().map_err(io)?;
        if is_too_much {
            let has_entries = leaving.has_entries();
            self.limits.size.removed(segment, has_entries, end);
        }
        tracing::info!(
            segment = segment.name(),
            carried = carried.len() + facts.len(),
            expired = expired.messages,
            expired_marks = expired.marks,
            "retention removed a segment"
        );
        Ok(())
    }

    /// Makes the writer append records. Returns true once they are durable.
    async fn append(&self, records: Vec<Record>) -> bool {
        self.ask(|sender| Work::Records(records, sender)).await
    }

    /// Gives work to the writer. Returns true once the work is durable.
    async fn ask(
        &self,
        work: impl FnOnce(oneshot::Sender<Result<(), AppendError>>) -> Work,
    ) -> bool {
        let (sender, answer) = oneshot::channel();
        let work = work(sender);
        // The writer has a pulse of its own.
        self.pulse.rest();
        let is_durable = self.writer.send(work).await && matches!(answer.await, Ok(Ok(())));
        self.pulse.beat();
        is_durable
    }
}

/// Logs a failure once while the fault lasts, because these files may be written each second.
fn warn_once(written: std::io::Result<()>, has_warned: &mut bool, what: &str) {
    if let Err(error) = &written
        && !*has_warned
    {
        tracing::warn!(%error, "{what}");
    }
    *has_warned = written.is_err();
}

#[cfg(test)]
mod tests {
    use super::{super::log::tests::quiet_log, *};
    use crate::log::tests::conformance::user;

    /// The changed rows that a round leaves of so many.
    async fn left(rows: usize) -> usize {
        let (log, workers, ..) = quiet_log(|job| job());
        let mut keeper = workers.keeper;
        let state = &log.core.state;
        for number in 0..rows {
            state
                .users
                .update(&user(&number.to_string()), |_| {})
                .unwrap();
        }
        assert_eq!(state.dirty_rows(), rows);
        keeper.go_on().await;
        state.dirty_rows()
    }

    #[tokio::test]
    async fn a_round_writes_a_part_of_the_changed_rows_and_above_their_limit_all() {
        assert!(left(DIRTY_ROWS_MAX).await > DIRTY_ROWS_MAX / 2);
        assert_eq!(left(DIRTY_ROWS_MAX + 1).await, 0);
    }
}
