//! Retention removes whole segments. The facts that outlive them stay, with their newest values.

use super::{conversations::short_lived, *};

#[test]
fn retention_removes_whole_segments_and_forgets_no_head_key_cursor_or_revocation() {
    for keeps_state in [true, false] {
        let bench = Bench::with(|limits| {
            limits.segment_bytes = 1024;
            limits.retention = Duration::from_secs(3600);
            limits.idempotency_retention = Duration::from_secs(86_400);
        });
        let session = SessionKey {
            user: user("u1"),
            platform: Platform::Web,
            device: "".into(),
        };
        let first = bench.try_send(&["u1"], Some("key"), "keyed").unwrap();
        for number in 0..20 {
            bench.send(&["u1", "quiet"], &format!("{number}{}", "o".repeat(200)));
        }
        let row = SessionRow {
            cursor: Seq(5),
            acked_at_ms: START_MS,
        };
        bench.store_cursor(&session, row);
        bench
            .log
            .revoke(user("u1"), Platform::Web, 77)
            .unwrap()
            .blocking_recv()
            .unwrap()
            .unwrap();
        bench
            .log
            .register(user("new"), Bytes::from_static(b"{}"))
            .unwrap()
            .blocking_recv()
            .unwrap()
            .unwrap();
        bench
            .log
            .note_token(&user("u1"), Platform::Web, 76)
            .unwrap();
        bench.machine.advance(2 * 3600 * 1000);
        // The open segment is old, so the next send begins another one. Once that one is as old as the limit, all segments
        // before it may be removed.
        bench.send(&["u1"], "young");
        bench.machine.advance(3601 * 1000);
        eventually("the old segments are removed", || {
            bench.disk.segments().len() <= 2
        });
        assert_eq!(bench.read("u1", 0), [(22, Some("young".into()))]);
        let bench = bench.reopen(TestDisk::after_power_cut, keeps_state);
        assert_eq!(
            bench.read("u1", 0),
            [(22, Some("young".into()))],
            "state kept: {keeps_state}"
        );
        assert_eq!(bench.bounds("quiet"), (21, 20));
        let repeat = bench.try_send(&["u1"], Some("key"), "keyed").unwrap();
        assert_eq!(
            repeat.message_id, first.message_id,
            "the key outlives its message"
        );
        assert_eq!(
            bench
                .log
                .enter(&session)
                .blocking_wait()
                .unwrap()
                .stored
                .map(|row| row.cursor),
            Some(Seq(5))
        );
        assert_eq!(
            bench
                .log
                .token_times(&user("u1"), Platform::Web)
                .blocking_wait()
                .unwrap(),
            TokenTimes {
                revoked_before_ms: 77,
                newest_ms: 76
            }
        );
        assert!(
            bench
                .log
                .users()
                .blocking_wait()
                .unwrap()
                .contains(&user("new"))
        );
        assert_eq!(
            bench.send(&["quiet"], "next").entries[0].1.seq,
            Seq(21),
            "no seq is given twice"
        );
    }
}

/// A wall clock that jumped before the start removes nothing by age. The bound by size still holds.
#[test]
fn a_jump_of_the_wall_clock_expires_nothing_by_age() {
    enum Restart {
        Process,
        Machine,
    }
    for restart in [Restart::Process, Restart::Machine] {
        let bench = Bench::with(|limits| {
            limits.segment_bytes = 1024;
            limits.retention_bytes = 8192;
            limits.retention = Duration::from_secs(3600);
        });
        let fill = |bench: &Bench| {
            for number in 0..40 {
                bench.send(&["u1"], &format!("{number}{}", "l".repeat(200)));
            }
        };
        fill(&bench);
        bench.log.close();
        bench.machine.jump(100 * 86_400_000);
        if matches!(restart, Restart::Machine) {
            bench.machine.restart(0);
        }
        let bench = bench.reopen(TestDisk::after_kill, true);
        let first = bench.disk.segments().remove(0);
        fill(&bench);
        eventually("the bound by size", || {
            bench.disk.segments()[0] != first && bench.disk.segment_bytes() <= 8192
        });
        assert!(bench.disk.segments().len() > 3);

        // The clock becomes right again. No process can tell that if the machine was off.
        bench.machine.jump(-100 * 86_400_000);
        if matches!(restart, Restart::Machine) {
            bench.clock.accept();
        }
        bench.machine.advance(2 * 3_600_000);
        bench.send(&["u1"], "later");
        bench.machine.advance(2 * 3_600_000);
        bench.send(&["u1"], "last");
        eventually("age", || bench.disk.segments().len() <= 2);
    }
}

/// Retention once went round for ever: each removed segment of carried facts made another one.
#[test]
fn facts_larger_than_the_bound_are_carried_once_round_and_later_messages_have_the_whole_bound() {
    let bench = Bench::with(|limits| {
        limits.segment_bytes = 16 << 10;
        limits.retention_bytes = 64 << 10;
    });
    let users: Vec<_> = (0..2500).map(|number| format!("u{number}")).collect();
    let users: Vec<_> = users.iter().map(String::as_str).collect();
    bench.send(&users, "to many");
    let fill = |messages| {
        for number in 0..messages {
            bench.send(&["u1"], &format!("{number}{}", "f".repeat(1000)));
        }
    };
    fill(100);
    // A round of the keeper marks the log as synced, and then removes segments. So once the mark is behind the second message, the
    // removals of an earlier round are over.
    let turns = || {
        for _ in 0..2 {
            bench.send(&["other"], "a turn");
            let end = bench.log_end();
            eventually("a turn of the keeper", || bench.disk.marks().synced >= end);
        }
    };
    turns();
    let facts = bench.disk.segment_bytes();
    assert!(facts > 64 << 10, "{facts} bytes of facts are enough");
    let begun = bench.bounds("u1");
    fill(30);
    turns();
    assert_eq!(bench.bounds("u1").1, begun.1 + 30);
    assert!(bench.read("u1", begun.1).len() == 30, "they fit the bound");
    fill(300);
    turns();
    assert!(bench.bounds("u1").0 > begun.1, "the bound holds again");
    let bytes = bench.disk.segment_bytes();
    assert!(bytes <= facts + (64 << 10) + (32 << 10), "{bytes}, {facts}");
    let bench = bench.reopen(TestDisk::after_power_cut, false);
    assert_eq!(bench.bounds("u7"), (2, 1));
}

fn setting(key: &'static str, value: Option<&'static str>) -> Record {
    Record::Row {
        table: TableId::Profiles,
        key: Bytes::from_static(key.as_bytes()),
        value: value.map(|value| Bytes::from_static(value.as_bytes())),
    }
}

#[test]
fn a_row_keeps_its_last_value_over_crashes_a_lost_state_store_and_retention() {
    let mut bench = Bench::with(|limits| limits.retention = Duration::from_secs(8 * 3600));
    bench.append(vec![setting("a", Some("old")), setting("b", Some("on"))]);
    bench.append(vec![setting("a", Some("new")), setting("b", None)]);
    for keeps_state in [true, false] {
        assert_eq!(bench.setting("a").as_deref(), Some("new"));
        assert_eq!(bench.setting("b"), None);
        bench = bench.reopen(TestDisk::after_power_cut, keeps_state);
    }
    let first = bench.disk.segments().remove(0);
    for _ in 0..4 {
        bench.machine.advance(9 * 3_600_000);
        bench.send(&["u1"], "later");
    }
    eventually("age", || bench.disk.segments()[0] != first);
    for keeps_state in [true, false] {
        assert_eq!(bench.setting("a").as_deref(), Some("new"));
        assert_eq!(bench.setting("b"), None);
        bench = bench.reopen(TestDisk::after_power_cut, keeps_state);
    }
}

#[test]
fn retention_never_undoes_a_newer_registration() {
    let bench = Bench::new();
    let register = |log: &EmbeddedLog, profile| {
        let profile = Bytes::from_static(profile);
        log.register(user("u1"), profile).unwrap()
    };
    register(&bench.log, b"old")
        .blocking_recv()
        .unwrap()
        .unwrap();
    bench.log.close();
    let first = bench.disk.last_segment();
    let disk = bench.disk.after_power_cut();
    let dir = tempfile::tempdir().unwrap();
    by_hand(&disk, dir.path(), async |log, mut writer| {
        let append = message(START_MS, &["u1"], None, "in the next segment");
        let _pending = log.append(append).unwrap();
        writer.write().await;
        // The writer has not written the registration when the keeper looks.
        let _pending = register(log, b"new");
        writer
            .write_until(|| !disk.segments().contains(&first))
            .await;
    });
    std::fs::remove_dir_all(dir.path().join("state")).unwrap();
    let disk = disk.after_power_cut();
    let bench = Bench::open(disk, dir, bench.limits.clone(), Manual::new());
    let profile = bench.log.core.state.profile(&user("u1")).unwrap();
    assert_eq!(profile.as_deref(), Some(&b"new"[..]));
}

#[test]
fn retention_never_undoes_a_newer_value_of_a_row() {
    let bench = Bench::new();
    bench.append(vec![setting("a", Some("old")), setting("b", Some("on"))]);
    let rows =
        ["a", "b"].map(|key| Carried::Row(TableId::Profiles, Bytes::from_static(key.as_bytes())));
    // One group: the newer values, and then the values that retention found.
    let thawed = bench.disk.faults.frozen.lock().unwrap();
    let head = bench
        .log
        .append(message(bench.clock.now_ms(), &["u1"], None, "waits"));
    let newer = vec![setting("a", Some("new")), setting("b", None)];
    let newer = bench.log.enqueue(|sender| Work::Records(newer, sender));
    let carried = bench
        .log
        .enqueue(|sender| Work::Carry(rows.to_vec(), sender));
    drop(thawed);
    head.unwrap().blocking_recv().unwrap().unwrap();
    newer.unwrap().blocking_recv().unwrap().unwrap();
    carried.unwrap().blocking_recv().unwrap().unwrap();
    let bench = bench.reopen(TestDisk::after_power_cut, false);
    assert_eq!(bench.setting("a").as_deref(), Some("new"));
    assert_eq!(bench.setting("b"), None);
}

#[test]
fn what_retention_forgot_stays_forgotten_also_when_nothing_had_to_be_carried_on() {
    for keeps_state in [true, false] {
        let bench = Bench::with(|limits| {
            limits.segment_bytes = 4096;
            limits.retention_bytes = 8192;
            // The test has only the checkpoints that retention makes.
            limits.checkpoint_interval = Duration::from_secs(3600);
        });
        // The one user has an entry in every segment, so no head has to be carried over.
        for number in 0..60 {
            bench.send(&["u1"], &format!("{number}{}", "r".repeat(300)));
        }
        let first = || bench.log.inbox(&user("u1")).blocking_wait().unwrap().first;
        eventually("the log is within its bound", || {
            bench.disk.segment_bytes() <= 8192
        });
        let (killed, first) = (bench.disk.after_kill(), first());
        let expected = bench.read("u1", 0);
        assert!(first > Seq(1) && expected[0].0 == first.0);
        let bench = bench.reopen(|_| killed, keeps_state);
        assert_eq!(
            bench.log.inbox(&user("u1")).blocking_wait().unwrap().first,
            first
        );
        assert_eq!(bench.read("u1", 0), expected, "state kept: {keeps_state}");
        assert!(bench.log.damages().is_empty());
    }
}

#[test]
fn an_openim_session_is_forgotten_with_its_segment_when_it_was_not_seen_for_the_retention() {
    let bench = short_lived();
    let session = |name: &str, digest| SessionKey {
        user: user(name),
        platform: Platform::Ios,
        device: SessionKey::openim_device(&[digest; 32]),
    };
    let (silent, alive) = (session("u1", 1), session("u1", 2));
    let other = SessionKey {
        device: "v3:0101010101010101".into(),
        ..silent.clone()
    };
    let only = session("only", 3);
    let row = |acked_at_ms| SessionRow {
        cursor: Seq::ZERO,
        acked_at_ms,
    };
    for key in [&silent, &alive, &other, &only] {
        bench.store_cursor(key, row(START_MS));
    }
    bench.send_from("a");
    bench.log.close();
    let mut bench = bench.reopen(TestDisk::after_kill, true);
    bench.store_cursor(&alive, row(START_MS + 3 * 3600 * 1000));
    for keeps_state in [true, false] {
        bench.expire_before("a");
        let is_known = |key| {
            let found = bench.log.enter(key).blocking_wait().unwrap();
            found.stored.is_some()
        };
        assert_eq!(
            [&silent, &alive, &other, &only].map(is_known),
            [false, keeps_state, true, false],
        );
        bench.log.close();
        bench = bench.reopen(TestDisk::after_power_cut, keeps_state);
        let users = bench.log.users().blocking_wait().unwrap();
        assert_eq!(users, [user("only"), user("u1")]);
    }
}
