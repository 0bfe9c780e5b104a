//! The thread beside the writer: checkpoints, the watermark, retention, and another try when the disk was full.
//!
//! It runs at a lower priority, since it competes with the writer for the same cores.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot};

use super::{
    ReadError, Refusing,
    core::Core,
    record::Record,
    retention::{self, Leaving, Limits},
    segment::Segment,
    watermark::Watermark,
    writer::Work,
};

/// How often it looks.
const TICK: Duration = Duration::from_secs(1);
/// A checkpoint comes early at this many changed rows: some 40 MB.
pub(super) const DIRTY_ROWS_MAX: usize = 200_000;
/// Records carried into the log in one request to the writer.
const CARRIED_AT_ONCE: usize = 1024;

/// The thread's state.
pub(super) struct Keeper {
    pub(super) core: Arc<Core>,
    pub(super) writer: mpsc::Sender<Work>,
    pub(super) watermark: Watermark,
    pub(super) limits: Limits,
    pub(super) checkpoint_interval: Duration,
    /// When the last checkpoint was.
    pub(super) checkpointed: Instant,
    /// Whether the oldest segment is damaged: then it stays, since nobody knows what must outlive it.
    pub(super) is_retention_stuck: bool,
}

impl Keeper {
    /// Runs until the other end of `stop` is dropped, then makes a last checkpoint.
    pub(super) fn run(mut self, stop: &Receiver<()>) {
        // Lower priority is a kindness, not a need.
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 5);
        while stop.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            self.tick();
        }
        self.checkpoint();
        self.mark();
    }

    fn tick(&mut self) {
        let is_due = self.checkpointed.elapsed() >= self.checkpoint_interval;
        if is_due || self.core.state.dirty_rows() > DIRTY_ROWS_MAX {
            self.checkpoint();
        }
        self.mark();
        self.measure();
        if self.core.is_disk_full() {
            // An empty group shows whether there is space again.
            self.append(Vec::new());
        }
        while !self.is_retention_stuck
            && let Some(segment) = retention::next_to_remove(&self.core, &self.limits)
        {
            if let Err(error) = self.remove(&segment) {
                tracing::error!(%error, segment = segment.name(), "retention could not remove a segment");
                // A full disk may pass; what does not read will not read in a second either.
                self.is_retention_stuck = matches!(error, ReadError::Damaged(_));
                break;
            }
            self.measure();
        }
    }

    /// Shows how large the log is.
    fn measure(&self) {
        let Core {
            segments, metrics, ..
        } = &*self.core;
        metrics.log_segments.set(segments.all().len() as f64);
        metrics.log_bytes.set(segments.bytes() as f64);
    }

    /// Writes down how far the log is synced.
    fn mark(&mut self) {
        let is_intact = !matches!(self.core.check_writable(), Err(Refusing::Damaged(_)));
        if is_intact && let Err(error) = self.watermark.set(self.core.reached().position) {
            tracing::warn!(%error, "the watermark could not be written");
        }
    }

    /// Brings what changed to sled; nothing when nothing changed. False when it could not.
    fn checkpoint(&mut self) -> bool {
        let begun = Instant::now();
        self.checkpointed = begun;
        let core = &self.core;
        if core.state.dirty_rows() == 0 {
            return true;
        }
        if core.check_writable().is_err() {
            // On a full disk sled would fail for good; the rows wait in memory.
            return false;
        }
        let log_cursors = |cursors| self.append(cursors);
        match core
            .state
            .checkpoint(core.epoch, log_cursors, || core.reached())
        {
            Ok(rows) => {
                let elapsed = begun.elapsed();
                core.metrics
                    .checkpoint_seconds
                    .record(elapsed.as_secs_f64());
                tracing::debug!(rows, ?elapsed, "checkpoint");
                true
            }
            Err(error) => {
                tracing::error!(%error, "a checkpoint failed");
                core.refuse(Refusing::StateFailed);
                false
            }
        }
    }

    /// Carries on what must outlive a segment, forgets the rest, and removes the file.
    fn remove(&mut self, segment: &Segment) -> Result<(), ReadError> {
        let leaving = Leaving::read(&self.core, segment)?;
        let carried = leaving.carried(&self.core, segment, self.limits.keys)?;
        for records in carried.chunks(CARRIED_AT_ONCE) {
            if !self.append(records.to_vec()) {
                return Err(ReadError::Io(std::io::ErrorKind::StorageFull));
            }
        }
        let expired = leaving.forget(&self.core, segment, self.limits.keys)?;
        self.core.metrics.expired.increment(expired);
        self.core
            .metrics
            .pending
            .set(self.core.state.pending() as f64);
        self.core.segments.remove_oldest();
        // What was forgotten must be durable before the file goes: nothing in the log says it.
        if !self.checkpoint() {
            return Err(ReadError::State);
        }
        let removed = self
            .core
            .disk
            .remove(&segment.name())
            .and_then(|()| self.core.disk.sync_names());
        removed.map_err(|error| ReadError::Io(error.kind()))?;
        tracing::info!(
            segment = segment.name(),
            carried = carried.len(),
            expired,
            "retention removed a segment"
        );
        Ok(())
    }

    /// Has the writer append records; true once they are durable.
    fn append(&self, records: Vec<Record>) -> bool {
        let (sender, answer) = oneshot::channel();
        self.writer
            .blocking_send(Work::Records(records, sender))
            .is_ok()
            && matches!(answer.blocking_recv(), Ok(Ok(())))
    }
}
