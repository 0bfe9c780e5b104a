//! Tokens.

use std::sync::{Arc, Mutex};

use axum::http::Request;
use serde_json::{Value, json};

use super::{ADMIN, Fault, Gateway, NOW_MS, SECRET, text_send, with, without};
use crate::{
    admin::auth::PROFILE_BYTES_MAX,
    ids::{ConnectionId, Platform, SessionKey, UserId},
    log::{AppendError, Cause, LogError},
    registry::{Item, Mailbox},
};

fn token_request() -> Value {
    json!({ "operationID": "op", "secret": SECRET, "platform": 5, "userID": "u1" })
}

fn session(user: &str, platform: Platform) -> SessionKey {
    SessionKey {
        user: UserId::new(user).unwrap(),
        platform,
        device: "".into(),
    }
}

/// Keeps the posted items.
#[derive(Default)]
struct Kept(Mutex<Vec<(ConnectionId, Item)>>);

impl Mailbox for Kept {
    fn post(&self, to: ConnectionId, item: Item) {
        self.0.lock().unwrap().push((to, item));
    }
}

#[tokio::test]
async fn the_secret_gets_a_token_for_every_platform() {
    let gateway = Gateway::new();
    for platform in Platform::ALL {
        let body = with(token_request(), "platform", json!(platform.number()));
        let data = gateway.post_open("/auth/user_token", &body).await.data();
        assert_eq!(data["userID"], "u1");
        assert_eq!(data["expiredTime"], NOW_MS / 1000 + 90 * 24 * 3600);
        let claims = gateway
            .delivery
            .authenticate(data["token"].as_str().unwrap())
            .await
            .unwrap();
        assert_eq!((claims.user.as_str(), claims.platform), ("u1", platform));
    }
}

#[tokio::test]
async fn a_token_of_an_admin_user_administers() {
    let gateway = Gateway::new();
    let body = with(token_request(), "userID", json!(ADMIN));
    let data = gateway.post_open("/auth/user_token", &body).await.data();
    let request =
        Request::post("/manager/send_msg").header("token", data["token"].as_str().unwrap());
    gateway
        .ask(request.body(text_send().to_string().into()).unwrap())
        .await
        .data();
}

#[tokio::test]
async fn a_wrong_secret_is_401_and_says_no_more() {
    let gateway = Gateway::new();
    for path in ["/auth/user_token", "/auth/user_register"] {
        for wrong in ["x", "tuoyu", "tuoyunn", "TUOYUN", "tuoyun\u{0}"] {
            let body = with(token_request(), "secret", json!(wrong));
            gateway
                .post_open(path, &body)
                .await
                .assert_refused(400, 401, "not authorized");
        }
        for field in ["secret", "platform", "userID", "operationID"] {
            let sentence = format!("{field} is required");
            gateway
                .post_open(path, &without(token_request(), field))
                .await
                .assert_refused(400, 400, &sentence);
        }
        for (field, wrong) in [
            ("platform", json!(12)),
            ("platform", json!(-1)),
            ("platform", json!("5")),
            ("userID", json!("x".repeat(65))),
            ("userID", json!("a\tb")),
            ("userID", json!(1)),
        ] {
            let reply = gateway
                .post_open(path, &with(token_request(), field, wrong))
                .await;
            assert_eq!(reply.verdict(), (400, 400), "{field}");
        }
        let zero = with(token_request(), "platform", json!(0));
        gateway
            .post_open(path, &zero)
            .await
            .assert_refused(400, 400, "platform must not be 0");
    }
    assert!(gateway.log.rows().profiles.is_empty());
}

#[tokio::test]
async fn registering_keeps_the_profile_and_returns_a_token() {
    let gateway = Gateway::new();
    let mut body = token_request();
    body["nickname"] = json!("小王");
    body["faceURL"] = json!("http://face");
    body["gender"] = json!(2);
    body["birth"] = json!("2000-01-01");
    body["ex"] = json!("e");
    let data = gateway.post_open("/auth/user_register", &body).await.data();
    assert!(
        gateway
            .delivery
            .authenticate(data["token"].as_str().unwrap())
            .await
            .is_ok()
    );
    let profile = gateway.log.rows().profiles[&UserId::new("u1").unwrap()].clone();
    let profile: Value = serde_json::from_slice(&profile).unwrap();
    let expected = json!({ "nickname": "小王", "faceURL": "http://face", "gender": 2, "birth": "2000-01-01", "ex": "e" });
    assert_eq!(profile, expected, "the secret is not in it");
}

#[tokio::test]
async fn a_registration_that_is_not_durable_gives_no_token() {
    let gateway = Gateway::new();
    let large = with(token_request(), "ex", json!("e".repeat(PROFILE_BYTES_MAX)));
    assert_eq!(
        gateway
            .post_open("/auth/user_register", &large)
            .await
            .verdict(),
        (413, 413)
    );
    let failed = LogError::new(Cause::WriteFailed, "why");
    gateway
        .log
        .fail(Fault::FailLater(AppendError::Refusing(failed)));
    let reply = gateway
        .post_open("/auth/user_register", &token_request())
        .await;
    assert_eq!(reply.verdict(), (503, 50302));
    assert!(!reply.body.contains("token"));
}

#[tokio::test]
async fn parse_token_says_whom_it_stands_for_or_1001() {
    let gateway = Gateway::new();
    let body = json!({ "operationID": "op" });
    let data = gateway
        .post_as("u1", "/auth/parse_token", &body)
        .await
        .data();
    let expires = NOW_MS / 1000 + 90 * 24 * 3600;
    assert_eq!(
        data,
        json!({ "UID": "u1", "Platform": "Web", "ExpireTimeSeconds": expires })
    );
    gateway
        .post_open("/auth/parse_token", &body)
        .await
        .assert_refused(200, 1001, "parse token failed");
    let reply = gateway.post_as("u1", "/auth/parse_token", &json!({})).await;
    reply.assert_refused(400, 400, "operationID is required");
}

#[tokio::test]
async fn force_logout_revokes_older_tokens_and_closes_connections() {
    let gateway = Gateway::new();
    let mailbox = Arc::new(Kept::default());
    for (number, user, platform) in [
        (1, "u1", Platform::Web),
        (2, "u1", Platform::Ios),
        (3, "u2", Platform::Web),
    ] {
        let mailbox = Arc::clone(&mailbox) as Arc<dyn Mailbox>;
        let registered = gateway.registry.register(
            &session(user, platform),
            ConnectionId(number),
            &mailbox,
            NOW_MS,
        );
        assert!(registered.is_ok());
    }
    let old = gateway.token("u1");
    gateway.machine.advance(1);
    let body = json!({ "operationID": "op", "fromUserID": "u1", "platform": 5 });
    assert_eq!(
        gateway.post("/auth/force_logout", &body).await.data(),
        json!({ "connections": 1 })
    );
    let posted = std::mem::take(&mut *mailbox.0.lock().unwrap());
    assert!(
        matches!(posted[..], [(ConnectionId(1), Item::LoggedOut)]),
        "{posted:?}"
    );

    let ask = async |token: &str| {
        let request = Request::post("/auth/parse_token").header("token", token);
        gateway
            .ask(request.body(r#"{"operationID":"op"}"#.into()).unwrap())
            .await
    };
    ask(&old)
        .await
        .assert_refused(200, 1001, "parse token failed");
    let reply = gateway
        .ask(
            Request::post("/msg/newest_seq")
                .header("token", &old)
                .body("{}".into())
                .unwrap(),
        )
        .await;
    reply.assert_refused(400, 400, "parse token failed");
    ask(&gateway.token("u1")).await.data();
}

#[tokio::test]
async fn only_an_administrator_logs_others_out() {
    let gateway = Gateway::new();
    let body = json!({ "operationID": "op", "fromUserID": "u1", "platform": 5 });
    gateway
        .post_as("u1", "/auth/force_logout", &body)
        .await
        .assert_refused(400, 801, "not authorized");
    gateway
        .post_open("/auth/force_logout", &body)
        .await
        .assert_refused(400, 400, "parse token failed");
    for field in ["operationID", "fromUserID", "platform"] {
        let sentence = format!("{field} is required");
        gateway
            .post("/auth/force_logout", &without(body.clone(), field))
            .await
            .assert_refused(400, 400, &sentence);
    }
    gateway.log.fail(Fault::Refuse(AppendError::QueueFull));
    assert_eq!(
        gateway.post("/auth/force_logout", &body).await.verdict(),
        (429, 429)
    );
}

#[tokio::test]
async fn presence_lists_platforms_of_up_to_200_users() {
    let gateway = Gateway::new();
    let mailbox = Arc::new(Kept::default()) as Arc<dyn Mailbox>;
    for (number, platform) in [(1, Platform::Web), (2, Platform::Ios)] {
        let registered = gateway.registry.register(
            &session("u1", platform),
            ConnectionId(number),
            &mailbox,
            NOW_MS,
        );
        assert!(registered.is_ok());
    }
    let expected = json!([
        { "userID": "u2", "status": "offline" },
        { "userID": "u1", "status": "online", "detailPlatformStatus": [
            { "platform": "IOS", "status": "online" },
            { "platform": "Web", "status": "online" },
        ] },
        { "userID": "", "status": "offline" },
    ]);
    for path in [
        "/user/get_users_online_status",
        "/manager/get_users_online_status",
    ] {
        let body = json!({ "operationID": "op", "userIDList": ["u2", "u1", ""] });
        assert_eq!(gateway.post(path, &body).await.data(), expected);
        assert_eq!(
            gateway.post_as("u7", path, &body).await.data(),
            expected,
            "any good token"
        );
        gateway
            .post_open(path, &body)
            .await
            .assert_refused(400, 400, "parse token failed");
        let many = |count| json!({ "operationID": "op", "userIDList": vec!["u"; count] });
        assert_eq!(
            gateway
                .post(path, &many(200))
                .await
                .data()
                .as_array()
                .unwrap()
                .len(),
            200
        );
        gateway.post(path, &many(201)).await.assert_refused(
            400,
            400,
            "userIDList holds 201, at most 200 are allowed",
        );
        gateway
            .post(path, &many(0))
            .await
            .assert_refused(400, 400, "userIDList is required");
    }
}

#[tokio::test]
async fn an_empty_secret_in_the_configuration_lets_nobody_in() {
    let gateway = Gateway::new();
    let auth = crate::config::Auth {
        secret: String::new(),
        ..super::auth_config()
    };
    let app = super::super::call::App::new(
        &crate::config::Config {
            auth,
            ..super::whole_config(&super::admin_config())
        },
        gateway.rooms(),
        bytes::Bytes::new(),
    )
    .unwrap();
    for secret in ["", "x"] {
        assert!(app.check_secret(&Default::default(), secret).is_err());
    }
}

#[tokio::test]
async fn an_unreadable_revocation_is_not_a_bad_token() {
    let gateway = Gateway::new();
    gateway
        .log
        .fail(Fault::Read(LogError::new(Cause::LookupFailed, "why")));
    let body = json!({ "operationID": "op", "reqIdentifier": 1, "msgIncr": 1, "sendID": "u1" });
    assert_eq!(
        gateway.post("/msg/newest_seq", &body).await.verdict(),
        (503, 50306)
    );
}
