//! P7, bad input: each fault gets its documented error or close code, and no other client notices it.

use prost::Message as _;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};
use towncrier::protocol::towncrier_v1::proto::{Ack, ClientFrame, Connect, client_frame};

use crate::support::{Client, Gateway, WEB, eventually, notice, within, witness::Witness};

#[tokio::test]
async fn broken_frames_close_their_connection_only() {
    let gateway = Gateway::start(&[]).await;
    let mut witness = Witness::of(&gateway).await;

    let ping = |nonce| ClientFrame {
        body: Some(client_frame::Body::Ping(
            towncrier::protocol::towncrier_v1::proto::Ping { nonce },
        )),
    };
    let truncated = {
        let mut bytes = ping(u64::MAX).encode_to_vec();
        bytes.pop();
        bytes
    };
    let frames: [(&str, Vec<u8>, u16); 5] = [
        ("truncated protobuf", truncated, 4400),
        ("random bytes", vec![0xff; 40], 4400),
        ("an empty frame", Vec::new(), 4400),
        ("an unknown frame", vec![15 << 3 | 2, 0], 4400),
        ("a frame above 64 KiB", vec![0; 64 * 1024 + 1], 1009),
    ];
    for (what, bytes, code) in frames {
        // Both before Connect and inside a session.
        let mut stranger = gateway.dial().await;
        stranger.say_bytes(bytes.clone()).await;
        stranger.expect_close(code).await;
        let mut client = gateway.connect("mallory", WEB).await;
        client.say_bytes(bytes).await;
        client.expect_close(code).await;
        witness.is_undisturbed(what).await;
    }

    let mut client = gateway.connect("mallory", WEB).await;
    client.say_text("hello").await;
    client.expect_close(1003).await;
    witness.is_undisturbed("a text frame").await;
    assert_eq!(witness.admin.closed(4400).await, 8.0);
    assert_eq!(witness.admin.closed(1009).await, 2.0);
    assert_eq!(witness.admin.closed(1003).await, 1.0);
}

#[tokio::test]
async fn frames_out_of_turn_close_with_4400() {
    let gateway = Gateway::start(&[]).await;
    let mut witness = Witness::of(&gateway).await;
    witness.admin.send(&notice("mallory", "one")).await;

    let mut early = gateway.dial().await;
    early.ping(1).await;
    early.expect_close(4400).await;

    let mut twice = gateway.connect("mallory", WEB).await;
    let token = gateway.token("mallory", WEB).await;
    twice
        .say_connect(Connect {
            token: token.clone(),
            ..Connect::default()
        })
        .await;
    twice.expect_close(4400).await;

    let mut ahead = gateway.connect("mallory", WEB).await;
    ahead.expect_push().await;
    ahead.ack(2).await;
    ahead.expect_close(4400).await;

    let mut no_epoch = gateway.dial().await;
    no_epoch
        .say_connect(Connect {
            token,
            epoch: 0,
            cursor: Some(1),
            ..Connect::default()
        })
        .await;
    no_epoch.expect_close(4400).await;

    // None of this moved the cursor. An old ack is no fault.
    let mut client = gateway.connect("mallory", WEB).await;
    assert_eq!(client.expect_push().await.seq, 1);
    client.ack(1).await;
    client.say(client_frame::Body::Ack(Ack { seq: 0 })).await;
    client.settle().await;
    witness.is_undisturbed("frames out of turn").await;
}

#[tokio::test]
async fn names_too_long_close_with_4400() {
    let gateway = Gateway::start(&[]).await;
    let token = gateway.token("mallory", WEB).await;
    let connect = |device_id: String, client: String| Connect {
        token: token.clone(),
        device_id,
        client,
        ..Connect::default()
    };
    for hello in [
        connect("d".repeat(65), String::new()),
        connect(String::new(), "c".repeat(65)),
        connect("line\nbreak".into(), String::new()),
    ] {
        let mut client = gateway.dial().await;
        client.say_connect(hello).await;
        client.expect_close(4400).await;
    }
}

#[tokio::test]
async fn bad_tokens_close_with_4401() {
    let gateway = Gateway::start(&["auth.token_lifetime=1s"]).await;
    let other = Gateway::start(&[]).await;
    let good = gateway.token("mallory", WEB).await;
    let mut forged = good.clone().into_bytes();
    let last = forged.len() - 2;
    forged[last] = if forged[last] == b'A' { b'B' } else { b'A' };
    let bad = [
        String::new(),
        "not a token".into(),
        String::from_utf8(forged).unwrap(),
        other.token("mallory", WEB).await,
        "x".repeat(10_000),
    ];
    let rejected = async |token: String| {
        let mut client = gateway.dial().await;
        client
            .say_connect(Connect {
                token,
                ..Connect::default()
            })
            .await;
        client.expect_close(4401).await;
    };
    for token in bad {
        rejected(token).await;
    }
    // Repeated until the answer changes, because the gateway's clock decides about expiry, and not ours.
    let mut caller = gateway.admin().await;
    caller.token = good.clone();
    eventually("expiry", async || {
        caller
            .post("/auth/parse_token", &json!({"operationID": "o"}))
            .await
            .code()
            == 1001
    })
    .await;
    rejected(good).await;
}

#[tokio::test]
async fn whoever_never_says_connect_is_closed_in_time() {
    const IDLE: usize = 300;
    let gateway = Gateway::start(&["listener.connect_timeout=500ms"]).await;
    let mut witness = Witness::of(&gateway).await;
    let clients = gateway.place().clients;
    let mut idle = JoinSet::new();
    for _ in 0..IDLE {
        idle.spawn(async move {
            let mut client = Client::dial(clients).await.unwrap();
            client.expect_close(4508).await;
        });
    }
    witness.is_undisturbed("a crowd that says nothing").await;
    while let Some(closed) = idle.join_next().await {
        closed.unwrap();
    }
    assert_eq!(witness.admin.closed(4508).await, IDLE as f64);
    witness.is_undisturbed("its end").await;
    eventually("the sockets to be gone", async || {
        witness.admin.metric("towncrier_connections").await == 1.0
    })
    .await;
}

#[tokio::test]
async fn what_is_no_websocket_gets_an_http_answer_or_the_door() {
    let gateway = Gateway::start(&["listener.connect_timeout=500ms"]).await;
    let mut witness = Witness::of(&gateway).await;
    let ask = async |request: &str| {
        let mut stream = TcpStream::connect(gateway.place().clients).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A reset after the answer is also a valid end.
        let _ = within("the end of the answer", stream.read_to_end(&mut answer)).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    assert!(
        ask("GET /elsewhere HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 404")
    );
    assert!(
        ask("GET /ws HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 426")
    );
    assert!(ask("nonsense\r\n\r\n").await.starts_with("HTTP/1.1 400"));
    let endless = format!("GET /ws HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    assert!(ask(&endless).await.starts_with("HTTP/1.1 431"));
    // The gateway waits for the rest of half a request, but not for ever.
    ask("GET /ws HTTP/1.1\r\nHost").await;
    witness.is_undisturbed("visitors").await;
}

#[tokio::test]
async fn connections_above_the_limit_are_told_to_come_back() {
    let gateway = Gateway::start(&["listener.connections_max=2"]).await;
    let mut witness = Witness::of(&gateway).await;
    let _second = gateway.connect("alice", WEB).await;
    let refused = Client::dial(gateway.place().clients).await;
    let Err(tokio_tungstenite::tungstenite::Error::Http(response)) = refused.map(drop) else {
        panic!("expected HTTP 503");
    };
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key("retry-after"));
    witness.is_undisturbed("a full house").await;
}

/// A notice to "alice" with these fields in place of its own.
fn notice_with(changes: &[(&str, Value)]) -> String {
    let mut request = notice("alice", "bad");
    for (key, value) in changes {
        request[*key] = value.clone();
    }
    request.to_string()
}

/// A notice to "alice" without this field.
fn notice_without(key: &str) -> String {
    let mut request = notice("alice", "bad");
    request.as_object_mut().unwrap().remove(key);
    request.to_string()
}

/// A text to "alice" with this content.
fn text_with(content: Value) -> String {
    notice_with(&[
        ("contentType", 101.into()),
        ("sessionType", 1.into()),
        ("content", content),
    ])
}

/// Sends each of these bodies. Each gets its HTTP status and errCode, is stored nowhere, and is noticed by nobody.
async fn expect_refused(cases: Vec<(&str, String, (u16, u64))>) {
    let gateway = Gateway::start(&[]).await;
    let mut witness = Witness::of(&gateway).await;
    for (what, body, expected) in cases {
        let sent = witness.admin.call("POST", "/manager/send_msg", &[], body);
        let answer = sent.await.unwrap_or_else(|_| panic!("{what}: no answer"));
        let codes = (answer.status, answer.code());
        assert_eq!(codes, expected, "{what}: {answer:?}");
        let said = answer.json()["errMsg"].as_str().map(str::len);
        assert!(said.is_some_and(|length| length > 0), "{what}");
    }
    assert_eq!(witness.admin.bounds("alice").await, (1, 0));
    witness.is_undisturbed("bad sends").await;
}

#[tokio::test]
async fn a_body_that_is_no_send_is_answered_400() {
    let cases = [
        ("malformed JSON", "{\"operationID\":".into()),
        ("no JSON object", "[]".into()),
        ("no body", String::new()),
        ("a wrong type", notice_with(&[("sendID", 7.into())])),
        ("no operationID", notice_without("operationID")),
        ("an empty sendID", notice_with(&[("sendID", "".into())])),
        ("no content", notice_without("content")),
        (
            "content that is no object",
            notice_with(&[("content", "text".into())]),
        ),
        ("no contentType", notice_without("contentType")),
    ];
    let cases = cases.map(|(what, body)| (what, body, (400, 400)));
    expect_refused(cases.into()).await;
}

#[tokio::test]
async fn a_send_to_nobody_or_to_no_id_is_refused() {
    let group = [
        ("contentType", 101.into()),
        ("sessionType", 2.into()),
        ("groupID", "g".into()),
    ];
    expect_refused(vec![
        (
            "no receiver",
            notice_with(&[("recvID", "".into())]),
            (400, 405),
        ),
        ("a group", notice_with(&group), (400, 203)),
        (
            "a control character",
            notice_with(&[("recvID", "a\u{7}b".into())]),
            (400, 400),
        ),
        (
            "an id over 64 bytes",
            notice_with(&[("recvID", "é".repeat(33).into())]),
            (400, 400),
        ),
        (
            "a clientMsgID over 64 bytes",
            notice_with(&[("clientMsgID", "k".repeat(65).into())]),
            (400, 400),
        ),
    ])
    .await;
}

#[tokio::test]
async fn content_that_is_not_of_its_type_is_refused_with_the_code_of_its_fault() {
    let content = |content: Value| notice_with(&[("content", content)]);
    let out_of_range =
        json!({"notificationName": "n", "notificationType": 1, "text": "t", "mixType": 4});
    expect_refused(vec![
        (
            "an unknown contentType",
            notice_with(&[("contentType", 999.into())]),
            (400, 404),
        ),
        (
            "an unknown sessionType",
            notice_with(&[("contentType", 101.into()), ("sessionType", 9.into())]),
            (400, 203),
        ),
        (
            "a text that is a number",
            text_with(json!({"text": 7})),
            (400, 401),
        ),
        ("a text without text", text_with(json!({})), (400, 403)),
        (
            "a notice without a name",
            content(json!({"notificationType": 1, "text": "t"})),
            (400, 403),
        ),
        ("a mixType out of range", content(out_of_range), (400, 403)),
    ])
    .await;
}

#[tokio::test]
async fn a_send_above_a_limit_is_answered_413() {
    expect_refused(vec![
        (
            "content above the limit",
            text_with(json!({"text": "x".repeat(50_000)})),
            (413, 413),
        ),
        (
            "a body above the limit",
            notice_with(&[("ex", "x".repeat(1_100_000).into())]),
            (413, 413),
        ),
    ])
    .await;
}

#[tokio::test]
async fn bad_callers_are_refused_before_their_body_is_read() {
    let gateway = Gateway::start(&[]).await;
    let other = Gateway::start(&[]).await;
    let mut admin = gateway.admin().await;
    let foreign = other.admin().await.token;
    let user = gateway.token("alice", WEB).await;
    let admin_token = admin.token.clone();
    for (token, said) in [
        (String::new(), "parse token failed"),
        ("rubbish".into(), "parse token failed"),
        (foreign, "parse token failed"),
        (user.clone(), "not authorized"),
    ] {
        admin.token = token;
        let answer = admin
            .call("POST", "/manager/send_msg", &[], "not even JSON")
            .await
            .unwrap();
        assert_eq!((answer.status, answer.code()), (400, 400));
        assert_eq!(answer.json()["errMsg"], said);
    }
    // A user reads its own inbox and no other.
    admin.token = user;
    assert_eq!(admin.bounds("alice").await, (1, 0));
    let others = json!({"reqIdentifier": 1001, "sendID": "bob", "operationID": "o", "msgIncr": 1});
    assert_eq!(admin.post("/msg/newest_seq", &others).await.code(), 400);
    let wrong =
        json!({"secret": "wrong-secret", "platform": WEB, "userID": "alice", "operationID": "o"});
    assert_eq!(admin.post("/auth/user_token", &wrong).await.code(), 401);
    admin.token = admin_token;
    admin.send(&notice("alice", "good")).await;
    assert_eq!(admin.get("/no/such/path").await.status, 404);
    assert_eq!(admin.get("/manager/send_msg").await.status, 405);
    assert_eq!(
        admin.get("/openapi.json").await.json()["openapi"]
            .as_str()
            .map(|v| v.len() > 2),
        Some(true)
    );
}

#[tokio::test]
async fn a_full_queue_is_answered_429_and_nothing_of_it_is_stored() {
    const SENDERS: usize = 64;
    let gateway = Gateway::start(&["log.queue_max=1"]).await;
    let mut admin = gateway.admin().await;
    let (mut accepted, mut refused) = (0, 0);
    // Senders meet in the queue only by chance, so this repeats until some did.
    within("a full queue", async {
        while refused == 0 {
            let mut senders = JoinSet::new();
            for _ in 0..SENDERS {
                let mut admin = admin.another();
                let send =
                    async move { admin.post("/manager/send_msg", &notice("alice", "x")).await };
                senders.spawn(send);
            }
            for answer in senders.join_all().await {
                match (answer.status, answer.code()) {
                    (200, 0) => accepted += 1,
                    (429, 429) => {
                        assert!(answer.retry_after.is_some());
                        refused += 1;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    })
    .await;
    assert_eq!(admin.bounds("alice").await, (1, accepted));
}
