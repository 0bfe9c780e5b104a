//! The trace of a message.

use serde_json::json;

use super::{Gateway, NOW_MS, UNKNOWN, text_send, with, without};
use crate::{
    ids::{Platform, Seq, SessionKey, UserId},
    log::SessionRow,
};

#[tokio::test]
async fn a_message_is_traced_by_its_id_and_by_its_key() {
    let gateway = Gateway::new();
    let key = SessionKey {
        user: UserId::new("u1").unwrap(),
        platform: Platform::Web,
        device: "d1".into(),
    };
    let row = SessionRow {
        cursor: Seq(1),
        acked_at_ms: NOW_MS + 5,
    };
    let sent = gateway
        .send(&with(text_send(), "clientMsgID", json!("c1")))
        .await
        .data();
    gateway.log.rows().sessions.insert(key, row);
    for lookup in [
        json!({ "serverMsgID": sent["serverMsgID"] }),
        json!({ "sendID": "openIM123456", "clientMsgID": "c1" }),
        json!({ "serverMsgID": sent["serverMsgID"], "sendID": "openIM123456", "clientMsgID": "c1" }),
        json!({ "sendID": "openIM123456", "clientMsgID": "c1", "userID": "u1", "operationID": "op" }),
    ] {
        let data = gateway.post("/msg/trace", &lookup).await.data();
        assert_eq!(data["serverMsgID"], sent["serverMsgID"]);
        assert_eq!(data["clientMsgID"], "c1");
        assert_eq!(data["sendID"], "openIM123456");
        assert_eq!(data["sendTime"], NOW_MS);
        assert_eq!(data["receiversTotal"], 1);
        let [receiver] = &data["receivers"].as_array().unwrap()[..] else {
            panic!("{data}")
        };
        assert_eq!(
            (&receiver["userID"], &receiver["seq"]),
            (&json!("u1"), &json!(1))
        );
        assert_eq!(receiver["state"], "acked");
        let session = &receiver["sessions"][0];
        assert_eq!(
            (&session["platform"], &session["deviceID"]),
            (&json!("Web"), &json!("d1"))
        );
        assert_eq!(
            (&session["state"], &session["ackedTime"]),
            (&json!("acked"), &json!(NOW_MS + 5))
        );
    }
}

#[tokio::test]
async fn receivers_are_paged() {
    let gateway = Gateway::new();
    let users = ["u0", "u1", "u2", "u3", "u4"];
    let batch = with(without(text_send(), "recvID"), "recvIDList", json!(users));
    let sent = gateway.post("/manager/batch_send_msg", &batch).await.data();
    let id = sent["resultList"][0]["serverMsgID"].clone();
    let page = async |offset: u64, limit: u64| {
        let body = json!({ "serverMsgID": id, "offset": offset, "limit": limit });
        let data = gateway.post("/msg/trace", &body).await.data();
        assert_eq!(data["receiversTotal"], 5);
        let names = data["receivers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|receiver| receiver["userID"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(page(0, 0).await, users, "0 means the default");
    assert_eq!(page(1, 2).await, ["u1", "u2"]);
    assert_eq!(page(4, 1_000_000).await, ["u4"]);
    assert!(page(5, 2).await.is_empty());
    let one = gateway
        .post("/msg/trace", &json!({ "serverMsgID": id, "userID": "u3" }))
        .await
        .data();
    assert_eq!(one["receivers"][0]["userID"], "u3");
    assert_eq!(one["receiversTotal"], 1);
    let none = gateway
        .post("/msg/trace", &json!({ "serverMsgID": id, "userID": "u9" }))
        .await
        .data();
    assert_eq!(none["receivers"], json!([]));
    assert_eq!(none["receiversTotal"], 0);
}

#[tokio::test]
async fn what_cannot_be_traced_is_said() {
    let gateway = Gateway::new();
    let unknown = json!({ "serverMsgID": UNKNOWN.to_string() });
    gateway.post("/msg/trace", &unknown).await.assert_refused(
        404,
        404,
        "no such message is retained",
    );
    for body in [
        json!({}),
        json!({ "serverMsgID": "018F" }),
        json!({ "serverMsgID": "Z".repeat(32) }),
        json!({ "sendID": "s" }),
        json!({ "clientMsgID": "c" }),
        json!({ "serverMsgID": UNKNOWN.to_string(), "offset": -1 }),
        json!({ "serverMsgID": UNKNOWN.to_string(), "userID": "x".repeat(65) }),
    ] {
        assert_eq!(
            gateway.post("/msg/trace", &body).await.verdict(),
            (400, 400),
            "{body}"
        );
    }
    gateway
        .post_as("u1", "/msg/trace", &unknown)
        .await
        .assert_refused(400, 400, "not authorized");
}

#[tokio::test]
async fn ids_of_two_messages_are_refused() {
    let gateway = Gateway::new();
    let send = async |key: &str| {
        let keyed = with(text_send(), "clientMsgID", json!(key));
        gateway.send(&keyed).await.data()["serverMsgID"].clone()
    };
    let (first, _second) = (send("c1").await, send("c2").await);
    for (field, of_another) in [
        ("clientMsgID", "c2"),
        ("clientMsgID", "c3"),
        ("sendID", "somebody else"),
    ] {
        let lookup = with(json!({ "serverMsgID": first }), field, json!(of_another));
        gateway.post("/msg/trace", &lookup).await.assert_refused(
            400,
            400,
            "serverMsgID is of a message with another sendID or clientMsgID",
        );
    }
}
