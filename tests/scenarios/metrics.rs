//! The counters add up: accepted = acked + pending + expired, at any time. All that waits is counted.

use serde_json::json;

use crate::support::{Client, Gateway, WEB, admin::Admin, eventually, notice};

async fn count(admin: &mut Admin, name: &str) -> f64 {
    admin.metric(&format!("towncrier_messages_{name}")).await
}

#[tokio::test]
async fn accepted_equals_acked_and_pending_and_expired() {
    let gateway = Gateway::start(&[]).await;
    let mut admin = gateway.admin().await;
    let mut web = gateway.connect("alice", WEB).await;
    for _ in 0..10 {
        admin.send(&notice("alice", "seen")).await;
        admin.send(&notice("bob", "unseen")).await;
    }
    web.expect_messages(10).await;
    web.ack(6).await;
    web.settle().await;
    eventually("the books to close", async || {
        let [accepted, acked, pending, expired] = [
            count(&mut admin, "accepted_total").await,
            count(&mut admin, "acked_total").await,
            count(&mut admin, "pending").await,
            count(&mut admin, "expired_total").await,
        ];
        (accepted, acked, expired) == (20.0, 6.0, 0.0) && accepted == acked + pending + expired
    })
    .await;
    assert_eq!(admin.metric("towncrier_log_appends_total").await, 20.0);
    assert_eq!(
        admin.metric("towncrier_sessions{platform=\"Web\"}").await,
        1.0
    );
}

/// A counter of the books for messages, and for read marks.
async fn by_kind(admin: &mut Admin, name: &str) -> [f64; 2] {
    let messages = count(admin, &format!("{name}{{kind=\"message\"}}")).await;
    [
        messages,
        count(admin, &format!("{name}{{kind=\"marks\"}}")).await,
    ]
}

#[tokio::test]
async fn read_marks_have_books_of_their_own_also_after_kill_and_without_the_state_store() {
    let mut gateway = Gateway::start(&[]).await;
    let mut admin = gateway.admin().await;
    let of_bob = json!({"operationID": "scenario", "userID": "bob"});
    for seq in 1..=3 {
        admin.send(&notice("bob", "unseen")).await;
        let listed = admin.post("/conversation/list", &of_bob).await.json();
        let mut mark = of_bob.clone();
        mark["conversationID"] = listed["data"]["list"][0]["conversationID"].clone();
        mark["conversationSeq"] = seq.into();
        let marked = admin.post("/conversation/mark_read", &mark).await;
        assert_eq!(marked.code(), 0);
    }
    admin.send(&notice("bob", "unseen")).await;
    assert_eq!(by_kind(&mut admin, "accepted_total").await, [4.0, 3.0]);
    assert_eq!(count(&mut admin, "accepted_total").await, 7.0);
    for keeps_state in [true, false] {
        assert_eq!(by_kind(&mut admin, "pending").await, [4.0, 3.0]);
        gateway.kill();
        if !keeps_state {
            std::fs::remove_dir_all(gateway.data().join("state")).unwrap();
        }
        gateway.restart().await;
        admin = gateway.admin().await;
    }
    let mut web = gateway.connect("bob", WEB).await;
    web.expect_messages(7).await;
    web.ack(4).await;
    eventually("the ack of two of each", async || {
        by_kind(&mut admin, "acked_total").await == [2.0, 2.0]
            && by_kind(&mut admin, "pending").await == [2.0, 1.0]
    })
    .await;
    web.ack(7).await;
    eventually("the ack of all", async || {
        by_kind(&mut admin, "acked_total").await == [4.0, 3.0]
            && by_kind(&mut admin, "pending").await == [0.0, 0.0]
    })
    .await;
}

#[tokio::test]
async fn expired_messages_keep_the_books_closed() {
    let gateway = Gateway::start(&["log.segment_bytes=65536", "log.retention_bytes=131072"]).await;
    let mut admin = gateway.admin().await;
    for _ in 0..20 {
        admin.send(&notice("alice", &"x".repeat(20_000))).await;
    }
    eventually("the books to close", async || {
        let (first, head) = admin.bounds("alice").await;
        let expired = count(&mut admin, "expired_total").await;
        let pending = count(&mut admin, "pending").await;
        first > 1 && (expired, pending) == ((first - 1) as f64, (head + 1 - first) as f64)
    })
    .await;
    assert_eq!(count(&mut admin, "accepted_total").await, 20.0);
}

#[tokio::test]
async fn a_full_window_is_counted_until_the_next_ack() {
    let gateway = Gateway::start(&["delivery.window=2"]).await;
    let mut admin = gateway.admin().await;
    let mut web = gateway.connect("alice", WEB).await;
    for _ in 0..2 {
        admin.send(&notice("alice", "hello")).await;
    }
    web.expect_messages(2).await;
    eventually("a full window", async || {
        admin.metric("towncrier_windows_full").await == 1.0
    })
    .await;
    web.ack(2).await;
    eventually("room in it", async || {
        admin.metric("towncrier_windows_full").await == 0.0
    })
    .await;
}

#[tokio::test]
async fn a_full_outbox_is_counted_until_its_client_reads() {
    let gateway = Gateway::start(&["listener.send_buffer_bytes=4096"]).await;
    let mut admin = gateway.admin().await;
    let mut slow = Client::dial_narrow(gateway.place().clients).await.unwrap();
    let connect = towncrier::protocol::towncrier_v1::proto::Connect {
        token: gateway.token("alice", WEB).await,
        ..Default::default()
    };
    slow.log_in(connect).await;
    for _ in 0..12 {
        admin.send(&notice("alice", &"x".repeat(40_000))).await;
    }
    eventually("a full outbox", async || {
        admin.metric("towncrier_outboxes_full").await == 1.0
    })
    .await;
    slow.expect_messages(12).await;
    eventually("room in it", async || {
        admin.metric("towncrier_outboxes_full").await == 0.0
    })
    .await;
}

#[tokio::test]
async fn connections_that_wait_are_counted_on_both_ports() {
    let gateway = Gateway::start(&["admin.connections_max=16"]).await;
    let mut admin = gateway.admin().await;
    let silent = tokio::net::TcpStream::connect(gateway.place().clients).await;
    eventually("an arrival", async || {
        admin.metric("towncrier_arrivals").await == 1.0
    })
    .await;
    drop(silent);
    eventually("no arrival", async || {
        admin.metric("towncrier_arrivals").await == 0.0
    })
    .await;
    assert!(admin.metric("towncrier_admin_connections").await >= 1.0);
    let mut silent = Vec::new();
    for _ in 0..16 {
        silent.push(tokio::net::TcpStream::connect(gateway.place().admin).await);
    }
    eventually("one that is cut off", async || {
        let cut_off = "towncrier_admin_connections_cut_off_total";
        // The older connection may be the one.
        admin.another().metric(cut_off).await >= 1.0
    })
    .await;
}

#[tokio::test]
async fn no_label_holds_a_user() {
    let gateway = Gateway::start(&[]).await;
    let mut admin = gateway.admin().await;
    let _web = gateway.connect("alice-in-metrics", WEB).await;
    admin.send(&notice("alice-in-metrics", "hush")).await;
    let text = admin.get("/metrics").await.text;
    assert!(!text.contains("alice-in-metrics"));
    // Every metric has a description.
    let named = |line: &&str| line.starts_with("# TYPE towncrier_");
    assert!(text.lines().filter(named).count() > 15, "{text}");
}
