//! Sends to many users, and to all.

use serde_json::{Value, json};

use super::{Fault, Gateway, NOW_MS, admin_config, text_send, with, without};
use crate::log::AppendError;

/// A text for these users.
fn batch_send(receivers: Value) -> Value {
    with(without(text_send(), "recvID"), "recvIDList", receivers)
}

async fn status(gateway: &Gateway) -> Value {
    let reply = gateway
        .post(
            "/msg/check_msg_is_send_success",
            &json!({ "operationID": "op" }),
        )
        .await;
    reply.json()["status"].clone()
}

#[tokio::test]
async fn a_batch_is_one_append_and_answers_for_each_receiver() {
    for path in ["/manager/batch_send_msg", "/msg/batch_send_msg"] {
        let gateway = Gateway::new();
        let data = gateway
            .post(path, &batch_send(json!(["u1", "u2", "u3"])))
            .await
            .data();
        let results = data["resultList"].as_array().unwrap();
        let receivers: Vec<_> = results
            .iter()
            .map(|result| result["recvID"].as_str().unwrap())
            .collect();
        assert_eq!(receivers, ["u1", "u2", "u3"]);
        for result in results {
            assert_eq!(result["serverMsgID"], results[0]["serverMsgID"]);
            assert_eq!(result["clientMsgID"], results[0]["clientMsgID"]);
            assert_eq!(result["sendTime"], NOW_MS);
        }
        assert_eq!(data["FailedIDList"], json!([]));
        assert_eq!(gateway.appended(), 1);
        assert_eq!(status(&gateway).await, 2);
    }
}

#[tokio::test]
async fn repeated_receivers_count_once_and_bad_ids_fail_alone() {
    let gateway = Gateway::new();
    let long = "x".repeat(65);
    let list = json!(["u1", "u2", "u1", "", long, "a\nb", "u2", "", null]);
    let data = gateway
        .post("/manager/batch_send_msg", &batch_send(list))
        .await
        .data();
    let receivers: Vec<_> = gateway.log.rows().appends[0]
        .receivers
        .iter()
        .map(|user| user.to_string())
        .collect();
    assert_eq!(receivers, ["u1", "u2"]);
    assert_eq!(data["resultList"].as_array().unwrap().len(), 2);
    assert_eq!(data["FailedIDList"], json!(["", long, "a\nb"]));
    assert_eq!(status(&gateway).await, 3);
}

#[tokio::test]
async fn a_batch_of_bad_ids_only_is_answered_and_sends_nothing() {
    let gateway = Gateway::new();
    let data = gateway
        .post("/manager/batch_send_msg", &batch_send(json!(["", "\u{1}"])))
        .await
        .data();
    assert_eq!(
        data,
        json!({ "resultList": [], "FailedIDList": ["", "\u{1}"] })
    );
    assert_eq!(gateway.appended(), 0);
    assert_eq!(status(&gateway).await, 3);
}

#[tokio::test]
async fn a_batch_to_nobody_is_405() {
    let gateway = Gateway::new();
    let sentence = "recvIDList is empty and isSendAll is not set";
    for body in [
        batch_send(json!([])),
        batch_send(json!(null)),
        without(batch_send(json!([])), "recvIDList"),
    ] {
        gateway
            .post("/manager/batch_send_msg", &body)
            .await
            .assert_refused(400, 405, sentence);
    }
    for wrong in [json!("u1"), json!([1]), json!({})] {
        let reply = gateway
            .post("/manager/batch_send_msg", &batch_send(wrong))
            .await;
        assert_eq!(reply.verdict(), (400, 400));
    }
}

#[tokio::test]
async fn more_receivers_than_allowed_are_refused_and_repeats_do_not_count() {
    let gateway = Gateway::new();
    let users = |count: usize| -> Vec<_> { (0..count).map(|user| format!("u{user}")).collect() };
    let twice = [users(10), users(10)].concat();
    gateway
        .post("/manager/batch_send_msg", &batch_send(json!(twice)))
        .await
        .data();
    let reply = gateway
        .post("/manager/batch_send_msg", &batch_send(json!(users(11))))
        .await;
    reply.assert_refused(400, 400, "recvIDList holds 11, at most 10 are allowed");
    assert_eq!(gateway.appended(), 1);
}

#[tokio::test]
async fn groups_need_their_id_and_are_one_conversation() {
    let gateway = Gateway::new();
    for session_type in [2, 3] {
        let body = with(
            batch_send(json!(["u1", "u2"])),
            "sessionType",
            json!(session_type),
        );
        let reply = gateway.post("/manager/batch_send_msg", &body).await;
        assert_eq!(
            (reply.status.as_u16(), reply.body.as_str()),
            (
                400,
                r#"{"errCode":405,"errMsg":"groupID is a null string","sendTime":0,"MsgID":""}"#
            )
        );
        gateway
            .post(
                "/manager/batch_send_msg",
                &with(body, "groupID", json!("g1")),
            )
            .await
            .data();
        let body = gateway.log.rows().appends.last().unwrap().body.clone();
        let conversation_id = crate::message::Origin::of(&body).conversation_id("u1");
        assert_eq!(conversation_id, "sg_g1");
    }
    for session_type in [5, -1, 99] {
        let body = with(
            batch_send(json!(["u1"])),
            "sessionType",
            json!(session_type),
        );
        assert_eq!(
            gateway
                .post("/manager/batch_send_msg", &body)
                .await
                .verdict(),
            (400, 203)
        );
    }
}

/// A gateway that lists up to `batch_max` receivers and knows this many users, and the users.
fn with_users(batch_max: usize, users: usize) -> (Gateway, Vec<String>) {
    let gateway = Gateway::with(&crate::config::Admin {
        batch_max,
        ..admin_config()
    });
    let users: Vec<_> = (0..users).map(|user| format!("user{user:04}")).collect();
    for user in &users {
        let profile = bytes::Bytes::from_static(b"{}");
        gateway
            .log
            .rows()
            .profiles
            .insert(crate::ids::UserId::new(user).unwrap(), profile);
    }
    (gateway, users)
}

#[tokio::test]
async fn a_send_to_more_users_than_a_batch_may_name_answers_with_their_number() {
    let (gateway, _) = with_users(1499, 1500);
    let body = with(batch_send(json!([])), "isSendAll", json!(true));
    let data = gateway.post("/msg/batch_send_msg", &body).await.data();
    assert_eq!(data["resultList"], json!([]));
    assert_eq!(data["FailedIDList"], json!([]));
    assert_eq!(data["receiversTotal"], 1500);
    assert_eq!(data["sendTime"], NOW_MS);
    let id = data["serverMsgID"].as_str().unwrap();
    assert_eq!(data["clientMsgID"], id);
    let trace = json!({ "operationID": "op", "serverMsgID": id, "offset": 1498, "limit": 5 });
    let traced = gateway.post("/msg/trace", &trace).await.data();
    assert_eq!(traced["receiversTotal"], 1500);
    assert_eq!(traced["receivers"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn send_all_reaches_every_known_user_in_pieces() {
    let (gateway, users) = with_users(1500, 1500);
    let body = with(batch_send(json!([])), "isSendAll", json!(true));
    let data = gateway.post("/msg/batch_send_msg", &body).await.data();
    let results = data["resultList"].as_array().unwrap();
    let receivers: Vec<_> = results
        .iter()
        .map(|result| result["recvID"].as_str().unwrap())
        .collect();
    assert_eq!(receivers, users);
    assert_eq!(data["FailedIDList"], json!([]));
}

#[tokio::test]
async fn a_repeated_batch_returns_the_first_result_whatever_the_order_of_receivers() {
    let gateway = Gateway::new();
    let keyed = |receivers: Value| with(batch_send(receivers), "clientMsgID", json!("b1"));
    let first = gateway
        .post("/manager/batch_send_msg", &keyed(json!(["u1", "u2"])))
        .await
        .data();
    assert_eq!(first["resultList"][1]["clientMsgID"], "b1");
    let second = gateway
        .post("/manager/batch_send_msg", &keyed(json!(["u2", "u1", "u2"])))
        .await
        .data();
    assert_eq!(first, second);
    for other in [
        keyed(json!(["u1"])),
        keyed(json!(["u1", "u2", "u3"])),
        with(keyed(json!([])), "isSendAll", json!(true)),
    ] {
        assert_eq!(
            gateway
                .post("/manager/batch_send_msg", &other)
                .await
                .verdict(),
            (409, 409)
        );
    }
    assert_eq!(gateway.appended(), 1);
}

#[tokio::test]
async fn a_refused_batch_is_refused_whole() {
    let gateway = Gateway::new();
    gateway.log.fail(Fault::Refuse(AppendError::QueueFull));
    let reply = gateway
        .post("/manager/batch_send_msg", &batch_send(json!(["u1", "u2"])))
        .await;
    assert_eq!(reply.verdict(), (429, 429));
    assert_eq!(status(&gateway).await, 3);
}

#[tokio::test]
async fn receivers_named_in_two_ways_are_refused() {
    let gateway = Gateway::new();
    let listed = batch_send(json!(["u1"]));
    let everyone = with(without(text_send(), "recvID"), "isSendAll", json!(true));
    let named = |body: &Value| with(body.clone(), "recvID", json!("u2"));
    let recv_id = "recvID is for send_msg: give recvIDList, or isSendAll";
    for (body, sentence) in [
        (
            with(listed.clone(), "isSendAll", json!(true)),
            "isSendAll and recvIDList exclude each other: give one",
        ),
        (named(&listed), recv_id),
        (named(&everyone), recv_id),
    ] {
        let reply = gateway.post("/manager/batch_send_msg", &body).await;
        reply.assert_refused(400, 400, sentence);
    }
    for body in [named(&listed), named(&everyone)] {
        gateway.send(&body).await.assert_refused(
            400,
            400,
            "send_msg reaches recvID alone: recvIDList and isSendAll are for batch_send_msg",
        );
    }
    assert_eq!(gateway.appended(), 0);
    let empty = with(text_send(), "recvIDList", json!([]));
    gateway.send(&empty).await.data();
}
