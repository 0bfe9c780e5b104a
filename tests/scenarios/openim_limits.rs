//! P7, bad input of OpenIM's clients: each fault gets its documented answer, and no other client notices it.

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{net::TcpStream, task::JoinSet};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message as Socket},
};

use crate::support::{Gateway, WEB, eventually, notice, within, witness::Witness};

/// The users of the fuzz targets' seeds.
const USER: &str = "u1";
const GOB: &[u8] = include_bytes!("../../fuzz/seeds/openim_gob/overview");
const GZIP_BOMB: &[u8] = include_bytes!("../../fuzz/seeds/openim_gzip/bomb");

type Sdk = WebSocketStream<TcpStream>;

/// The upgrade of an SDK with this query.
async fn upgrade(gateway: &Gateway, query: &str) -> Result<Sdk, Error> {
    let clients = gateway.place().clients;
    let stream = TcpStream::connect(clients).await?;
    let upgrade = client_async(format!("ws://{clients}/?{query}"), stream);
    within("the upgrade", upgrade)
        .await
        .map(|(socket, _)| socket)
}

/// A session of [`USER`], which its verdict has welcomed if it asked for one.
async fn log_in(gateway: &Gateway, more: &str) -> Sdk {
    let token = gateway.token(USER, WEB).await;
    let query = format!("sendID={USER}&platformID={WEB}&token={token}&operationID=o&{more}");
    let mut sdk = upgrade(gateway, &query).await.unwrap();
    if more.contains("isMsgResp=true") {
        let welcome = hear(&mut sdk).await;
        assert!(matches!(welcome, Socket::Text(_)), "{welcome:?}");
    }
    sdk
}

/// The next message, but for pings.
async fn hear(sdk: &mut Sdk) -> Socket {
    loop {
        let heard = within("a message", sdk.next()).await.unwrap().unwrap();
        if !matches!(heard, Socket::Ping(_)) {
            return heard;
        }
    }
}

/// The code of the close that comes next.
async fn closed(sdk: &mut Sdk) -> u16 {
    match hear(sdk).await {
        Socket::Close(Some(frame)) => frame.code.into(),
        other => panic!("expected a close, got {other:?}"),
    }
}

/// The answer to a request in JSON.
async fn answered(sdk: &mut Sdk) -> Value {
    match hear(sdk).await {
        Socket::Binary(bytes) => serde_json::from_slice(&bytes).unwrap(),
        other => panic!("expected an answer, got {other:?}"),
    }
}

async fn say(sdk: &mut Sdk, bytes: impl Into<Bytes>) {
    let send = sdk.send(Socket::Binary(bytes.into()));
    within("room to send", send).await.unwrap();
}

const JSON: &str = "sdkType=js&isMsgResp=true";

#[tokio::test]
async fn what_is_no_request_closes_its_connection_only() {
    let gateway = Gateway::start(&[]).await;
    let mut witness = Witness::of(&gateway).await;
    let changed = |at: usize, byte: u8| {
        let mut gob = GOB.to_vec();
        gob[at] = byte;
        gob
    };
    let request = |name: &str, value: Value| {
        let mut request = json!({ "reqIdentifier": 1006, "msgIncr": "1", "sendID": USER, "operationID": "o", "data": "" });
        request[name] = value;
        request.to_string().into_bytes()
    };
    let (gob, gzip) = ("", "compression=gzip");
    let faults: [(&str, &str, Vec<u8>, u16); 15] = [
        ("nothing in gob", gob, Vec::new(), 4400),
        ("cut gob", gob, GOB[..GOB.len() - 5].to_vec(), 4400),
        ("a longer type than there is", gob, changed(0, 0x7f), 4400),
        ("gob of no known type", gob, changed(3, 0x55), 4400),
        ("random bytes", gob, vec![0xff; 40], 4400),
        ("a frame above 256 KiB", gob, vec![0; 256 * 1024 + 1], 1009),
        ("no gzip", gzip, GOB.to_vec(), 4400),
        ("a gzip bomb", gzip, GZIP_BOMB.to_vec(), 4400),
        (
            "cut gzip",
            gzip,
            GZIP_BOMB[..GZIP_BOMB.len() / 2].to_vec(),
            4400,
        ),
        ("no JSON", JSON, b"{\"reqIdentifier\":".to_vec(), 4400),
        ("a list", JSON, b"[1001]".to_vec(), 4400),
        (
            "a number as text",
            JSON,
            request("reqIdentifier", json!("1006")),
            4400,
        ),
        ("data as an object", JSON, request("data", json!({})), 4400),
        (
            "data that is no base64",
            JSON,
            request("data", json!("*")),
            4400,
        ),
        ("another user", JSON, request("sendID", json!("u2")), 4400),
    ];
    for (what, query, bytes, code) in faults {
        let mut sdk = log_in(&gateway, query).await;
        say(&mut sdk, bytes).await;
        assert_eq!(closed(&mut sdk).await, code, "{what}");
        witness.is_undisturbed(what).await;
    }
    assert_eq!(witness.admin.closed(4400).await, 14.0);
    assert_eq!(witness.admin.closed(1009).await, 1.0);
}

#[tokio::test]
async fn a_request_that_cannot_be_met_gets_an_error_on_a_connection_that_stays() {
    let gateway = Gateway::start(&[]).await;
    let mut witness = Witness::of(&gateway).await;
    let mut sdk = log_in(&gateway, JSON).await;
    // Requests: sending, a number that nobody knows, protobuf that is cut, and a question in another user's name.
    let faults = [
        (1003, "", 1002),
        (1004, "", 1001),
        (-7, "", 1001),
        (1006, "CgX/", 1001),
        (1006, "CgJ1Mg==", 1002),
    ];
    for (number, data, code) in faults {
        let request = json!({ "reqIdentifier": number, "msgIncr": "5", "sendID": USER, "operationID": "o", "data": data });
        say(&mut sdk, request.to_string()).await;
        let answer = answered(&mut sdk).await;
        assert_eq!(answer["errCode"], code, "{number}: {answer}");
        assert_eq!(answer["msgIncr"], "5", "{answer}");
        assert!(!answer["errMsg"].as_str().unwrap().is_empty(), "{answer}");
    }
    say(&mut sdk, json!({ "reqIdentifier": 1006, "msgIncr": "6", "sendID": USER, "operationID": "o", "data": "CgJ1MQ==" }).to_string()).await;
    assert_eq!(answered(&mut sdk).await["errCode"], 0);
    witness.is_undisturbed("errors").await;
}

#[tokio::test]
async fn a_login_in_another_users_name_is_refused_in_either_form() {
    let gateway = Gateway::start(&[]).await;
    let mut witness = Witness::of(&gateway).await;
    let token = gateway.token("u2", WEB).await;
    for (user, platform, token) in [
        (USER, WEB, token.as_str()),
        ("u2", 1, &token),
        ("u2", WEB, "no.token.at-all"),
    ] {
        let query = format!("sendID={user}&platformID={platform}&token={token}&operationID=o");
        match upgrade(&gateway, &query).await.unwrap_err() {
            Error::Http(answer) => {
                assert_eq!(answer.status(), 200);
                let body: Value = serde_json::from_slice(answer.body().as_ref().unwrap()).unwrap();
                assert_eq!(body["errCode"], 1502, "{body}");
            }
            other => panic!("expected an answer, got {other}"),
        }
        let mut sdk = upgrade(&gateway, &format!("{query}&{JSON}")).await.unwrap();
        let Socket::Text(verdict) = hear(&mut sdk).await else {
            panic!("no verdict")
        };
        let verdict: Value = serde_json::from_str(&verdict).unwrap();
        assert_eq!(verdict["errCode"], 1502, "{verdict}");
        assert_eq!(closed(&mut sdk).await, 4401);
        witness.is_undisturbed(user).await;
    }
    assert!(!gateway.said().contains(&token), "a token is in the log");
}

/// Sessions that log in and then say nothing, not even a pong: their queues are bounded, and each is closed in the end.
async fn silence(sessions: usize, heartbeat: &str) {
    let gateway = Gateway::start(&[
        &format!("sessions.heartbeat={heartbeat}"),
        "listener.handshakes_per_second_max=100000",
        "listener.handshakes_max=10000",
        "listener.handshakes_per_address_max=10000",
    ])
    .await;
    let mut witness = Witness::of(&gateway).await;
    let mut logins = JoinSet::new();
    let mut silent = Vec::new();
    for number in 0..sessions {
        let token = witness.admin.token(&format!("silent-{number}"), WEB).await;
        let query = format!("sendID=silent-{number}&platformID={WEB}&token={token}&operationID=o");
        let clients = gateway.place().clients;
        logins.spawn(async move {
            let stream = TcpStream::connect(clients).await.unwrap();
            let upgrade = client_async(format!("ws://{clients}/?{query}"), stream);
            within("the upgrade", upgrade).await.unwrap().0
        });
        if logins.len() == 100 {
            silent.push(logins.join_next().await.unwrap().unwrap());
        }
    }
    silent.extend(logins.join_all().await);
    let before = gateway.resident_bytes();
    let mut everyone = notice("", &"x".repeat(1000));
    everyone["isSendAll"] = true.into();
    for _ in 0..3 {
        let sent = witness
            .admin
            .post("/manager/batch_send_msg", &everyone)
            .await;
        assert_eq!(sent.code(), 0, "{}", sent.text);
        let message = witness.client.expect_push().await;
        witness.client.ack(message.seq).await;
    }
    let each = gateway.resident_bytes().saturating_sub(before) / sessions as u64;
    assert!(each < 64 * 1024, "{each} bytes for each silent session");
    eventually("an end of all silent sessions", async || {
        witness.is_undisturbed("silence").await;
        witness.admin.metric("towncrier_sessions").await == 1.0
    })
    .await;
    assert_eq!(witness.admin.closed(4501).await as usize, sessions);
    drop(silent);
}

#[tokio::test]
async fn sessions_that_never_say_anything_end_and_disturb_nobody() {
    silence(200, "2s").await;
}

#[tokio::test]
#[ignore = "ten thousand sockets: half a minute"]
async fn ten_thousand_sessions_that_never_say_anything_end_and_disturb_nobody() {
    silence(10_000, "8s").await;
}
