//! The log's promises against a disk that loses unsynced bytes, fails, tears writes and flips bits.

mod fixture;

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
    log::Directories,
    record::{Position, Record},
    segment::{ORIGIN, Segment},
    state::SledHome,
    table_id::TableId,
    watermark::Watermark,
    writer::{Carried, Work},
    *,
};
use crate::{
    clock::{
        Clock, Machine,
        tests::manual::{Manual, NOW_MS as START_MS},
    },
    config,
    ids::{MessageId, Platform, Seq, SessionKey},
    log::tests::conformance::{message, user},
    metrics::Metrics,
    watch::{Unwell, Watch},
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
            .stored
            .into_iter()
            .map(|stored| (stored.seq.0, stored.body.map(text)))
            .collect()
    }

    /// The inbox's `first` and `head`.
    fn bounds(&self, name: &str) -> (u64, u64) {
        let inbox = self.log.inbox(&user(name)).blocking_wait().unwrap();
        (inbox.first.0, inbox.head.0)
    }

    fn store_cursor(&self, key: &SessionKey, row: SessionRow) {
        let epoch = self.log.core.epoch;
        self.log.store_cursor(key, epoch, row).unwrap();
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
}

fn text(body: Bytes) -> String {
    String::from_utf8(body.into()).unwrap()
}

fn numbered(messages: &[&str]) -> Vec<(u64, Option<String>)> {
    (1..)
        .zip(messages.iter().map(|body| Some((*body).to_owned())))
        .collect()
}

#[test]
fn each_inbox_is_dense_and_reads_back_in_order_from_any_cursor() {
    let bench = Bench::new();
    let seed =
        std::env::var("SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut model: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for number in 0..1000 {
        let all = ["u1", "u2", "系统"];
        let users: Vec<&str> = all.into_iter().filter(|_| random.f32() < 0.6).collect();
        if !users.is_empty() {
            let body = format!("{number}{}", "x".repeat(random.usize(..3000)));
            let receipt = bench.send(&users, &body);
            for (name, (placed, seq)) in users.iter().zip(&*receipt.placed) {
                let inbox = model.entry(name).or_default();
                inbox.push(body.clone());
                assert_eq!((placed.as_str(), seq.0), (*name, inbox.len() as u64));
            }
        }
    }
    for (name, inbox) in &model {
        let head = inbox.len() as u64;
        assert_eq!(bench.bounds(name), (1, head));
        for after in [head, head + 1, u64::MAX] {
            assert_eq!(bench.read(name, after), [], "nothing is above the head");
        }
        for _ in 0..50 {
            let after = random.u64(..=head);
            let limit = ReadLimit {
                messages: random.usize(1..400),
                bytes: random.usize(1..100_000),
            };
            let LogAnswer::Now(read) = bench.log.read(&user(name), Seq(after), limit) else {
                panic!("it is in memory");
            };
            let read = read.unwrap().stored;
            assert!(
                after == head || !read.is_empty(),
                "a read below the head returns something"
            );
            assert!(read.len() <= limit.messages);
            for (expected, stored) in (after + 1..).zip(read) {
                assert_eq!(stored.seq.0, expected);
                assert_eq!(
                    stored.body.map(text).as_ref(),
                    inbox.get(expected as usize - 1)
                );
            }
        }
    }
}

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
fn a_repeated_key_returns_the_first_result_also_after_a_crash_and_without_the_state_store() {
    for keeps_state in [true, false] {
        let bench = Bench::new();
        let first = bench
            .try_send(&["u1", "u2"], Some("leave-policy"), "body")
            .unwrap();
        assert_eq!(
            bench
                .try_send(&["u1", "u2"], Some("leave-policy"), "body")
                .unwrap(),
            first
        );
        let bench = bench.reopen(TestDisk::after_power_cut, keeps_state);
        assert_eq!(
            bench
                .try_send(&["u1", "u2"], Some("leave-policy"), "body")
                .unwrap(),
            first
        );
        let reused = bench.try_send(&["u1", "u2"], Some("leave-policy"), "a body that differs");
        assert_eq!(reused, Err(AppendError::KeyReused));
        assert_eq!(bench.bodies("u1"), ["body"]);
    }
}

#[test]
fn repeats_within_one_group_wait_for_its_sync_and_make_one_message() {
    let bench = Bench::new();
    let now = bench.clock.now_ms();
    let append = |number: u8| Append {
        message_id: MessageId::new(now),
        send_time_ms: now,
        sender: "oa".into(),
        client_message_id: "k".into(),
        is_keyed: true,
        fingerprint: [number / 90; 16],
        body: Bytes::from_static(b"b"),
        receivers: vec![user("u1")],
    };
    let pending: Vec<_> = (0..100)
        .map(|number| bench.log.append(append(number)).unwrap())
        .collect();
    let mut answers = pending
        .into_iter()
        .map(|pending| pending.blocking_recv().unwrap());
    let first = answers.next().unwrap().unwrap();
    assert!(
        answers
            .by_ref()
            .take(89)
            .all(|answer| answer.as_ref() == Ok(&first))
    );
    assert!(answers.all(|answer| answer == Err(AppendError::KeyReused)));
    assert_eq!(bench.bodies("u1"), ["b"]);
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
fn no_flipped_bit_in_a_synced_log_goes_unnoticed() {
    let bench = Bench::with(|limits| limits.segment_bytes = 512);
    for number in 0..6 {
        bench.send(&["u1", "u2"], &format!("message {number}"));
    }
    bench.log.close();
    let disk = bench.disk.after_kill();
    let whole = inspect_segments(&*disk, &mut None).unwrap();
    assert!(
        whole.damages.is_empty() && whole.unfinished.is_none() && whole.segments > 1,
        "{whole:?}"
    );
    for name in disk.segments() {
        let bytes = disk.get(&name);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            disk.put(&name, flipped);
            let report = inspect_segments(&*disk, &mut None).unwrap();
            assert!(
                report.damages.iter().any(|damage| damage.segment == name),
                "bit {bit} of {name}: {report:?}"
            );
        }
        disk.put(&name, bytes);
    }
}

#[test]
fn a_damaged_log_starts_serves_what_is_whole_and_accepts_nothing() {
    let bench = Bench::with(|limits| limits.segment_bytes = 2048);
    let bodies: Vec<String> = (0..40)
        .map(|number| format!("message {number}{}", "z".repeat(100)))
        .collect();
    bodies
        .iter()
        .for_each(|body| drop(bench.send(&["u1"], body)));
    bench.log.close();
    let disk = bench.disk.after_kill();
    let seed =
        std::env::var("SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bench = Bench {
        disk: disk.clone(),
        ..bench
    };
    for _ in 0..20 {
        let names = disk.segments();
        let name = &names[random.usize(..names.len())];
        let mut bytes = disk.get(name);
        bytes[random.usize(..) % disk.get(name).len()] ^= 1 << random.u8(..8);
        let damaged = disk.after_kill();
        damaged.put(name, bytes);
        bench = bench.reopen(|_| damaged, false);
        assert!(
            matches!(
                bench.log.check_writable(),
                Err(LogError {
                    cause: Cause::Damaged,
                    ..
                })
            ),
            "seed {seed}"
        );
        assert!(
            bench
                .log
                .damages()
                .iter()
                .any(|damage| damage.segment == *name),
            "seed {seed}"
        );
        assert!(matches!(
            bench.try_send(&["u1"], None, "x"),
            Err(AppendError::Refusing(LogError {
                cause: Cause::Damaged,
                ..
            }))
        ));
        let limit = ReadLimit {
            messages: 1,
            bytes: usize::MAX,
        };
        for (number, body) in bodies.iter().enumerate() {
            // Every message that can be read is right. The others are an error or missing.
            if let Ok(read) = bench
                .log
                .read_blocking(&user("u1"), Seq(number as u64), limit)
                && let Some(stored) = read
                    .stored
                    .into_iter()
                    .find(|stored| stored.seq.0 == number as u64 + 1)
            {
                assert_eq!(stored.body.map(text).as_ref(), Some(body), "seed {seed}");
            }
        }
    }
}

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
            bench.send(&["quiet"], "next").placed[0].1,
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

/// The digit of the format in each segment's header.
fn formats(disk: &TestDisk) -> Vec<u8> {
    let segments = disk.segments().into_iter();
    segments.map(|name| disk.get(&name)[7] - b'0').collect()
}

#[test]
fn an_older_log_is_written_on_in_the_format_that_is_configured() {
    let bench = Bench::with(|limits| limits.format = 1);
    bench.send(&["u1"], "old");
    bench
        .log
        .note_token(&user("u1"), Platform::Web, 76)
        .unwrap();
    let mut bench = bench.reopen(TestDisk::after_kill, true);
    bench.send(&["u1"], "old still");
    let mut lines = Vec::new();
    let mut note = |line: &str| lines.push(line.to_owned());
    inspect_segments(&*bench.disk, &mut Some(&mut note)).unwrap();
    assert!(
        !lines.iter().any(|line| line.contains(" token ")),
        "{lines:?}"
    );
    assert_eq!(formats(&bench.disk), [1]);

    bench.limits.format = config::LOG_FORMAT;
    let bench = bench.reopen(TestDisk::after_kill, true);
    bench.send(&["u1"], "new");
    assert_eq!(formats(&bench.disk), [1, config::LOG_FORMAT]);
    let bench = bench.reopen(TestDisk::after_power_cut, false);
    let texts = ["old", "old still", "new"].map(|text| Some(text.to_owned()));
    let read: Vec<_> = bench
        .read("u1", 0)
        .into_iter()
        .map(|(_, text)| text)
        .collect();
    assert_eq!(read, texts);
}

/// A segment that an older version wrote, in each older format: messages `one` for u1 and u2, `two` with a key and `three`
/// for u1, a registration of u3, a revocation, the deletion of `three`, and the session of u2. Format 2: a token as well.
const OLDER: [(u8, &[u8]); 2] = [
    (1, include_bytes!("samples/format-1.log")),
    (2, include_bytes!("samples/format-2.log")),
];

#[test]
fn a_directory_of_each_older_format_opens_and_is_written_on() {
    for (format, bytes) in OLDER {
        let mut bench = Bench::new();
        bench.limits.retention = Duration::from_secs(10_000 * 86_400);
        let mut bench = bench.reopen(
            |_| {
                let disk = TestDisk::default();
                disk.put(&Segment::name_of(segment::ORIGIN), bytes.to_vec());
                Arc::new(disk)
            },
            false,
        );
        for keeps_state in [true, false] {
            let read: Vec<_> = bench.read("u1", 0).into_iter().take(3).collect();
            let texts = [Some("one"), Some("two"), None];
            let expected = (1..).zip(texts.map(|text| text.map(str::to_owned)));
            assert_eq!(read, expected.collect::<Vec<_>>(), "format {format}");
            assert_eq!(bench.bodies("u2")[0], "one");
            assert!(
                bench
                    .log
                    .users()
                    .blocking_wait()
                    .unwrap()
                    .contains(&user("u3"))
            );
            let times = bench
                .log
                .token_times(&user("u1"), Platform::Web)
                .blocking_wait()
                .unwrap();
            assert_eq!(times.revoked_before_ms, 77);
            assert_eq!(times.newest_ms, if format == 1 { 0 } else { 99 });
            let session = SessionKey {
                user: user("u2"),
                platform: Platform::Web,
                device: "d".into(),
            };
            let stored = bench.log.enter(&session).blocking_wait().unwrap().stored;
            assert_eq!(stored.map(|row| row.cursor), Some(Seq(1)));
            let repeat = bench.try_send(&["u1"], Some("leave-policy"), "two");
            assert_eq!(repeat.unwrap().placed[0].1, Seq(2));
            bench.send(&["u1", "u2"], "new");
            assert_eq!(formats(&bench.disk), [format, config::LOG_FORMAT]);
            bench = bench.reopen(TestDisk::after_power_cut, keeps_state);
        }
        assert_eq!(bench.bodies("u1"), ["one", "two", "new", "new"]);
    }
}

impl Bench {
    fn everyone(&self, key: Option<&str>, body: &str) -> Result<Receipt, AppendError> {
        let append = message(self.clock.now_ms(), &[], key, body);
        let pending = self.log.append_to_everyone(append)?;
        pending.blocking_recv().expect("the writer answers")
    }
}

#[test]
fn a_user_of_an_older_directory_gets_a_message_to_everyone() {
    for (_, bytes) in OLDER {
        let mut bench = Bench::new();
        bench.limits.retention = Duration::from_secs(10_000 * 86_400);
        let bench = bench.reopen(
            |_| {
                let disk = TestDisk::default();
                disk.put(&Segment::name_of(segment::ORIGIN), bytes.to_vec());
                Arc::new(disk)
            },
            false,
        );
        let receipt = bench.everyone(None, "all").unwrap();
        let mut users: Vec<_> = receipt
            .placed
            .iter()
            .map(|(user, _)| user.as_str())
            .collect();
        users.sort_unstable();
        assert_eq!(users, ["u1", "u2", "u3"]);
    }
}

#[test]
fn while_the_format_is_held_back_a_message_to_everyone_is_one_append() {
    let bench = Bench::with(|limits| limits.format = 2);
    bench.send(&["u1", "u2"], "one");
    let receipt = bench.everyone(Some("k"), "all").unwrap();
    assert_eq!(receipt.placed.len(), 2);
    assert_eq!(bench.everyone(Some("k"), "all"), Ok(receipt.clone()));
    let mut lines = Vec::new();
    let mut note = |line: &str| lines.push(line.to_owned());
    inspect_segments(&*bench.disk, &mut Some(&mut note)).unwrap();
    assert!(
        !lines.iter().any(|line| line.contains(" row ")),
        "{lines:?}"
    );
    // The newer format knows the key.
    let mut bench = bench;
    bench.limits.format = config::LOG_FORMAT;
    let bench = bench.reopen(TestDisk::after_kill, true);
    assert_eq!(bench.everyone(Some("k"), "all"), Ok(receipt));
    let everyone = bench.everyone(None, "new").unwrap();
    assert_eq!(everyone.placed.len(), 2);
}

/// The bytes of the last segment up to each closed group.
fn closed_groups(disk: &TestDisk) -> Vec<usize> {
    let base = Segment::base_of(&disk.last_segment()).unwrap();
    let segment = Segment::open(disk, base).unwrap();
    let mut scan = scan::Scan::whole(&segment);
    let mut ends = Vec::new();
    while let Some(scanned) = scan.next().unwrap() {
        if matches!(scanned.record, Record::Commit { .. }) {
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
        assert_eq!(again.placed.len(), 1100);
        let bench = bench.reopen(TestDisk::after_power_cut, false);
        assert_eq!(bench.everyone(Some("k"), "all"), Ok(again));
        assert!(users.iter().all(|user| count(&bench, user, "all") == 1));
        assert_eq!(count(&bench, "new", "all"), 0);
    }
    assert!(accepted > 3, "it came in pieces");
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
            tokio::time::sleep(Duration::from_millis(1100)).await;
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
            Record::Commit { .. } if ids.len() == many => {
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
    assert_eq!(receipt.placed.len(), 1100);
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
    assert_eq!(bench.log.find_blocking(&lookup), Ok(None));
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
    let users: Vec<_> = again.placed.iter().map(|(user, _)| user.as_str()).collect();
    let before: Vec<_> = receipt
        .placed
        .iter()
        .map(|(user, _)| user.as_str())
        .collect();
    assert_eq!(users, before);
}

fn setting(key: &'static str, value: Option<&'static str>) -> Record {
    Record::Row {
        table: TableId::Settings,
        key: Bytes::from_static(key.as_bytes()),
        value: value.map(|value| Bytes::from_static(value.as_bytes())),
    }
}

impl Bench {
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
            .row(TableId::Settings, key.as_bytes())
            .unwrap()
            .map(text)
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
        ["a", "b"].map(|key| Carried::Row(TableId::Settings, Bytes::from_static(key.as_bytes())));
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
fn an_entry_of_a_later_kind_is_an_entry_without_a_message() {
    let bench = Bench::new();
    bench.send(&["u1"], "one");
    let message = |body: &'static str| {
        Record::Message(record::Message {
            key: record::Key {
                message_id: MessageId([9; 16]),
                send_time_ms: 1,
                fingerprint: [0; 16],
                sender: "oa".into(),
                client_message_id: body.into(),
            },
            is_keyed: false,
            body: Bytes::from_static(body.as_bytes()),
        })
    };
    let (newest, at) = (newest(&bench, "u1"), bench.log_end());
    bench.append(vec![
        message("marks"),
        Record::Place {
            user: user("u1"),
            seq: Seq(2),
            previous: newest,
            message: at,
            fields: entry_fields::EntryFields {
                kind: 77,
                ..entry_fields::EntryFields::default()
            },
        },
    ]);
    bench.send(&["u1"], "three");
    let read = bench.read("u1", 0);
    let texts = [Some("one"), None, Some("three")].map(|text| text.map(str::to_owned));
    assert_eq!(read, (1..).zip(texts).collect::<Vec<_>>());
}

#[test]
fn a_record_of_a_later_version_is_named_and_nothing_is_changed() {
    for (kind, body, named) in [
        (200, &b""[..], "a record of kind 200"),
        (11, b"\xc8\x01\x00\x00", "a row of table 200"),
    ] {
        let bench = Bench::new();
        bench.send(&["u1"], "one");
        bench.log.close();
        let disk = bench.disk.after_kill();
        let name = disk.segments().remove(0);
        let mut bytes = disk.get(&name);
        append_group(kind, body, &mut bytes);
        disk.put(&name, bytes.clone());
        let error = bench.refusal(&disk);
        assert!(error.contains(named), "{error}");
        assert!(error.contains("which a later version wrote"), "{error}");
        let inspected = inspect_segments(&*disk, &mut None);
        assert!(matches!(inspected, Err(ReadError::Newer { .. })));
        assert_eq!(disk.get(&name), bytes, "nothing was changed");
    }
}

/// Appends a closed group with one record of any kind and body to a whole segment's bytes, as a later version would.
fn append_group(kind: u8, body: &[u8], bytes: &mut Vec<u8>) {
    let position = |bytes: &Vec<u8>| Position(ORIGIN.0 + bytes.len() as u64);
    let start = position(bytes);
    // The last record of a closed segment is a `Commit`, whose CRC the next record names.
    let commit = bytes.len() - (record::HEADER_BYTES + 32);
    let commit = record::Header::read(&bytes[commit..]).expect("a commit");
    let (length, previous) = ((body.len() as u32).to_le_bytes(), commit.crc.to_le_bytes());
    let crc = crc32c::crc32c(&[&length[..], &previous, &[kind], body].concat());
    for part in [&length[..], &previous, &crc.to_le_bytes(), &[kind], body] {
        bytes.extend_from_slice(part);
    }
    let commit = Record::Commit {
        position: position(bytes),
        start,
        time_ms: 1,
    };
    record::encode(&commit, crc, bytes);
}

/// The position of the newest entry of a user.
fn newest(bench: &Bench, name: &str) -> Position {
    let mut newest = Position::NONE;
    let segment = bench.disk.last_segment();
    let segment = Segment::open(&*bench.disk, Segment::base_of(&segment).unwrap()).unwrap();
    let mut scan = scan::Scan::whole(&segment);
    while let Some(scanned) = scan.next().unwrap() {
        if matches!(&scanned.record, Record::Place { user, .. } if user.as_str() == name) {
            newest = scanned.position;
        }
    }
    newest
}

#[test]
fn a_log_of_a_later_version_is_no_damaged_one() {
    let bench = Bench::new();
    bench.send(&["u1"], "one");
    bench.log.close();
    let disk = bench.disk.after_kill();
    let name = disk.segments().remove(0);
    let mut bytes = disk.get(&name);
    bytes[7] += 1;
    let crc = crc32c::crc32c(&bytes[..28]).to_le_bytes();
    bytes[28..32].copy_from_slice(&crc);
    disk.put(&name, bytes.clone());
    let error = bench.refusal(&disk);
    assert!(error.contains("which a later version wrote"), "{error}");
    assert_eq!(disk.get(&name), bytes, "nothing was changed");
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

/// A message is found by its id even if the clock was set back in the middle of the log, while a process ran or before a
/// restart.
#[test]
fn a_message_is_found_by_its_id_after_the_clock_was_set_back() {
    let bench = Bench::new();
    let mut sent = Vec::new();
    for jump in [0, 50 * 86_400_000, -80 * 86_400_000, 10 * 86_400_000] {
        bench.machine.jump(jump);
        bench.clock.accept();
        for number in 0..3 {
            sent.push(bench.send(&["u1"], &format!("{jump} {number}")));
        }
    }
    for receipt in sent {
        let found = bench
            .log
            .find(Lookup::Id(receipt.message_id))
            .blocking_wait()
            .unwrap();
        assert_eq!(found, Some(receipt));
    }
}

/// Waits for a change that another thread of the log makes.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(std::time::Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
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
fn a_log_that_lost_its_synced_end_is_damaged_whatever_the_state_store_says() {
    for keeps_state in [true, false] {
        let bench = Bench::with(|limits| limits.segment_bytes = 2048);
        for number in 0..40 {
            bench.send(&["u1"], &format!("{number}{}", "l".repeat(200)));
        }
        bench.log.close();
        let disk = bench.disk.after_kill();
        let last = disk.last_segment();
        let mut bytes = disk.get(&last);
        bytes.truncate(bytes.len() / 2);
        disk.put(&last, bytes);
        let bench = bench.reopen(|_| disk, keeps_state);
        let refusing = bench.log.check_writable();
        assert!(
            matches!(
                refusing,
                Err(LogError {
                    cause: Cause::Damaged,
                    ..
                })
            ),
            "{refusing:?}"
        );
    }
}

#[test]
fn a_first_segment_that_retention_did_not_remove_is_missed() {
    for keeps_state in [true, false] {
        let bench = Bench::with(|limits| {
            limits.segment_bytes = 1024;
            limits.retention = Duration::from_secs(3600);
        });
        for number in 0..20 {
            bench.send(&["u1"], &format!("{number}{}", "l".repeat(200)));
        }
        bench.machine.advance(7_200_000);
        bench.send(&["u1"], "new");
        let begin = bench.disk.segments().remove(0);
        eventually("retention", || bench.disk.segments()[0] != begin);
        for number in 0..20 {
            bench.send(&["u1"], &format!("{number}{}", "n".repeat(200)));
        }
        let bench = bench.reopen(TestDisk::after_kill, keeps_state);
        assert_eq!(bench.log.check_writable(), Ok(()));
        bench.log.close();

        let disk = bench.disk.after_kill();
        let first = disk.segments().remove(0);
        disk.remove(&first).unwrap();
        let report = inspect_segments(&*disk, &mut None).unwrap();
        assert_eq!(report.damages[0].segment, first, "{report:?}");
        let bench = bench.reopen(|_| disk, keeps_state);
        let refusing = bench.log.check_writable();
        assert!(
            matches!(&refusing, Err(error) if error.text.contains(&*first)),
            "{refusing:?}"
        );
    }
}

#[test]
fn a_disk_with_space_again_is_noticed_without_a_send() {
    let bench = Bench::new();
    bench.disk.faults.is_full.store(true, Relaxed);
    assert!(bench.try_send(&["u1"], None, "refused").is_err());
    bench.disk.faults.is_full.store(false, Relaxed);
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
    assert_eq!(*receipt.placed, [(user("u1"), Seq(2))]);
    assert!(log.close());
}

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
fn deleted_messages_keep_their_places_empty() {
    let bench = Bench::new();
    for body in ["a", "b", "c"] {
        bench.send(&["u1"], body);
    }
    bench
        .log
        .delete(user("u1"), vec![Seq(2), Seq(99)])
        .unwrap()
        .blocking_recv()
        .unwrap()
        .unwrap();
    let expected = [
        (1, Some("a".to_owned())),
        (2, None),
        (3, Some("c".to_owned())),
    ];
    assert_eq!(bench.read("u1", 0), expected);
    let bench = bench.reopen(TestDisk::after_power_cut, false);
    assert_eq!(bench.read("u1", 0), expected);
}

#[test]
fn messages_are_found_by_either_id() {
    let bench = Bench::with(|limits| limits.segment_bytes = 700);
    let mut receipts = Vec::new();
    for number in 0..30 {
        bench.machine.advance(500);
        receipts.push(bench.send(&["u1", "u2"], &format!("{number}")));
    }
    receipts.push(bench.try_send(&["u1"], Some("mine"), "x").unwrap());
    for receipt in receipts {
        assert_eq!(
            bench
                .log
                .find(Lookup::Id(receipt.message_id))
                .blocking_wait()
                .unwrap()
                .as_ref(),
            Some(&receipt)
        );
        let key = Lookup::Key {
            sender: "oa".into(),
            client_message_id: receipt.client_message_id.clone(),
        };
        assert_eq!(
            bench.log.find(key).blocking_wait().unwrap().as_ref(),
            Some(&receipt)
        );
        let other = Lookup::Key {
            sender: "somebody".into(),
            client_message_id: receipt.client_message_id.clone(),
        };
        assert_eq!(bench.log.find(other).blocking_wait().unwrap(), None);
    }
    assert_eq!(
        bench
            .log
            .find(Lookup::Id(MessageId::new(START_MS + 3)))
            .blocking_wait()
            .unwrap(),
        None
    );
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

#[test]
fn a_directory_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let first = open_directory(dir.path()).unwrap();
    let second = open_directory(dir.path());
    assert!(matches!(second, Err(OpenError::InUse(_))));
    drop(first);
    open_directory(dir.path()).unwrap();
}

#[test]
fn a_new_directory_is_its_owners_alone_and_one_that_is_there_stays_as_it_is() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let mode = |dir: &Path| std::fs::metadata(dir).unwrap().permissions().mode() & 0o777;
    let new = parent.path().join("new");
    drop(open_directory(&new).unwrap());
    assert_eq!(mode(&new), 0o700);
    let shared = std::fs::Permissions::from_mode(0o750);
    std::fs::set_permissions(&new, shared).unwrap();
    drop(open_directory(&new).unwrap());
    assert_eq!(mode(&new), 0o750);
}

fn open_directory(dir: &Path) -> Result<EmbeddedLog, OpenError> {
    let limits = config::Log {
        dir: dir.into(),
        ..config::Log::default()
    };
    EmbeddedLog::open(&limits, Manual::new().clock(), Arc::new(Metrics::new()))
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
    assert_eq!(faults(&watch), "", "a full disk can be read");
    bench.disk.faults.is_nearly_full.store(false, Relaxed);
    assert_eq!(ended(&watch), Unwell::Ended("log-keeper".into()));
}
