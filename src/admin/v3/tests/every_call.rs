//! The refusals that all calls share: a wrong type, a missing field, a token that is not sufficient, a broken body.

use serde_json::{Value, json};

use super::{ADMIN, Gateway, SECRET, text_v3, with, without};
use crate::admin::{access::Access, v3::routes};

/// A good body of each call, and the names of its required fields.
pub(in crate::admin) fn good(path: &str, gateway: &Gateway) -> (Value, &'static [&'static str]) {
    match path {
        "/auth/get_admin_token" => (
            json!({ "secret": SECRET, "userID": ADMIN }),
            &["secret", "userID"],
        ),
        "/auth/get_user_token" | "/auth/force_logout" => (
            json!({ "platformID": 5, "userID": "u1" }),
            &["platformID", "userID"],
        ),
        "/auth/parse_token" => (json!({ "token": gateway.token("u1") }), &["token"]),
        "/user/user_register" => (json!({ "users": [{ "userID": "u2" }] }), &["users"]),
        "/user/update_user_info_ex" => (
            json!({ "userInfo": { "userID": "u1", "nickname": "Uno" } }),
            &["userInfo"],
        ),
        "/user/account_check" => (json!({ "checkUserIDs": ["u1"] }), &["checkUserIDs"]),
        "/user/get_users_info" | "/user/get_users_online_status" => {
            (json!({ "userIDs": ["u1"] }), &["userIDs"])
        }
        "/user/add_notification_account" => (
            json!({ "userID": "n2", "nickName": "Two", "faceURL": "f" }),
            &["nickName"],
        ),
        "/user/update_notification_account" => (
            json!({ "userID": "n1", "nickName": "Uno", "faceURL": "f" }),
            &["userID"],
        ),
        "/user/search_notification_account" => (
            json!({ "keyword": "n", "pagination": { "pageNumber": 1, "showNumber": 10 } }),
            &["pagination"],
        ),
        "/msg/send_msg" => (
            text_v3(),
            &["sendID", "recvID", "content", "contentType", "sessionType"],
        ),
        "/msg/batch_send_msg" => (
            with(without(text_v3(), "recvID"), "recvIDs", json!(["u1"])),
            &["sendID", "recvIDs", "content", "contentType", "sessionType"],
        ),
        "/msg/send_business_notification" => (
            json!({ "key": "k", "data": "d", "sendUserID": ADMIN, "recvUserID": "u1" }),
            &["sendUserID", "recvUserID"],
        ),
        "/msg/get_server_time" => (json!({}), &[]),
        other => panic!("{other} has no body here"),
    }
}

/// Every value that is not of the type of this one.
fn other_types(value: &Value) -> Vec<Value> {
    let mut others = vec![json!("x"), json!(7), json!(true), json!({}), json!([])];
    others.retain(|other| std::mem::discriminant(other) != std::mem::discriminant(value));
    others
}

#[tokio::test]
async fn every_call_is_done_once_its_request_is_good() {
    for route in routes() {
        let gateway = Gateway::new();
        gateway.register_both().await;
        let path = route.paths[0];
        let (body, _) = good(path, &gateway);
        gateway.v3(path, &body).await.data_v3();
    }
}

#[tokio::test]
async fn a_missing_field_and_a_wrong_type_are_1001_and_named() {
    let gateway = Gateway::new();
    gateway.register_both().await;
    let before = gateway.log.rows().profiles.clone();
    for route in routes() {
        let path = route.paths[0];
        let (body, required) = good(path, &gateway);
        for field in required {
            for body in [
                without(body.clone(), field),
                with(body.clone(), field, Value::Null),
            ] {
                let reply = gateway.v3(path, &body).await;
                let sentence = reply.refused_v3(1001, "ArgsError");
                assert!(sentence.contains(field), "{path}: {sentence}");
            }
        }
        let fields: Vec<_> = body.as_object().unwrap().keys().cloned().collect();
        for field in fields {
            for wrong in other_types(&body[&field]) {
                let wrong = with(body.clone(), &field, wrong);
                let reply = gateway.v3(path, &wrong).await;
                reply.refused_v3(1001, "ArgsError");
            }
        }
    }
    assert_eq!(gateway.appended(), 0);
    assert_eq!(gateway.log.rows().profiles, before);
}

#[tokio::test]
async fn a_body_that_is_no_json_is_1001() {
    let gateway = Gateway::new();
    for route in routes() {
        let path = route.paths[0];
        if path == "/msg/get_server_time" {
            continue;
        }
        for body in ["", "{", "[]", "null", "{\"a\":}", "\u{feff}"] {
            let token = gateway.token(ADMIN);
            let reply = gateway.v3_with(Some(&token), path, body).await;
            let sentence = reply.refused_v3(1001, "ArgsError");
            assert!(!sentence.is_empty(), "{path}");
        }
        let token = gateway.token(ADMIN);
        let reply = gateway.v3_with(Some(&token), path, vec![b'"', 0xff]).await;
        reply.refused_v3(1001, "ArgsError");
    }
}

#[tokio::test]
async fn a_token_must_be_there_be_good_and_suffice() {
    let gateway = Gateway::new();
    gateway.register_both().await;
    for route in routes() {
        let path = route.paths[0];
        let (body, _) = good(path, &gateway);
        let body = body.to_string();
        if matches!(route.access, Access::Open | Access::Secret) {
            let reply = gateway.v3_with(None, path, body).await;
            reply.data_v3();
            continue;
        }
        let reply = gateway.v3_with(None, path, body.clone()).await;
        let sentence = reply.refused_v3(1001, "ArgsError");
        assert_eq!(sentence, "the header token is required", "{path}");
        let reply = gateway.v3_with(Some("no token"), path, body.clone()).await;
        reply.refused_v3(1503, "TokenMalformedError");
        let other = gateway.token("u9");
        let reply = gateway.v3_with(Some(&other), path, body).await;
        if matches!(route.access, Access::Admin(_)) || path == "/user/update_user_info_ex" {
            reply.refused_v3(1002, "NoPermissionError");
        } else {
            reply.data_v3();
        }
    }
    assert_eq!(gateway.appended(), 0);
}
