//! A backup holds every message that was accepted before it began, and its restore is used whole or not at all.
//!
//! `crash.rs` has a disk that fails at each step, `refused.rs` the directories and the damage that are refused.

mod crash;
mod refused;

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicUsize},
    thread,
};

use super::{conversations::ALL, *};
use crate::{
    log::{BackupError, BackupReport, BackupState, embedded::backup::restore},
    message::SettingsChange,
};

/// Two directories: one for backups, one for what is restored.
struct Shelf {
    temp: tempfile::TempDir,
    restored: usize,
}

impl Shelf {
    fn new() -> Self {
        Self {
            temp: tempfile::tempdir().unwrap(),
            restored: 0,
        }
    }

    /// The directory of the backup.
    fn backup(&self) -> PathBuf {
        self.temp.path().join("backup")
    }

    fn segments(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.backup().join("segments")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    /// A data directory that does not exist yet.
    fn place(&mut self) -> PathBuf {
        self.restored += 1;
        self.temp.path().join(format!("restored-{}", self.restored))
    }

    /// Restores the backup into a directory of its own, and opens it.
    fn open(&mut self) -> EmbeddedLog {
        let place = self.place();
        restore(&self.backup(), &place, START_MS).expect("restores");
        open_directory(&place).expect("opens")
    }
}

impl Bench {
    /// Makes a backup, and waits for its end.
    fn back_up(&self, id: &str, dir: &Path) -> BackupState {
        ended(self.log.back_up(id, dir).expect("it begins"))
    }

    fn backed_up(&self, id: &str, dir: &Path) -> BackupReport {
        match self.back_up(id, dir) {
            BackupState::Done(report) => report,
            state => panic!("{state:?}"),
        }
    }
}

/// The state in which a backup ended.
fn ended(mut state: tokio::sync::watch::Receiver<BackupState>) -> BackupState {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let is_over = |state: &BackupState| !matches!(state, BackupState::Running { .. });
    let ended = runtime.unwrap().block_on(state.wait_for(is_over));
    ended.expect("the state has an end").clone()
}

/// The bodies of u1's messages by their seqs.
fn bodies_of(log: &EmbeddedLog) -> BTreeMap<u64, String> {
    let read = log.read_blocking(&user("u1"), Seq::ZERO, ALL).unwrap();
    let bodies = read.entries.into_iter();
    let bodies =
        bodies.filter_map(|entry| Some((entry.numbers.seq.0, text(entry.content.into_message()?))));
    bodies.collect()
}

#[test]
fn each_backup_under_load_holds_what_was_accepted_before_it_in_a_new_epoch() {
    let bench = Bench::with(|limits| {
        limits.segment_bytes = 4096;
        limits.retention_bytes = 128 * 1024;
        limits.checkpoint_interval = Duration::from_millis(1);
    });
    let (mut shelf, accepted, is_over) =
        (Shelf::new(), AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..=20_000 {
                let receipt = bench.send(&["u1"], &format!("{number} {}", "x".repeat(300)));
                assert_eq!(receipt.entries[0].1.seq.0, number);
                accepted.store(number as usize, Relaxed);
                if is_over.load(Relaxed) {
                    break;
                }
            }
        });
        let mut epochs = BTreeSet::from([bench.log.core.epoch.0]);
        for round in 0..4 {
            eventually("more is accepted", || accepted.load(Relaxed) > round * 150);
            let before = accepted.load(Relaxed) as u64;
            bench.backed_up(&format!("round {round}"), &shelf.backup());
            let restored = shelf.open();
            let bodies = bodies_of(&restored);
            let inbox = restored.inbox(&user("u1")).blocking_wait().unwrap();
            assert!(inbox.head.0 >= before, "{inbox:?} in place of {before}");
            assert_eq!(bodies.len() as u64, inbox.head.0 + 1 - inbox.first.0);
            for (seq, body) in bodies {
                assert!(body.starts_with(&format!("{seq} x")), "{seq}: {body}");
            }
            assert!(
                epochs.insert(restored.core.epoch.0),
                "a new epoch each time"
            );
            assert!(restored.core.base >= 1_000_000);
            // The restored log goes on.
            let append = message(START_MS, &["u1"], None, "after");
            let receipt = restored.append(append).unwrap().blocking_recv().unwrap();
            assert_eq!(receipt.unwrap().entries[0].1.seq, inbox.head.next());
        }
        is_over.store(true, Relaxed);
    });
    assert!(
        bench.bounds("u1").0 > 1,
        "retention removed segments meanwhile"
    );
}

#[test]
fn a_backup_has_the_facts_that_are_no_messages() {
    let bench = Bench::with(|limits| limits.checkpoint_interval = Duration::from_secs(3600));
    let (log, alice) = (&bench.log, user("u1"));
    for body in ["one", "two", "three"] {
        bench.try_send(&["u1", "u2"], Some(body), body).unwrap();
    }
    let session = SessionKey {
        user: alice.clone(),
        platform: Platform::Web,
        device: "".into(),
    };
    // The cursor and the token are in memory only.
    let row = SessionRow {
        cursor: Seq(2),
        acked_at_ms: START_MS,
    };
    bench.store_cursor(&session, row);
    log.note_token(&alice, Platform::Web, 76).unwrap();
    let done = |pending: Pending<()>| pending.blocking_recv().unwrap().unwrap();
    done(log.revoke(alice.clone(), Platform::Ios, 77).unwrap());
    done(
        log.register(user("new"), Bytes::from_static(b"{}"))
            .unwrap(),
    );
    done(log.delete(alice.clone(), vec![Seq(1)]).unwrap());
    bench.send_from("a");
    bench.send_from("a");
    bench.mark("a", 1);
    let pinned = SettingsChange {
        conversation_id: bench.conversation("a").id.to_string(),
        is_pinned: Some(true),
        ..SettingsChange::default()
    };
    done(log.change_settings(alice.clone(), vec![pinned]).unwrap());
    let device = RowChange {
        table: RowTable::Devices,
        key: Bytes::from_static(b"key"),
        value: Some(Bytes::from_static(b"value")),
    };
    done(log.put_rows(vec![device]).unwrap());

    let mut shelf = Shelf::new();
    let report = bench.backed_up("one", &shelf.backup());
    assert_eq!((report.segments, report.epoch), (1, log.core.epoch.0));
    let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
    let _entered = runtime.enter();
    let restored = shelf.open();
    let entries = |log: &EmbeddedLog| log.read_blocking(&alice, Seq::ZERO, ALL).unwrap().entries;
    assert_eq!(entries(&restored), entries(log));
    assert_eq!(entries(log).len(), 6);
    let facts = |log: &EmbeddedLog| {
        let users: BTreeSet<_> = log.users().blocking_wait().unwrap().into_iter().collect();
        let rows = log.rows(RowTable::Devices, b"", b"", 10);
        let page = log.conversations(&alice, Seq(u64::MAX), 10);
        let mut conversations = page.blocking_wait().unwrap().conversations;
        // The next message gets the base of the new epoch.
        conversations
            .iter_mut()
            .for_each(|one| one.bases = Default::default());
        (
            log.enter(&session).blocking_wait().unwrap().stored,
            log.token_times(&alice, Platform::Web)
                .blocking_wait()
                .unwrap(),
            log.token_times(&alice, Platform::Ios)
                .blocking_wait()
                .unwrap(),
            log.profile(&user("new")).blocking_wait().unwrap(),
            users,
            rows.blocking_wait().unwrap(),
            conversations,
            log.pending(),
        )
    };
    assert_eq!(facts(&restored), facts(log));
    // A repeat of a send is still one message.
    let repeat = message(START_MS, &["u1", "u2"], Some("three"), "three");
    let repeated = restored.append(repeat).unwrap().blocking_recv().unwrap();
    assert_eq!(repeated.unwrap().entries[0].1.seq, Seq(3));
}

#[test]
fn a_later_backup_copies_what_is_new_and_drops_what_retention_removed() {
    let bench = Bench::with(|limits| {
        limits.segment_bytes = 4096;
        limits.retention = Duration::from_secs(3600);
    });
    for number in 0..40 {
        bench.send(&["u1"], &format!("{number}{}", "x".repeat(300)));
    }
    let mut shelf = Shelf::new();
    let first = bench.backed_up("1", &shelf.backup());
    assert_eq!(
        (first.copied_bytes, first.segments),
        (first.bytes, shelf.segments().len())
    );
    assert!(first.segments > 2);
    let again = bench.backed_up("2", &shelf.backup());
    assert_eq!(
        (again.copied_bytes, again.bytes),
        (0, first.bytes),
        "nothing is new"
    );
    bench.send(&["u1"], "one more");
    let more = bench.backed_up("3", &shelf.backup());
    assert_eq!(more.copied_bytes, more.position - first.position);
    assert!((1..400).contains(&more.copied_bytes), "{more:?}");
    assert_eq!(bodies_of(&shelf.open()).len(), 41);

    let before = shelf.segments();
    bench.machine.advance(2 * 3600 * 1000);
    bench.send(&["u1"], "young");
    bench.machine.advance(3601 * 1000);
    eventually("the old segments are removed", || {
        bench.disk.segments().len() <= 2
    });
    let last = bench.backed_up("4", &shelf.backup());
    let after = shelf.segments();
    assert_eq!(after.len(), last.segments);
    assert!(after.iter().all(|name| !before.contains(name)), "{after:?}");
    let restored = shelf.open();
    assert_eq!(bodies_of(&restored), bodies_of(&bench.log));
    let inbox = restored.inbox(&user("u1")).blocking_wait().unwrap();
    assert_eq!((inbox.first.0, inbox.head.0), bench.bounds("u1"));
}

#[test]
fn a_message_to_everyone_that_a_backup_has_in_part_goes_on_after_the_restore() {
    let bench = Bench::new();
    let names: Vec<_> = (0..3000).map(|number| format!("u{number}")).collect();
    let users: Vec<_> = names.iter().map(String::as_str).collect();
    bench.send(&users, "hello");
    let append = message(bench.clock.now_ms(), &[], None, "to everyone");
    let pending = bench.log.append_to_everyone(append).unwrap();
    let mut shelf = Shelf::new();
    bench.backed_up("one", &shelf.backup());
    pending.blocking_recv().unwrap().unwrap();
    let restored = shelf.open();
    eventually("the message is spread", || {
        !restored.is_spreading().unwrap()
    });
    let inboxes = users
        .iter()
        .map(|name| restored.inbox(&user(name)).blocking_wait().unwrap());
    let heads: BTreeSet<_> = inboxes.map(|inbox| inbox.head.0).collect();
    // The message was accepted before the cut, or after it.
    assert_eq!(heads.len(), 1, "{heads:?}");
}

#[test]
fn one_backup_is_made_at_a_time_and_a_repeat_asks_for_the_same() {
    let (log, workers, _dir, _) = super::log::tests::quiet_log(|job| job());
    let shelf = Shelf::new();
    // No keeper runs, so this backup waits for its cut.
    let state = log.back_up("one", &shelf.backup()).unwrap();
    assert!(matches!(*state.borrow(), BackupState::Running { .. }));
    assert!(
        log.back_up("one", &shelf.backup())
            .unwrap()
            .same_channel(&state)
    );
    for (id, dir) in [
        ("two", shelf.backup()),
        ("one", shelf.temp.path().join("other")),
    ] {
        let busy = log.back_up(id, &dir).map(drop);
        assert_eq!(
            busy,
            Err(BackupError::Busy(shelf.backup().as_path().into()))
        );
    }
    drop(workers);
    log.close();
    let stopped = ended(state);
    assert_eq!(
        stopped,
        BackupState::Failed("the gateway is shutting down".into())
    );
    assert_eq!(
        log.back_up("one", &shelf.backup()).map(drop),
        Err(BackupError::Closed)
    );
}

#[test]
fn the_end_of_a_backup_is_told_to_a_repeat_and_another_id_makes_another_backup() {
    let bench = Bench::new();
    let shelf = Shelf::new();
    let first = bench.backed_up("one", &shelf.backup());
    bench.send(&["u1"], "more");
    assert_eq!(bench.backed_up("one", &shelf.backup()), first);
    let second = bench.backed_up("two", &shelf.backup());
    assert!(second.position > first.position);
}
