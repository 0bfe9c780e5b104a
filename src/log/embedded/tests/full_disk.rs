//! A full disk refuses appends. The log takes them again by itself once there is space.

use super::*;

#[test]
fn a_full_disk_refuses_sends_and_resumes_by_itself() {
    let bench = Bench::new();
    bench.send(&["u1"], "before");
    bench.disk.faults.is_full.store(true, Relaxed);
    for _ in 0..3 {
        assert_eq!(
            bench.try_send(&["u1"], None, "refused"),
            Err(Refusing::DiskFull.into())
        );
    }
    assert_eq!(bench.log.check_writable(), Err(Refusing::DiskFull.into()));
    let killed = bench.disk.after_kill();
    bench.disk.faults.is_full.store(false, Relaxed);
    bench.send(&["u1"], "after");
    assert_eq!(bench.log.check_writable(), Ok(()));
    assert_eq!(bench.read("u1", 0), numbered(&["before", "after"]));
    // If the process dies while the disk is full, no refused message is in the log afterwards.
    let bench = bench.reopen(|_| killed, false);
    assert_eq!(bench.bodies("u1"), ["before"]);
}

#[test]
fn a_limit_of_file_sizes_is_answered_with_the_next_segment() {
    let bench = Bench::new();
    bench.send(&["u1"], "before");
    let length = bench.disk.segment_bytes() as u64;
    // An empty group fits, and a message does not.
    bench.disk.faults.file_bytes_max.store(length + 60, Relaxed);
    let refused = bench.try_send(&["u1"], None, "refused");
    assert_eq!(refused, Err(Refusing::DiskFull.into()));
    bench.send(&["u1"], "after");
    assert_eq!(bench.log.check_writable(), Ok(()));
    assert_eq!(bench.disk.segments().len(), 2);
    let bench = bench.reopen(TestDisk::after_kill, false);
    assert_eq!(bench.bodies("u1"), ["before", "after"]);
}

#[test]
fn a_log_is_writable_again_only_when_what_was_refused_would_fit() {
    let bench = Bench::new();
    let large = "l".repeat(4000);
    bench.disk.faults.file_bytes_max.store(3000, Relaxed);
    let refused = bench.try_send(&["u1"], None, &large);
    assert_eq!(refused, Err(Refusing::DiskFull.into()));
    // As the keeper does: an empty group.
    for _ in 0..3 {
        assert_eq!(bench.test_space(), Err(Refusing::DiskFull.into()));
        assert_eq!(bench.log.check_writable(), Err(Refusing::DiskFull.into()));
    }
    bench.disk.faults.file_bytes_max.store(0, Relaxed);
    assert_eq!(bench.test_space(), Ok(()));
    assert_eq!(bench.log.check_writable(), Ok(()));
    bench.send(&["u1"], "small");
    let bench = bench.reopen(TestDisk::after_kill, false);
    assert_eq!(bench.bodies("u1"), ["small"]);
}

#[test]
fn a_disk_with_space_again_is_noticed_without_a_send() {
    let bench = Bench::new();
    bench.disk.faults.is_full.store(true, Relaxed);
    assert!(bench.try_send(&["u1"], None, "refused").is_err());
    bench.disk.faults.is_full.store(false, Relaxed);
    // The keeper looks again each TICK.
    eventually("sends are possible", || bench.log.check_writable().is_ok());
}

#[test]
fn a_disk_that_something_else_fills_rests_the_checkpoints_until_there_is_space_again() {
    let bench = Bench::with(|limits| limits.checkpoint_interval = Duration::from_millis(10));
    let checkpointed = || bench.log.core.state.dirty_rows() == 0;
    bench.disk.faults.is_nearly_full.store(true, Relaxed);
    // The first append checks the space. A cursor does not.
    let key = SessionKey {
        user: user("u1"),
        platform: Platform::Web,
        device: "d".into(),
    };
    let row = SessionRow {
        cursor: Seq(1),
        acked_at_ms: 9,
    };
    bench.store_cursor(&key, row);
    eventually("the disk to be found full", || {
        bench.log.check_writable() == Err(Refusing::DiskFull.into())
    });
    assert!(!checkpointed(), "sled would fail for good");
    bench.disk.faults.is_nearly_full.store(false, Relaxed);
    eventually("a checkpoint", checkpointed);
    assert_eq!(bench.log.check_writable(), Ok(()));
}

/// A place in which no store can be opened, as on a disk without space.
#[derive(Default)]
struct NoStore(AtomicU64);

impl StoreHome for Arc<NoStore> {
    fn open(&self) -> Result<Opened, StateError> {
        Err(std::io::Error::from(std::io::ErrorKind::StorageFull).into())
    }

    fn set_aside(&self) -> std::io::Result<()> {
        self.0.fetch_add(1, Relaxed);
        Ok(())
    }
}

#[test]
fn a_start_on_a_full_disk_serves_what_it_has_and_takes_sends_once_there_is_space() {
    let bench = Bench::new();
    bench.send(&["u1"], "before");
    let disk = bench.disk.after_kill();
    let home = Arc::new(NoStore::default());
    let place = Directories {
        state: Box::new(home.clone()),
        ..place(&disk, bench.dir.path())
    };
    let open = || {
        let metrics = Arc::new(Metrics::new());
        EmbeddedLog::open_in(&place, &bench.limits, bench.clock.clone(), metrics, |job| {
            job()
        })
    };
    assert!(
        matches!(open(), Err(OpenError::State(_))),
        "there is space: it is the store that is broken"
    );
    home.0.store(0, Relaxed);
    disk.faults.is_nearly_full.store(true, Relaxed);
    let (log, workers) = open().map_err(|error| error.to_string()).unwrap();
    assert!(home.0.load(Relaxed) > 0, "it would be behind from now on");
    log.start(workers).unwrap();
    assert_eq!(log.inbox(&user("u1")).blocking_wait().unwrap().head, Seq(1));
    assert_eq!(log.check_writable(), Err(Refusing::DiskFull.into()));
    disk.faults.is_nearly_full.store(false, Relaxed);
    eventually("sends are possible", || log.check_writable().is_ok());
    let pending = log
        .append(message(START_MS, &["u1"], None, "after"))
        .unwrap();
    let receipt = pending.blocking_recv().unwrap().unwrap();
    assert_eq!(receipt.entries[0].1.seq, Seq(2));
    assert!(log.close());
}
