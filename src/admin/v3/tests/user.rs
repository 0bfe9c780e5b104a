//! Registrations, profiles and presence.

use serde_json::{Value, json};

use super::{Gateway, with};
use crate::{admin::auth::PROFILE_BYTES_MAX, ids::UserId};

async fn info(gateway: &Gateway, users: Value) -> Value {
    let body = json!({ "userIDs": users });
    let reply = gateway.v3_as("u9", "/user/get_users_info", &body).await;
    reply.data_v3()["usersInfo"].clone()
}

#[tokio::test]
async fn a_registration_is_kept_once_and_read_back() {
    let gateway = Gateway::new();
    gateway.register_both().await;
    let now_ms = gateway.clock.now_ms();
    let one = json!({ "userID": "u1", "nickname": "One", "faceURL": "f", "ex": "e", "createTime": now_ms, "appMangerLevel": 1 });
    let news = json!({ "userID": "n1", "nickname": "News", "faceURL": "g", "ex": "", "createTime": now_ms, "appMangerLevel": 3 });
    let found = info(&gateway, json!(["n1", "nobody", "u1"])).await;
    assert_eq!(found, json!([news, one]));

    let again = json!({ "users": [{ "userID": "u2" }, { "userID": "u1", "nickname": "Other" }] });
    let reply = gateway.v3("/user/user_register", &again).await;
    let sentence = reply.refused_v3(1102, "RegisteredAlreadyError");
    assert_eq!(sentence, "u1 is registered already");
    assert_eq!(info(&gateway, json!(["u1", "u2"])).await, json!([one]));

    let checked = json!({ "checkUserIDs": ["u1", "u2", "n1"] });
    let reply = gateway.v3("/user/account_check", &checked).await;
    let expected = json!({ "results": [
        { "userID": "u1", "accountStatus": 1 },
        { "userID": "u2", "accountStatus": 0 },
        { "userID": "n1", "accountStatus": 1 },
    ] });
    assert_eq!(reply.data_v3(), expected);
}

#[tokio::test]
async fn a_registration_is_whole_or_refused() {
    let gateway = Gateway::new();
    let many: Vec<_> = (0..1001)
        .map(|n| json!({ "userID": n.to_string() }))
        .collect();
    for users in [
        json!([]),
        json!(many),
        json!([{ "userID": "a" }, { "userID": "a" }]),
        json!([{ "userID": "a" }, { "userID": "" }]),
        json!([{ "userID": "a" }, { "userID": "x".repeat(65) }]),
        json!([{ "userID": "a" }, { "userID": "b", "nickname": 1 }]),
        json!([{ "userID": "a" }, { "userID": "b", "ex": "e".repeat(PROFILE_BYTES_MAX) }]),
    ] {
        let body = json!({ "users": users });
        let reply = gateway.v3("/user/user_register", &body).await;
        reply.refused_v3(1001, "ArgsError");
    }
    assert!(gateway.log.rows().profiles.is_empty());
    let thousand = json!({ "users": many[..1000] });
    let reply = gateway.v3("/user/user_register", &thousand).await;
    reply.data_v3();
    assert_eq!(gateway.log.rows().profiles.len(), 1000);
}

#[tokio::test]
async fn an_update_changes_the_given_fields_of_either_versions_registration() {
    let gateway = Gateway::new();
    let v2 = json!({ "operationID": "op", "secret": super::SECRET, "platform": 5, "userID": "u2", "nickname": "Two", "gender": 2, "birth": "2000-01-01" });
    gateway.post_open("/auth/user_register", &v2).await.data();
    let update = json!({ "userInfo": { "userID": "u2", "faceURL": "f", "ex": "" } });
    let reply = gateway.v3_as("u2", "/user/update_user_info_ex", &update);
    reply.await.data_v3();
    let stored = gateway.log.rows().profiles[&UserId::new("u2").unwrap()].clone();
    let stored: Value = serde_json::from_slice(&stored).unwrap();
    let expected =
        json!({ "nickname": "Two", "gender": 2, "birth": "2000-01-01", "faceURL": "f", "ex": "" });
    assert_eq!(stored, expected);

    let reply = gateway.v3_as("u1", "/user/update_user_info_ex", &update);
    reply.await.refused_v3(1002, "NoPermissionError");
    let unknown = json!({ "userInfo": { "userID": "u9", "ex": "e" } });
    let reply = gateway.v3("/user/update_user_info_ex", &unknown).await;
    reply.refused_v3(1101, "UserIDNotFoundError");
    let large = json!({ "userInfo": { "userID": "u2", "ex": "e".repeat(PROFILE_BYTES_MAX) } });
    let reply = gateway.v3("/user/update_user_info_ex", &large).await;
    reply.refused_v3(1001, "ArgsError");
    let wrong = with(update, "userInfo", json!({ "userID": "u2", "ex": 1 }));
    let reply = gateway.v3("/user/update_user_info_ex", &wrong).await;
    reply.refused_v3(1001, "ArgsError");
}

#[tokio::test]
async fn updates_at_the_same_time_lose_no_field() {
    let gateway = Gateway::new();
    gateway.register_both().await;
    let update = |field: &str| json!({ "userInfo": { "userID": "u1", field: "new" } });
    let updates = ["nickname", "faceURL", "ex"].map(update);
    let updates = updates
        .iter()
        .map(|body| gateway.v3("/user/update_user_info_ex", body));
    for reply in futures_util::future::join_all(updates).await {
        reply.data_v3();
    }
    let found = info(&gateway, json!(["u1"])).await;
    for field in ["nickname", "faceURL", "ex"] {
        assert_eq!(found[0][field], "new");
    }
}
