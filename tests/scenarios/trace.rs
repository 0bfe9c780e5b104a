//! The trace of a message: pending, sent, acked, for each session, with times.

use serde_json::{Value, json};

use crate::support::{ADMIN, Gateway, IOS, WEB, admin::Admin, notice};

async fn trace(admin: &mut Admin, lookup: Value) -> Value {
    let answer = admin.post("/msg/trace", &lookup).await;
    assert_eq!(answer.code(), 0, "{answer:?}");
    answer.json()["data"].clone()
}

#[tokio::test]
async fn a_message_is_pending_then_sent_then_acked() {
    let gateway = Gateway::start(&[]).await;
    let mut admin = gateway.admin().await;
    let sent = admin.send(&notice("alice", "where?")).await;
    let lookup = json!({"serverMsgID": sent.server_msg_id});
    let traced = trace(&mut admin, lookup.clone()).await;
    assert_eq!(traced["clientMsgID"], json!(sent.client_msg_id));
    assert_eq!(traced["sendTime"], json!(sent.send_time));
    assert_eq!(traced["sendID"], ADMIN);
    let receiver = &traced["receivers"][0];
    assert_eq!(
        (&receiver["userID"], &receiver["seq"]),
        (&json!("alice"), &json!(1))
    );
    assert_eq!(receiver["state"], "pending");

    let mut web = gateway.connect("alice", WEB).await;
    web.expect_push().await;
    let receiver = &trace(&mut admin, lookup.clone()).await["receivers"][0];
    assert_eq!(receiver["state"], "sent");
    assert_eq!(receiver["sessions"][0]["platform"], "Web");
    assert!(receiver["sessions"][0]["sentTime"].as_u64() >= Some(sent.send_time));
    assert_eq!(receiver["sessions"][0]["ackedTime"], Value::Null);

    web.ack(1).await;
    web.settle().await;
    let receiver = &trace(&mut admin, lookup).await["receivers"][0];
    assert_eq!(receiver["state"], "acked");
    assert!(receiver["sessions"][0]["ackedTime"].as_u64() >= Some(sent.send_time));
}

#[tokio::test]
async fn a_batch_is_traced_by_its_key_and_receiver_by_receiver() {
    let gateway = Gateway::start(&[]).await;
    let mut admin = gateway.admin().await;
    let mut phone = gateway.connect("carol", IOS).await;
    let mut batch = notice("", "to three");
    batch["recvIDList"] = json!(["alice", "bob", "carol"]);
    batch["clientMsgID"] = "batch-1".into();
    assert_eq!(
        admin.post("/manager/batch_send_msg", &batch).await.code(),
        0
    );
    phone.expect_push().await;
    phone.ack(1).await;
    phone.settle().await;

    let key = json!({"sendID": ADMIN, "clientMsgID": "batch-1"});
    let traced = trace(&mut admin, key.clone()).await;
    assert_eq!(traced["receivers"].as_array().unwrap().len(), 3);
    let mut paged = key.clone();
    paged["offset"] = 1.into();
    paged["limit"] = 1.into();
    assert_eq!(
        trace(&mut admin, paged).await["receivers"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let mut one = key;
    one["userID"] = "carol".into();
    let traced = trace(&mut admin, one).await;
    assert_eq!(traced["receivers"].as_array().unwrap().len(), 1);
    assert_eq!(traced["receivers"][0]["state"], "acked");
}

#[tokio::test]
async fn an_unknown_message_is_not_found() {
    let gateway = Gateway::start(&[]).await;
    let mut admin = gateway.admin().await;
    let unknown = json!({"serverMsgID": "0".repeat(32)});
    let answer = admin.post("/msg/trace", &unknown).await;
    assert_eq!((answer.status, answer.code()), (404, 404));
}
