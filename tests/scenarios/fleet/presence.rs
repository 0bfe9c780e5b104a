//! Each gateway knows the sessions of all, and of a place's sessions the newest stays.

use serde_json::{Value, json};
use towncrier::protocol::towncrier_v1::proto::kicked;

use super::gateways;
use crate::support::{Gateway, IOS, WEB, eventually, notice};

/// The platforms and gateways of a user's sessions, as an administrator sees them at this gateway.
async fn sessions(gateway: &Gateway, user: &str) -> Vec<(String, u64)> {
    let mut admin = gateway.admin().await;
    let token = admin.token.clone();
    let body = json!({ "operationID": "scenario" }).to_string();
    let answer = admin
        .call("POST", "/user/get_online_users", &[("token", &token)], body)
        .await;
    let answer = answer.unwrap().json();
    let users = answer["data"]["users"].as_array().unwrap().clone();
    let of_user = users.iter().filter(|one| one["userID"] == user);
    let sessions = of_user.flat_map(|one| one["sessions"].as_array().unwrap());
    let seen = |session: &Value| {
        let platform = session["platform"].as_str().unwrap().to_owned();
        (platform, session["gatewayID"].as_u64().unwrap())
    };
    let mut sessions: Vec<_> = sessions.map(seen).collect();
    sessions.sort_unstable();
    sessions
}

#[tokio::test]
async fn a_device_that_hops_is_replaced_at_the_gateway_that_it_left() {
    let Some((_server, [a, b])) = gateways().await else {
        return;
    };
    let mut admin = a.admin().await;
    admin.send(&notice("alice", "one")).await;
    let mut older = a.connect("alice", WEB).await;
    assert_eq!(older.expect_push().await.seq, 1);
    let mut newer = b.connect("alice", WEB).await;
    older.expect_kicked(kicked::Reason::Replaced).await;
    older.expect_close(4409).await;
    assert_eq!(newer.expect_push().await.seq, 1);
    for gateway in [&a, &b] {
        let mut admin = gateway.admin().await;
        assert_eq!(admin.presence("alice").await, ["Web"]);
        assert_eq!(sessions(gateway, "alice").await.len(), 1);
    }
    // Back again: now the other one is told.
    let _back = a.connect("alice", WEB).await;
    newer.expect_kicked(kicked::Reason::Replaced).await;
    newer.expect_close(4409).await;
}

#[tokio::test]
async fn each_gateway_knows_the_sessions_of_all_and_forgets_those_that_ended() {
    let Some((_server, [a, b])) = gateways().await else {
        return;
    };
    let phone = a.connect("alice", IOS).await;
    let _web = b.connect("alice", WEB).await;
    let seen = sessions(&a, "alice").await;
    let platforms: Vec<_> = seen.iter().map(|(platform, _)| &**platform).collect();
    assert_eq!(platforms, ["IOS", "Web"]);
    assert_ne!(seen[0].1, seen[1].1, "they are at two gateways");
    assert_eq!(sessions(&b, "alice").await, seen);
    for gateway in [&a, &b] {
        let mut admin = gateway.admin().await;
        assert_eq!(admin.presence("alice").await, ["IOS", "Web"]);
    }
    drop(phone);
    let mut admin = b.admin().await;
    eventually("the end of a session elsewhere", async || {
        admin.presence("alice").await == ["Web"]
    })
    .await;
}

#[tokio::test]
async fn the_sessions_of_a_gateway_that_was_killed_are_forgotten() {
    let Some((_server, [mut a, b])) = gateways().await else {
        return;
    };
    let _phone = a.connect("alice", IOS).await;
    let mut admin = b.admin().await;
    assert_eq!(admin.presence("alice").await, ["IOS"]);
    a.kill();
    eventually("the silence of a gateway that is gone", async || {
        admin.presence("alice").await.is_empty()
    })
    .await;
    let _web = b.connect("alice", WEB).await;
    assert_eq!(admin.presence("alice").await, ["Web"]);
}
