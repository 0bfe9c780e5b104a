//! Tokens.

use serde_json::{Value, json};

use super::{ADMIN, Gateway, SECRET};
use crate::ids::Platform;

const LIFETIME_S: u64 = 90 * 24 * 3600;

#[tokio::test]
async fn the_secret_gets_an_administrators_token_and_nobody_elses() {
    let gateway = Gateway::new();
    let ask = async |secret: &str, user: &str| {
        let body = json!({ "secret": secret, "userID": user });
        gateway
            .v3_with(None, "/auth/get_admin_token", body.to_string())
            .await
    };
    let data = ask(SECRET, ADMIN).await.data_v3();
    assert_eq!(data["expireTimeSeconds"], LIFETIME_S);
    let token = data["token"].as_str().unwrap();
    let claims = gateway.delivery.authenticate(token).await.unwrap();
    assert_eq!(claims.platform, Platform::Admin);
    gateway
        .v3_with(Some(token), "/msg/get_server_time", "{}")
        .await
        .data_v3();
    ask("wrong", ADMIN)
        .await
        .refused_v3(1002, "NoPermissionError");
    ask(SECRET, "u1").await.refused_v3(1001, "ArgsError");
}

#[tokio::test]
async fn an_administrator_gets_a_registered_users_token() {
    let gateway = Gateway::new();
    gateway.register_both().await;
    let ask = async |user: &str, platform: u32| {
        let body = json!({ "platformID": platform, "userID": user });
        gateway.v3("/auth/get_user_token", &body).await
    };
    let data = ask("u1", 2).await.data_v3();
    let token = data["token"].as_str().unwrap();
    let body = json!({ "token": token }).to_string();
    let parsed = gateway.v3_with(None, "/auth/parse_token", body).await;
    let expires_at_s = gateway.clock.now_ms() / 1000 + LIFETIME_S;
    let expected = json!({ "userID": "u1", "platformID": 2, "expireTimeSeconds": expires_at_s });
    assert_eq!(parsed.data_v3(), expected);

    ask("u1", 10).await.refused_v3(1002, "NoPermissionError");
    ask(ADMIN, 5).await.refused_v3(1002, "NoPermissionError");
    ask("u1", 12).await.refused_v3(1001, "ArgsError");
    ask("n1", 5).await.refused_v3(1001, "ArgsError");
    ask("u9", 5).await.refused_v3(1101, "UserIDNotFoundError");
}

#[tokio::test]
async fn a_forced_logout_ends_the_tokens_of_one_platform() {
    let gateway = Gateway::new();
    gateway.register_both().await;
    let old = gateway.token("u1");
    gateway.machine.advance(1);
    let body = json!({ "platformID": 5, "userID": "u1" });
    let done = gateway.v3("/auth/force_logout", &body).await.data_v3();
    assert_eq!(done, json!({}));
    let parse = json!({ "token": old }).to_string();
    for reply in [
        gateway.v3_with(None, "/auth/parse_token", parse).await,
        gateway
            .v3_with(Some(&old), "/msg/get_server_time", "{}")
            .await,
    ] {
        reply.refused_v3(1506, "TokenKickedError");
    }
}

#[tokio::test]
async fn each_fault_of_a_token_has_its_code() {
    let gateway = Gateway::new();
    let token = gateway.token("u1");
    let forged = format!("{}A.{}", token.rsplit_once('.').unwrap().0, "AAAA");
    let parse = async |token: &str| {
        let body: Value = json!({ "token": token });
        gateway
            .v3_with(None, "/auth/parse_token", body.to_string())
            .await
    };
    parse("x").await.refused_v3(1503, "TokenMalformedError");
    parse(&forged).await.refused_v3(1502, "TokenInvalidError");
    gateway.machine.advance(LIFETIME_S * 1000);
    parse(&token).await.refused_v3(1501, "TokenExpiredError");
}
