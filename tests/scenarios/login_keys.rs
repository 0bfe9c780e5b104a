//! Tokens of a company's own login: its keys are read from their place and rotate under load, and a session ends with its token.

use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message as Socket},
};
use towncrier::protocol::towncrier_v1::proto::Connect;

use crate::support::{
    Client, Gateway, Heard, IOS, WEB, eventually,
    login_server::{LoginKey, LoginServer, key_set},
    notice, text_of, within,
};

fn connect(token: String) -> Connect {
    Connect {
        token,
        ..Connect::default()
    }
}

fn texts(settings: &[String]) -> Vec<&str> {
    settings.iter().map(String::as_str).collect()
}

/// Tries a login of OpenIM's. The error of a refused one is its errCode.
async fn open_im(
    gateway: &Gateway,
    user: &str,
    token: &str,
) -> Result<WebSocketStream<TcpStream>, u64> {
    let clients = gateway.place().clients;
    let stream = TcpStream::connect(clients).await.unwrap();
    let query = format!("sendID={user}&platformID={WEB}&token={token}&operationID=o");
    let upgrade = client_async(format!("ws://{clients}/?{query}"), stream);
    match within("the upgrade", upgrade).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(response)) => {
            let body: Value = serde_json::from_slice(response.body().as_ref().unwrap()).unwrap();
            Err(body["errCode"].as_u64().unwrap())
        }
        Err(error) => panic!("{error}"),
    }
}

/// Clients log in all the time with a token of the key in use, while keys come and go. None is refused.
#[tokio::test]
async fn keys_rotate_while_clients_log_in_and_no_good_token_is_refused() {
    let (first, second) = (LoginKey::rsa("first"), LoginKey::p256("second"));
    let login = LoginServer::start(&[&first]).await;
    let settings = login.settings("1s");
    let gateway = Gateway::start(&texts(&settings)).await;
    let clients = gateway.place().clients;
    let signer = Arc::new(Mutex::new(first));
    let (is_over, logins) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let mut load = JoinSet::new();
    for number in 0..8 {
        let (signer, is_over, logins) = (signer.clone(), is_over.clone(), logins.clone());
        load.spawn(async move {
            let user = format!("user-{number}");
            while !is_over.load(Relaxed) {
                let token = signer.lock().unwrap().token(&user, IOS, 60);
                let mut client = Client::dial(clients).await.unwrap();
                // This fails if the login is refused.
                client.log_in(connect(token)).await;
                logins.fetch_add(1, Relaxed);
            }
        });
    }
    let more = async |what: &str| {
        let before = logins.load(Relaxed);
        eventually(what, async || logins.load(Relaxed) > before + 40).await;
    };
    more("logins with the first key").await;
    let old_token = signer.lock().unwrap().token("late", WEB, 600);
    // The new key is published and used at once, and the old one is removed later.
    let third = LoginKey::p256("third");
    login.publish(&[&*signer.lock().unwrap(), &second, &third]);
    let first = std::mem::replace(&mut *signer.lock().unwrap(), second);
    more("logins with the second key").await;
    gateway.connect_as(connect(old_token.clone())).await;
    assert!(open_im(&gateway, "late", &old_token).await.is_ok());
    login.publish(&[&*signer.lock().unwrap(), &third]);
    let refused = async || {
        let mut client = gateway.dial().await;
        client.say_connect(connect(old_token.clone())).await;
        matches!(client.hear().await, Heard::Closed { code: 4401, .. })
    };
    eventually("the removed key's tokens are refused", refused).await;
    assert_eq!(
        open_im(&gateway, "late", &old_token).await.err(),
        Some(1502)
    );
    let second = std::mem::replace(&mut *signer.lock().unwrap(), third);
    more("logins with the third key").await;
    is_over.store(true, Relaxed);
    while let Some(ended) = load.join_next().await {
        ended.unwrap();
    }
    drop((first, second));
}

#[tokio::test]
async fn a_key_of_a_set_that_is_read_seldom_is_found_at_once_and_forgers_make_no_load() {
    let (known, new, unknown) = (
        LoginKey::p256("known"),
        LoginKey::p256("new"),
        LoginKey::p256("unknown"),
    );
    let login = LoginServer::start(&[&known]).await;
    let settings = login.settings("1h");
    let gateway = Gateway::start(&texts(&settings)).await;
    gateway
        .connect_as(connect(known.token("u1", WEB, 60)))
        .await;
    assert_eq!(login.asked(), 1);
    login.publish(&[&known, &new]);
    gateway.connect_as(connect(new.token("u2", WEB, 60))).await;
    assert_eq!(login.asked(), 2);
    let mut forgers = JoinSet::new();
    for number in 0..40 {
        let token = unknown.token(&format!("f{number}"), WEB, 60);
        let mut client = gateway.dial().await;
        forgers.spawn(async move {
            client.say_connect(connect(token)).await;
            client.expect_close(4401).await;
        });
    }
    while let Some(ended) = forgers.join_next().await {
        ended.unwrap();
    }
    assert!(login.asked() <= 5, "{} looks", login.asked());
    // The gateway's own tokens are good as before, and so is its logout of a user whose token it did not issue.
    gateway.connect("u3", WEB).await;
    let token = new.token("u4", WEB, 60);
    let mut client = gateway.connect_as(connect(token.clone())).await;
    // The token comes from a clock that is ahead, and nobody has used it before the logout.
    let unused = new.token_ahead("u4", WEB, 60, 50);
    let mut admin = gateway.admin().await;
    admin.force_logout("u4", WEB).await;
    client
        .expect_kicked(towncrier::protocol::towncrier_v1::proto::kicked::Reason::LoggedOut)
        .await;
    client.expect_close(4410).await;
    for revoked in [token, unused, new.token_ahead("u5", WEB, 60, 90)] {
        let mut again = gateway.dial().await;
        again.say_connect(connect(revoked)).await;
        again.expect_close(4401).await;
    }
}

#[tokio::test]
async fn a_session_of_either_protocol_ends_with_its_token() {
    let key = LoginKey::p256("key");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.json");
    fs::write(&path, key_set(&[&key])).unwrap();
    let settings = [
        format!("auth.jwks_file={}", path.display()),
        "auth.claims.user=sub".into(),
        "auth.claims.platform=device".into(),
    ];
    let gateway = Gateway::start(&texts(&settings)).await;
    let (short, long) = (key.token("u1", IOS, 4), key.token("u2", IOS, 600));
    let sdk_token = key.token("u3", WEB, 4);
    let mut ended = gateway.connect_as(connect(short.clone())).await;
    let mut other = gateway.connect_as(connect(long)).await;
    let mut sdk = open_im(&gateway, "u3", &sdk_token).await.unwrap();
    ended.expect_close(4401).await;
    let sdk_ended = async {
        while let Some(Ok(said)) = sdk.next().await {
            if let Socket::Close(_) = said {
                return;
            }
        }
    };
    within("the end of the session", sdk_ended).await;
    assert_eq!(open_im(&gateway, "u3", &sdk_token).await.err(), Some(1501));
    let mut again = gateway.dial().await;
    again.say_connect(connect(short)).await;
    again.expect_close(4401).await;
    let mut admin = gateway.admin().await;
    admin.send(&notice("u2", "still here")).await;
    assert_eq!(text_of(&other.expect_push().await), "still here");
}

#[tokio::test]
async fn an_act_of_an_administrator_is_in_the_log_with_its_real_address_and_nothing_secret() {
    let gateway = Gateway::start(&["listener.trusted_proxies=127.0.0.1"]).await;
    let mut admin = gateway.admin().await;
    admin.send(&notice("u1", "a-private-text")).await;
    let token = admin.token.clone();
    let refused = admin.post("/auth/force_logout", &json!({})).await;
    assert_eq!(refused.code(), 400);
    let body = json!({ "operationID": "o", "fromUserID": "u1", "platform": WEB }).to_string();
    let request = format!(
        "POST /auth/force_logout HTTP/1.1\r\nhost: a\r\ntoken: {token}\r\nconnection: close\r\n\
         x-forwarded-for: 203.0.113.1, 192.0.2.9\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(gateway.place().admin).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within("the answer", stream.read_to_string(&mut answer))
        .await
        .unwrap();
    assert!(answer.contains("\"errCode\":0"), "{answer}");
    let lines = async || {
        let said = gateway.said();
        let lines = said
            .lines()
            .filter(|line| line.contains("towncrier::audit"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let has_all = async || lines().await.len() >= 4;
    eventually("the lines of four calls", has_all).await;
    let all = lines().await.join("\n");
    assert!(all.contains("/auth/user_token"), "{all}");
    assert!(all.contains("/manager/send_msg"), "{all}");
    assert!(all.contains("/auth/force_logout"), "{all}");
    assert!(all.contains("\"from\":\"192.0.2.9\""), "{all}");
    for secret in ["a-private-text", &token, "scenario-secret"] {
        assert!(!all.contains(secret), "{all}");
    }
}
