//! Notification accounts.

use serde_json::{Value, json};

use super::Gateway;

async fn search(gateway: &Gateway, keyword: &str, page: u32, length: u32) -> Value {
    let pagination = json!({ "pageNumber": page, "showNumber": length });
    let body = json!({ "keyword": keyword, "pagination": pagination });
    let reply = gateway.v3("/user/search_notification_account", &body).await;
    reply.data_v3()
}

#[tokio::test]
async fn accounts_are_added_changed_and_found_by_id_or_name() {
    let gateway = Gateway::new();
    gateway.register_both().await;
    let body = json!({ "userID": "n2", "nickName": "Weather", "appMangerLevel": 3 });
    let added = gateway.v3("/user/add_notification_account", &body).await;
    let n2 = json!({ "userID": "n2", "nickName": "Weather", "faceURL": "", "appMangerLevel": 3 });
    assert_eq!(added.data_v3(), n2);
    let n1 = json!({ "userID": "n1", "nickName": "News", "faceURL": "g", "appMangerLevel": 3 });
    let found = |total: u32, accounts: &[&Value]| json!({ "total": total, "notificationAccounts": accounts });
    assert_eq!(search(&gateway, "", 1, 10).await, found(2, &[&n1, &n2]));
    assert_eq!(search(&gateway, "", 2, 1).await, found(2, &[&n2]));
    assert_eq!(search(&gateway, "", 3, 1).await, found(2, &[]));
    assert_eq!(search(&gateway, "n2", 1, 9).await, found(1, &[&n2]));
    assert_eq!(search(&gateway, "New", 1, 9).await, found(1, &[&n1]));
    assert_eq!(search(&gateway, "One", 1, 9).await, found(0, &[]));

    let body = json!({ "userID": "n1", "nickName": "Newest", "faceURL": "" });
    let reply = gateway.v3("/user/update_notification_account", &body).await;
    reply.data_v3();
    let n1 = json!({ "userID": "n1", "nickName": "Newest", "faceURL": "g", "appMangerLevel": 3 });
    assert_eq!(search(&gateway, "n1", 1, 9).await, found(1, &[&n1]));
}

#[tokio::test]
async fn an_account_without_an_id_gets_ten_digits() {
    let gateway = Gateway::new();
    let body = json!({ "nickName": "Weather" });
    let added = gateway.v3("/user/add_notification_account", &body).await;
    let id = added.data_v3()["userID"].as_str().unwrap().to_owned();
    assert_eq!(id.len(), 10);
    assert!(id.bytes().all(|byte| byte.is_ascii_digit()), "{id}");
}

#[tokio::test]
async fn ids_are_used_once_and_users_are_no_accounts() {
    let gateway = Gateway::new();
    gateway.register_both().await;
    for user in ["u1", "n1"] {
        let body = json!({ "userID": user, "nickName": "x" });
        let reply = gateway.v3("/user/add_notification_account", &body).await;
        reply.refused_v3(1003, "DuplicateKeyError");
    }
    let body = json!({ "userID": "n3", "nickName": "x", "appMangerLevel": 2 });
    let reply = gateway.v3("/user/add_notification_account", &body).await;
    reply.refused_v3(1001, "ArgsError");
    for (user, code, name) in [
        ("u1", 1001, "ArgsError"),
        ("u9", 1101, "UserIDNotFoundError"),
    ] {
        let body = json!({ "userID": user, "nickName": "x" });
        let reply = gateway.v3("/user/update_notification_account", &body).await;
        reply.refused_v3(code, name);
    }
    for pagination in [
        json!({}),
        json!({ "pageNumber": 0, "showNumber": 1 }),
        json!({ "pageNumber": 1, "showNumber": 0 }),
        json!({ "pageNumber": -1, "showNumber": 1 }),
        json!({ "pageNumber": 1, "showNumber": "1" }),
    ] {
        let body = json!({ "pagination": pagination });
        let reply = gateway.v3("/user/search_notification_account", &body).await;
        reply.refused_v3(1001, "ArgsError");
    }
}
