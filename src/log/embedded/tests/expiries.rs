//! A reader learns which unacked messages left with a segment, and which cursors moved.

use super::*;
use crate::log::{
    CursorMove, EXPIRIES_WANTED, EXPIRY_PREFIX, EXPIRY_SEGMENTS_MAX, Expiry, FeedPosition,
    RowChange, RowTable,
};

fn put(bench: &Bench, key: &[u8], value: Option<&'static [u8]>) {
    let row = RowChange {
        table: RowTable::Consumers,
        key: Bytes::copy_from_slice(key),
        value: value.map(Bytes::from_static),
    };
    let pending = bench.log.put_rows(vec![row]).unwrap();
    pending.blocking_recv().unwrap().unwrap();
}

fn expiries(bench: &Bench) -> Vec<Expiry> {
    let rows = bench
        .log
        .rows(RowTable::Consumers, EXPIRY_PREFIX, &[], 100_000);
    let rows = rows.blocking_wait().unwrap().into_iter();
    rows.map(|(key, value)| Expiry::read(&key, &value).unwrap())
        .collect()
}

fn small() -> Bench {
    Bench::with(|limits| {
        limits.segment_bytes = 1024;
        limits.retention_bytes = 4096;
    })
}

fn session() -> SessionKey {
    SessionKey {
        user: user("u1"),
        platform: Platform::Web,
        device: "".into(),
    }
}

#[test]
fn unacked_messages_that_expire_are_told_if_somebody_wants_to_know() {
    let bench = small();
    let send = |count: usize| {
        for _ in 0..count {
            bench.send(&["u1"], &"o".repeat(200));
        }
    };
    send(60);
    eventually("retention", || bench.bounds("u1").0 > 30);
    assert_eq!(expiries(&bench), []);
    put(&bench, EXPIRIES_WANTED, Some(b"1"));
    let row = SessionRow {
        cursor: Seq(bench.bounds("u1").1 - 5),
        acked_at_ms: START_MS,
    };
    bench.store_cursor(&session(), row);
    send(30);
    eventually("retention", || bench.bounds("u1").0 > 70);
    let first = row.cursor.next();
    let told = expiries(&bench);
    let ranges: Vec<_> = told.iter().map(|expiry| expiry.range).collect();
    // Acked messages expire in silence. The others are told in their order, without a gap.
    assert_eq!(ranges[0].0, first.0, "{ranges:?}");
    assert!(ranges.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0));
    assert!(told.iter().all(|expiry| expiry.user == Some(user("u1"))));
    let bench = bench.reopen(TestDisk::after_power_cut, false);
    assert_eq!(expiries(&bench)[..told.len()], told);
}

#[test]
fn only_so_many_segments_have_rows_for_each_user() {
    let bench = Bench::with(|limits| {
        limits.segment_bytes = 8192;
        limits.retention_bytes = 32_768;
    });
    put(&bench, EXPIRIES_WANTED, Some(b"1"));
    let counted = |bench: &Bench| {
        let all = expiries(bench);
        let (users, segments): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|expiry| expiry.user.is_some());
        (users.len(), segments.len())
    };
    for _ in 0..150 {
        bench.send(&["u1"], &"o".repeat(2000));
    }
    eventually("retention", || counted(&bench).1 >= 3);
    assert_eq!(counted(&bench).0, EXPIRY_SEGMENTS_MAX);
}

#[test]
fn moves_of_cursors_are_read_in_order_and_outlive_their_segment() {
    let bench = small();
    let page = |bench: &Bench, from| bench.log.cursor_feed(from, 1).blocking_wait().unwrap();
    let end = page(&bench, FeedPosition::NEWEST);
    assert_eq!((end.cursors.len(), end.is_end), (0, true));
    let all = |bench: &Bench, mut from: FeedPosition| -> Vec<CursorMove> {
        let mut found = Vec::new();
        loop {
            let next = page(bench, from);
            found.extend(next.cursors);
            from = next.next;
            if next.is_end {
                return found;
            }
        }
    };
    bench.send(&["u1"], "1");
    let begin = |cursor| {
        let row = SessionRow {
            cursor: Seq(cursor),
            acked_at_ms: START_MS,
        };
        let begun = bench
            .log
            .begin_session(&session(), bench.log.core.epoch, Fence::NONE, row);
        begun.unwrap().blocking_recv().unwrap().unwrap();
    };
    begin(0);
    begin(1);
    let cursors = |moves: &[CursorMove]| -> Vec<_> {
        assert!(moves.iter().all(|moved| moved.session == session()));
        moves.iter().map(|moved| moved.row.cursor.0).collect()
    };
    let moves = all(&bench, end.next);
    assert_eq!(cursors(&moves), [0, 1]);
    assert!(moves[0].position < moves[1].position);
    // From a position in the middle, and from its own.
    assert_eq!(cursors(&all(&bench, moves[1].position)), [1]);
    for _ in 0..40 {
        bench.send(&["u2"], &"o".repeat(200));
    }
    eventually("retention", || bench.bounds("u2").0 > 20);
    // Retention wrote the cursor again.
    assert_eq!(cursors(&all(&bench, moves[1].position)).last(), Some(&1));
    assert_eq!(cursors(&all(&bench, FeedPosition::OLDEST)).last(), Some(&1));
}
