//! Tokens: a revoked token closes its connections, durably; keys rotate; parse_token returns the claims.

use serde_json::json;
use towncrier::protocol::towncrier_v1::proto::{Connect, kicked};

use crate::support::{Gateway, IOS, WEB, notice};

#[tokio::test]
async fn force_logout_closes_and_revokes_also_across_a_kill() {
    let mut gateway = Gateway::start(&[]).await;
    let mut admin = gateway.admin().await;
    let old = gateway.token("alice", WEB).await;
    let connect = |token: &str| Connect {
        token: token.into(),
        ..Connect::default()
    };
    let mut web = gateway.connect_as(connect(&old)).await;
    let mut phone = gateway.connect("alice", IOS).await;
    admin.force_logout("alice", WEB).await;
    web.expect_kicked(kicked::Reason::LoggedOut).await;
    web.expect_close(4410).await;
    phone.expect_backlog().await;
    phone.settle().await;

    let mut again = gateway.dial().await;
    again.say_connect(connect(&old)).await;
    again.expect_close(4401).await;
    gateway.kill();
    gateway.restart().await;
    let mut again = gateway.dial().await;
    again.say_connect(connect(&old)).await;
    again.expect_close(4401).await;
    // A token issued afterwards is valid.
    admin.send(&notice("alice", "welcome back")).await;
    let mut web = gateway.connect("alice", WEB).await;
    assert_eq!(web.expect_push().await.seq, 1);
}

#[tokio::test]
async fn only_an_administrator_logs_out() {
    let gateway = Gateway::start(&[]).await;
    let mut alice = gateway.admin().await;
    alice.token = gateway.token("alice", WEB).await;
    let body = json!({"platform": WEB, "fromUserID": "bob", "operationID": "o"});
    let answer = alice.post("/auth/force_logout", &body).await;
    assert_eq!((answer.status, answer.code()), (400, 801));
}

#[tokio::test]
async fn a_rotated_key_still_verifies_until_it_is_taken_away() {
    const OLD: &str = "auth.token_key=the-old-key-of-32-bytes-and-more";
    const NEW: &str = "auth.token_key=the-new-key-of-32-bytes-and-more";
    const PREVIOUS: &str = "auth.token_key_previous=the-old-key-of-32-bytes-and-more";
    let mut gateway = Gateway::start(&[OLD]).await;
    let connect = Connect {
        token: gateway.token("alice", WEB).await,
        ..Connect::default()
    };
    gateway.kill();
    gateway.restart_with(&[NEW, PREVIOUS]).await;
    gateway.connect_as(connect.clone()).await;
    gateway.kill();
    gateway.restart_with(&[NEW]).await;
    let mut client = gateway.dial().await;
    client.say_connect(connect).await;
    client.expect_close(4401).await;
}

#[tokio::test]
async fn a_session_ends_with_its_token() {
    let gateway = Gateway::start(&["auth.token_lifetime=5s"]).await;
    let mut client = gateway.connect("alice", WEB).await;
    client.expect_close(4401).await;
}

#[tokio::test]
async fn a_token_says_whom_it_stands_for() {
    let gateway = Gateway::start(&[]).await;
    let mut alice = gateway.admin().await;
    alice.token = gateway.token("alice", WEB).await;
    let operation = json!({"operationID": "o"});
    let parsed = alice.post("/auth/parse_token", &operation).await.json();
    assert_eq!(
        (&parsed["data"]["UID"], &parsed["data"]["Platform"]),
        (&json!("alice"), &json!("Web"))
    );
    alice.token = "no token".into();
    assert_eq!(
        alice.post("/auth/parse_token", &operation).await.code(),
        1001
    );
}

/// At each mount of a volume the kubelet gives every file to the pod's group: mode | 0660, and directories mode | 02770.
#[tokio::test]
async fn a_volume_whose_files_were_given_to_a_group_opens_again() {
    use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

    fn mount(path: &Path) {
        let mode = path.metadata().unwrap().permissions().mode();
        let more = if path.is_dir() { 0o2770 } else { 0o660 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode | more)).unwrap();
        if path.is_dir() {
            for entry in path.read_dir().unwrap() {
                mount(&entry.unwrap().path());
            }
        }
    }

    let mut gateway = Gateway::start(&["auth.secret=", "auth.token_key="]).await;
    const TOLD: &str = "may be used by its group";
    assert!(!gateway.said().contains(TOLD));
    gateway.kill();
    mount(&gateway.data());
    gateway.restart().await;
    assert_eq!(gateway.said().matches(TOLD).count(), 1);
    let checked = gateway.command("check").output().unwrap();
    assert!(checked.status.success());
    assert!(String::from_utf8_lossy(&checked.stdout).contains(TOLD));
}

#[tokio::test]
async fn a_gateway_that_is_told_to_sign_strangers_in_says_that_it_does_not() {
    let gateway = Gateway::start(&["listener.demo=true"]).await;
    assert!(gateway.said().contains("listener.demo has no effect"));
}

#[tokio::test]
async fn secrets_of_the_first_start_are_random_private_and_kept() {
    use std::os::unix::fs::PermissionsExt as _;

    let mut gateway = Gateway::start(&["auth.secret=", "auth.token_key="]).await;
    let path = gateway.data().join("secrets.toml");
    let written = std::fs::read_to_string(&path).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    gateway.kill();
    gateway.restart().await;
    assert_eq!(std::fs::read_to_string(&path).unwrap(), written);
}
