//! P1, P3, P5 through kill -9 of the gateway: every accepted message is there, a retry is one message, and no message comes
//! twice.

use crate::support::{
    Gateway, IOS, WEB,
    ledger::{End, Plan, expect_exactly_once},
    notice, seed, seqs_of, text_of,
};

#[tokio::test]
async fn accepted_messages_survive_a_kill_and_seqs_go_on() {
    let mut gateway = Gateway::start(&[]).await;
    let mut admin = gateway.admin().await;
    let mut web = gateway.connect("alice", WEB).await;
    let epoch = web.welcome.epoch;
    admin.send(&notice("alice", "one")).await;
    admin.send(&notice("alice", "two")).await;
    assert_eq!(web.expect_messages(2).await.len(), 2);
    gateway.kill();
    gateway.restart().await;
    admin.send(&notice("alice", "three")).await;
    assert!(
        !gateway.data().join("state.set-aside").exists(),
        "a kill alone is no reason to rebuild the state store"
    );
    let mut web = gateway.resume("alice", WEB, epoch, 1).await;
    assert_eq!(web.welcome.epoch, epoch);
    let messages = web.expect_messages(2).await;
    assert_eq!(seqs_of(&messages), [2, 3]);
    assert_eq!(
        messages.iter().map(text_of).collect::<Vec<_>>(),
        ["two", "three"]
    );
}

#[tokio::test]
async fn a_retry_returns_the_first_result_also_after_a_kill() {
    let mut gateway = Gateway::start(&[]).await;
    let mut admin = gateway.admin().await;
    let mut once = notice("alice", "once");
    once["clientMsgID"] = "order-1".into();
    let first = admin.send(&once).await;
    assert_eq!(first.client_msg_id, "order-1");
    assert_eq!(admin.send(&once).await, first);
    gateway.kill();
    gateway.restart().await;
    // Another operationID does not make another send. The header holds the same key.
    once["operationID"] = "second try".into();
    assert_eq!(admin.send(&once).await, first);
    once.as_object_mut().unwrap().remove("clientMsgID");
    let answer = admin
        .call(
            "POST",
            "/manager/send_msg",
            &[("idempotency-key", "order-1")],
            once.to_string(),
        )
        .await
        .unwrap();
    assert_eq!(answer.sent(), first);

    let mut other = notice("alice", "something else");
    other["clientMsgID"] = "order-1".into();
    let refused = admin.post("/manager/send_msg", &other).await;
    assert_eq!((refused.status, refused.code()), (409, 409));
    admin.send(&notice("alice", "last")).await;

    let mut web = gateway.connect("alice", WEB).await;
    let inbox = web.expect_backlog().await;
    assert_eq!(
        inbox.iter().map(text_of).collect::<Vec<_>>(),
        ["once", "last"]
    );
}

#[tokio::test]
async fn a_drained_gateway_remembers_cursors_and_presence_starts_empty() {
    let mut gateway = Gateway::start(&[]).await;
    let mut admin = gateway.admin().await;
    admin.send(&notice("alice", "one")).await;
    let mut web = gateway.connect("alice", WEB).await;
    web.expect_push().await;
    web.ack(1).await;
    web.settle().await;
    assert_eq!(admin.presence("alice").await, ["Web"]);
    gateway.terminate();
    assert!(gateway.exited().await.success());
    gateway.restart().await;
    assert!(admin.presence("alice").await.is_empty());
    let web = gateway.connect("alice", WEB).await;
    assert_eq!((web.welcome.cursor, web.welcome.head), (1, 1));
}

#[tokio::test]
async fn a_wiped_state_store_is_rebuilt_from_the_segments() {
    let mut gateway = Gateway::start(&[]).await;
    let mut admin = gateway.admin().await;
    let mut once = notice("alice", "one");
    once["clientMsgID"] = "key".into();
    let first = admin.send(&once).await;
    gateway.terminate();
    gateway.exited().await;
    let state = gateway.data().join("state");
    std::fs::remove_dir_all(&state).expect("the state store has its own directory");
    gateway.restart().await;
    assert_eq!(admin.send(&once).await, first);
    admin.send(&notice("alice", "two")).await;
    let mut phone = gateway.connect("alice", IOS).await;
    assert_eq!(seqs_of(&phone.expect_backlog().await), [1, 2]);
}

/// The ledger at a size that suits every run of the tests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ledger_kill_in_the_middle_of_sends() {
    expect_exactly_once(End::Kill, Plan::brief(seed())).await;
}

/// The ledger at full size: `cargo test --release --test scenarios -- --ignored --nocapture ledger_full`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "ten rounds of 20,000 sends: minutes"]
async fn ledger_full_kill_in_the_middle_of_sends() {
    let seed = seed();
    println!("TOWNCRIER_SEED={seed}");
    for round in 0..10 {
        let plan = Plan {
            sends: 20_000,
            senders: 50,
            users: 1_000,
            listeners: 200,
            seed: seed.wrapping_add(round),
        };
        println!("round {}", round + 1);
        expect_exactly_once(End::Kill, plan).await;
    }
}
