//! Sends to one user.

use axum::http::Request;
use serde_json::{Value, json};

use super::{ADMIN, Gateway, NOW_MS, SECRET, SEED, text_send, with, without};
use crate::message::{Origin, StoredMessage};

/// The message of the only append, its receiver, and the conversation that it belongs to.
fn only_message(gateway: &Gateway) -> (StoredMessage, String, String) {
    let rows = gateway.log.rows();
    let [append] = &rows.appends[..] else {
        panic!("one append, not {}", rows.appends.len())
    };
    let [receiver] = &append.receivers[..] else {
        panic!("one receiver")
    };
    let receiver = receiver.to_string();
    let conversation_id = Origin::of(&append.body).conversation_id(&receiver);
    let message = StoredMessage::from_bytes(&append.body);
    (message, receiver, conversation_id)
}

#[tokio::test]
async fn the_seeds_sample_is_sent_under_both_spellings() {
    for path in ["/manager/send_msg", "/msg/manage_send_msg"] {
        let gateway = Gateway::new();
        let data = gateway.post_text(path, ADMIN, SEED).await.data();
        assert_eq!(data["sendTime"], NOW_MS);
        assert_eq!(data["serverMsgID"].as_str().unwrap().len(), 32);
        assert_eq!(data["clientMsgID"], data["serverMsgID"]);
        let (message, receiver, conversation_id) = only_message(&gateway);
        assert_eq!(message.send_id, "openIM123456");
        assert_eq!(receiver, "18712345678");
        assert_eq!(message.sender_platform_id, 2);
        assert_eq!(message.sender_nickname, "系统通知2");
        assert_eq!(message.sender_face_url, "http://www.head.com");
        assert_eq!((message.session_type, message.content_type), (4, 1400));
        assert_eq!(conversation_id, "sn_18712345678_openIM123456");
        assert_eq!(message.server_msg_id, data["serverMsgID"].as_str().unwrap());
        let push = message.offline_push.unwrap();
        assert_eq!(push.title, "admin revoke your message");
        assert_eq!(push.ios_push_sound, "default");
        assert!(!push.ios_badge_count);
    }
}

/// The sample of docs/server_doc in openimsdk/openim-docs, with the manual's own senderNickName.
#[tokio::test]
async fn the_request_of_openims_manual_arrives_with_its_senders_name() {
    const MANUAL: &str = r#"{
        "operationID": "1111111222", "sendID": "1111111222", "recvID": "1111111222", "senderNickName": "Zhang San",
        "senderFaceURL": "http://www.head.com", "forceList": ["122", "223"], "content": {"text": "nihao"},
        "contentType": 101, "sessionType": 1 }"#;
    let gateway = Gateway::new();
    for body in [MANUAL.to_owned(), format!("\u{feff}{MANUAL}")] {
        gateway
            .post_text("/manager/send_msg", ADMIN, body)
            .await
            .data();
    }
    let rows = gateway.log.rows();
    assert_eq!(rows.appends.len(), 2);
    for append in &rows.appends {
        let message = StoredMessage::from_bytes(&append.body);
        assert_eq!(message.sender_nickname, "Zhang San");
        assert_eq!(&message.content[..], br#"{"text": "nihao"}"#);
    }
}

#[tokio::test]
async fn the_answer_is_openims_to_the_letter() {
    let gateway = Gateway::new();
    let reply = gateway
        .send(&with(text_send(), "clientMsgID", json!("c1")))
        .await;
    let id = reply.json()["data"]["serverMsgID"]
        .as_str()
        .unwrap()
        .to_owned();
    let expected = format!(
        r#"{{"errCode":0,"errMsg":"","data":{{"serverMsgID":"{id}","clientMsgID":"c1","sendTime":{NOW_MS}}}}}"#
    );
    assert_eq!(reply.body, expected);
    assert_eq!(reply.header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn content_is_stored_byte_for_byte() {
    let gateway = Gateway::new();
    let content = "{ \"text\" :\t\"\\u00e9\\ud83d\\ude00 <&>\", \"zz\":1e2,\"aa\":[ 1.50, null ],\"deep\":{\"x\":{}} }";
    let body = format!(
        r#"{{"operationID":"op","sendID":"s","recvID":"u1","content":  {content}  ,"contentType":101,"sessionType":1}}"#
    );
    gateway
        .post_text("/manager/send_msg", ADMIN, body)
        .await
        .data();
    assert_eq!(only_message(&gateway).0.content, content.as_bytes());
}

#[tokio::test]
async fn the_token_is_checked_before_anything_else() {
    let gateway = Gateway::new();
    let refusal = r#"{"errCode":400,"errMsg":"parse token failed","sendTime":0,"MsgID":""}"#;
    let ask = async |token: Option<&str>| {
        let mut request = Request::post("/manager/send_msg");
        if let Some(token) = token {
            request = request.header("token", token);
        }
        gateway
            .ask(request.body("not even JSON".into()).unwrap())
            .await
    };
    let good = gateway.token(ADMIN);
    for token in [
        None,
        Some(""),
        Some("a.b.c"),
        Some(&good[1..]),
        Some(&format!("Bearer {good}")),
    ] {
        let reply = ask(token).await;
        assert_eq!(
            (reply.status.as_u16(), reply.body.as_str()),
            (400, refusal),
            "{token:?}"
        );
    }
    let reply = ask(Some(&gateway.token("u1"))).await;
    assert_eq!(reply.status, 400);
    assert_eq!(
        reply.body,
        r#"{"errCode":400,"errMsg":"not authorized","sendTime":0,"MsgID":""}"#
    );
    let hour_in_91_days = NOW_MS + 91 * 24 * 3_600_000;
    gateway.machine.advance(hour_in_91_days - NOW_MS);
    let reply = ask(Some(&good)).await;
    assert_eq!(reply.body, refusal, "expired");
}

#[tokio::test]
async fn the_sender_need_not_be_the_tokens_user() {
    let gateway = Gateway::new();
    gateway
        .send(&with(text_send(), "sendID", json!("hr-system")))
        .await
        .data();
    assert_eq!(only_message(&gateway).0.send_id, "hr-system");
}

#[tokio::test]
async fn required_fields_missing_null_empty_or_zero_are_named() {
    let gateway = Gateway::new();
    for (field, empty) in [
        ("operationID", json!("")),
        ("sendID", json!("")),
        ("content", json!(null)),
        ("contentType", json!(0)),
        ("sessionType", json!(0)),
    ] {
        let verb = match empty {
            Value::Number(_) => "must not be 0",
            _ => "is required",
        };
        for (body, verb) in [
            (without(text_send(), field), "is required"),
            (with(text_send(), field, json!(null)), "is required"),
            (with(text_send(), field, empty), verb),
        ] {
            let sentence = format!("{field} {verb}");
            gateway
                .send(&body)
                .await
                .assert_refused(400, 400, &sentence);
        }
    }
    assert_eq!(gateway.appended(), 0);
}

#[tokio::test]
async fn fields_of_the_wrong_type_or_range_are_refused() {
    let gateway = Gateway::new();
    for (field, wrong) in [
        ("operationID", json!(1)),
        ("sendID", json!(["a"])),
        ("recvID", json!(18_712_345_678_u64)),
        ("groupID", json!({})),
        ("clientMsgID", json!(7)),
        ("senderNickname", json!(true)),
        ("senderPlatformID", json!("2")),
        ("senderPlatformID", json!(2_147_483_648_u64)),
        ("senderPlatformID", json!(1.5)),
        ("senderPlatformID", json!(-1)),
        ("senderPlatformID", json!(12)),
        ("contentType", json!("101")),
        ("contentType", json!(99_999_999_999_u64)),
        ("sessionType", json!(1.0)),
        ("sessionType", json!(-2_147_483_649_i64)),
        ("isOnlineOnly", json!("true")),
        ("isOnlineOnly", json!(1)),
        ("offlinePushInfo", json!("title")),
        ("offlinePushInfo", json!({ "title": 1 })),
        ("offlinePushInfo", json!({ "iOSBadgeCount": "yes" })),
        ("content", json!("{\"text\":\"hello\"}")),
        ("content", json!([])),
        ("content", json!(5)),
    ] {
        let reply = gateway.send(&with(text_send(), field, wrong.clone())).await;
        assert_eq!(
            reply.verdict(),
            (400, 400),
            "{field} {wrong}: {}",
            reply.body
        );
    }
    assert_eq!(gateway.appended(), 0);
}

#[tokio::test]
async fn a_refusal_names_no_type_of_rust() {
    let gateway = Gateway::new();
    for (field, wrong, sentence) in [
        (
            "contentType",
            json!("101"),
            "invalid type: string \"101\", expected an integer",
        ),
        (
            "contentType",
            json!(1.5),
            "invalid type: floating point `1.5`, expected an integer",
        ),
        (
            "sessionType",
            json!(99_999_999_999_u64),
            "99999999999 is out of range",
        ),
        (
            "offlinePushInfo",
            json!("title"),
            "invalid type: string \"title\", expected an object",
        ),
        (
            "ex",
            json!(5),
            "invalid type: integer `5`, expected a string",
        ),
    ] {
        let reply = gateway.send(&with(text_send(), field, wrong)).await;
        let said = reply.json()["errMsg"].as_str().unwrap().to_owned();
        assert!(said.starts_with(&format!("{sentence} at line 1")), "{said}");
    }
    let unknown = with(text_send(), "senderPlatformID", json!(99));
    gateway.send(&unknown).await.assert_refused(
        400,
        400,
        "senderPlatformID is not a known platform",
    );
    let none = with(text_send(), "senderPlatformID", json!(0));
    gateway.send(&none).await.data();
}

/// The derive would fill the fields in order.
#[tokio::test]
async fn an_array_is_no_object() {
    let gateway = Gateway::new();
    let push = with(text_send(), "offlinePushInfo", json!(["title", "desc"]));
    for body in [json!(["op", "openIM123456", "u1"]), json!([]), push] {
        let reply = gateway.send(&body).await;
        assert_eq!(reply.verdict(), (400, 400), "{}", reply.body);
        assert!(reply.body.contains("expected an object"), "{}", reply.body);
    }
    let registered = json!([SECRET, 1, "u1", "op"]);
    for path in ["/auth/user_token", "/auth/user_register"] {
        let reply = gateway.post_open(path, &registered).await;
        assert_eq!(reply.verdict(), (400, 400), "{}", reply.body);
    }
    assert_eq!(gateway.appended(), 0);
}

#[tokio::test]
async fn ids_out_of_bounds_are_refused() {
    let gateway = Gateway::new();
    let huge = "x".repeat(100_000);
    for field in ["sendID", "recvID", "groupID", "clientMsgID"] {
        for (wrong, sentence) in [
            (
                "x".repeat(65),
                format!("{field} is 65 bytes long, at most 64 are allowed"),
            ),
            (
                huge.clone(),
                format!("{field} is 100000 bytes long, at most 64 are allowed"),
            ),
            (
                "a\u{0}b".into(),
                format!("{field} contains a control character"),
            ),
            (
                "a\nb".into(),
                format!("{field} contains a control character"),
            ),
            (
                "a\u{85}".into(),
                format!("{field} contains a control character"),
            ),
        ] {
            let reply = gateway.send(&with(text_send(), field, json!(wrong))).await;
            reply.assert_refused(400, 400, &sentence);
        }
        let longest = "é".repeat(32);
        gateway
            .send(&with(text_send(), field, json!(longest)))
            .await
            .data();
    }
}

#[tokio::test]
async fn what_is_no_json_is_refused_and_never_panics() {
    let gateway = Gateway::new();
    let good = text_send().to_string();
    for end in 0..good.len() {
        let reply = gateway
            .post_text("/manager/send_msg", ADMIN, good[..end].to_owned())
            .await;
        assert_eq!(reply.verdict(), (400, 400), "cut at {end}");
    }
    let deep = format!("{}1{}", "[".repeat(30_000), "]".repeat(30_000));
    let bodies: [Vec<u8>; 12] = [
        b"null".into(),
        b"[]".into(),
        b"{}".into(),
        b"\"text\"".into(),
        b"{\"operationID\":\"a\",\"operationID\":\"b\"}".into(),
        b"{\"operationID\":\"\xff\"}".into(),
        b"\xef\xbb\xbf{}".into(),
        b"{\"operationID\":\"\\ud800\"}".into(),
        b"{\"contentType\":1e999}".into(),
        deep.clone().into(),
        format!("{{\"operationID\":{deep}}}").into(),
        format!("{good} {good}").into(),
    ];
    for body in bodies {
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let reply = gateway.post_text("/manager/send_msg", ADMIN, body).await;
        assert_eq!(reply.verdict(), (400, 400), "{shown}: {}", reply.body);
        assert!(
            reply.body.len() < 400,
            "the caller's body is not echoed: {}",
            reply.body
        );
    }
    assert_eq!(gateway.appended(), 0);
}

#[tokio::test]
async fn a_long_wrong_value_is_not_sent_back() {
    let gateway = Gateway::new();
    let body = with(text_send(), "contentType", json!("é".repeat(20_000)));
    let reply = gateway.send(&body).await;
    assert_eq!(reply.verdict(), (400, 400));
    assert!(reply.body.len() < 400, "{}", reply.body.len());
}

#[tokio::test]
async fn nulls_and_unknown_fields_are_as_if_absent() {
    let gateway = Gateway::new();
    let mut body = text_send();
    for field in [
        "groupID",
        "clientMsgID",
        "senderNickname",
        "senderFaceURL",
        "senderPlatformID",
        "ex",
        "isOnlineOnly",
        "isSendAll",
        "recvIDList",
        "offlinePushInfo",
    ] {
        body[field] = Value::Null;
    }
    body["forceList"] = json!(["u9"]);
    body["businessOperationID"] = json!("b");
    body["notOfflinePush"] = json!(true);
    body["somethingElse"] = json!({ "x": [1, 2] });
    gateway.send(&body).await.data();
    let message = only_message(&gateway).0;
    assert_eq!((message.offline_push, message.no_push), (None, true));
}

#[tokio::test]
async fn session_types_follow_the_table() {
    let gateway = Gateway::new();
    for (session_type, code) in [(2, 203), (3, 203), (5, 203), (-1, 203), (i32::MAX, 203)] {
        let reply = gateway
            .send(&with(text_send(), "sessionType", json!(session_type)))
            .await;
        assert_eq!(reply.verdict(), (400, code), "{session_type}");
    }
    let group = gateway
        .send(&with(text_send(), "sessionType", json!(2)))
        .await;
    assert!(
        group.json()["errMsg"]
            .as_str()
            .unwrap()
            .contains("batch_send_msg")
    );
    for session_type in [1, 4] {
        gateway
            .send(&with(text_send(), "sessionType", json!(session_type)))
            .await
            .data();
        let nobody = with(
            without(text_send(), "recvID"),
            "sessionType",
            json!(session_type),
        );
        let reply = gateway.send(&nobody).await;
        assert_eq!(
            (reply.status.as_u16(), reply.body.as_str()),
            (
                400,
                r#"{"errCode":405,"errMsg":"recvID is a null string","sendTime":0,"MsgID":""}"#
            )
        );
    }
}

#[tokio::test]
async fn a_notification_always_becomes_session_type_4() {
    for session_type in [1, 2, 3, 4, 77] {
        let gateway = Gateway::new();
        let content = json!({ "notificationName": "n", "notificationType": 1, "text": "t" });
        let body = with(
            with(text_send(), "content", content),
            "contentType",
            json!(1400),
        );
        gateway
            .send(&with(body, "sessionType", json!(session_type)))
            .await
            .data();
        let (message, _, conversation_id) = only_message(&gateway);
        assert_eq!(
            (message.session_type, conversation_id.as_str()),
            (4, "sn_openIM123456_u1")
        );
    }
}

#[tokio::test]
async fn online_only_and_typing_are_not_stored() {
    let gateway = Gateway::new();
    let online_only = with(text_send(), "isOnlineOnly", json!(true));
    let data = gateway.send(&online_only).await.data();
    assert_eq!(data["serverMsgID"].as_str().unwrap().len(), 32);
    let typing = with(
        with(text_send(), "contentType", json!(113)),
        "content",
        json!({ "msgTips": "yes" }),
    );
    gateway.send(&typing).await.data();
    assert_eq!(gateway.appended(), 0);
}
