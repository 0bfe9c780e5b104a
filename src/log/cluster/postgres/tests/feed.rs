//! The feeds on a real server: order, waits, bodies that are removed, expiries.

use super::*;
use crate::{
    ids::{Epoch, Fence},
    log::{
        EXPIRIES_WANTED, EXPIRY_PREFIX, EXPIRY_SEGMENTS_MAX, Expiry, FeedLimit, FeedPage,
        FeedPosition, RowChange, RowTable, SessionRow,
        cluster::postgres::link::{ServerLink, Servers},
    },
};

const MANY: FeedLimit = FeedLimit {
    commits: 1000,
    bytes: usize::MAX,
};

async fn page(log: &ClusterLog, from: FeedPosition) -> FeedPage {
    log.feed(from, MANY).wait().await.unwrap()
}

fn texts(page: &FeedPage) -> Vec<String> {
    let text = |body: &[u8]| String::from_utf8(body.to_vec()).unwrap();
    page.commits
        .iter()
        .map(|commit| text(&commit.body))
        .collect()
}

fn session(name: &str) -> SessionKey {
    SessionKey {
        user: user(name),
        platform: Platform::Web,
        device: "".into(),
    }
}

async fn begin(log: &ClusterLog, name: &str, epoch: Epoch, cursor: u64) {
    let row = SessionRow {
        cursor: Seq(cursor),
        acked_at_ms: cursor,
    };
    let begun = log
        .begin_session(&session(name), epoch, Fence::NONE, row)
        .unwrap();
    begun.await.unwrap().unwrap();
}

async fn expiries(log: &ClusterLog) -> Vec<Expiry> {
    let rows = log.rows(RowTable::Consumers, EXPIRY_PREFIX, &[], 1000);
    let rows = rows.wait().await.unwrap().into_iter();
    rows.map(|(key, value)| Expiry::read(&key, &value).unwrap())
        .collect()
}

#[tokio::test]
async fn a_page_waits_for_an_open_transaction_that_may_commit_before_its_end() {
    let Some(database) = database().await else {
        return;
    };
    let (log, _tasks) = gateway(&database.url()).await;
    let link = ServerLink::new(Servers::new(&database.url()).unwrap());
    let open = link.take().await.unwrap();
    open.begin("BEGIN; SELECT pg_current_xact_id()")
        .await
        .unwrap();
    seq_of(&log, message(1, &["u1"], None, "a")).await.unwrap();
    let mut reading = tokio::spawn(log.feed(FeedPosition::OLDEST, MANY).wait());
    let early = tokio::time::timeout(Duration::from_millis(300), &mut reading).await;
    assert!(early.is_err(), "a commit could come before what was told");
    open.end(Ok(())).await.unwrap();
    assert_eq!(texts(&reading.await.unwrap().unwrap()), ["a"]);
}

#[tokio::test]
async fn a_removed_message_is_told_with_its_body_and_read_without() {
    let Some(database) = database().await else {
        return;
    };
    let (log, _tasks) = gateway(&database.url()).await;
    seq_of(&log, message(1, &["u1"], None, "a")).await.unwrap();
    let deleted = log.delete(user("u1"), vec![Seq(1)]).unwrap();
    deleted.await.unwrap().unwrap();
    assert_eq!(texts(&page(&log, FeedPosition::OLDEST).await), ["a"]);
    let read = log.read(&user("u1"), Seq::ZERO, ALL).wait().await.unwrap();
    assert_eq!(read.entries[0].content.body(), None);
}

#[tokio::test]
async fn a_body_that_is_damaged_is_told_as_lost_and_its_neighbours_are_told() {
    let Some(database) = database().await else {
        return;
    };
    let (log, _tasks) = gateway(&database.url()).await;
    for body in ["a", "b", "c"] {
        seq_of(&log, message(1, &["u1"], None, body)).await.unwrap();
    }
    let text = "UPDATE place SET body = set_byte(body, 5, get_byte(body, 5) # 1) WHERE seq = 2";
    database.command(text).await;
    let page = page(&log, FeedPosition::OLDEST).await;
    assert_eq!(texts(&page), ["a", "c"]);
    assert!(page.lost.is_some() && page.is_end);
}

#[tokio::test]
async fn cursors_that_moved_are_told_in_order_from_any_position() {
    let Some(database) = database().await else {
        return;
    };
    let (log, _tasks) = gateway(&database.url()).await;
    let read = async |from, limit| log.cursor_feed(from, limit).wait().await.unwrap();
    let end = read(FeedPosition::NEWEST, 1).await;
    assert_eq!((end.cursors.len(), end.is_end), (0, true));
    let epoch = log.inbox(&user("u1")).wait().await.unwrap().epoch;
    for (name, cursor) in [("u1", 0), ("u2", 0), ("u1", 1), ("u3", 0)] {
        begin(&log, name, epoch, cursor).await;
    }
    let (mut told, mut from) = (Vec::new(), end.next);
    loop {
        let page = read(from, 1).await;
        assert_eq!(page.epoch, epoch);
        told.extend(page.cursors);
        from = page.next;
        if page.is_end {
            break;
        }
    }
    let moved: Vec<_> = told
        .iter()
        .map(|moved| (moved.session.user.as_str(), moved.row.cursor.0))
        .collect();
    assert_eq!(moved, [("u2", 0), ("u1", 1), ("u3", 0)]);
    assert!(
        told.windows(2)
            .all(|pair| pair[0].position < pair[1].position)
    );
    assert_eq!(read(told[1].position, 9).await.cursors, told[1..]);
    assert_eq!(read(from, 9).await.cursors, []);
    begin(&log, "u2", epoch, 5).await;
    assert_eq!(read(from, 9).await.cursors[0].row.cursor, Seq(5));
}

#[tokio::test]
async fn unacked_messages_that_expire_are_told_if_somebody_wants_to_know() {
    let Some(database) = database().await else {
        return;
    };
    let engine = PostgresEngine::connect(&database.url()).await.unwrap();
    let opened = ClusterLog::open(engine.clone(), PACE, Handle::current()).await;
    let (log, _tasks) = opened.unwrap();
    let send = async || {
        for name in ["u1", "u1", "u2"] {
            seq_of(&log, message(1, &[name], None, "a")).await.unwrap();
        }
    };
    send().await;
    database.expire(&engine).await;
    assert_eq!(expiries(&log).await, [], "nobody wants to know");
    let wanted = RowChange {
        table: RowTable::Consumers,
        key: EXPIRIES_WANTED.into(),
        value: Some("1".into()),
    };
    log.put_rows(vec![wanted]).unwrap().await.unwrap().unwrap();
    send().await;
    let epoch = log.inbox(&user("u1")).wait().await.unwrap().epoch;
    begin(&log, "u1", epoch, 3).await;
    database.expire(&engine).await;
    let told = expiries(&log).await;
    let ranges: Vec<_> = told
        .iter()
        .map(|expiry| (expiry.user.clone().unwrap(), expiry.range))
        .collect();
    assert_eq!(ranges, [(user("u1"), (4, 4)), (user("u2"), (2, 2))]);
    // With as many days as there may be, one row stands for all users of a day.
    let waiting = format!(
        "INSERT INTO fact SELECT 3, 'expiry/'::bytea || int8send(n) || 'u9'::bytea, repeat('x', 24)::bytea \
         FROM generate_series(1, {EXPIRY_SEGMENTS_MAX}) n"
    );
    database.command(&waiting).await;
    send().await;
    database.expire(&engine).await;
    let of_all = expiries(&log).await;
    let of_all: Vec<_> = of_all
        .iter()
        .filter(|expiry| expiry.user.is_none())
        .collect();
    assert_eq!(of_all.len(), 1);
    assert_eq!(of_all[0].range.1 - of_all[0].range.0, 86_400_000);
}
