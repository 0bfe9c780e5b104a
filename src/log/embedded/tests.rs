//! The log's promises against a disk that loses unsynced bytes, fails, tears writes and flips bits.
//!
//! This file has the bench that the tests share. Each file below holds one promise:
//!
//! - `inbox.rs`: each inbox is dense, and its messages are found
//! - `conversations.rs`: numbers, marks and unread messages of conversations outlive a crash and retention
//! - `books.rs`: accepted = acked + pending + expired, for each kind of entry
//! - `epochs.rs`: a message keeps the base of the epoch in which it was stored
//! - `idempotency.rs`: a repeated key makes one message
//! - `crash.rs`: an accepted message survives a kill and a power cut
//! - `full_disk.rs`: a full disk refuses appends, and the log goes on by itself
//! - `damage.rs`: no damage goes unnoticed, and no whole message is lost with it
//! - `retention.rs`: whole segments go, and the facts that outlive them stay
//! - `everyone.rs`: a message to everyone is placed to its end, in pieces
//! - `feed.rs`: the feed has each commit once, and tells what is missing; rows outlive their segment
//! - `expiries.rs`: a reader learns which unacked messages left, and which cursors moved
//! - `erase.rs`: an erased user is erased after whatever comes
//! - `format.rs`: older formats are read and written on, later ones are named
//! - `backup.rs`: a backup of a running log is whole, and is used whole or not at all; `backup/` has the disks that fail, and what is refused
//! - `parts.rs`: a work on very many rows or records is done in parts
//! - `threads.rs`: a thread that ended or hangs is named
//! - `directory.rs`: the data directory has one process and one owner
//! - `fixture.rs`: the disk

mod backup;
mod books;
mod conversations;
mod crash;
mod damage;
mod directory;
mod epochs;
mod erase;
mod everyone;
mod expiries;
mod feed;
mod fixture;
mod format;
mod full_disk;
mod idempotency;
mod inbox;
mod parts;
mod retention;
mod threads;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::poll_fn,
    path::Path,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;

use self::fixture::TestDisk;
use super::{
    disk::{Disk as _, RealDisk},
    inspect::inspect_segments,
    keeper::TICK,
    open::Directories,
    queue::{Carried, Work},
    record::{Position, Record},
    segment::{ORIGIN, Segment},
    state::SledHome,
    table_id::TableId,
    watermark::Watermark,
    *,
};
use crate::{
    clock::{
        Clock, Machine,
        tests::manual::{Manual, NOW_MS as START_MS},
    },
    config,
    ids::{Fence, MessageId, Platform, Seq, SessionKey},
    log::tests::conformance::{message, user},
    message::Numbers,
    metrics::Metrics,
    threads::{Unwell, Watch},
};

/// A log with all its parts.
struct Bench {
    log: EmbeddedLog,
    disk: Arc<TestDisk>,
    clock: Arc<Clock>,
    machine: Arc<Manual>,
    dir: tempfile::TempDir,
    limits: config::Log,
}

/// Segments in memory, everything else in a directory.
fn place(disk: &Arc<TestDisk>, dir: &Path) -> Directories {
    Directories {
        root: Arc::new(RealDisk::open(dir).unwrap()),
        segments: disk.clone(),
        state: Box::new(SledHome {
            dir: dir.join("state"),
            cache_bytes: 1 << 20,
        }),
    }
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut config::Log)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut limits = config::Log {
            dir: dir.path().into(),
            cache_bytes: 1 << 20,
            ..config::Log::default()
        };
        change(&mut limits);
        Self::open(Arc::default(), dir, limits, Manual::new())
    }

    fn open(
        disk: Arc<TestDisk>,
        dir: tempfile::TempDir,
        limits: config::Log,
        machine: Arc<Manual>,
    ) -> Self {
        let clock = machine.clock();
        let metrics = Arc::new(Metrics::new());
        let (log, workers) = EmbeddedLog::open_in(
            &place(&disk, dir.path()),
            &limits,
            clock.clone(),
            metrics,
            |job| job(),
        )
        .expect("opens");
        log.start(workers).expect("threads start");
        Self {
            log,
            disk,
            clock,
            machine,
            dir,
            limits,
        }
    }

    /// Closes this log cleanly, then opens the files that `disk` returns. `keeps_state`: with the state store.
    fn reopen(self, disk: impl FnOnce(&TestDisk) -> Arc<TestDisk>, keeps_state: bool) -> Self {
        let disk_then = disk(&self.disk);
        self.log.close();
        drop(self.log);
        if !keeps_state {
            let _ = std::fs::remove_dir_all(self.dir.path().join("state"));
        }
        Self::open(disk_then, self.dir, self.limits, self.machine)
    }

    /// The error of an opening of this disk, which must fail.
    fn refusal(&self, disk: &Arc<TestDisk>) -> String {
        let opened = EmbeddedLog::open_in(
            &place(disk, self.dir.path()),
            &self.limits,
            self.clock.clone(),
            Arc::new(Metrics::new()),
            |job| job(),
        );
        opened.err().expect("it does not open").to_string()
    }

    fn try_send(
        &self,
        users: &[&str],
        key: Option<&str>,
        body: &str,
    ) -> Result<Receipt, AppendError> {
        self.log
            .append(message(self.clock.now_ms(), users, key, body))?
            .blocking_recv()
            .expect("the writer answers")
    }

    fn send(&self, users: &[&str], body: &str) -> Receipt {
        self.try_send(users, None, body).expect("accepted")
    }

    fn read(&self, name: &str, after: u64) -> Vec<(u64, Option<String>)> {
        let limit = ReadLimit {
            messages: usize::MAX,
            bytes: usize::MAX,
        };
        let read = self.log.read_blocking(&user(name), Seq(after), limit);
        read.expect("reads")
            .entries
            .into_iter()
            .map(|entry| (entry.numbers.seq.0, entry.content.into_message().map(text)))
            .collect()
    }

    /// The inbox's `first` and `head`.
    fn bounds(&self, name: &str) -> (u64, u64) {
        let inbox = self.log.inbox(&user(name)).blocking_wait().unwrap();
        (inbox.first.0, inbox.head.0)
    }

    fn store_cursor(&self, key: &SessionKey, row: SessionRow) {
        let epoch = self.log.core.epoch;
        self.log.store_cursor(key, epoch, Fence::NONE, row).unwrap();
    }

    fn log_end(&self) -> Position {
        let name = self.disk.last_segment();
        Position(Segment::base_of(&name).unwrap().0 + self.disk.get(&name).len() as u64)
    }

    fn bodies(&self, name: &str) -> Vec<String> {
        self.read(name, 0)
            .into_iter()
            .filter_map(|(_, body)| body)
            .collect()
    }

    fn everyone(&self, key: Option<&str>, body: &str) -> Result<Receipt, AppendError> {
        let append = message(self.clock.now_ms(), &[], key, body);
        let pending = self.log.append_to_everyone(append)?;
        pending.blocking_recv().expect("the writer answers")
    }

    /// Appends records as the gateway's own parts do.
    fn append(&self, records: Vec<Record>) {
        let pending = self
            .log
            .enqueue(|sender| Work::Records(records, sender))
            .unwrap();
        pending.blocking_recv().unwrap().unwrap();
    }

    /// Appends an empty group, as the keeper does while the disk is full.
    fn test_space(&self) -> Result<(), AppendError> {
        let pending = self
            .log
            .enqueue(|sender| Work::Records(Vec::new(), sender))?;
        pending.blocking_recv().unwrap()
    }

    fn setting(&self, key: &str) -> Option<String> {
        self.log
            .core
            .state
            .row(TableId::Profiles, key.as_bytes())
            .unwrap()
            .map(text)
    }
}

fn text(body: Bytes) -> String {
    String::from_utf8(body.into()).unwrap()
}

fn numbered(messages: &[&str]) -> Vec<(u64, Option<String>)> {
    (1..)
        .zip(messages.iter().map(|body| Some((*body).to_owned())))
        .collect()
}

/// A writer that writes one group when the test says so.
struct ByHand(Pin<Box<dyn Future<Output = ()>>>);

impl ByHand {
    async fn write(&mut self) {
        let is_alive = poll_fn(|context| Poll::Ready(self.0.as_mut().poll(context).is_pending()));
        assert!(is_alive.await);
    }

    /// Writes groups, each after a round of the keeper.
    async fn write_until(&mut self, is_reached: impl Fn() -> bool) {
        for _ in 0..100 {
            // The clock is the runtime's: it moves on while the keeper rests.
            tokio::time::sleep(TICK + Duration::from_millis(1)).await;
            self.write().await;
            if is_reached() {
                return;
            }
        }
        panic!("100 groups are not enough");
    }
}

/// Opens a log whose keeper runs by itself and whose writer is the test's. Each group gets a segment of its own, and retention
/// removes all segments except the last.
fn by_hand(disk: &Arc<TestDisk>, dir: &Path, life: impl AsyncFnOnce(&EmbeddedLog, ByHand)) {
    let limits = config::Log {
        dir: dir.into(),
        segment_bytes: 1,
        retention_bytes: 1,
        ..config::Log::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let living = async {
        let (clock, metrics) = (Manual::new().clock(), Arc::new(Metrics::new()));
        let directories = place(disk, dir);
        let opened = EmbeddedLog::open_in(&directories, &limits, clock, metrics, |job| job());
        let (log, workers) = opened.expect("opens");
        let (writer, keeper) = workers.into_futures();
        tokio::task::spawn_local(keeper);
        let writer = writer.expect("nothing is damaged");
        life(&log, ByHand(Box::pin(writer))).await;
    };
    runtime.block_on(tokio::task::LocalSet::new().run_until(living));
}

/// Waits for a change that another thread of the log makes.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(std::time::Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

fn open_directory(dir: &Path) -> Result<EmbeddedLog, OpenError> {
    let limits = config::Log {
        dir: dir.into(),
        ..config::Log::default()
    };
    EmbeddedLog::open(&limits, Manual::new().clock(), Arc::new(Metrics::new()))
}
