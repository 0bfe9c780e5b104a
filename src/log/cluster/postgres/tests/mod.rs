//! Tests on a real server (`server.rs`): what only it can show; `feed.rs`: the feeds; `heads.rs`: many users at once; `presence.rs`: the
//! fleet; `promotion.rs`: a standby takes over; `secrets.rs`: secrets that gateways share; `encrypted.rs`: TLS. `measure.rs` measures an
//! append.

mod encrypted;
mod feed;
mod heads;
mod measure;
mod presence;
mod promotion;
mod secrets;
pub(crate) mod server;

use std::{sync::Arc, time::Duration};

use tokio::{runtime::Handle, time::sleep};

use super::{
    super::{
        ClusterHost, ClusterLog, ClusterPace, ClusterTasks,
        engine::{Engine, EngineError, LaneId},
    },
    Migration, PostgresEngine, StoreRetention, inspect, migrate, new_epoch,
};
use crate::{
    ids::{Fence, Platform, Seq, SessionKey},
    log::{
        Append, AppendError, Log, ReadLimit,
        tests::conformance::{message, user},
    },
};

use self::server::{Database, Server};

const PACE: ClusterPace = ClusterPace {
    answer_within: Duration::from_secs(30),
    barrier_spacing: Duration::from_millis(1),
};
const RETENTION: StoreRetention = StoreRetention {
    message_days: 30,
    key_days: 7,
};
const ALL: ReadLimit = ReadLimit {
    messages: 1000,
    bytes: usize::MAX,
};

/// The database of a test; `None` without a server.
async fn database() -> Option<Database> {
    let made = tokio::task::spawn_blocking(|| Some(Server::of_process()?.database()));
    made.await.unwrap()
}

async fn gateway(url: &str) -> (ClusterLog, ClusterTasks) {
    let engine = PostgresEngine::connect(url).await.unwrap();
    let opened = ClusterLog::open(engine, PACE, Handle::current()).await;
    opened.unwrap()
}

/// Sends to one user, and returns the seq.
async fn seq_of(log: &ClusterLog, append: Append) -> Result<u64, AppendError> {
    let receipt = log.append(append)?.await.unwrap()?;
    Ok(receipt.entries[0].1.seq.0)
}

async fn bodies(log: &ClusterLog, name: &str) -> Vec<String> {
    let read = log.read(&user(name), Seq::ZERO, ALL).wait().await.unwrap();
    let bodies = read.entries.iter().map(|entry| {
        let body = entry.content.body().unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    });
    bodies.collect()
}

#[tokio::test]
async fn an_empty_database_is_refused_until_it_is_migrated() {
    let Some(database) = database().await else {
        return;
    };
    database
        .command("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        .await;
    let url = database.url();
    let refused = PostgresEngine::connect(&url).await.err().unwrap();
    assert!(refused.to_string().contains("towncrier store migrate"));
    for migration in [Migration::Created, Migration::Nothing] {
        assert_eq!(migrate(&url, RETENTION).await, Ok(migration));
    }
    let (log, _tasks) = gateway(&url).await;
    assert_eq!(seq_of(&log, message(1, &["u1"], None, "a")).await, Ok(1));
    database
        .command("UPDATE store SET schema_version = 99")
        .await;
    let refused = PostgresEngine::connect(&url).await.err().unwrap();
    assert!(refused.to_string().contains("99"));
}

#[tokio::test]
async fn an_append_that_comes_behind_its_fence_places_nothing() {
    let Some(database) = database().await else {
        return;
    };
    let engine = PostgresEngine::connect(&database.url()).await.unwrap();
    let lane = engine.lanes(1).await.unwrap()[0];
    let group = |body| Arc::<[Append]>::from([message(1, &["u1"], None, body)]);
    engine.append(lane, 1, group("a")).await.unwrap();
    assert_eq!(engine.fence(lane, 2).await, Ok(1));
    for number in [1, 2] {
        let late = engine.append(lane, number, group("late")).await;
        assert!(matches!(late, Err(EngineError::Unknown(_))), "{late:?}");
    }
    engine.append(lane, 3, group("b")).await.unwrap();
    // A fence behind a group leaves the lane as it is.
    assert_eq!(engine.fence(lane, 2).await, Ok(3));
    assert_eq!(engine.fence(LaneId(lane.0), 3).await, Ok(3));
    engine.append(lane, 4, group("c")).await.unwrap();
    let (log, _tasks) = gateway(&database.url()).await;
    assert_eq!(bodies(&log, "u1").await, ["a", "b", "c"]);
}

#[tokio::test]
async fn two_gateways_with_the_same_users_and_keys_place_densely_and_once() {
    const SENDS: usize = 200;
    const USERS: usize = 7;
    let Some(database) = database().await else {
        return;
    };
    let url = database.url();
    let (first, _first_tasks) = gateway(&url).await;
    let (second, _second_tasks) = gateway(&url).await;
    let send = |log: &ClusterLog, number: usize| {
        let names: Vec<_> = (0..USERS).map(|user| format!("u{user}")).collect();
        // The order of the receivers differs from send to send.
        let mut names: Vec<_> = names.iter().map(String::as_str).collect();
        names.rotate_left(number % USERS);
        names.truncate(1 + number % USERS);
        let key = format!("{}", number / 2);
        let append = Append {
            fingerprint: [number as u8 / 2; 16],
            ..message(
                1,
                &names,
                (number % 4 < 2).then_some(&*key),
                &format!("{number}"),
            )
        };
        log.append(append).unwrap()
    };
    let mut pending = Vec::new();
    for number in 0..SENDS {
        pending.push((number, send(&first, number)));
        pending.push((number, send(&second, number)));
    }
    for (number, pending) in pending {
        let outcome = pending.await.unwrap();
        assert!(outcome.is_ok(), "{number}: {outcome:?}");
    }
    for user_number in 0..USERS {
        let name = format!("u{user_number}");
        let read = first
            .read(&user(&name), Seq::ZERO, ALL)
            .wait()
            .await
            .unwrap();
        let seqs: Vec<_> = read
            .entries
            .iter()
            .map(|entry| entry.numbers.seq.0)
            .collect();
        let dense: Vec<_> = (1..=read.inbox.head.0).collect();
        assert_eq!(seqs, dense, "{name}");
    }
}

#[tokio::test]
async fn a_partition_whose_days_are_over_is_dropped_and_new_ones_are_made() {
    let Some(database) = database().await else {
        return;
    };
    let url = database.url();
    let engine = PostgresEngine::connect(&url).await.unwrap();
    let (log, _tasks) = gateway(&url).await;
    assert_eq!(seq_of(&log, message(1, &["u1"], None, "a")).await, Ok(1));
    let partitions = async || {
        let text = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'place'::regclass";
        let rows = engine.reads.query(text, &[]).await.unwrap();
        rows[0].get::<_, i64>(0)
    };
    let before = partitions().await;
    database.expire(&engine).await;
    assert_eq!(partitions().await, before - 1);
    assert_eq!(bodies(&log, "u1").await, [""; 0]);
    assert_eq!(seq_of(&log, message(1, &["u1"], None, "b")).await, Ok(2));
    let inbox = log.inbox(&user("u1")).wait().await.unwrap();
    assert_eq!((inbox.first, inbox.head), (Seq(2), Seq(2)));
    // A gateway's clock that is behind takes nothing back, and one that is ahead of the server's is not believed.
    for today in [Some(1), Some(1_000_000), None] {
        engine.keep(today, RETENTION).await.unwrap();
        assert_eq!(partitions().await, before - 1, "{today:?}");
    }
    assert_eq!(bodies(&log, "u1").await, ["b"]);
}

#[tokio::test]
async fn damaged_bytes_are_named_and_taken_for_no_message() {
    let Some(database) = database().await else {
        return;
    };
    let (log, _tasks) = gateway(&database.url()).await;
    assert_eq!(seq_of(&log, message(1, &["u1"], None, "a")).await, Ok(1));
    let text = "UPDATE place SET body = set_byte(body, 5, get_byte(body, 5) # 1)";
    database.command(text).await;
    let read = log.read(&user("u1"), Seq::ZERO, ALL).wait().await;
    assert_eq!(read.unwrap_err().cause, crate::log::Cause::Damaged);
}

#[tokio::test]
async fn another_epoch_is_told_to_each_login_and_forgets_cursors() {
    let Some(database) = database().await else {
        return;
    };
    let (log, _tasks) = gateway(&database.url()).await;
    let key = SessionKey {
        user: user("u1"),
        platform: Platform::Web,
        device: "".into(),
    };
    let before = log.enter(&key).wait().await.unwrap().inbox.epoch;
    let row = crate::log::SessionRow {
        cursor: Seq::ZERO,
        acked_at_ms: 5,
    };
    let begun = log.begin_session(&key, before, Fence::NONE, row).unwrap();
    assert_eq!(begun.await.unwrap(), Ok(()));
    new_epoch(&database.url(), 1000).await.unwrap();
    let point = log.enter(&key).wait().await.unwrap();
    assert_ne!(point.inbox.epoch, before);
    assert_eq!(point.stored, None);
    let pending = log.append(message(1, &["u1"], None, "a")).unwrap();
    let receipt = pending.await.unwrap().unwrap();
    assert_eq!(receipt.entries[0].1.base, 1000);
}

#[tokio::test]
async fn a_wait_for_a_standby_that_is_cut_off_confirms_nothing() {
    let Some(server) = Server::of_its_own().await else {
        return;
    };
    let database = tokio::task::spawn_blocking(move || server.database())
        .await
        .unwrap();
    let (log, _tasks) = gateway(&database.url()).await;
    let (other, _other_tasks) = gateway(&database.url()).await;
    assert_eq!(seq_of(&log, message(1, &["u1"], None, "a")).await, Ok(1));
    // No standby of this name will ever answer.
    let standby = async |name: &str| {
        let text = format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'");
        database.command(&text).await;
        database.command("SELECT pg_reload_conf()").await;
    };
    standby("nobody").await;
    // The setting counts for each transaction that begins once the server has read it.
    while database.number("SELECT count(*) FROM pg_settings WHERE name = 'synchronous_standby_names' AND setting = 'nobody'").await == 0 {
        sleep(Duration::from_millis(10)).await;
    }
    // Commits wait once the checkpointer has read it too, which it does before a checkpoint.
    database.command("CHECKPOINT").await;
    let mut pending = log.append(message(1, &["u1"], None, "b")).unwrap();
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE '-- $1 lane%'";
    while database.number(waiting).await == 0 {
        sleep(Duration::from_millis(10)).await;
    }
    // Cancelled, the transaction is visible and on one server only.
    let cancel = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE '-- $1 lane%'";
    database.number(cancel).await;
    while database.number("SELECT count(*) FROM place").await < 2 {
        sleep(Duration::from_millis(10)).await;
    }
    let mut reading = tokio::spawn(other.read(&user("u1"), Seq::ZERO, ALL).wait());
    let early = tokio::time::timeout(Duration::from_millis(500), &mut reading).await;
    assert!(early.is_err(), "a read shows what is not confirmed");
    assert!(
        pending.try_recv().is_err(),
        "a warning was taken for success"
    );
    standby("").await;
    let receipt = pending.await.unwrap().unwrap();
    assert_eq!(receipt.entries[0].1.seq, Seq(2));
    assert_eq!(reading.await.unwrap().unwrap().entries.len(), 2);
    assert_eq!(bodies(&log, "u1").await, ["a", "b"]);
}

#[tokio::test]
async fn a_gateway_that_ends_beside_another_leaves_the_store_whole() {
    let Some(database) = database().await else {
        return;
    };
    let url = database.url();
    let start = move || {
        let clock = Arc::new(crate::clock::Clock::system());
        ClusterHost::start(&url, &crate::config::Config::default(), clock)
    };
    let uses = move || {
        let (host, other) = (start().unwrap(), start().unwrap());
        let log = host.log();
        let pending = log.append(message(1, &["u1"], None, "a")).unwrap();
        assert!(host.close());
        assert!(pending.blocking_recv().unwrap().is_ok());
        assert!(log.append(message(1, &["u1"], None, "b")).is_err());
        let inbox = other.log().inbox(&user("u1")).blocking_wait().unwrap();
        assert_eq!(inbox.head, Seq(1));
        assert!(other.close());
    };
    tokio::task::spawn_blocking(uses).await.unwrap();
}

#[tokio::test]
async fn a_gateway_told_of_two_copies_is_not_ready_on_one_server_and_takes_sends() {
    let Some(database) = database().await else {
        return;
    };
    let url = database.url();
    let uses = move || {
        let mut config = crate::config::Config::default();
        config.store.copies = 2;
        let clock = Arc::new(crate::clock::Clock::system());
        let host = ClusterHost::start(&url, &config, clock).unwrap();
        let log = host.log();
        let fault = log.check_store().unwrap_err();
        assert!(
            fault.contains("ALTER SYSTEM SET synchronous_standby_names"),
            "{fault}"
        );
        assert_eq!(log.check_writable(), Ok(()));
        let pending = log.append(message(1, &["u1"], None, "a")).unwrap();
        assert!(pending.blocking_recv().unwrap().is_ok());
        assert!(host.close());
    };
    tokio::task::spawn_blocking(uses).await.unwrap();
}

#[tokio::test]
async fn a_look_at_a_server_names_what_is_wrong_with_the_line_that_mends_it() {
    let Some(database) = database().await else {
        return;
    };
    let report = inspect(&database.url(), 1).await.unwrap();
    assert!(report.standbys.is_empty());
    let remedies: Vec<_> = report.findings.iter().map(|one| one.remedy).collect();
    // The tests' server writes nothing to the disk in time.
    let expected = "ALTER SYSTEM SET fsync = 'on'; SELECT pg_reload_conf();";
    assert_eq!(remedies, [expected]);
    let report = inspect(&database.url(), 2).await.unwrap();
    let missing =
        "ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (*)'; SELECT pg_reload_conf();";
    assert_eq!(report.findings[1].remedy, missing);
    let engine = PostgresEngine::connect(&database.url()).await.unwrap();
    assert_eq!(engine.copies_fault(1).await, Ok(None));
    let fault = engine.copies_fault(2).await.unwrap().unwrap();
    assert!(fault.contains(missing), "{fault}");
    database.command("DROP TABLE store").await;
    let report = inspect(&database.url(), 1).await.unwrap();
    let last = report.findings.last().unwrap();
    assert_eq!(last.remedy, "towncrier store migrate");
}
