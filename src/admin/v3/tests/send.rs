//! Sends to one user, to many and to all, and the notices of an app.

use axum::http::Request;
use serde_json::{Value, json};

use super::{ADMIN, Gateway, text_v3, with, without};
use crate::{
    admin::tests::NOW_MS,
    message::{Origin, StoredMessage},
};

fn notice(sender: &str) -> Value {
    json!({
        "sendID": sender,
        "recvID": "u1",
        "senderNickname": "News",
        "senderFaceURL": "http://face",
        "senderPlatformID": 2,
        "content": { "notificationName": "News", "notificationType": 1, "text": "t", "mixType": 0 },
        "contentType": 1400,
        "sessionType": 1,
        "sendTime": 1_700_000_000_000_u64,
        "offlinePushInfo": { "title": "T", "desc": "D", "iOSBadgeCount": true },
        "ex": "e",
    })
}

#[tokio::test]
async fn a_send_is_stored_as_v2s_is() {
    let gateway = Gateway::new();
    gateway.register_both().await;
    let data = gateway.v3("/msg/send_msg", &notice("n1")).await.data_v3();
    assert_eq!(data["sendTime"], NOW_MS);
    assert_eq!(data["clientMsgID"], data["serverMsgID"]);
    let append = gateway.log.rows().appends[0].clone();
    let message = StoredMessage::from_bytes(&append.body);
    assert_eq!((message.session_type, message.content_type), (4, 1400));
    assert_eq!(message.create_time, 1_700_000_000_000);
    assert_eq!(message.send_time, NOW_MS as i64);
    assert_eq!(message.sender_nickname, "News");
    assert_eq!(message.sender_platform_id, 2);
    assert_eq!(message.ex, "e");
    assert!(message.offline_push.unwrap().ios_badge_count);
    let conversation = Origin::of(&append.body).conversation_id("u1");
    assert_eq!(conversation, "sn_n1_u1");
}

#[tokio::test]
async fn only_notification_accounts_and_administrators_send_notifications() {
    let gateway = Gateway::new();
    gateway.register_both().await;
    for sender in ["u1", "nobody"] {
        let reply = gateway.v3("/msg/send_msg", &notice(sender)).await;
        reply.refused_v3(1101, "UserIDNotFoundError");
    }
    assert_eq!(gateway.appended(), 0);
    for sender in ["n1", ADMIN] {
        gateway.v3("/msg/send_msg", &notice(sender)).await.data_v3();
    }
}

#[tokio::test]
async fn a_repeat_with_a_key_is_the_first_send_in_either_version() {
    let gateway = Gateway::new();
    let send = with(text_v3(), "clientMsgID", json!("k1"));
    let first = gateway.v3("/msg/send_msg", &send).await.data_v3();
    let again = gateway.v3("/msg/send_msg", &send).await.data_v3();
    assert_eq!(first, again);
    let v2 = json!({ "operationID": "op", "sendID": ADMIN, "recvID": "u1", "content": { "text": "hello" },
        "contentType": 101, "sessionType": 1, "clientMsgID": "k1" });
    let v2 = v2.to_string().replace(": ", ":");
    let reply = gateway.post_text("/manager/send_msg", ADMIN, v2).await;
    assert_eq!(reply.data(), first);
    let other = with(send, "content", json!({ "content": "other" }));
    let reply = gateway.v3("/msg/send_msg", &other).await;
    reply.refused_v3(1003, "DuplicateKeyError");
    let request = Request::post("/msg/send_msg")
        .header("operationID", "op2")
        .header("token", gateway.token(ADMIN))
        .header("Idempotency-Key", "k1");
    let reply = gateway.ask(request.body(text_v3().to_string().into()).unwrap());
    assert_eq!(reply.await.data_v3(), first);
    let status = json!({ "operationID": "op2" });
    let reply = gateway.post("/msg/check_msg_is_send_success", &status);
    assert_eq!(reply.await.json()["status"], 2);
}

#[tokio::test]
async fn the_checks_of_a_send_are_v2s() {
    let gateway = Gateway::new();
    for wrong in [
        with(text_v3(), "sessionType", json!(2)),
        with(text_v3(), "sessionType", json!(3)),
        with(text_v3(), "sessionType", json!(5)),
        with(text_v3(), "sendID", json!("x".repeat(65))),
        with(text_v3(), "recvID", json!("a\nb")),
        with(text_v3(), "sendTime", json!(-1)),
        with(text_v3(), "sendTime", json!(253_402_300_800_000_u64)),
        with(text_v3(), "senderPlatformID", json!(12)),
        with(text_v3(), "isOnlineOnly", json!("yes")),
        with(text_v3(), "ex", json!("x".repeat(64 * 1024))),
        with(
            text_v3(),
            "content",
            json!({ "content": "x".repeat(100 * 1024) }),
        ),
        with(text_v3(), "isSendAll", json!(true)),
        with(text_v3(), "recvIDs", json!(["u2"])),
        with(text_v3(), "clientMsgID", json!("x".repeat(65))),
    ] {
        let reply = gateway.v3("/msg/send_msg", &wrong).await;
        let sentence = reply.refused_v3(1001, "ArgsError");
        assert!(!sentence.contains("recvIDList"), "{sentence}");
    }
    assert_eq!(gateway.appended(), 0);
}

#[tokio::test]
async fn a_batch_reaches_each_receiver_once_and_names_those_that_failed() {
    let gateway = Gateway::new();
    let batch = without(text_v3(), "recvID");
    let some = with(batch.clone(), "recvIDs", json!(["u1", "u2", "u1", "a\nb"]));
    let data = gateway.v3("/msg/batch_send_msg", &some).await.data_v3();
    assert_eq!(data["failedUserIDs"], json!(["a\nb"]));
    let results = data["results"].as_array().unwrap();
    let receivers: Vec<_> = results.iter().map(|result| &result["recvID"]).collect();
    assert_eq!(receivers, ["u1", "u2"]);
    assert_eq!(results[0]["sendTime"], NOW_MS);
    assert_eq!(gateway.appended(), 1);

    let nobody = with(batch.clone(), "recvIDs", json!(["a\nb"]));
    let data = gateway.v3("/msg/batch_send_msg", &nobody).await.data_v3();
    assert_eq!(data, json!({ "results": [], "failedUserIDs": ["a\nb"] }));

    let all = with(batch.clone(), "isSendAll", json!(true));
    let data = gateway.v3("/msg/batch_send_msg", &all).await.data_v3();
    assert_eq!(data["results"].as_array().unwrap().len(), 2);

    let many: Vec<_> = (0..11).map(|n| n.to_string()).collect();
    for wrong in [
        with(batch.clone(), "recvIDs", json!([])),
        with(batch.clone(), "recvIDs", json!(many)),
        with(all, "recvIDs", json!(["u1"])),
        with(
            with(batch.clone(), "recvIDs", json!(["u1"])),
            "sessionType",
            json!(3),
        ),
        with(with(batch, "recvIDs", json!(["u1"])), "recvID", json!("u1")),
    ] {
        let reply = gateway.v3("/msg/batch_send_msg", &wrong).await;
        let sentence = reply.refused_v3(1001, "ArgsError");
        assert!(!sentence.contains("recvIDList"), "{sentence}");
    }
}

#[tokio::test]
async fn what_is_for_users_online_is_not_stored() {
    let gateway = Gateway::new();
    let online = with(text_v3(), "isOnlineOnly", json!(true));
    gateway.v3("/msg/send_msg", &online).await.data_v3();
    let business = json!({ "key": "k", "data": "{}", "sendUserID": "s", "recvUserID": "u1" });
    let path = "/msg/send_business_notification";
    gateway.v3(path, &business).await.data_v3();
    assert_eq!(gateway.appended(), 0);
    for (field, wrong) in [("recvUserID", "a\nb"), ("sendUserID", "")] {
        let wrong = with(business.clone(), field, json!(wrong));
        gateway.v3(path, &wrong).await.refused_v3(1001, "ArgsError");
    }
}
