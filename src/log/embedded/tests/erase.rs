//! An erased user is erased after a crash, a rebuild of the state store and retention, and in a log that is restored from a backup.

use super::*;
use crate::ids::UserId;

/// Tokens issued before this are revoked.
const BEFORE_MS: u64 = START_MS + 5000;
const DAY_MS: u64 = 86_400_000;

fn session() -> SessionKey {
    SessionKey {
        user: user("alice"),
        platform: Platform::Web,
        device: "d".into(),
    }
}

impl Bench {
    fn erase(&self, name: &str) -> Erasure {
        let pending = self.log.erase(user(name), BEFORE_MS).unwrap();
        pending.blocking_recv().unwrap().unwrap()
    }

    fn knows(&self, name: &str) -> bool {
        let users = self.log.users().blocking_wait().unwrap();
        users.contains(&user(name))
    }

    /// All that the log must not tell of before the erasure, and what it has to keep.
    fn check_erased(&self, head: u64, case: &str) {
        assert_eq!(self.bounds("alice"), (head + 1, head), "{case}");
        assert_eq!(self.bodies("alice"), [""; 0], "{case}");
        assert!(!self.knows("alice"), "{case}");
        let alice = user("alice");
        assert_eq!(self.log.profile(&alice).blocking_wait(), Ok(None), "{case}");
        let sessions = self.log.sessions(&alice).blocking_wait();
        assert_eq!(sessions, Ok(Vec::new()), "{case}");
        for platform in Platform::ALL {
            let times = self.log.token_times(&alice, platform).blocking_wait();
            assert_eq!(times.unwrap().revoked_before_ms, BEFORE_MS, "{case}");
        }
        let conversations = self.log.conversations(&alice, Seq(u64::MAX), 10);
        let conversations = conversations.blocking_wait().unwrap().conversations;
        assert!(conversations.is_empty(), "{case}: {conversations:?}");
        let limit = FeedLimit {
            commits: usize::MAX,
            bytes: usize::MAX,
        };
        let feed = self.log.feed(FeedPosition::OLDEST, limit).blocking_wait();
        let mut entries = feed.unwrap().commits.into_iter();
        let is_told = |entries: &[(UserId, Numbers)]| entries.iter().any(|(of, _)| *of == alice);
        assert!(!entries.any(|commit| is_told(&commit.entries)), "{case}");
        let repeat = self.try_send(&["alice"], Some("key"), "keyed").unwrap();
        assert_eq!((repeat.entries.len(), repeat.receivers), (0, 0), "{case}");
        assert_eq!(
            self.log.pending().messages,
            self.pending_of("bob"),
            "{case}"
        );
    }

    fn pending_of(&self, name: &str) -> u64 {
        self.log
            .core
            .state
            .users
            .get(&user(name))
            .unwrap()
            .pending()
            .messages
    }
}

/// A log in which `alice` has all there is, and `bob` a part of it.
fn lived() -> Bench {
    let bench = Bench::with(|limits| {
        limits.retention = Duration::from_secs(10 * DAY_MS / 1000);
        limits.idempotency_retention = Duration::from_secs(30 * DAY_MS / 1000);
    });
    bench.try_send(&["alice"], Some("key"), "keyed").unwrap();
    for number in 0..100 {
        bench.send(&["alice", "bob"], &format!("{number}"));
    }
    let profile = Bytes::from_static(b"{}");
    let pending = bench.log.register(user("alice"), profile).unwrap();
    pending.blocking_recv().unwrap().unwrap();
    let row = SessionRow {
        cursor: Seq(50),
        acked_at_ms: START_MS,
    };
    bench.store_cursor(&session(), row);
    bench
        .log
        .note_token(&user("alice"), Platform::Web, START_MS)
        .unwrap();
    let pending = bench.log.delete(user("alice"), vec![Seq(60)]).unwrap();
    pending.blocking_recv().unwrap().unwrap();
    bench
}

#[test]
fn an_erased_user_is_erased_after_a_crash_and_a_rebuild() {
    for (keeps_state, is_power_cut) in [(true, false), (false, false), (true, true), (false, true)]
    {
        let bench = lived();
        let erasure = bench.erase("alice");
        assert_eq!(erasure.head, Seq(101));
        bench.check_erased(101, "at once");
        let disk = match is_power_cut {
            true => TestDisk::after_power_cut,
            false => TestDisk::after_kill,
        };
        // The writer's last word is the erasure: nothing was written behind.
        let bench = bench.reopen(disk, keeps_state);
        bench.check_erased(101, "after a start");
        assert_eq!(
            bench.log.erasure(&user("alice")).blocking_wait(),
            Ok(Some(erasure))
        );
        assert_eq!(bench.bodies("bob").len(), 100);
        let next = bench.send(&["alice"], "new");
        assert_eq!(next.entries[0].1.seq, Seq(102));
        let bench = bench.reopen(disk, keeps_state);
        assert_eq!(bench.bodies("alice"), ["new"]);
        assert!(bench.knows("alice"));
    }
}

#[test]
fn an_erasure_holds_at_each_point_at_which_the_log_is_cut() {
    let bench = lived();
    let name = bench.disk.last_segment();
    let before = bench.disk.get(&name).len();
    bench.erase("alice");
    let after = bench.disk.get(&name).len();
    bench.send(&["alice", "bob"], "new");
    let end = bench.disk.get(&name).len();
    bench.log.close();
    let bytes = bench.disk.get(&name);
    for cut in (before..=end).step_by(7).chain([before, after, end]) {
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(TestDisk::default());
        disk.put(&name, bytes[..cut].to_vec());
        let bench = Bench::open(disk, dir, bench.limits.clone(), Manual::new());
        let bodies = bench.bodies("alice");
        if cut < after {
            assert_eq!(bodies.len(), 100, "at {cut}: it was not answered");
        } else if cut < end {
            bench.check_erased(101, "cut behind it");
        } else {
            assert_eq!(bodies, ["new"]);
        }
    }
}

#[test]
fn a_cursor_that_is_written_down_late_does_not_bring_a_session_back() {
    let bench = lived();
    bench.erase("alice");
    // The keeper took the row a moment before the erasure.
    bench.append(vec![Record::Cursor {
        session: session(),
        cursor: Seq(50),
        acked_at_ms: START_MS,
    }]);
    bench.check_erased(101, "at once");
    let bench = bench.reopen(TestDisk::after_kill, false);
    bench.check_erased(101, "after a rebuild");
}

#[test]
fn an_erasure_outlives_its_segment_and_the_bytes_are_gone_by_the_time_that_it_names() {
    for keeps_state in [true, false] {
        let bench = lived();
        let erasure = bench.erase("alice");
        let first = bench.disk.segments().remove(0);
        // Nobody sends anything. The keeper ends the segment all the same.
        bench
            .machine
            .advance(bench.log.core.lifetimes.segment_age_ms);
        eventually("a new segment", || bench.disk.segments().len() > 1);
        // The time leaves room for REMOVAL_MS.
        let left_ms = erasure.until_ms - bench.clock.now_ms();
        bench.machine.advance(left_ms);
        eventually("the bytes are gone", || {
            !bench.disk.segments().contains(&first)
        });
        let is_left = |name: &String| {
            let bytes = bench.disk.get(name);
            bytes.windows(5).any(|some| some == b"keyed")
        };
        assert!(!bench.disk.segments().iter().any(is_left));
        bench.check_erased(101, "after retention");
        let bench = bench.reopen(TestDisk::after_power_cut, keeps_state);
        bench.check_erased(101, "after retention and a start");
        let next = bench.send(&["alice"], "new");
        assert_eq!(next.entries[0].1.seq, Seq(102), "no seq is given twice");
    }
}

#[test]
fn a_user_who_was_used_again_needs_no_erasure_once_its_segment_is_gone() {
    for keeps_state in [true, false] {
        let bench = lived();
        bench.erase("alice");
        bench.send(&["alice"], "new");
        let first = bench.disk.segments().remove(0);
        bench.machine.advance(11 * DAY_MS);
        bench.send(&["alice"], "newer");
        bench.machine.advance(11 * DAY_MS);
        bench.send(&["alice"], "newest");
        eventually("the segment is gone", || {
            !bench.disk.segments().contains(&first)
        });
        let alice = user("alice");
        eventually("the erasure is forgotten", || {
            bench.log.erasure(&alice).blocking_wait() == Ok(None)
        });
        let bench = bench.reopen(TestDisk::after_power_cut, keeps_state);
        assert_eq!(bench.bounds("alice").1, 104);
        assert!(bench.knows("alice"));
        // An older backup may still have the user.
        assert_eq!(bench.log.core.erasures().unwrap().len(), 1);
    }
}

#[test]
fn a_message_to_everyone_that_is_on_its_way_passes_over_an_erased_user() {
    let names: Vec<_> = (0..1100).map(|number| format!("u{number:04}")).collect();
    let users: Vec<_> = names.iter().map(String::as_str).collect();
    let bench = Bench::new();
    bench.send(&users, "one");
    // All of it waits until the erasure does.
    let frozen = bench.disk.faults.frozen.lock().unwrap();
    let append = message(bench.clock.now_ms(), &[], Some("all"), "all");
    let everyone = bench.log.append_to_everyone(append).unwrap();
    let erasures = ["u0001", "u1099"].map(|name| bench.log.erase(user(name), BEFORE_MS).unwrap());
    drop(frozen);
    let receipt = everyone.blocking_recv().unwrap().unwrap();
    for erasure in erasures {
        erasure.blocking_recv().unwrap().unwrap();
    }
    let find = || {
        bench
            .log
            .find_blocking(&Lookup::Id(receipt.message_id))
            .unwrap()
            .unwrap()
    };
    assert_eq!(receipt.receivers, 1098);
    for name in ["u0001", "u1099"] {
        assert_eq!(bench.bodies(name), [""; 0]);
        assert!(
            find()
                .entries
                .iter()
                .all(|(owner, _)| owner.as_str() != name)
        );
    }
    // The places of the others in their pieces are found.
    for name in ["u0000", "u0002", "u0600", "u1098"] {
        let entry = bench
            .log
            .entry_of(receipt.message_id, &user(name))
            .blocking_wait();
        assert_eq!(
            entry.unwrap().map(|numbers| numbers.seq),
            Some(Seq(2)),
            "{name}"
        );
    }
    assert_eq!(find().entries.len(), 1098);
}

#[test]
fn a_log_restored_from_an_earlier_backup_is_told_the_erasures() {
    let bench = lived();
    let newest_ms = |disk: &TestDisk| inspect_segments(disk, &mut None).unwrap().newest_ms;
    bench.machine.advance(1000);
    bench.erase("early");
    let earlier = bench.disk.after_power_cut();
    bench.machine.advance(1000);
    bench.erase("alice");
    let list = bench.log.core.erasures().unwrap();
    assert_eq!(list.len(), 2);
    // A later backup has both.
    let later = bench.disk.after_power_cut();
    let limits = bench.limits.clone();
    let restored = |disk: Arc<TestDisk>| {
        let dir = tempfile::tempdir().unwrap();
        Bench::open(disk, dir, limits.clone(), Manual::new())
    };
    let newest = newest_ms(&later);
    let bench = restored(later);
    assert_eq!(bench.log.erase_again(&list, newest).unwrap(), 0);
    bench.check_erased(101, "from the later one");
    let newest = newest_ms(&earlier);
    let bench = restored(earlier);
    assert_eq!(bench.bodies("alice").len(), 100);
    assert_eq!(bench.log.erase_again(&list, newest).unwrap(), 1);
    bench.check_erased(101, "from the earlier one");
    let bench = bench.reopen(TestDisk::after_power_cut, false);
    bench.check_erased(101, "from the earlier one, rebuilt");
}

#[test]
fn a_line_that_went_on_without_its_list_takes_it_later_or_says_who_is_in_the_way() {
    let bench = lived();
    bench.machine.advance(1000);
    let earlier = bench.disk.after_power_cut();
    bench.erase("alice");
    let list = bench.log.core.erasures().unwrap();
    let limits = bench.limits.clone();
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(earlier, dir, limits, Manual::new());
    bench.machine.advance(DAY_MS);
    bench.send(&["bob"], "later");
    let newest_ms = |bench: &Bench| {
        let report = inspect_segments(&*bench.disk.after_power_cut(), &mut None);
        report.unwrap().newest_ms
    };
    let newest = newest_ms(&bench);
    // The same line, in which something came to the user too.
    let other = Bench::open(
        bench.disk.after_power_cut(),
        tempfile::tempdir().unwrap(),
        bench.limits.clone(),
        Manual::new(),
    );
    assert_eq!(bench.log.erase_again(&list, newest).unwrap(), 1);
    bench.check_erased(101, "a line that went on");
    assert_eq!(bench.log.erase_again(&list, newest).unwrap(), 0);

    let mut sent = crate::message::Origin::default();
    sent.send_time = (START_MS + DAY_MS) as i64;
    let body = prost::Message::encode_to_vec(&sent);
    let mut append = message(other.clock.now_ms(), &["alice"], None, "");
    append.body = body.into();
    let pending = other.log.append(append).unwrap();
    pending.blocking_recv().unwrap().unwrap();
    let refused = other.log.erase_again(&list, newest).unwrap_err();
    assert!(
        matches!(&refused, EraseAgainError::Unsure { user, .. } if user.as_str() == "alice"),
        "{refused}"
    );
    assert_eq!(other.bounds("alice").1, 102);
    assert_eq!(other.log.core.erasures().unwrap().len(), 0);
}

#[test]
fn while_the_format_is_held_back_nobody_is_erased() {
    let bench = Bench::with(|limits| limits.format = 3);
    bench.send(&["alice"], "one");
    let refused = bench.log.erase(user("alice"), BEFORE_MS);
    assert!(
        matches!(refused, Err(AppendError::Refusing(_))),
        "{refused:?}"
    );
    assert_eq!(bench.bodies("alice"), ["one"]);
}
