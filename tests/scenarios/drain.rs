//! P2 and P5 in a drain: after SIGTERM sends are refused and never delivered, every session is told when to return, and pushes in
//! flight come again. The exit code is 0. A second SIGTERM ends the process at once. Other signals end nothing.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::timeout};

use crate::support::{
    Gateway, WEB, eventually,
    ledger::{End, Plan, expect_exactly_once},
    notice, seed, text_of,
};

#[tokio::test]
async fn sigterm_tells_everyone_and_ends_with_everything_kept() {
    let mut gateway = Gateway::start(&["drain.period=2s"]).await;
    let mut admin = gateway.admin().await;
    let mut web = gateway.connect("alice", WEB).await;
    admin.send(&notice("alice", "before")).await;
    web.expect_push().await;
    assert_eq!(admin.get("/readyz").await.status, 200);

    gateway.terminate();
    eventually("readyz to say no", async || {
        admin.get("/readyz").await.status == 503
    })
    .await;
    assert!(admin.get("/readyz").await.text.contains("draining"));
    assert_eq!(admin.get("/healthz").await.status, 200);
    let refused = admin
        .post("/manager/send_msg", &notice("alice", "too late"))
        .await;
    assert_eq!((refused.status, refused.code()), (503, 50305));
    assert!(refused.retry_after.is_some());

    let delay_ms = web.expect_draining().await;
    let reason = web.expect_close(4503).await;
    assert_eq!(reason, delay_ms.to_string());
    assert!(gateway.exited().await.success());

    gateway.restart().await;
    let mut web = gateway.connect("alice", WEB).await;
    let inbox = web.expect_backlog().await;
    assert_eq!(inbox.iter().map(text_of).collect::<Vec<_>>(), ["before"]);
}

#[tokio::test]
async fn pushes_in_flight_at_a_drain_come_again_after_the_last_ack() {
    let mut gateway = Gateway::start(&["drain.period=1s"]).await;
    let mut admin = gateway.admin().await;
    let mut web = gateway.connect("alice", WEB).await;
    let mut send = async |count: usize| {
        for number in 0..count {
            let text = format!("message {number} of {count}");
            admin.send(&notice("alice", &text)).await;
        }
    };
    send(10).await;
    let mut pushed = web.expect_messages(10).await;
    web.ack(pushed[3].seq).await;
    web.settle().await;
    // The client reads these only after the drain has begun.
    send(20).await;
    gateway.terminate();
    pushed.extend(web.expect_messages(20).await);
    web.expect_draining().await;
    web.expect_close(4503).await;
    assert!(gateway.exited().await.success());

    gateway.restart().await;
    let mut web = gateway.connect("alice", WEB).await;
    assert_eq!(web.welcome.cursor, pushed[3].seq);
    assert_eq!(web.expect_messages(26).await, pushed[4..]);
    web.settle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ledger_drain_in_the_middle_of_sends() {
    expect_exactly_once(End::Drain, Plan::brief(seed())).await;
}

/// A phone that does not answer the close and an admin request that never becomes whole are waited for at the same time.
#[tokio::test]
async fn a_frozen_phone_and_a_half_sent_request_end_within_one_budget() {
    let mut gateway = Gateway::start(&[]).await;
    let mut admin = gateway.admin().await;
    let _frozen = gateway.connect("alice", WEB).await;
    let mut half_sent = TcpStream::connect(gateway.place().admin).await.unwrap();
    let head = "POST /manager/send_msg HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{";
    half_sent.write_all(head.as_bytes()).await.unwrap();
    gateway.terminate();
    eventually("readyz to say no", async || {
        admin.get("/readyz").await.status == 503
    })
    .await;
    // The time after which `docker stop` kills.
    let exited = timeout(Duration::from_secs(10), gateway.exited()).await;
    assert!(exited.expect("it ended in time").success());
}

#[tokio::test]
async fn nobody_new_comes_in_while_draining() {
    let mut gateway = Gateway::start(&["drain.period=2s"]).await;
    let mut admin = gateway.admin().await;
    let _web = gateway.connect("alice", WEB).await;
    let clients = gateway.place().clients;
    gateway.terminate();
    eventually("a refused dial", async || {
        crate::support::Client::dial(clients).await.is_err()
    })
    .await;
    assert_eq!(admin.get("/readyz").await.status, 503);
    assert!(gateway.exited().await.success());
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let mut gateway = Gateway::start(&["drain.period=1h"]).await;
    let mut admin = gateway.admin().await;
    let _web = gateway.connect("alice", WEB).await;
    gateway.terminate();
    eventually("readyz to say no", async || {
        admin.get("/readyz").await.status == 503
    })
    .await;
    gateway.terminate();
    assert!(!gateway.exited().await.success());
}

#[tokio::test]
async fn signals_of_log_rotation_and_closed_terminals_end_nothing() {
    let mut gateway = Gateway::start(&[]).await;
    let mut admin = gateway.admin().await;
    let mut web = gateway.connect("alice", WEB).await;
    let process = Pid::from_raw(gateway.process_id() as i32).unwrap();
    for signal in [Signal::HUP, Signal::USR1, Signal::USR2] {
        kill_process(process, signal).unwrap();
        admin.send(&notice("alice", "still here")).await;
        web.expect_messages(1).await;
    }
    gateway.terminate();
    assert!(gateway.exited().await.success());
}
