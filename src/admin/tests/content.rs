//! Every content type, and every field of each.

use serde_json::{Value, json};

use super::{
    super::{
        content::CONTENT_TYPES,
        shape::{Field, Kind},
    },
    Gateway, text_send, with,
};

/// A valid value of a kind, with all known fields.
fn good(kind: &Kind) -> Value {
    match kind {
        Kind::Text => json!("text"),
        Kind::Number => json!(2.5),
        Kind::Integer { .. } => json!(1),
        Kind::Boolean => json!(true),
        Kind::Object(fields) => good_object(fields),
        Kind::List(kind) => json!([good(kind)]),
    }
}

fn good_object(fields: &[Field]) -> Value {
    fields
        .iter()
        .map(|field| (field.name.to_owned(), good(&field.kind)))
        .collect()
}

/// One value of every JSON type that the kind does not accept.
fn wrong(kind: &Kind) -> Vec<Value> {
    let mut values = vec![
        json!("x"),
        json!(1),
        json!(1.5),
        json!(true),
        json!({ "a": 1 }),
        json!(["x"]),
    ];
    values.retain(|value| match kind {
        Kind::Text => !value.is_string(),
        Kind::Number => !value.is_number(),
        Kind::Integer { .. } => !value.is_i64(),
        Kind::Boolean => !value.is_boolean(),
        Kind::Object(_) => !value.is_object(),
        Kind::List(_) => !value.is_array(),
    });
    if let Kind::List(kind) = kind {
        values.extend(wrong(kind).into_iter().map(|value| json!([value])));
    }
    values
}

/// `content` with the value at `path` replaced.
fn replaced(content: &Value, path: &[&str], to: Value) -> Value {
    let mut content = content.clone();
    let place = path
        .iter()
        .fold(&mut content, |place, name| &mut place[*name]);
    *place = to;
    content
}

/// Calls `each` with the path and kind of every known field, at all levels.
fn walk<'a>(fields: &'a [Field], path: &mut Vec<&'a str>, each: &mut dyn FnMut(&[&str], &Field)) {
    for field in fields {
        path.push(field.name);
        each(path, field);
        if let Kind::Object(inner) = field.kind {
            walk(inner, path, each);
        }
        path.pop();
    }
}

fn send_of(number: i32, content: Value) -> Value {
    with(
        with(text_send(), "contentType", json!(number)),
        "content",
        content,
    )
}

#[tokio::test]
async fn every_content_type_of_the_seed_is_accepted_full_and_minimal() {
    let numbers: Vec<_> = CONTENT_TYPES.iter().map(|known| known.number).collect();
    let expected: Vec<_> = (101..=114).chain([1400]).collect();
    assert_eq!(numbers, expected, "ascending, as the search needs");
    let gateway = Gateway::new();
    for known in CONTENT_TYPES {
        let full = good_object(known.fields);
        gateway.send(&send_of(known.number, full)).await.data();
        let required = known.fields.iter().filter(|field| field.is_required);
        let minimal: Value = required
            .map(|field| (field.name.to_owned(), good(&field.kind)))
            .collect();
        gateway
            .send(&send_of(known.number, minimal.clone()))
            .await
            .data();
        let with_unknown = with(minimal, "whoKnows", json!({ "a": [1, "x", null] }));
        gateway
            .send(&send_of(known.number, with_unknown))
            .await
            .data();
    }
}

#[tokio::test]
async fn unknown_content_types_are_404() {
    let gateway = Gateway::new();
    for number in [
        1,
        100,
        115,
        116,
        117,
        118,
        119,
        120,
        200,
        1399,
        1401,
        -101,
        i32::MAX,
    ] {
        let reply = gateway.send(&send_of(number, json!({ "text": "t" }))).await;
        reply.assert_refused(400, 404, "contentType err");
    }
}

#[tokio::test]
async fn every_known_field_of_the_wrong_json_type_is_401() {
    let gateway = Gateway::new();
    for known in CONTENT_TYPES {
        let full = good_object(known.fields);
        let mut bodies = Vec::new();
        walk(known.fields, &mut Vec::new(), &mut |path, field| {
            let named = format!("content.{} must be ", path.join("."));
            bodies.extend(
                wrong(&field.kind)
                    .into_iter()
                    .map(|value| (replaced(&full, path, value), named.clone())),
            );
        });
        for (content, named) in bodies {
            let reply = gateway.send(&send_of(known.number, content.clone())).await;
            assert_eq!(reply.verdict(), (400, 401), "{} {content}", known.number);
            let sentence = reply.json()["errMsg"].as_str().unwrap().to_owned();
            assert!(sentence.starts_with(&named), "{sentence} names {named}");
        }
    }
    assert_eq!(gateway.appended(), 0);
}

#[tokio::test]
async fn every_known_field_may_be_null_unless_required() {
    let gateway = Gateway::new();
    for known in CONTENT_TYPES {
        let full = good_object(known.fields);
        let mut bodies = Vec::new();
        walk(known.fields, &mut Vec::new(), &mut |path, field| {
            bodies.push((replaced(&full, path, Value::Null), field.is_required));
        });
        for (content, is_required) in bodies {
            let verdict = gateway
                .send(&send_of(known.number, content))
                .await
                .verdict();
            assert_eq!(verdict, if is_required { (400, 403) } else { (200, 0) });
        }
    }
}

#[tokio::test]
async fn required_fields_missing_empty_or_zero_are_403() {
    let gateway = Gateway::new();
    let notification = json!({ "notificationName": "n", "notificationType": 1, "text": "t" });
    for (number, full, field, empty) in [
        (101, json!({ "text": "t" }), "text", json!("")),
        (110, json!({ "data": "{}" }), "data", json!("")),
        (
            111,
            json!({ "revokeMsgClientID": "c" }),
            "revokeMsgClientID",
            json!(""),
        ),
        (1400, notification.clone(), "notificationName", json!("")),
        (1400, notification.clone(), "text", json!("")),
        (1400, notification.clone(), "notificationType", json!(0)),
    ] {
        let sentence = format!("content.{field} is required");
        gateway.send(&send_of(number, full.clone())).await.data();
        for content in [
            super::without(full.clone(), field),
            with(full.clone(), field, empty),
        ] {
            gateway
                .send(&send_of(number, content))
                .await
                .assert_refused(400, 403, &sentence);
        }
    }
}

#[tokio::test]
async fn mix_type_is_0_to_3_where_given() {
    let gateway = Gateway::new();
    let of = |mix_type: Value| {
        let content = json!({ "notificationName": "n", "notificationType": -1, "text": "t" });
        send_of(1400, with(content, "mixType", mix_type))
    };
    for mix_type in [json!(0), json!(1), json!(2), json!(3), json!(null)] {
        gateway.send(&of(mix_type)).await.data();
    }
    for mix_type in [json!(4), json!(-1), json!(u64::MAX), json!(i64::MIN)] {
        gateway.send(&of(mix_type)).await.assert_refused(
            400,
            403,
            "content.mixType must be from 0 to 3",
        );
    }
    gateway.send(&of(json!(1.5))).await.assert_refused(
        400,
        401,
        "content.mixType must be an integer",
    );
}

#[tokio::test]
async fn a_known_field_that_cannot_be_read_is_401_and_an_unknown_one_is_kept() {
    let gateway = Gateway::new();
    let send = |content: &str| {
        let body = text_send().to_string();
        let body = body.replace(r#"{"text":"hello"}"#, content);
        assert!(body.contains(content));
        body
    };
    for content in [
        r#"{"text":"\ud800"}"#,
        r#"{"text":1e999}"#,
        r#"{"text":"a","text":5}"#,
    ] {
        let reply = gateway
            .post_text("/manager/send_msg", super::ADMIN, send(content))
            .await;
        assert_eq!(reply.verdict(), (400, 401), "{content}: {}", reply.body);
    }
    for content in [
        r#"{"text":"a","other":"\ud800"}"#,
        r#"{"text":"a","other":1e999}"#,
    ] {
        gateway
            .post_text("/manager/send_msg", super::ADMIN, send(content))
            .await
            .data();
    }
    let deep = format!(
        r#"{{"text":"a","other":{}{}}}"#,
        "[".repeat(20_000),
        "]".repeat(20_000)
    );
    gateway
        .post_text("/manager/send_msg", super::ADMIN, send(&deep))
        .await
        .data();
    let last_is_empty = send(r#"{"text":"a","text":""}"#);
    let reply = gateway
        .post_text("/manager/send_msg", super::ADMIN, last_is_empty)
        .await;
    assert_eq!(reply.verdict(), (400, 403), "the last of two decides");
}
