//! A thread that ended or hangs is named by the watch.

use super::*;

/// A consumer that panics at its first commit.
struct Panics;

impl Consumer for Panics {
    fn take(&self, _: &[Commit]) {
        panic!("planted");
    }
}

/// A machine with a clock that stands still, and panics on the keeper's thread.
struct KeeperPanics;

impl Machine for KeeperPanics {
    fn wall_ms(&self) -> u64 {
        assert_ne!(std::thread::current().name(), Some("log-keeper"), "planted");
        START_MS
    }

    fn boot_ms(&self) -> u64 {
        0
    }

    fn boot_id(&self) -> u128 {
        1
    }
}

/// The thread of this log that a watch reports as ended.
fn ended_thread(log: &EmbeddedLog) -> Unwell {
    let watch = Watch::default();
    watch.add(log.take_watched());
    ended(&watch)
}

fn ended(watch: &Watch) -> Unwell {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(watch.ended())
}

#[test]
fn callers_are_answered_before_a_consumer_that_panics_and_the_watch_finds_the_ended_writer() {
    let dir = tempfile::tempdir().unwrap();
    let limits = config::Log {
        dir: dir.path().into(),
        ..config::Log::default()
    };
    let clock = Manual::new().clock();
    let metrics = Arc::new(Metrics::new());
    let log = EmbeddedLog::open(&limits, clock, metrics).unwrap();
    log.commits(Arc::new(Panics));
    let pending = log
        .append(message(START_MS, &["u1"], None, "on disk"))
        .unwrap();
    pending.blocking_recv().unwrap().unwrap();
    assert_eq!(ended_thread(&log), Unwell::Ended("log-writer".into()));
    let refused = log
        .append(message(START_MS, &["u1"], None, "too late"))
        .unwrap_err();
    assert_eq!(refused, Refusing::Closed.into());
    assert!(!log.close());
    drop(log);
    let log = open_directory(dir.path()).unwrap();
    assert_eq!(log.inbox(&user("u1")).blocking_wait().unwrap().head, Seq(1));
}

#[test]
fn a_keeper_that_panics_is_found_by_the_watch() {
    let dir = tempfile::tempdir().unwrap();
    let limits = config::Log {
        dir: dir.path().into(),
        segment_bytes: 1,
        ..config::Log::default()
    };
    let metrics = Arc::new(Metrics::new());
    let clock = Arc::new(Clock::new(Box::new(KeeperPanics), Duration::ZERO));
    let log = EmbeddedLog::open(&limits, clock, metrics).unwrap();
    for text in ["one", "two"] {
        let pending = log.append(message(START_MS, &["u1"], None, text)).unwrap();
        pending.blocking_recv().unwrap().unwrap();
    }
    assert_eq!(ended_thread(&log), Unwell::Ended("log-keeper".into()));
    assert!(!log.close());
}

/// Looks more often than needed for a thread to count as stalled. Returns the faults that the watch found.
fn faults(watch: &Watch) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(60), watch.ended()).await })
        .expect_err("no thread ended");
    watch.check().err().unwrap_or_default()
}

#[test]
fn a_writer_whose_sync_does_not_return_is_named_until_it_does() {
    let bench = Bench::new();
    let watch = Watch::default();
    watch.add(bench.log.take_watched());
    eventually("an idle log is well", || faults(&watch).is_empty());
    let frozen = bench.disk.faults.frozen.lock().unwrap();
    let pending = bench
        .log
        .append(message(START_MS, &["u1"], None, "hello"))
        .unwrap();
    eventually("the writer is named", || {
        faults(&watch).contains("the thread log-writer has not moved")
    });
    drop(frozen);
    pending.blocking_recv().unwrap().unwrap();
    eventually("the log is well again", || faults(&watch).is_empty());
    assert!(bench.log.close());
}

/// A machine with a clock that stands still, and holds the keeper's thread while the test holds the lock.
struct KeeperHangs(Arc<Mutex<()>>);

impl Machine for KeeperHangs {
    fn wall_ms(&self) -> u64 {
        if std::thread::current().name() == Some("log-keeper") {
            drop(self.0.lock());
        }
        START_MS
    }

    fn boot_ms(&self) -> u64 {
        0
    }

    fn boot_id(&self) -> u128 {
        1
    }
}

#[test]
fn a_keeper_that_hangs_is_named_until_it_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let held = Arc::new(Mutex::new(()));
    let machine = Box::new(KeeperHangs(held.clone()));
    let limits = config::Log {
        dir: dir.path().into(),
        ..config::Log::default()
    };
    let log = EmbeddedLog::open(
        &limits,
        Arc::new(Clock::new(machine, Duration::ZERO)),
        Arc::new(Metrics::new()),
    )
    .unwrap();
    let watch = Watch::default();
    watch.add(log.take_watched());
    let hang = held.lock().unwrap();
    eventually("the keeper is named", || {
        faults(&watch).contains("the thread log-keeper has not moved")
    });
    drop(hang);
    eventually("the log is well again", || faults(&watch).is_empty());
    assert!(log.close());
}

#[test]
fn a_keeper_whose_state_store_failed_ends_once_a_restart_can_help() {
    let bench = Bench::with(|limits| limits.checkpoint_interval = Duration::ZERO);
    bench.disk.faults.is_nearly_full.store(true, Relaxed);
    bench.log.core.refuse(Refusing::StateFailed);
    let watch = Watch::default();
    watch.add(bench.log.take_watched());
    let mark = || std::fs::read(bench.dir.path().join("clock")).ok();
    for _ in 0..2 {
        let before = mark();
        bench.machine.advance(1000);
        eventually("a round of the keeper", || mark() != before);
    }
    eventually("the keeper goes on", || faults(&watch).is_empty());
    bench.disk.faults.is_nearly_full.store(false, Relaxed);
    assert_eq!(ended(&watch), Unwell::Ended("log-keeper".into()));
}
