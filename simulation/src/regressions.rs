//! The faults that the simulation found in the log, each as a plain test. `seeds.txt` has the seeds, which lose their value
//! when schedules change.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    runtime::Builder,
    task::{LocalSet, spawn_local},
    time::sleep,
};

use super::{
    model::{at_once, user_id},
    process::Life,
    recovered::{read, recovers},
    short_life::{Ground, Known, append},
    store::Fate,
};
use towncrier::{
    ids::{Epoch, Seq},
    log::{
        AppendError, Cause, EXPIRIES_WANTED, EXPIRY_PREFIX, Log, LogError, RowChange, RowTable,
        embedded::{EmbeddedLog, epoch_text},
    },
    metrics::Metrics,
};

/// Runs `life` with a log on `ground`, and then stops everything at once.
fn live(ground: &Ground, life: impl AsyncFnOnce(&EmbeddedLog, &Life)) {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O always starts");
    let process = Arc::new(Life::exact());
    let tasks = LocalSet::new();
    let living = tasks.run_until(async {
        let (log, workers) = ground.open(&process).expect("it opens");
        let (writer, keeper) = workers.into_futures();
        if let Some(writer) = writer {
            spawn_local(writer);
        }
        spawn_local(keeper);
        life(&log, &process).await;
    });
    runtime.block_on(living);
}

fn ground() -> Ground {
    let runtime = Builder::new_current_thread().enable_time().build();
    // The clock needs a runtime when it is made.
    runtime
        .expect("a runtime without I/O always starts")
        .block_on(async { Ground::new(Arc::new(Metrics::new())) })
}

async fn send(log: &EmbeddedLog, ground: &Ground, body: &str) -> Result<(), AppendError> {
    let pending = log.append(append(ground.clock.now_ms(), None, body, 1))?;
    pending.await.expect("the writer answers").map(drop)
}

/// The log opens, takes appends, and the first user reads these bodies.
fn expect_whole(ground: &Ground, bodies: &[&'static str]) {
    live(ground, async |log, _| {
        assert_eq!(log.check_writable(), Ok(()));
        let found = read(log, 0).expect("it reads");
        let expected = (1..).zip(bodies.iter().map(|body| Some((*body).into())));
        assert_eq!(found, expected.collect());
    });
}

/// A power cut that loses everything unsynced.
fn cut_power(ground: &Ground) {
    ground.segments.cut_power(&mut |_| 0, false);
    ground.state.crash(Fate::Kept, &mut |_| 0);
}

#[test]
fn a_repeat_in_a_group_that_fails_fails_with_it() {
    let ground = ground();
    live(&ground, async |log, _| {
        ground
            .segments
            .set_faults(|faults| faults.is_half_full = true);
        let first = append(ground.clock.now_ms(), Some("key"), "one", 1);
        let mut other = append(ground.clock.now_ms(), Some("key"), "two", 1);
        other.fingerprint = [1; 16];
        let (first, other) = (log.append(first).unwrap(), log.append(other).unwrap());
        for outcome in [first.await.unwrap(), other.await.unwrap()] {
            assert!(matches!(
                outcome,
                Err(AppendError::Refusing(LogError {
                    cause: Cause::Full,
                    ..
                }))
            ));
        }
    });
}

#[test]
fn what_a_full_disk_left_of_a_group_does_not_come_back() {
    for is_kept in [0, 1] {
        let ground = ground();
        live(&ground, async |log, _| {
            send(log, &ground, "one").await.unwrap();
            ground
                .segments
                .set_faults(|faults| faults.is_half_full = true);
            send(log, &ground, "two").await.unwrap_err();
            ground
                .segments
                .set_faults(|faults| faults.is_half_full = false);
            ground.clock.sleep(11_000);
            send(log, &ground, "three").await.unwrap();
        });
        // The write survives, but the truncation after it does not.
        let mut choices = 0;
        let choose = &mut |_| {
            choices += 1;
            is_kept * (choices % 2)
        };
        ground.segments.cut_power(choose, false);
        expect_whole(&ground, &["one", "three"]);
    }
}

#[test]
fn retention_that_fails_half_way_leaves_no_hole() {
    let ground = ground();
    live(&ground, async |log, _| {
        for body in ["one", "two", "three", "four"] {
            send(log, &ground, body).await.unwrap();
            ground.clock.sleep(11_000);
        }
        // The time between two looks of the keeper.
        sleep(Duration::from_millis(2_500)).await;
        ground.clock.sleep(300_000);
        send(log, &ground, "five").await.unwrap();
        // The next send finds the disk full. While retention works, nothing can be made durable.
        ground.segments.set_faults(|faults| faults.is_full = true);
        send(log, &ground, "six").await.unwrap_err();
        sleep(Duration::from_secs(1)).await;
        ground.segments.set_faults(|faults| faults.is_full = false);
        sleep(Duration::from_secs(3)).await;
    });
    live(&ground, async |log, _| {
        assert_eq!(log.check_writable(), Ok(()));
        assert_eq!(log.inbox(&user_id(0)).blocking_wait().unwrap().head, Seq(5));
    });
}

#[test]
fn a_crash_within_retention_leaves_no_hole_for_a_rebuilt_state_store() {
    for operations in 1..=30 {
        let ground = ground();
        live(&ground, async |log, process| {
            for body in ["one", "two"] {
                send(log, &ground, body).await.unwrap();
            }
            ground.clock.sleep(11_000);
            // A group in a new segment, without a message for this user.
            let mut other = append(ground.clock.now_ms(), None, "other", 2);
            other.receivers.remove(0);
            log.append(other).unwrap().await.unwrap().unwrap();
            sleep(Duration::from_millis(2_500)).await;
            ground.clock.sleep(300_000);
            process.end_after(operations);
            sleep(Duration::from_secs(3)).await;
        });
        let mut found = Default::default();
        live(&ground, async |log, _| {
            send(log, &ground, "three").await.unwrap();
            found = read(log, 0).expect("it reads");
        });
        ground.state.crash(Fate::Lost, &mut |_| 0);
        live(&ground, async |log, _| {
            assert_eq!(read(log, 0).expect("it reads"), found, "{operations}");
        });
    }
}

#[test]
fn an_expiry_has_one_time_however_often_its_segment_is_removed() {
    let expiries = |log: &EmbeddedLog| {
        let rows = log.rows(RowTable::Consumers, EXPIRY_PREFIX, b"", usize::MAX);
        let rows: BTreeMap<_, _> = at_once(rows).unwrap_or_default().into_iter().collect();
        rows
    };
    let mut is_retried = false;
    for operations in 1..=30 {
        let ground = ground();
        live(&ground, async |log, process| {
            let wanted = RowChange {
                table: RowTable::Consumers,
                key: EXPIRIES_WANTED.into(),
                value: Some("1".into()),
            };
            let pending = log.put_rows(vec![wanted]).unwrap();
            pending.await.unwrap().unwrap();
            for body in ["one", "two"] {
                send(log, &ground, body).await.unwrap();
                ground.clock.sleep(11_000);
            }
            sleep(Duration::from_millis(2_500)).await;
            ground.clock.sleep(300_000);
            process.end_after(operations);
            sleep(Duration::from_secs(3)).await;
        });
        let segments = ground.segments.names().len();
        ground.clock.sleep(7_000);
        let mut before = BTreeMap::new();
        live(&ground, async |log, _| {
            before = expiries(log);
            sleep(Duration::from_secs(3)).await;
            let after = expiries(log);
            for (key, value) in &before {
                assert_eq!(after.get(key), Some(value), "{operations}");
            }
        });
        is_retried |= !before.is_empty() && ground.segments.names().len() < segments;
    }
    assert!(is_retried);
}

#[test]
fn a_state_store_of_another_log_is_set_aside() {
    let ground = ground();
    live(&ground, async |log, _| {
        send(log, &ground, "one").await.unwrap();
        sleep(Duration::from_secs(2)).await;
    });
    ground.segments.wipe();
    ground
        .root
        .put("epoch", epoch_text(Epoch(0xbeef), 0).as_bytes());
    expect_whole(&ground, &[]);
}

#[test]
fn a_state_store_whose_first_checkpoint_was_not_finished_is_known_by_its_log() {
    let ground = ground();
    live(&ground, async |log, _| {
        send(log, &ground, "one").await.unwrap();
        sleep(Duration::from_secs(2)).await;
    });
    ground.state.crash(Fate::Lost, &mut |_| 0);
    // The state store is rebuilt, and the process ends during that: all rows reach the disk, but the marks about them may
    // not.
    for end_after in 1.. {
        let ground = ground.copy();
        let process = Arc::new(Life::exact());
        process.end_after(end_after);
        let runtime = Builder::new_current_thread().enable_time().build();
        let is_open = runtime
            .expect("a runtime without I/O always starts")
            .block_on(async { ground.open(&process).is_ok() });
        ground.state.crash(Fate::Kept, &mut |ways| ways - 1);
        ground.segments.wipe();
        ground
            .root
            .put("epoch", epoch_text(Epoch(0xbeef), 0).as_bytes());
        expect_whole(&ground, &[]);
        if is_open {
            return;
        }
    }
}

#[test]
fn what_a_failed_sync_did_not_write_is_written_at_the_next_start() {
    let ground = ground();
    live(&ground, async |log, _| {
        send(log, &ground, "one").await.unwrap();
        sleep(Duration::from_secs(2)).await;
        ground.clock.sleep(11_000);
        ground
            .segments
            .set_faults(|faults| faults.sync_fails = true);
        // The header of the new segment is in memory but not on the disk.
        send(log, &ground, "two").await.unwrap_err();
    });
    live(&ground, async |log, _| {
        send(log, &ground, "two").await.unwrap()
    });
    cut_power(&ground);
    expect_whole(&ground, &["one", "two"]);
}

#[test]
fn behind_damage_an_inbox_begins_where_it_did() {
    // A record of the first segment, and its header.
    for bit in [8 * 40, 8 * 20] {
        let ground = ground();
        live(&ground, async |log, _| {
            for body in ["one", "two"] {
                send(log, &ground, body).await.unwrap();
                ground.clock.sleep(11_000);
            }
            sleep(Duration::from_secs(2)).await;
        });
        let name = ground.segments.names().remove(0);
        ground.segments.flip(&name, bit);
        ground.state.crash(Fate::Lost, &mut |_| 0);
        live(&ground, async |log, _| {
            assert!(matches!(
                log.check_writable(),
                Err(LogError {
                    cause: Cause::Damaged,
                    ..
                })
            ));
            let first = log.inbox(&user_id(0)).blocking_wait().unwrap().first;
            assert_eq!(first, Seq(1), "nothing has expired");
            read(log, 0).unwrap_err();
        });
        ground.segments.flip(&name, bit);
        expect_whole(&ground, &["one", "two"]);
    }
}

#[test]
fn a_damaged_log_delivers_only_what_the_next_power_cut_leaves() {
    let ground = ground();
    live(&ground, async |log, process| {
        send(log, &ground, "one").await.unwrap();
        send(log, &ground, "two").await.unwrap();
        // Between two rounds of the keeper, whose operations would count as well.
        sleep(Duration::from_millis(1500)).await;
        // The process is killed between the write and its sync.
        process.end_after(2);
        send(log, &ground, "three").await.unwrap_err();
    });
    let name = ground.segments.names().remove(0);
    ground.segments.flip(&name, 8 * 40);
    ground.state.crash(Fate::Lost, &mut |_| 0);
    live(&ground, async |log, _| {
        assert_eq!(
            log.inbox(&user_id(0)).blocking_wait().unwrap().head,
            Seq(3),
            "it can be read"
        );
    });
    cut_power(&ground);
    ground.segments.flip(&name, 8 * 40);
    expect_whole(&ground, &["one", "two", "three"]);
}

#[test]
fn a_segment_made_just_before_a_kill_keeps_its_name() {
    let ground = ground();
    let before = ground.segments.names().len();
    live(&ground, async |log, process| {
        send(log, &ground, "one").await.unwrap();
        ground.clock.sleep(11_000);
        // The file is created, written and synced, but its name is not.
        process.end_after(4);
        send(log, &ground, "two").await.unwrap_err();
    });
    assert_eq!(
        ground.segments.names().len(),
        before + 3,
        "two segments and the watermark"
    );
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime
        .block_on(recovers(&ground, &Known::of(["one"])))
        .unwrap();
}
