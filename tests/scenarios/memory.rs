//! The memory cost of a session. It is a number and not a promise: run by hand, in release, as `docs/measured.md#sessions`
//! says.

use towncrier::protocol::towncrier_v1::proto::Connect;
use towncrier_client::{ClientConnection, Tcp, proto};

use crate::support::{Gateway, IOS, WEB, admin::Admin, authority::Authority, eventually, notice};

/// Half of the 20,000 descriptors that a process may have by default.
const SESSIONS: usize = 10_000;
const MESSAGE_BYTES: usize = 16 * 1024;

#[tokio::test]
#[ignore = "10,000 sessions and a minute's wait: `cargo test --release --test scenarios -- --ignored --nocapture memory`"]
async fn an_idle_session_costs_little_also_after_a_large_message() {
    let mut gateway = Gateway::start(&[
        "listener.connections_max=20000",
        "listener.handshakes_max=2000",
    ])
    .await;
    let mut admin = gateway.admin().await;
    // The first requests, a first session and a first batch of this size bring costs (code, buffers, memory that the
    // allocator keeps) that do not belong to a session.
    drop(gateway.connect("warm", IOS).await);
    let answer = admin.post("/manager/batch_send_msg", &batch("other")).await;
    assert_eq!(answer.code(), 0, "{}", answer.text);
    checkpointed(&mut admin).await;
    let before = gateway.resident_bytes();
    let mut clients = Vec::with_capacity(SESSIONS);
    for number in 0..SESSIONS {
        let token = admin.token(&format!("user-{number:05}"), WEB).await;
        clients.push(
            gateway
                .connect_as(Connect {
                    token,
                    ..Connect::default()
                })
                .await,
        );
    }
    checkpointed(&mut admin).await;
    let per_session = |bytes: u64| (bytes - before) as f64 / SESSIONS as f64;
    let idle = per_session(gateway.resident_bytes());
    println!("{SESSIONS} idle sessions: {idle:.0} bytes each");

    let answer = admin.post("/manager/batch_send_msg", &batch("user")).await;
    assert_eq!(answer.code(), 0, "{}", answer.text);
    for client in &mut clients {
        assert_eq!(client.expect_messages(1).await.len(), 1);
        client.ack(1).await;
    }
    // The minute is the measurement: memory that is returned later does not count as returned.
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    let after = per_session(gateway.resident_bytes());
    println!(
        "a minute after {MESSAGE_BYTES} bytes to each: {after:.0} bytes each, {:+.1} %",
        (after / idle - 1.0) * 100.0
    );
    assert!(idle <= 2500.0 && after <= idle * 1.1);
    gateway.kill();
}

#[tokio::test]
#[ignore = "10,000 sessions over TLS: `cargo test --release --test scenarios -- --ignored --nocapture memory`"]
async fn an_idle_session_over_tls_costs_its_keys_and_a_buffer() {
    let authority = Authority::new();
    let settings = authority.settings("listener");
    let gateway = Gateway::start(&[&settings[0], &settings[1]]).await;
    let mut admin = gateway.admin().await;
    let trust = authority.trust();
    let url = format!("wss://{}/ws", gateway.place().clients);
    let mut connect = async |number: usize| {
        let token = admin.token(&format!("user-{number:05}"), WEB).await;
        let opened = ClientConnection::open_trusting(&Tcp, &url, &trust).await;
        let mut connection = opened.unwrap();
        let hello = proto::Connect {
            token,
            ..Default::default()
        };
        let hello = proto::client_frame::Body::Connect(hello);
        connection.send(hello).await.unwrap();
        for _ in ["Connected", "CaughtUp"] {
            connection.receive().await.unwrap();
        }
        connection
    };
    drop(connect(SESSIONS).await);
    let before = gateway.resident_bytes();
    let mut clients = Vec::with_capacity(SESSIONS);
    for number in 0..SESSIONS {
        clients.push(connect(number).await);
    }
    let idle = (gateway.resident_bytes() - before) / SESSIONS as u64;
    println!("{SESSIONS} idle sessions over TLS: {idle} bytes each");
    assert!(idle <= 12_000);
}

/// Waits until the changed rows are in the state store, so that no work is left to come.
async fn checkpointed(admin: &mut Admin) {
    let before = admin.metric("towncrier_checkpoint_seconds_count").await;
    eventually("a checkpoint", async || {
        admin.metric("towncrier_checkpoint_seconds_count").await > before
    })
    .await;
}

/// One large message to 10,000 users.
fn batch(prefix: &str) -> serde_json::Value {
    let users: Vec<String> = (0..SESSIONS)
        .map(|number| format!("{prefix}-{number:05}"))
        .collect();
    let mut batch = notice("unused", &"x".repeat(MESSAGE_BYTES));
    batch.as_object_mut().unwrap().remove("recvID");
    batch["recvIDList"] = users.into();
    batch
}
