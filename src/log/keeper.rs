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
    state::Reached,
    watermark::Watermark,
    writer::Work,
};

/// How often it looks.
const TICK: Duration = Duration::from_secs(1);
/// A checkpoint comes early at this many rows in memory: some 40 MB.
const RECENT_ROWS_MAX: usize = 200_000;
/// Records carried into the log in one request to the writer.
const CARRIED_AT_ONCE: usize = 1024;

/// The thread's state.
pub(super) struct Keeper {
    pub(super) core: Arc<Core>,
    pub(super) writer: mpsc::Sender<Work>,
    pub(super) watermark: Watermark,
    pub(super) limits: Limits,
    pub(super) checkpoint_interval: Duration,
}

impl Keeper {
    /// Runs until the other end of `stop` is dropped, then makes a last checkpoint.
    pub(super) fn run(mut self, stop: &Receiver<()>) {
        // Lower priority is a kindness, not a need.
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 5);
        let mut checkpointed = (Instant::now(), self.core.reached());
        while stop.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            self.tick(&mut checkpointed);
        }
        self.checkpoint(&mut checkpointed);
        self.mark();
    }

    fn tick(&mut self, checkpointed: &mut (Instant, Reached)) {
        let (at, _) = *checkpointed;
        if at.elapsed() >= self.checkpoint_interval
            || self.core.state.recent_rows() > 2 * RECENT_ROWS_MAX
        {
            self.checkpoint(checkpointed);
        }
        self.mark();
        self.measure();
        if self.core.is_disk_full() {
            // An empty group shows whether there is space again.
            self.append(Vec::new());
        }
        while let Some(segment) = retention::next_to_remove(&self.core, &self.limits) {
            self.checkpoint(checkpointed);
            if let Err(error) = self.remove(&segment) {
                tracing::error!(%error, segment = segment.name(), "retention could not remove a segment");
                break;
            }
            // So that a rebuilt inbox and the stored one say the same.
            self.checkpoint(checkpointed);
            self.measure();
        }
    }

    /// Shows how large the log is.
    fn measure(&self) {
        let segments = self.core.segments.all();
        let bytes: u64 = segments.iter().map(|segment| segment.length()).sum();
        self.core.metrics.log_segments.set(segments.len() as f64);
        self.core.metrics.log_bytes.set(bytes as f64);
    }

    /// Writes down how far the log is synced.
    fn mark(&mut self) {
        let is_intact = !matches!(self.core.check_writable(), Err(Refusing::Damaged(_)));
        if is_intact && let Err(error) = self.watermark.set(self.core.reached().position) {
            tracing::warn!(%error, "the watermark could not be written");
        }
    }

    fn checkpoint(&self, checkpointed: &mut (Instant, Reached)) {
        let begun = Instant::now();
        checkpointed.0 = begun;
        if self.core.check_writable().is_err() {
            // On a full disk sled would fail for good; the rows wait in memory.
            return;
        }
        let before = checkpointed.1;
        let mut reached = None;
        let result = self.core.state.checkpoint(
            self.core.epoch,
            |cursors| self.append(cursors),
            || {
                reached = Some(self.core.reached()).filter(|reached| *reached != before);
                reached
            },
        );
        match result {
            Ok(rows) => {
                checkpointed.1 = reached.unwrap_or(before);
                if rows > 0 {
                    self.core
                        .metrics
                        .checkpoint_seconds
                        .record(begun.elapsed().as_secs_f64());
                    tracing::debug!(rows, elapsed = ?begun.elapsed(), "checkpoint");
                }
            }
            Err(error) => {
                tracing::error!(%error, "a checkpoint failed");
                self.core.refuse(Refusing::StateFailed);
            }
        }
    }

    /// Carries on what must outlive a segment, forgets the rest, and removes the file.
    fn remove(&self, segment: &Segment) -> Result<(), ReadError> {
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
