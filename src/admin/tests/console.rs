//! The console's page, and the calls that serve it.

use std::sync::Arc;

use axum::{body::Body, http::Request};
use serde_json::{Value, json};

use super::{ADMIN, Gateway, NOW_MS, SECRET};
use crate::{
    ids::{ConnectionId, Platform, SessionKey, UserId},
    registry::{Item, Mailbox},
};

/// A mailbox that ignores all items.
struct Deaf;

impl Mailbox for Deaf {
    fn post(&self, _: ConnectionId, _: Item) {}
}

impl Gateway {
    fn connect(&self, user: &str, platform: Platform) {
        let key = SessionKey {
            user: UserId::new(user).unwrap(),
            platform,
            device: "".into(),
        };
        let mailbox = Arc::new(Deaf) as Arc<dyn Mailbox>;
        let registered = self
            .registry
            .register(&key, ConnectionId(1), &mailbox, NOW_MS);
        registered.unwrap();
    }

    async fn online(&self, more: Value) -> Value {
        let mut body = json!({ "operationID": "op" });
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        self.post("/user/get_online_users", &body).await.data()
    }

    async fn get_as(&self, user: &str, path: &str) -> super::Reply {
        let request = Request::get(path).header("token", self.token(user));
        self.ask(request.body(Body::empty()).unwrap()).await
    }
}

#[tokio::test]
async fn the_page_stands_at_console_with_its_files_beside_it() {
    let gateway = Gateway::new();
    let moved = gateway.get("/console").await;
    assert_eq!(
        (moved.status.as_u16(), moved.header("location")),
        (308, Some("console/"))
    );
    let html = gateway.get("/console/").await;
    assert_eq!(html.status, 200);
    assert!(
        html.header("content-security-policy")
            .unwrap()
            .contains("script-src 'self'")
    );
    let script = html
        .body
        .split('"')
        .find(|value| value.starts_with("app.js?"))
        .unwrap();
    let script = gateway.get(&format!("/console/{script}")).await;
    assert_eq!(script.status, 200);
    assert!(
        script
            .header("content-type")
            .unwrap()
            .starts_with("text/javascript")
    );
    for elsewhere in ["/console/x", "/console/..%2finbox%2fapp.js", "/console/a/b"] {
        assert_eq!(
            gateway.get(elsewhere).await.verdict(),
            (404, 404),
            "{elsewhere}"
        );
    }
    let posted = gateway.post("/console/", &json!({})).await;
    assert_eq!(posted.verdict(), (405, 405));
}

#[tokio::test]
async fn the_configuration_is_shown_to_administrators_with_its_secrets_masked() {
    let gateway = Gateway::new();
    gateway
        .get("/gateway/config")
        .await
        .assert_refused(400, 400, "parse token failed");
    let refused = gateway.get_as("u1", "/gateway/config").await;
    refused.assert_refused(400, 400, "not authorized");
    let reply = gateway.get_as(ADMIN, "/gateway/config").await;
    let shown = reply.data();
    assert_eq!(shown["delivery"]["window"], 256);
    assert_eq!(shown["log"]["retention"], "30d");
    assert_eq!(shown["auth"]["secret"], "********");
    assert!(!reply.body.contains(SECRET) && !reply.body.contains("open_im_server"));
}

#[tokio::test]
async fn who_is_online_is_listed_for_administrators() {
    let gateway = Gateway::new();
    let nobody = gateway.online(json!({})).await;
    assert_eq!(nobody, json!({ "sessionsTotal": 0, "users": [] }));
    gateway.connect("u1", Platform::Web);
    gateway.connect("u1", Platform::Ios);
    gateway.connect("u2", Platform::Android);
    let on_web = gateway.online(json!({ "platform": 5 })).await;
    let session = |platform: &str, number: u32| json!({ "platform": platform, "platformID": number, "deviceID": "", "connectedTime": NOW_MS });
    let sessions = [session("Web", 5), session("IOS", 1)];
    let expected =
        json!({ "sessionsTotal": 3, "users": [{ "userID": "u1", "sessions": sessions }] });
    assert_eq!(on_web, expected);
    let count = async |more| {
        gateway.online(more).await["users"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(count(json!({})).await, 2);
    assert_eq!(count(json!({ "limit": 1 })).await, 1);
    assert_eq!(count(json!({ "platform": 10 })).await, 0);
}

#[tokio::test]
async fn who_is_online_is_no_users_business_and_needs_a_platform_that_exists() {
    let gateway = Gateway::new();
    let path = "/user/get_online_users";
    let body = json!({ "operationID": "op" });
    let refused = gateway.post_as("u1", path, &body).await;
    refused.assert_refused(400, 400, "not authorized");
    let nameless = gateway.post(path, &json!({})).await;
    nameless.assert_refused(400, 400, "operationID is required");
    let unknown = gateway
        .post(path, &json!({ "operationID": "op", "platform": 12 }))
        .await;
    assert_eq!(unknown.verdict(), (400, 400));
}

#[tokio::test]
async fn who_is_online_is_refused_without_a_type_of_rust() {
    let gateway = Gateway::new();
    for (field, wrong, sentence) in [
        (
            "platform",
            json!("5"),
            "invalid type: string \"5\", expected an integer",
        ),
        ("limit", json!(-1), "-1 is out of range"),
    ] {
        let body = json!({ "operationID": "op", field: wrong });
        let reply = gateway.post("/user/get_online_users", &body).await;
        let said = reply.json()["errMsg"].as_str().unwrap().to_owned();
        assert!(said.starts_with(&format!("{sentence} at line 1")), "{said}");
    }
    let null = json!({ "platform": null, "limit": null });
    assert_eq!(gateway.online(null).await["users"], json!([]));
}
