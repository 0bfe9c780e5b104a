//! The feed and the rows beside the messages, over a crash, a lost state store, retention and damage.

use super::*;
use crate::log::{FeedCommit, FeedLimit, FeedPage, FeedPosition, RowChange, RowTable};

const LIMIT: FeedLimit = FeedLimit {
    commits: 3,
    bytes: usize::MAX,
};

fn change(key: &str, value: Option<&str>) -> RowChange {
    RowChange {
        table: RowTable::PushTasks,
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
    }
}

impl Bench {
    fn put(&self, rows: Vec<RowChange>) -> Result<(), AppendError> {
        let pending = self.log.put_rows(rows)?;
        pending.blocking_recv().unwrap()
    }

    fn tasks(&self, after: &str, limit: usize) -> Vec<(String, String)> {
        let rows = self
            .log
            .rows(RowTable::PushTasks, b"", after.as_bytes(), limit);
        let rows = rows.blocking_wait().unwrap().into_iter();
        rows.map(|(key, value)| (text(key), text(value))).collect()
    }

    fn page(&self, from: FeedPosition) -> FeedPage {
        self.log.feed(from, LIMIT).blocking_wait().unwrap()
    }

    /// All pages from a position on, joined.
    fn pages(&self, from: FeedPosition) -> FeedPage {
        let mut joined = self.page(from);
        while !joined.is_end {
            let page = self.page(joined.next);
            joined.commits.extend(page.commits);
            joined.lost = joined.lost.or(page.lost);
            (joined.next, joined.is_end) = (page.next, page.is_end);
        }
        joined
    }
}

fn told(commits: &[FeedCommit]) -> Vec<String> {
    let body = |commit: &FeedCommit| text(commit.body.clone());
    commits.iter().map(body).collect()
}

#[test]
fn rows_outlive_a_power_cut_a_lost_state_store_and_the_retention_of_their_segment() {
    let mut bench = Bench::with(|limits| {
        limits.segment_bytes = 1024;
        limits.retention = Duration::from_secs(3600);
    });
    bench
        .put(vec![change("a", Some("1")), change("b", Some("1"))])
        .unwrap();
    bench
        .put(vec![change("a", Some("2")), change("b", None)])
        .unwrap();
    let expected = [("a".to_owned(), "2".to_owned())];
    for keeps_state in [true, false] {
        bench = bench.reopen(TestDisk::after_power_cut, keeps_state);
        assert_eq!(bench.tasks("", 9), expected);
    }
    let oldest = bench.disk.segments().remove(0);
    for number in 0..10 {
        bench.send(&["u1"], &format!("{number}{}", "o".repeat(200)));
    }
    bench.machine.advance(2 * 3600 * 1000);
    bench.send(&["u1"], "young");
    bench.machine.advance(3601 * 1000);
    eventually("retention", || bench.disk.segments()[0] != oldest);
    for keeps_state in [true, false] {
        bench = bench.reopen(TestDisk::after_power_cut, keeps_state);
        assert_eq!(bench.tasks("", 9), expected);
    }
}

#[test]
fn pages_of_rows_pass_over_any_number_of_removed_ones() {
    let bench = Bench::new();
    let key = |number: usize| format!("{number:05}");
    let rows = (0..5000).map(|number| change(&key(number), Some("v")));
    bench.put(rows.collect()).unwrap();
    // The state store has all of them now, and memory has the removed ones: several times `RECENT_AT_ONCE` (1,024).
    let bench = bench.reopen(TestDisk::after_kill, true);
    let removed = (0..5000).filter(|number| number % 1500 != 7);
    let removed = removed.map(|number| change(&key(number), None));
    bench.put(removed.collect()).unwrap();
    let left = [7, 1507, 3007, 4507].map(key);
    for limit in 1..6 {
        let (mut seen, mut after) = (Vec::new(), String::new());
        while let Some((last, _)) = bench.tasks(&after, limit).last().cloned() {
            seen.extend(bench.tasks(&after, limit).into_iter().map(|(key, _)| key));
            after = last;
        }
        assert_eq!(seen, left);
    }
}

#[test]
fn a_format_without_rows_refuses_them() {
    let bench = Bench::with(|limits| limits.format = 2);
    let refused = bench.put(vec![change("a", Some("1"))]);
    assert!(
        matches!(&refused, Err(AppendError::Refusing(error)) if error.text.contains("log.format")),
        "{refused:?}"
    );
    bench.send(&["u1"], "old form");
    assert_eq!(
        told(&bench.pages(FeedPosition::OLDEST).commits),
        ["old form"]
    );
}

#[test]
fn the_feed_has_each_entry_once_over_segments_restarts_and_pieces() {
    let names: Vec<_> = (0..1100).map(|number| format!("u{number}")).collect();
    let users: Vec<_> = names.iter().map(String::as_str).collect();
    let mut bench = Bench::with(|limits| limits.segment_bytes = 4096);
    bench.send(&users, "one");
    let receipt = bench.everyone(None, "all").unwrap();
    for number in 0..20 {
        bench.send(&["u1"], &format!("{number}{}", "o".repeat(400)));
    }
    assert!(bench.disk.segments().len() > 3);
    for keeps_state in [true, false] {
        let page = bench.pages(FeedPosition::OLDEST);
        assert_eq!(page.lost, None);
        let entries = |message: &Receipt| -> Vec<_> {
            let of = page
                .commits
                .iter()
                .filter(|commit| commit.message_id == message.message_id);
            of.flat_map(|commit| commit.entries.to_vec()).collect()
        };
        assert_eq!(entries(&receipt), *receipt.entries);
        assert_eq!(page.commits.last().unwrap().entries[0].1.seq, Seq(22));
        let positions: BTreeSet<_> = page.commits.iter().map(|commit| commit.position).collect();
        assert_eq!(positions.len(), page.commits.len());
        for commit in &page.commits {
            assert_eq!(bench.page(commit.position).commits[0], *commit);
        }
        bench = bench.reopen(TestDisk::after_kill, keeps_state);
    }
}

#[test]
fn the_feed_tells_when_its_commits_are_missing() {
    let bench = Bench::with(|limits| {
        limits.segment_bytes = 1024;
        limits.retention = Duration::from_secs(3600);
    });
    bench.send(&["u1"], "first");
    let from = bench.page(FeedPosition::OLDEST).next;
    for number in 0..10 {
        bench.send(&["u1"], &format!("{number}{}", "o".repeat(200)));
    }
    bench.machine.advance(2 * 3600 * 1000);
    let young_ms = bench.clock.now_ms();
    bench.send(&["u1"], "young");
    bench.machine.advance(3601 * 1000);
    eventually("retention", || bench.disk.segments().len() == 1);
    let page = bench.pages(from);
    assert_eq!(told(&page.commits), ["young"]);
    let lost = page.lost.unwrap();
    assert_eq!((lost.from_time_ms, lost.to_time_ms), (0, young_ms));
    assert_eq!(bench.pages(page.next).lost, None);
}

#[test]
fn the_feed_passes_over_damage_and_tells_it() {
    let bench = Bench::with(|limits| limits.segment_bytes = 2048);
    let bodies: Vec<_> = (0..30)
        .map(|number| format!("{number}{}", "z".repeat(100)))
        .collect();
    bodies
        .iter()
        .for_each(|body| drop(bench.send(&["u1"], body)));
    bench.log.close();
    let disk = bench.disk.after_kill();
    let name = disk.segments().remove(1);
    let whole = disk.get(&name);
    let mut bench = Bench {
        disk: disk.clone(),
        ..bench
    };
    for at in (segment::HEADER_BYTES as usize..whole.len()).step_by(97) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        let damaged = disk.after_kill();
        damaged.put(&name, bytes);
        bench = bench.reopen(|_| damaged, false);
        let page = bench.pages(FeedPosition::OLDEST);
        let told = told(&page.commits);
        assert!(page.lost.is_some(), "byte {at}");
        // The damaged group and at most the one behind it are missing, and all others are there in order.
        let left: Vec<_> = bodies.iter().filter(|body| told.contains(body)).collect();
        assert!(left.iter().copied().eq(&told), "byte {at}");
        assert!(told.len() >= bodies.len() - 2, "byte {at}: {}", told.len());
    }
}

#[test]
fn a_long_part_without_commits_is_passed_in_several_pages() {
    let bench = Bench::with(|limits| limits.segment_bytes = 4 << 20);
    bench.send(&["u1"], "first");
    let value = "v".repeat(60_000);
    for number in 0..6 {
        let rows = (0..60).map(|row| change(&format!("{number} {row}"), Some(&value)));
        bench.put(rows.collect()).unwrap();
    }
    bench.send(&["u1"], "last");
    let mut from = FeedPosition::OLDEST;
    let mut pages = Vec::new();
    loop {
        let page = bench.page(from);
        pages.push(told(&page.commits));
        if page.is_end {
            break;
        }
        from = page.next;
    }
    assert_eq!(pages, [vec!["first".to_owned()], vec!["last".to_owned()]]);
}
