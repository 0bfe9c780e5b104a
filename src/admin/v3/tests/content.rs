//! Each content type of v3: its required and typed fields, and the form in which it is stored.

use serde_json::{Value, json};

use super::{ADMIN, Gateway, text_v3, with};
use crate::{
    admin::{
        shape::{Field, Kind},
        v3::content::CONTENT_TYPES,
    },
    message::StoredMessage,
};

fn good(kind: &Kind) -> Value {
    match kind {
        Kind::Text => json!("text"),
        Kind::Number | Kind::Integer { .. } => json!(1),
        Kind::Boolean => json!(true),
        Kind::Object(fields) => good_object(fields),
        Kind::List(kind) => json!([good(kind)]),
    }
}

fn good_object(fields: &[Field]) -> Value {
    let good = |field: &Field| (field.name.to_owned(), good(&field.kind));
    fields.iter().map(good).collect()
}

fn send_of(number: i32, content: &Value) -> Value {
    with(
        with(text_v3(), "contentType", json!(number)),
        "content",
        content.clone(),
    )
}

#[tokio::test]
async fn each_type_is_stored_in_v2s_form() {
    for known in CONTENT_TYPES {
        let gateway = Gateway::new();
        let content = with(good_object(known.fields), "own", json!({ "b": 1, "a": 2 }));
        let send = send_of(known.number, &content);
        gateway.v3("/msg/send_msg", &send).await.data_v3();
        let stored = StoredMessage::from_bytes(&gateway.log.rows().appends[0].body);
        assert_eq!(stored.content_type, known.number);
        let stored: Value = serde_json::from_slice(&stored.content).unwrap();
        let expected = match known.number {
            101 => json!({ "text": "text" }),
            _ => content,
        };
        assert_eq!(stored, expected, "{}", known.number);
    }
}

#[tokio::test]
async fn a_text_keeps_its_escapes_and_signs() {
    let gateway = Gateway::new();
    let body = r#"{"sendID":"s","recvID":"u1","contentType":101,"sessionType":1,"content": { "content" : "a\u4f60\n\"b\" 小" } }"#;
    let token = gateway.token(ADMIN);
    let reply = gateway.v3_with(Some(&token), "/msg/send_msg", body).await;
    reply.data_v3();
    let stored = StoredMessage::from_bytes(&gateway.log.rows().appends[0].body);
    assert_eq!(
        &*stored.content,
        r#"{"text":"a\u4f60\n\"b\" 小"}"#.as_bytes()
    );
}

#[tokio::test]
async fn a_required_field_and_a_type_are_kept() {
    let gateway = Gateway::new();
    for known in CONTENT_TYPES {
        let content = good_object(known.fields);
        for field in known.fields {
            if field.is_required {
                let wrong = with(content.clone(), field.name, Value::Null);
                let reply = gateway
                    .v3("/msg/send_msg", &send_of(known.number, &wrong))
                    .await;
                let sentence = reply.refused_v3(1001, "ArgsError");
                assert_eq!(sentence, format!("content.{} is required", field.name));
            }
            for wrong in [
                json!("1"),
                json!(1),
                json!(1.5),
                json!(true),
                json!({ "a": 1 }),
                json!([{}]),
            ] {
                let fits = match field.kind {
                    Kind::Text => wrong.is_string(),
                    Kind::Number | Kind::Integer { .. } => wrong.is_i64(),
                    Kind::Boolean => wrong.is_boolean(),
                    Kind::Object(_) | Kind::List(_) => false,
                };
                if fits {
                    continue;
                }
                let wrong = with(content.clone(), field.name, wrong);
                let reply = gateway
                    .v3("/msg/send_msg", &send_of(known.number, &wrong))
                    .await;
                reply.refused_v3(1001, "ArgsError");
            }
        }
    }
    assert_eq!(gateway.appended(), 0);
}

#[tokio::test]
async fn other_types_forms_and_numbers_are_refused() {
    let gateway = Gateway::new();
    let mentioned = |count: usize| json!({ "atUserList": vec!["u"; count], "text": "t" });
    for (number, content) in [
        (101, json!({ "text": "v2's form" })),
        (101, json!("text")),
        (101, json!([])),
        (111, json!({ "revokeMsgClientID": "x" })),
        (113, json!({})),
        (2001, json!({ "key": "k" })),
        (9999, json!({})),
        (106, mentioned(1001)),
        (103, json!({ "sourceUrl": "u", "duration": 0 })),
        (103, json!({ "sourceUrl": "u", "duration": -1 })),
        (103, json!({ "sourceUrl": "u", "duration": 1.0 })),
        (
            1400,
            json!({ "notificationName": "n", "notificationType": 1, "text": "t", "mixType": 6 }),
        ),
    ] {
        let reply = gateway
            .v3("/msg/send_msg", &send_of(number, &content))
            .await;
        reply.refused_v3(1001, "ArgsError");
    }
    let twice = r#"{"sendID":"s","recvID":"u1","contentType":101,"sessionType":1,"content":{"content":"a","content":"b"}}"#;
    let token = gateway.token(ADMIN);
    let reply = gateway.v3_with(Some(&token), "/msg/send_msg", twice).await;
    reply.refused_v3(1001, "ArgsError");
    assert_eq!(gateway.appended(), 0);
    let send = send_of(106, &mentioned(1000));
    gateway.v3("/msg/send_msg", &send).await.data_v3();
}
