//! Vendor push from a real gateway to a stand-in of a vendor: after no ack, and never lost, whatever is killed in between.

use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{
    Gateway, IOS, WINDOWS,
    admin::Admin,
    eventually, notice,
    receiver::{Receiver, SECRET_1},
    vendor::{StandAnswer, VendorStand},
};

/// A gateway whose generic provider is the stand-in, with these settings.
async fn gateway(stand: &VendorStand, more: &[&str]) -> Gateway {
    let settings = stand.settings();
    let mut all = vec!["push.after=1s"];
    all.extend(settings.iter().map(String::as_str));
    all.extend(more);
    Gateway::start(&all).await
}

async fn phone_of(gateway: &Gateway, user: &str) {
    let token = gateway.token(user, IOS).await;
    gateway
        .register_device(&token, &format!("phone of {user}"))
        .await;
}

/// The trace's list of vendor push for the one receiver.
async fn traced(admin: &mut Admin, message: &str) -> Value {
    let answer = admin
        .post("/msg/trace", &json!({"serverMsgID": message}))
        .await;
    assert_eq!(answer.code(), 0, "{answer:?}");
    answer.json()["data"]["receivers"][0]["push"].clone()
}

async fn state(admin: &mut Admin, message: &str) -> Value {
    traced(admin, message).await[0]["state"].clone()
}

#[tokio::test]
async fn a_phone_without_an_ack_gets_a_push_and_one_with_an_ack_gets_none() {
    let mut stand = VendorStand::start().await;
    let gateway = gateway(&stand, &[]).await;
    let mut admin = gateway.admin().await;
    phone_of(&gateway, "alice").await;
    phone_of(&gateway, "bob").await;
    let mut bob = gateway.connect("bob", IOS).await;
    let to_bob = admin.send(&notice("bob", "read at once")).await;
    bob.expect_push().await;
    bob.ack(1).await;
    bob.settle().await;
    let mut body = notice("alice", "read later");
    body["offlinePushInfo"] =
        json!({"title": "Task", "desc": "Due", "ex": "{}", "iOSPushSound": "bell"});
    let sent = admin.send(&body).await;
    let push = stand.expect_push().await;
    let expected = json!({
        "user_id": "alice",
        "devices": ["phone of alice"],
        "server_msg_id": sent.server_msg_id,
        "conversation_id": "sn_alice_openIM123456",
        "seq": 1,
        "title": "Task",
        "desc": "Due",
        "ex": "{}",
        "sound": "bell",
        "badge": 1,
    });
    assert_eq!(push, expected);
    eventually("the trace of a push", async || {
        state(&mut admin, &sent.server_msg_id).await == "sent"
    })
    .await;
    let fact = &traced(&mut admin, &sent.server_msg_id).await[0];
    assert_eq!(
        (&fact["class"], &fact["provider"]),
        (&json!("mobile"), &json!("http"))
    );
    assert_ne!(fact["vendorID"], "");
    assert!(!fact["device"].as_str().unwrap().contains("alice"));
    let fact = &traced(&mut admin, &to_bob.server_msg_id).await[0];
    assert_eq!(
        (&fact["state"], &fact["platform"]),
        (&json!("served"), &json!("IOS"))
    );
    assert!(stand.is_quiet());
}

#[tokio::test]
async fn the_ends_of_pushes_are_told_to_the_receiver_of_webhooks() {
    let mut stand = VendorStand::start().await;
    let receiver = Receiver::start().await;
    let url = format!("webhooks.url={}", receiver.url());
    let secret = format!("webhooks.secrets={SECRET_1}");
    let gateway = gateway(&stand, &[&url, &secret]).await;
    let mut admin = gateway.admin().await;
    phone_of(&gateway, "alice").await;
    stand.answer(StandAnswer::Status(400, "{}".into()));
    for (text, kind, key) in [
        ("refused", "push.failed", "reason"),
        ("taken", "push.sent", "id"),
    ] {
        let sent = admin.send(&notice("alice", text)).await;
        stand.expect_push().await;
        receiver
            .until("the end of a push", |receiver| {
                !receiver.once(kind).is_empty()
            })
            .await;
        let data = &receiver.once(kind)[0]["data"];
        assert_eq!(data["server_msg_id"], json!(sent.server_msg_id));
        assert_eq!(
            (&data["user_id"], &data["provider"]),
            (&json!("alice"), &json!("http"))
        );
        assert!(!data[key].as_str().unwrap().is_empty(), "{data}");
    }
}

#[tokio::test]
async fn a_phone_that_is_connected_and_silent_gets_a_push_at_the_deadline() {
    let mut stand = VendorStand::start().await;
    let gateway = gateway(&stand, &[]).await;
    let mut admin = gateway.admin().await;
    phone_of(&gateway, "alice").await;
    let mut phone = gateway.connect("alice", IOS).await;
    let mut desk = gateway.connect("alice", WINDOWS).await;
    let sent = admin.send(&notice("alice", "hello")).await;
    phone.expect_push().await;
    desk.expect_push().await;
    desk.ack(1).await;
    let push = stand.expect_push().await;
    assert_eq!(push["server_msg_id"], json!(sent.server_msg_id));
    assert_eq!(push["title"], "[Notice]");
    let mut unwanted = notice("alice", "not for phones");
    unwanted["notOfflinePush"] = json!(true);
    admin.send(&unwanted).await;
    let sent = admin.send(&notice("alice", "the last one")).await;
    let push = stand.expect_push().await;
    assert_eq!(push["server_msg_id"], json!(sent.server_msg_id));
}

#[tokio::test]
async fn a_kill_loses_no_push() {
    let mut stand = VendorStand::start().await;
    let mut gateway = gateway(&stand, &[]).await;
    let mut admin = gateway.admin().await;
    phone_of(&gateway, "alice").await;
    // Before the decision.
    let sent = admin.send(&notice("alice", "1")).await;
    gateway.kill();
    gateway.restart().await;
    let push = stand.expect_push().await;
    assert_eq!(push["server_msg_id"], json!(sent.server_msg_id));
    // Before the vendor's answer.
    eventually("the first push ends", async || {
        state(&mut admin, &sent.server_msg_id).await == "sent"
    })
    .await;
    stand.answer(StandAnswer::Never);
    let sent = admin.send(&notice("alice", "2")).await;
    assert_eq!(
        stand.expect_push().await["server_msg_id"],
        json!(sent.server_msg_id)
    );
    gateway.kill();
    gateway.restart().await;
    loop {
        // The first one may come again: its end may not have been durable.
        if stand.expect_push().await["server_msg_id"] == json!(sent.server_msg_id) {
            break;
        }
    }
}

#[tokio::test]
async fn a_device_that_is_gone_is_removed_and_one_that_was_busy_is_tried_again() {
    let mut stand = VendorStand::start().await;
    let gateway = gateway(&stand, &[]).await;
    let mut admin = gateway.admin().await;
    phone_of(&gateway, "alice").await;
    stand.answer(StandAnswer::Status(503, String::new()));
    let sent = admin.send(&notice("alice", "busy")).await;
    for _ in 0..2 {
        let push = stand.expect_push().await;
        assert_eq!(push["server_msg_id"], json!(sent.server_msg_id));
    }
    let gone = json!({"gone": ["phone of alice"]}).to_string();
    stand.answer(StandAnswer::Status(410, gone));
    let sent = admin.send(&notice("alice", "gone")).await;
    stand.expect_push().await;
    eventually("the push ends", async || {
        state(&mut admin, &sent.server_msg_id).await == "gone"
    })
    .await;
    let sent = admin.send(&notice("alice", "to nobody")).await;
    phone_of(&gateway, "bob").await;
    let to_bob = admin.send(&notice("bob", "the next one")).await;
    let push = stand.expect_push().await;
    assert_eq!(push["server_msg_id"], json!(to_bob.server_msg_id));
    assert_eq!(traced(&mut admin, &sent.server_msg_id).await, json!([]));
}

#[tokio::test]
async fn a_vendor_that_never_answers_delays_no_other() {
    let mut stand = VendorStand::start().await;
    // Accepts, and reads nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("push.jpush.url=http://{}", silent.local_addr().unwrap());
    let keys = ["push.jpush.app_key=k", "push.jpush.master_secret=s", &url];
    let gateway = gateway(&stand, &keys).await;
    let mut admin = gateway.admin().await;
    phone_of(&gateway, "alice").await;
    for number in 0..30 {
        let sent = admin.send(&notice("alice", &number.to_string())).await;
        let push = stand.expect_push().await;
        assert_eq!(push["server_msg_id"], json!(sent.server_msg_id));
    }
    let metrics = admin.get("/metrics").await.text;
    assert!(
        metrics.contains("towncrier_push_tasks{provider=\"jpush\"} 30"),
        "{metrics}"
    );
    for line in ["master_secret", "whsec_"] {
        assert!(
            !gateway.said().contains(line),
            "no secret is in the stderr log"
        );
    }
}

#[tokio::test]
async fn without_a_vendor_there_is_no_push_and_no_row() {
    let gateway = Gateway::start(&[]).await;
    let mut admin = gateway.admin().await;
    let sent = admin.send(&notice("alice", "hello")).await;
    assert_eq!(traced(&mut admin, &sent.server_msg_id).await, Value::Null);
    let metrics = admin.get("/metrics").await.text;
    assert!(!metrics.contains("provider=\"http\""), "{metrics}");
}
