//! A message to everyone is placed in pieces, to its end, after any crash, and delays no other append.

use super::*;

/// The bytes of the last segment up to each closed group.
fn closed_groups(disk: &TestDisk) -> Vec<usize> {
    let base = Segment::base_of(&disk.last_segment()).unwrap();
    let segment = Segment::open(disk, base).unwrap();
    let mut scan = scan::Scan::whole(&segment);
    let mut ends = Vec::new();
    while let Some(scanned) = scan.next().unwrap() {
        if matches!(scanned.record, Record::GroupEnd { .. }) {
            ends.push((scan.position().0 - base.0) as usize);
        }
    }
    ends
}

/// Enough users for three pieces.
fn crowd() -> Vec<String> {
    (0..1100).map(|number| format!("u{number}")).collect()
}

fn count(bench: &Bench, name: &str, body: &str) -> usize {
    let bodies = bench.bodies(name);
    bodies.iter().filter(|there| *there == body).count()
}

#[test]
fn a_message_to_everyone_that_was_cut_after_any_piece_is_placed_to_its_end_by_itself() {
    let names = crowd();
    let users: Vec<_> = names.iter().map(String::as_str).collect();
    let bench = Bench::new();
    bench.send(&users, "one");
    let receipt = bench.everyone(Some("k"), "all").unwrap();
    bench.send(&["u2", "new"], "three");
    bench.log.close();
    let name = bench.disk.last_segment();
    let whole = bench.disk.get(&name);
    let lookup = Lookup::Id(receipt.message_id);
    let mut accepted = 0;
    for end in closed_groups(&bench.disk) {
        let disk = TestDisk::default();
        disk.put(&name, whole[..end].to_vec());
        let dir = tempfile::tempdir().unwrap();
        let limits = bench.limits.clone();
        let bench = Bench::open(Arc::new(disk), dir, limits, Manual::new());
        let found = bench.log.find_blocking(&lookup).unwrap();
        let Some(found) = found else {
            assert_eq!(accepted, 0, "an accepted message is forgotten");
            continue;
        };
        accepted += 1;
        assert_eq!(found.receivers, 1100);
        eventually("the last piece", || !bench.log.is_spreading().unwrap());
        let again = bench.everyone(Some("k"), "all").unwrap();
        assert_eq!(again.message_id, receipt.message_id);
        assert_eq!(again.entries.len(), 1100);
        let bench = bench.reopen(TestDisk::after_power_cut, false);
        assert_eq!(bench.everyone(Some("k"), "all"), Ok(again));
        assert!(users.iter().all(|user| count(&bench, user, "all") == 1));
        assert_eq!(count(&bench, "new", "all"), 0);
    }
    assert!(accepted > 3, "it came in pieces");
}

/// The bytes of a disk's last segment up to the end of the group that accepts `many` messages to everyone.
fn accepted(disk: &TestDisk, many: usize) -> usize {
    let base = Segment::base_of(&disk.last_segment()).unwrap();
    let segment = Segment::open(disk, base).unwrap();
    let mut scan = scan::Scan::whole(&segment);
    let mut ids = BTreeSet::new();
    loop {
        match scan.next().unwrap().expect("all are accepted").record {
            Record::Row {
                table: TableId::Spreads,
                key,
                ..
            } => {
                ids.insert(key);
            }
            Record::GroupEnd { .. } if ids.len() == many => {
                return (scan.position().0 - base.0) as usize;
            }
            _ => {}
        }
    }
}

#[test]
fn a_message_to_everyone_that_waits_for_its_turn_outlives_the_segment_that_accepted_it() {
    const BODIES: [&str; 8] = ["m0", "m1", "m2", "m3", "m4", "m5", "m6", "m7"];
    let names = crowd();
    let users: Vec<_> = names.iter().map(String::as_str).collect();
    let bench = Bench::new();
    bench.send(&users, "one");
    let frozen = bench.disk.faults.frozen.lock().unwrap();
    let pending = BODIES.map(|body| {
        let append = message(bench.clock.now_ms(), &[], Some(body), body);
        bench.log.append_to_everyone(append).unwrap()
    });
    drop(frozen);
    let receipts = pending.map(|pending| pending.blocking_recv().unwrap().unwrap());
    bench.log.close();
    let first = bench.disk.last_segment();
    let end = accepted(&bench.disk, BODIES.len());
    let disk = Arc::new(TestDisk::default());
    disk.put(&first, bench.disk.get(&first)[..end].to_vec());

    // The process ends when the first segment is gone.
    let dir = tempfile::tempdir().unwrap();
    by_hand(&disk, dir.path(), async |log, mut writer| {
        writer.write().await;
        writer
            .write_until(|| !disk.segments().contains(&first))
            .await;
        assert!(log.is_spreading().unwrap());
    });
    std::fs::remove_dir_all(dir.path().join("state")).unwrap();
    let disk = disk.after_power_cut();
    let bench = Bench::open(disk, dir, bench.limits.clone(), Manual::new());
    eventually("the last piece", || !bench.log.is_spreading().unwrap());
    let [.., last] = receipts;
    let again = bench.everyone(Some("m7"), "m7").unwrap();
    assert_eq!((again.message_id, again.receivers), (last.message_id, 1100));
    assert!(users.iter().all(|user| count(&bench, user, "m7") == 1));
}

#[test]
fn a_receipt_lists_its_receivers_up_to_a_limit_and_then_counts_them() {
    let names: Vec<_> = (0..=LISTED_MAX).map(|n| format!("u{n}")).collect();
    let users: Vec<_> = names.iter().map(String::as_str).collect();
    let bench = Bench::new();
    bench.send(&users[1..], "one");
    let listed = bench.everyone(None, "all").unwrap();
    assert_eq!(listed.entries.len(), LISTED_MAX);
    bench.send(&users[..1], "one more");
    let counted = bench.everyone(None, "all").unwrap();
    assert_eq!(counted.receivers, users.len() as u64);
    assert!(counted.entries.is_empty());
}

#[test]
fn the_sends_behind_a_message_to_everyone_do_not_wait_for_it() {
    let names = crowd();
    let users: Vec<_> = names.iter().map(String::as_str).collect();
    let bench = Bench::new();
    bench.send(&users, "one");
    let frozen = bench.disk.faults.frozen.lock().unwrap();
    let append = message(bench.clock.now_ms(), &[], None, "all");
    let pending = bench.log.append_to_everyone(append).unwrap();
    let sends = (0..5).map(|_| {
        let append = message(bench.clock.now_ms(), &["u1099"], None, "between");
        bench.log.append(append).unwrap()
    });
    let sends: Vec<_> = sends.collect();
    drop(frozen);
    for send in sends {
        send.blocking_recv().unwrap().unwrap();
    }
    let receipt = pending.blocking_recv().unwrap().unwrap();
    assert_eq!(receipt.entries.len(), 1100);
    assert_eq!(count(&bench, "u1099", "between"), 5);
    assert_eq!(
        bench.bodies("u1099").last().map(String::as_str),
        Some("all")
    );
}

#[test]
fn a_message_to_everyone_expires_with_its_segments_and_its_rows_go_too() {
    let bench = Bench::with(|limits| {
        limits.retention = Duration::from_secs(8 * 3600);
        limits.idempotency_retention = Duration::from_secs(3600);
    });
    bench.send(&["u1", "u2", "u3"], "one");
    let receipt = bench.everyone(None, "all").unwrap();
    let first = bench.disk.segments().remove(0);
    for _ in 0..4 {
        bench.machine.advance(9 * 3_600_000);
        bench.send(&["u1"], "later");
    }
    eventually("age", || bench.disk.segments()[0] != first);
    let lookup = Lookup::Id(receipt.message_id);
    // The file goes a moment before the log forgets it.
    eventually("it is gone", || {
        bench.log.find_blocking(&lookup) == Ok(None)
    });
    let id = receipt.message_id;
    eventually("the rows", || {
        let state = &bench.log.core.state;
        let spreads = state.rows_of(TableId::Spreads, &id.0).unwrap();
        let pieces = state.rows_of(TableId::Pieces, &id.0).unwrap();
        spreads.is_empty() && pieces.is_empty()
    });
    // The users keep their numbers, also without the state store.
    let bench = bench.reopen(TestDisk::after_power_cut, false);
    let again = bench.everyone(None, "again").unwrap();
    let users: Vec<_> = again
        .entries
        .iter()
        .map(|(user, _)| user.as_str())
        .collect();
    let before: Vec<_> = receipt
        .entries
        .iter()
        .map(|(user, _)| user.as_str())
        .collect();
    assert_eq!(users, before);
}
