//! A user's devices for push over HTTP, for administrators.

use serde_json::json;

use super::{Gateway, without};
use crate::{
    delivery::Registration,
    ids::{Platform, UserId},
    token::Claims,
};

#[tokio::test]
async fn an_administrator_lists_and_removes_the_devices_of_a_user_and_sees_no_vendors_token() {
    let gateway = Gateway::new();
    let claims = Claims {
        user: UserId::new("u1").unwrap(),
        platform: Platform::Ios,
        issued_at_ms: 1,
        expires_at_s: u64::MAX,
    };
    let registration = Registration {
        provider: "http",
        token: "a secret name",
        app: "oa",
        ..Registration::default()
    };
    let delivery = &gateway.delivery;
    let registered = delivery.register_device(&claims, "token", &registration);
    registered.await.unwrap();
    let body = json!({ "operationID": "op", "userID": "u1" });
    let listed = gateway.post("/device/list", &body).await;
    assert!(!listed.body.contains("secret"), "{}", listed.body);
    let list = listed.data()["list"].clone();
    assert_eq!(list.as_array().unwrap().len(), 1);
    assert_eq!(list[0]["provider"], "http");
    assert_eq!(list[0]["platform"], "IOS");
    assert_eq!(list[0]["app"], "oa");
    for path in ["/device/list", "/device/remove"] {
        let refused = gateway.post_as("u1", path, &body).await;
        assert_eq!(refused.verdict(), (400, 400), "{path}");
        for field in ["operationID", "userID"] {
            let refused = gateway.post(path, &without(body.clone(), field)).await;
            assert_eq!(refused.verdict(), (400, 400), "{path}");
        }
    }
    let removed = gateway.post("/device/remove", &body).await.data();
    assert_eq!(removed, json!({ "removed": 1 }));
    let listed = gateway.post("/device/list", &body).await.data();
    assert_eq!(listed, json!({ "list": [] }));
}
