//! A phone's token of FCM, and its badge.

use serde_json::{Value, json};

use super::fixture::{World, user};

const TOKEN_PATH: &str = "/third/fcm_update_token";

fn body(name: &str, value: Value) -> String {
    let mut body = json!({
        "platformID": 5, "fcmToken": "a-token:of_fcm", "account": "u1", "expireTime": 1_700_000_000,
    });
    body[name] = value;
    body.to_string()
}

#[tokio::test]
async fn a_phone_registers_with_its_token_of_fcm() {
    let world = World::new();
    let answer = world.text(TOKEN_PATH, &body("account", json!(""))).await;
    assert_eq!(answer["errCode"], 0, "{answer}");
    let devices = world.delivery.devices(&user("u1")).await.unwrap();
    assert_eq!(devices.len(), 1);
    assert_eq!(devices[0].token, "a-token:of_fcm");
    assert_eq!(devices[0].provider.name(), "fcm");
}

#[tokio::test]
async fn a_registration_for_another_user_or_of_another_form_is_refused() {
    let world = World::new();
    for (name, value, code) in [
        ("account", json!("u2"), 1002),
        ("platformID", json!(1), 1001),
        ("platformID", json!(99), 1001),
        ("platformID", json!("5"), 1001),
        ("fcmToken", json!(""), 1001),
        ("fcmToken", json!(7), 1001),
        ("fcmToken", json!("has a space"), 1001),
        ("fcmToken", json!("a".repeat(5000)), 1001),
    ] {
        let answer = world.text(TOKEN_PATH, &body(name, value)).await;
        assert_eq!(answer["errCode"], code, "{name}: {answer}");
    }
    assert_eq!(world.delivery.devices(&user("u1")).await.unwrap(), []);
}

#[tokio::test]
async fn a_badge_is_the_callers_own_number() {
    let world = World::new();
    for (body, code) in [
        (json!({ "userID": "u1", "appUnreadCount": 3 }), 0),
        (json!({ "userID": "u2", "appUnreadCount": 3 }), 1002),
        (json!({ "userID": "u1", "appUnreadCount": "3" }), 1001),
    ] {
        let answer = world.text("/third/set_app_badge", &body.to_string()).await;
        assert_eq!(answer["errCode"], code, "{answer}");
    }
}
