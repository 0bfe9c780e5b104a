//! An accepted message survives a kill and a power cut, with and without the state store. A refused one is never seen.

use super::*;

#[test]
fn what_was_accepted_survives_kills_and_power_cuts_with_and_without_the_state_store() {
    for (is_power_cut, keeps_state) in [(false, true), (false, false), (true, true), (true, false)]
    {
        let mut bench = Bench::with(|limits| limits.segment_bytes = 4096);
        let mut sent = Vec::new();
        for round in 0..3 {
            for number in 0..40 {
                let body = format!("{round}-{number}{}", "y".repeat(200));
                bench.send(&["u1", "u2"], &body);
                sent.push(body);
            }
            let crash = |disk: &TestDisk| {
                if is_power_cut {
                    disk.after_power_cut()
                } else {
                    disk.after_kill()
                }
            };
            bench = bench.reopen(crash, keeps_state);
            assert_eq!(
                bench.bodies("u1"),
                sent,
                "power cut: {is_power_cut}, state kept: {keeps_state}"
            );
            assert_eq!(bench.bodies("u2"), sent);
        }
        assert!(
            bench.disk.segments().len() > 3,
            "several segments were crossed"
        );
    }
}

#[test]
fn a_send_whose_sync_failed_is_never_seen_and_none_is_accepted_after_it() {
    let bench = Bench::new();
    bench.send(&["u1"], "good");
    bench.disk.faults.sync_fails.store(true, Relaxed);
    let failed = bench.try_send(&["u1"], None, "lost");
    // The cut could not be synced either, so the content of the disk is not known.
    assert_eq!(failed, Err(AppendError::OutcomeUnknown));
    bench.disk.faults.sync_fails.store(false, Relaxed);
    let refused = bench.try_send(&["u1"], None, "later");
    assert_eq!(refused, Err(Refusing::SyncFailed.into()));
    assert_eq!(bench.log.check_writable(), Err(Refusing::SyncFailed.into()));
    assert_eq!(bench.bodies("u1"), ["good"], "reads go on");
    let bench = bench.reopen(TestDisk::after_power_cut, true);
    assert_eq!(bench.bodies("u1"), ["good"]);
    bench.send(&["u1"], "after the restart");
    assert_eq!(
        bench.read("u1", 0),
        numbered(&["good", "after the restart"])
    );
}

#[test]
fn a_log_cut_anywhere_in_its_last_group_loses_that_group_whole_and_nothing_else() {
    let bench = Bench::new();
    bench.send(&["u1", "u2"], "one");
    let whole = bench.disk.get(&bench.disk.last_segment()).len();
    bench.send(&["u1", "u2"], "two");
    // The keeper may or may not have written its mark by now. This test is about a machine that stopped before the mark.
    let name = bench.disk.last_segment();
    let bytes = bench.disk.get(&name);
    for length in whole..bytes.len() {
        for garbage in [0, 40] {
            let disk = TestDisk::default();
            disk.put(&name, [&bytes[..length], &vec![0; garbage]].concat());
            let report = inspect_segments(&disk, &mut None).unwrap();
            assert_eq!(
                (report.messages, &report.damages[..]),
                (report.messages, &[][..]),
                "cut at {length}"
            );
            if (length - whole).is_multiple_of(37) {
                let dir = tempfile::tempdir().unwrap();
                let limits = config::Log {
                    dir: dir.path().into(),
                    ..bench.limits.clone()
                };
                let cut = Bench::open(Arc::new(disk), dir, limits, bench.machine.clone());
                assert_eq!(cut.read("u1", 0), numbered(&["one"]), "cut at {length}");
                cut.send(&["u1"], "three");
                assert_eq!(cut.read("u1", 0), numbered(&["one", "three"]));
            }
        }
    }
}

#[test]
fn a_clock_that_was_confirmed_stays_so_after_a_crash() {
    let bench = Bench::with(|limits| limits.checkpoint_interval = Duration::from_secs(3600));
    bench.machine.jump(40 * 86_400_000);
    bench.clock.accept();
    let name = bench.dir.path().join("clock");
    let before = std::fs::read(&name).unwrap();
    eventually("the mark", || std::fs::read(&name).unwrap() != before);
    // The next process finds the files that a crash would leave.
    let left = std::fs::read(&name).unwrap();
    let bench = {
        bench.log.close();
        std::fs::write(&name, left).unwrap();
        bench.reopen(TestDisk::after_kill, true)
    };
    assert!(bench.clock.doubt().is_none());
}

#[test]
fn an_idle_log_does_not_grow_and_a_checkpoint_undoes_no_ack() {
    let bench = Bench::with(|limits| limits.checkpoint_interval = Duration::from_millis(1));
    let session = SessionKey {
        user: user("u1"),
        platform: Platform::Web,
        device: "".into(),
    };
    let length = || bench.disk.get(&bench.disk.last_segment()).len();
    for cursor in 1..=3 {
        bench.send(&["u1"], "x");
        let sent = length();
        let row = SessionRow {
            cursor: Seq(cursor),
            acked_at_ms: 0,
        };
        bench.store_cursor(&session, row);
        eventually("a checkpoint puts the cursor into the log", || {
            length() > sent
        });
        assert_eq!(
            bench.log.enter(&session).blocking_wait().unwrap().stored,
            Some(row)
        );
    }
    // The watermark follows once a round. When it is at the end, a whole round has passed in which nothing was written.
    let idle = length();
    eventually("the keeper's turns", || {
        bench.disk.marks().synced == bench.log_end()
    });
    let turns = bench.disk.get("synced");
    bench.log.register(user("u2"), Bytes::new()).unwrap();
    eventually("another turn", || bench.disk.get("synced") != turns);
    let registration = 128;
    assert!(length() <= idle + registration, "{idle}, then {}", length());
}

#[test]
fn cursors_survive_an_orderly_stop_and_a_lost_state_store() {
    let bench = Bench::new();
    bench.send(&["u1"], "one");
    let session = SessionKey {
        user: user("u1"),
        platform: Platform::Web,
        device: "d".into(),
    };
    let row = SessionRow {
        cursor: Seq(1),
        acked_at_ms: 9,
    };
    bench.store_cursor(&session, row);
    bench.log.close();
    let bench = bench.reopen(|disk| disk.after_power_cut(), false);
    assert_eq!(
        bench.log.enter(&session).blocking_wait().unwrap().stored,
        Some(row)
    );
    assert_eq!(
        bench.log.sessions(&user("u1")).blocking_wait().unwrap(),
        [(session, row)]
    );
}

#[test]
fn a_session_that_has_begun_survives_a_power_cut_and_its_later_acks_may_not() {
    let bench = Bench::with(|limits| limits.checkpoint_interval = Duration::from_secs(3600));
    bench.send(&["u1"], "one");
    bench.send(&["u1"], "two");
    let session = SessionKey {
        user: user("u1"),
        platform: Platform::Web,
        device: "d".into(),
    };
    let row = |cursor| SessionRow {
        cursor: Seq(cursor),
        acked_at_ms: 9,
    };
    let epoch = bench.log.core.epoch;
    let begun = bench
        .log
        .begin_session(&session, epoch, Fence::NONE, row(1))
        .unwrap();
    begun.blocking_recv().unwrap().unwrap();
    bench.store_cursor(&session, row(2));
    let bench = bench.reopen(TestDisk::after_power_cut, false);
    let entered = bench.log.enter(&session).blocking_wait().unwrap();
    assert_eq!(entered.stored, Some(row(1)));
}

#[test]
fn a_mark_that_cannot_be_written_leaves_the_one_before_it() {
    let disk = TestDisk::default();
    let mut watermark = Watermark::open(&disk).unwrap();
    watermark.set_synced(Position(10)).unwrap();
    watermark.set_begin(Position(5)).unwrap();
    let marks = watermark.marks();
    disk.faults.is_full.store(true, Relaxed);
    for position in 11..20 {
        watermark.set_synced(Position(position)).unwrap_err();
        assert_eq!(Watermark::open(&disk).unwrap().marks(), marks);
    }
    disk.faults.is_full.store(false, Relaxed);
    watermark.set_synced(Position(20)).unwrap();
    assert_eq!(Watermark::open(&disk).unwrap().marks().synced, Position(20));
}
