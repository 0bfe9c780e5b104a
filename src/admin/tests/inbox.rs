//! A user's log over HTTP.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::{ADMIN, Fault, Gateway, NOW_MS, text_send, with, without};
use crate::{
    admin::{inbox::SEQS_MAX, pull::PULLED_BYTES_MAX},
    log::{Cause, LogError},
};

fn newest_seq() -> Value {
    json!({ "operationID": "op", "reqIdentifier": 1001, "msgIncr": 9, "sendID": "u1" })
}

fn pull(seqs: Value) -> Value {
    json!({ "operationID": "op", "reqIdentifier": 1002, "sendID": "u1", "seqList": seqs })
}

fn delete(seqs: Value) -> Value {
    json!({ "operationID": "op", "userID": "u1", "seqList": seqs })
}

async fn gateway_with(messages: usize) -> Gateway {
    let gateway = Gateway::new();
    for number in 1..=messages {
        gateway
            .send(&with(
                text_send(),
                "content",
                json!({ "text": format!("m{number}") }),
            ))
            .await
            .data();
    }
    gateway
}

fn seqs(reply: &super::Reply) -> Vec<u64> {
    reply
        .data()
        .as_array()
        .unwrap()
        .iter()
        .map(|message| message["seq"].as_u64().unwrap())
        .collect()
}

#[tokio::test]
async fn newest_seq_gives_the_bounds_and_echoes() {
    let gateway = gateway_with(3).await;
    let reply = gateway
        .post_as("u1", "/msg/newest_seq", &newest_seq())
        .await;
    let expected = r#"{"errCode":0,"errMsg":"","msgIncr":9,"reqIdentifier":1001,"data":{"maxSeq":3,"minSeq":1}}"#;
    assert_eq!(reply.body, expected);
    let unknown = with(newest_seq(), "sendID", json!("nobody"));
    let data = gateway.post("/msg/newest_seq", &unknown).await.data();
    assert_eq!(data, json!({ "maxSeq": 0, "minSeq": 1 }));
}

#[tokio::test]
async fn an_inbox_is_its_users_and_the_administrators() {
    let gateway = gateway_with(1).await;
    for (path, body) in [
        ("/msg/newest_seq", newest_seq()),
        ("/msg/pull_msg_by_seq", pull(json!([1]))),
        ("/msg/del_msg", delete(json!([9]))),
    ] {
        gateway
            .post_as("u2", path, &body)
            .await
            .assert_refused(400, 400, "not authorized");
        gateway
            .post_open(path, &body)
            .await
            .assert_refused(400, 400, "parse token failed");
        gateway.post_as("u1", path, &body).await.data();
        gateway.post_as(ADMIN, path, &body).await.data();
        let fields: Vec<_> = body
            .as_object()
            .unwrap()
            .keys()
            .filter(|field| *field != "seqList")
            .cloned()
            .collect();
        for field in fields {
            let sentence = format!("{field} is required");
            gateway
                .post(path, &without(body.clone(), &field))
                .await
                .assert_refused(400, 400, &sentence);
        }
    }
}

#[tokio::test]
async fn messages_are_pulled_by_their_places() {
    let gateway = gateway_with(6).await;
    let reply = gateway
        .post_as(
            "u1",
            "/msg/pull_msg_by_seq",
            &pull(json!([5, 2, 1, 6, 2, 99, u64::MAX])),
        )
        .await;
    assert_eq!(seqs(&reply), [1, 2, 5, 6]);
    assert_eq!(reply.json()["reqIdentifier"], 1002);
    let first = &reply.data()[0];
    assert_eq!(first["sendID"], "openIM123456");
    assert_eq!(first["recvID"], "u1");
    assert_eq!(first["sendTime"], NOW_MS);
    assert_eq!(
        (&first["contentType"], &first["sessionType"]),
        (&json!(101), &json!(1))
    );
    let content = BASE64_STANDARD
        .decode(first["content"].as_str().unwrap())
        .unwrap();
    assert_eq!(content, br#"{"text":"m1"}"#);
    for nothing in [json!([]), json!(null), json!([7])] {
        assert_eq!(
            gateway
                .post_as("u1", "/msg/pull_msg_by_seq", &pull(nothing))
                .await
                .data(),
            json!([])
        );
    }
}

#[tokio::test]
async fn pulls_are_bounded_and_never_cut_short() {
    let gateway = gateway_with(1).await;
    let seqs_max = SEQS_MAX as u64;
    let many: Vec<u64> = (1..=seqs_max).collect();
    gateway
        .post_as("u1", "/msg/pull_msg_by_seq", &pull(json!(many)))
        .await
        .data();
    let more: Vec<u64> = (1..=seqs_max + 1).collect();
    let sentence = "seqList holds 501, at most 500 are allowed";
    gateway
        .post_as("u1", "/msg/pull_msg_by_seq", &pull(json!(more)))
        .await
        .assert_refused(400, 400, sentence);
    for wrong in [
        json!([0]),
        json!([-1]),
        json!(["1"]),
        json!([1.5]),
        json!(1),
    ] {
        let reply = gateway
            .post_as("u1", "/msg/pull_msg_by_seq", &pull(wrong))
            .await;
        assert_eq!(reply.verdict(), (400, 400));
    }
    let large = with(
        text_send(),
        "content",
        json!({ "text": "x".repeat(48_000) }),
    );
    for _ in 0..180 {
        gateway.send(&large).await.data();
    }
    // A message is its text and some hundred bytes.
    let fitting = PULLED_BYTES_MAX as u64 / 50_000;
    let fits: Vec<u64> = (2..2 + fitting).collect();
    let reply = gateway
        .post_as("u1", "/msg/pull_msg_by_seq", &pull(json!(fits)))
        .await;
    assert_eq!(seqs(&reply), fits);
    let too_much: Vec<u64> = (2..=180).collect();
    let reply = gateway
        .post_as("u1", "/msg/pull_msg_by_seq", &pull(json!(too_much)))
        .await;
    assert_eq!(reply.verdict(), (413, 413));
}

#[tokio::test]
async fn deleted_messages_are_left_out() {
    let gateway = gateway_with(4).await;
    gateway
        .post_as("u1", "/msg/del_msg", &delete(json!([2, 4])))
        .await
        .data();
    let reply = gateway
        .post_as("u1", "/msg/pull_msg_by_seq", &pull(json!([1, 2, 3, 4])))
        .await;
    assert_eq!(seqs(&reply), [1, 3]);
    gateway
        .post("/msg/del_msg", &delete(json!([])))
        .await
        .assert_refused(400, 400, "seqList is required");
    gateway
        .post("/msg/del_msg", &delete(json!([0])))
        .await
        .assert_refused(400, 400, "seqList: seqs count from 1");
}

#[tokio::test]
async fn a_log_that_cannot_be_read_is_503_and_not_an_empty_answer() {
    for (cause, code) in [
        (Cause::Damaged, 50303),
        (Cause::LookupFailed, 50306),
        (Cause::ReadFailed, 50307),
    ] {
        let gateway = gateway_with(1).await;
        gateway.log.fail(Fault::Read(LogError::new(cause, "why")));
        let reply = gateway
            .post("/msg/pull_msg_by_seq", &pull(json!([1])))
            .await;
        assert_eq!(reply.verdict(), (503, code));
        assert!(reply.header("retry-after").is_some());
    }
}
