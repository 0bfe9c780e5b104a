//! Repeated sends with an idempotency key.

use axum::http::Request;
use serde_json::{Value, json};

use super::{ADMIN, Gateway, Reply, text_send, with, without};

#[tokio::test]
async fn a_repeat_with_its_key_returns_the_first_result() {
    let gateway = Gateway::new();
    let keyed = with(text_send(), "clientMsgID", json!("c1"));
    let first = gateway.send(&keyed).await.data();
    gateway.machine.advance(5_000);
    let repeats = [
        keyed.to_string(),
        with(keyed.clone(), "operationID", json!("another")).to_string(),
        // Keys in another order, spaces, and an escape for the same letter.
        r#"{ "sessionType":1, "contentType" : 101, "recvID":"\u00751","clientMsgID":"c1","content":{"text":"hello"},"sendID":"openIM123456","operationID":"op" }"#.into(),
    ];
    for repeat in repeats {
        for path in ["/manager/send_msg", "/msg/manage_send_msg"] {
            assert_eq!(
                gateway.post_text(path, ADMIN, repeat.clone()).await.data(),
                first,
                "{repeat}"
            );
        }
    }
    let as_batch = with(without(keyed, "recvID"), "recvIDList", json!(["u1"]));
    let batch = gateway.post("/msg/batch_send_msg", &as_batch).await.data();
    assert_eq!(batch["resultList"][0]["serverMsgID"], first["serverMsgID"]);
    assert_eq!(gateway.appended(), 1);
}

#[tokio::test]
async fn a_key_used_again_for_another_body_is_409() {
    let gateway = Gateway::new();
    let keyed = with(text_send(), "clientMsgID", json!("c1"));
    gateway.send(&keyed).await.data();
    for (field, other) in [
        ("recvID", json!("u2")),
        ("groupID", json!("g")),
        ("senderNickname", json!("n")),
        ("senderFaceURL", json!("f")),
        ("senderPlatformID", json!(1)),
        ("content", json!({ "text": "hellO" })),
        ("content", json!({ "text": "hello", "more": 1 })),
        ("sessionType", json!(4)),
        ("offlinePushInfo", json!({})),
        ("offlinePushInfo", json!({ "title": "t" })),
        ("offlinePushInfo", json!({ "desc": "t" })),
        ("ex", json!("e")),
    ] {
        let reply = gateway.send(&with(keyed.clone(), field, other)).await;
        reply.assert_refused(
            409,
            409,
            "this clientMsgID was used before with another body",
        );
    }
    let typed = with(
        with(keyed.clone(), "contentType", json!(110)),
        "content",
        json!({ "data": "d", "text": "hello" }),
    );
    assert_eq!(gateway.send(&typed).await.verdict(), (409, 409));
    gateway
        .send(&with(keyed, "sendID", json!("somebody else")))
        .await
        .data();
    assert_eq!(gateway.appended(), 2);
}

#[tokio::test]
async fn two_idempotency_key_headers_that_differ_are_refused() {
    let gateway = Gateway::new();
    for (other, verdict) in [("c1", (200, 0)), ("c2", (400, 400))] {
        let request = Request::post("/manager/send_msg")
            .header("token", gateway.token(ADMIN))
            .header("Idempotency-Key", "c1")
            .header("Idempotency-Key", other);
        let reply = gateway.ask(request.body(text_send().to_string().into()).unwrap());
        assert_eq!(reply.await.verdict(), verdict, "{other}");
    }
}

#[tokio::test]
async fn the_idempotency_key_header_is_the_client_msg_id() {
    let gateway = Gateway::new();
    let ask = async |key: &[u8], body: &Value| -> Reply {
        let request = Request::post("/manager/send_msg")
            .header("token", gateway.token(ADMIN))
            .header("Idempotency-Key", key);
        gateway
            .ask(request.body(body.to_string().into()).unwrap())
            .await
    };
    let keyed = with(text_send(), "clientMsgID", json!("c1"));
    let first = ask(b"c1", &text_send()).await.data();
    assert_eq!(first["clientMsgID"], "c1");
    assert_eq!(ask(b"c1", &keyed).await.data(), first);
    assert_eq!(gateway.send(&keyed).await.data(), first);
    // The header is a structured string, so its quotes do not belong to the key.
    for quoted in [r#""c1""#, r#""c1";a=1"#, r#""c\1""#] {
        assert_eq!(
            ask(quoted.as_bytes(), &keyed).await.data(),
            first,
            "{quoted}"
        );
    }
    ask(br#""""#, &text_send())
        .await
        .assert_refused(400, 400, "Idempotency-Key is empty");
    for other in [r#""c1"#, r#"c1""#, r#""c1"2"#] {
        ask(other.as_bytes(), &keyed).await.assert_refused(
            400,
            400,
            "clientMsgID and Idempotency-Key differ",
        );
    }
    ask(b"c2", &keyed)
        .await
        .assert_refused(400, 400, "clientMsgID and Idempotency-Key differ");
    ask(b"", &text_send())
        .await
        .assert_refused(400, 400, "Idempotency-Key is empty");
    ask(b"\xff", &text_send())
        .await
        .assert_refused(400, 400, "Idempotency-Key is not UTF-8");
    assert_eq!(
        ask("x".repeat(65).as_bytes(), &text_send()).await.verdict(),
        (400, 400)
    );
    assert_eq!(gateway.appended(), 1);
}

#[tokio::test]
async fn without_a_key_every_send_is_another_message() {
    let gateway = Gateway::new();
    let first = gateway.send(&text_send()).await.data();
    let second = gateway.send(&text_send()).await.data();
    assert_ne!(first["serverMsgID"], second["serverMsgID"]);
    assert!(!gateway.log.rows().appends[0].is_keyed);
    assert_eq!(gateway.appended(), 2);
}

#[tokio::test]
async fn a_key_means_nothing_to_what_is_not_stored() {
    let gateway = Gateway::new();
    let keyed = with(text_send(), "clientMsgID", json!("c1"));
    let online_only = with(keyed.clone(), "isOnlineOnly", json!(true));
    let other = with(online_only.clone(), "content", json!({ "text": "other" }));
    let first = gateway.send(&online_only).await.data();
    assert_eq!(first["clientMsgID"], "c1");
    let stored = gateway.send(&keyed).await.data();
    assert_ne!(stored["serverMsgID"], first["serverMsgID"]);
    for repeat in [online_only, other] {
        let sent = gateway.send(&repeat).await.data();
        assert_ne!(sent["serverMsgID"], first["serverMsgID"]);
        assert_ne!(sent["serverMsgID"], stored["serverMsgID"]);
    }
    assert_eq!(gateway.send(&keyed).await.data(), stored);
    assert_eq!(gateway.appended(), 1);
}
