//! P7 in admission: silent clients, token guessers and storms keep no other client out, on either port. Sessions that
//! resume go before new ones.

use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};
use tokio_tungstenite::tungstenite::{Error, http::Response};
use towncrier::protocol::towncrier_v1::proto::{Connect, server_frame::Body};

use crate::support::{
    Client, Gateway, Heard, WEB, client::knock_from, eventually, notice, text_of, within,
};

/// The source address of the other clients. Every other client here comes from 127.0.0.1.
const ELSEWHERE: [u8; 4] = [127, 0, 0, 2];

/// Deadlines so far away that only cutting off an arrival can make room.
const PATIENT: [&str; 2] = ["listener.upgrade_timeout=1h", "listener.connect_timeout=1h"];

async fn refused(dialled: Result<Client, Error>) -> Response<Option<Vec<u8>>> {
    match dialled {
        Err(Error::Http(response)) => *response,
        Err(other) => panic!("expected an HTTP answer, got {other}"),
        Ok(_) => panic!("expected an HTTP answer, was let in"),
    }
}

fn hello(token: &str) -> Connect {
    Connect {
        token: token.into(),
        ..Connect::default()
    }
}

#[tokio::test]
async fn silence_on_the_client_port_keeps_nobody_out() {
    let [upgrade, connect] = PATIENT;
    let gateway = Gateway::start(&[upgrade, connect, "listener.handshakes_max=16"]).await;
    let clients = gateway.place().clients;
    let mut admin = gateway.admin().await;
    let mut silent = Vec::new();
    let mut wordless = Vec::new();
    for number in 0..100 {
        // Neither clients without a request nor clients without a Connect. From the 33rd on, each is one too many.
        silent.push(TcpStream::connect(clients).await.unwrap());
        wordless.push(Client::dial(clients).await.expect("upgraded"));
        if number % 10 == 0 {
            gateway.connect(&format!("user-{number}"), WEB).await;
            assert_eq!(admin.get("/readyz").await.status, 200);
        }
    }
    let mut session = gateway.connect("alice", WEB).await;
    admin.send(&notice("alice", "through")).await;
    assert_eq!(text_of(&session.expect_push().await), "through");
    // The arrivals that were cut off are gone: two lobbies of 16 and the one session are left.
    eventually("the others to be cut off", async || {
        admin.metric("towncrier_connections").await <= 33.0
    })
    .await;
    let crowded = "towncrier_connections_refused_total{reason=\"crowded\"}";
    assert!(admin.metric(crowded).await >= 168.0);
}

#[tokio::test]
async fn a_crowd_from_one_address_takes_no_place_of_another() {
    let [upgrade, connect] = PATIENT;
    let gateway =
        Gateway::start(&[upgrade, connect, "listener.handshakes_per_address_max=4"]).await;
    let clients = gateway.place().clients;
    let mut admin = gateway.admin().await;
    let mut slow = gateway.dial().await;
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.push(knock_from(ELSEWHERE, clients).await.unwrap());
    }
    // Four stay in each of the two reactors.
    let cut_off = "towncrier_connections_refused_total{reason=\"address\"}";
    eventually("the crowd's oldest to be cut off", async || {
        admin.metric(cut_off).await == 92.0
    })
    .await;
    // The arrival from before them was not cut off, and they do not keep their own neighbours out.
    slow.log_in(hello(&gateway.token("slow", WEB).await)).await;
    let mut neighbour = Client::dial_from(ELSEWHERE, clients).await.unwrap();
    let token = gateway.token("neighbour", WEB).await;
    neighbour.log_in(hello(&token)).await;
}

#[tokio::test]
async fn a_request_is_due_earlier_than_connect() {
    let gateway = Gateway::start(&[
        "listener.upgrade_timeout=300ms",
        "listener.connect_timeout=1h",
    ])
    .await;
    let clients = gateway.place().clients;
    let mut upgraded = gateway.dial().await;
    for said in ["", "GET /ws HTTP/1.1\r\nHost"] {
        let mut stream = TcpStream::connect(clients).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        let end = within("the end", stream.read_to_end(&mut Vec::new())).await;
        assert!(matches!(end, Ok(0)), "{end:?}");
    }
    upgraded
        .log_in(hello(&gateway.token("alice", WEB).await))
        .await;
}

#[tokio::test]
async fn whoever_guesses_tokens_is_told_to_wait_and_others_are_not() {
    let gateway = Gateway::start(&["listener.bad_tokens_per_minute_max=3"]).await;
    let clients = gateway.place().clients;
    let mut session = gateway.connect("alice", WEB).await;
    for guess in ["one", "two", "three"] {
        let mut guesser = gateway.dial().await;
        guesser.say_connect(hello(guess)).await;
        guesser.expect_close(4401).await;
    }
    let answer = refused(Client::dial(clients).await).await;
    assert_eq!(answer.status(), 429);
    assert!(answer.headers().contains_key("retry-after"));
    let mut other = Client::dial_from(ELSEWHERE, clients).await.unwrap();
    other.log_in(hello(&gateway.token("bob", WEB).await)).await;
    // A connected session stays connected.
    session.settle().await;
}

#[tokio::test]
async fn one_stray_program_keeps_out_none_of_its_neighbours() {
    let gateway = Gateway::start(&["listener.bad_tokens_per_minute_max=2"]).await;
    let mut admin = gateway.admin().await;
    let revoked = gateway.token("bob", WEB).await;
    let log_out = json!({"operationID": "o", "platform": WEB, "fromUserID": "bob"});
    admin.post("/auth/force_logout", &log_out).await;
    for token in ["no token", &revoked] {
        for _ in 0..10 {
            let mut stray = gateway.dial().await;
            stray.say_connect(hello(token)).await;
            stray.expect_close(4401).await;
        }
    }
    gateway.connect("alice", WEB).await;
}

#[tokio::test]
async fn above_its_memory_nobody_is_let_in() {
    let gateway = Gateway::start(&["listener.memory_bytes_max=1048576"]).await;
    let answer = refused(Client::dial(gateway.place().clients).await).await;
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    let mut admin = gateway.admin().await;
    assert_eq!(admin.get("/healthz").await.status, 200);
    let refused = "towncrier_connections_refused_total{reason=\"memory\"}";
    assert_eq!(admin.metric(refused).await, 1.0);
}

#[tokio::test]
async fn in_a_storm_sessions_that_resume_go_before_new_ones() {
    let gateway = Gateway::start(&["listener.handshakes_per_second_max=50"]).await;
    let known = gateway.token("known", WEB).await;
    drop(gateway.connect("known", WEB).await);
    let clients = gateway.place().clients;
    let mut storm = JoinSet::new();
    for _ in 0..8 {
        storm.spawn(async move {
            loop {
                let _ = Client::dial(clients).await;
            }
        });
    }
    let through = async || loop {
        match Client::dial(clients).await {
            Ok(client) => return client,
            Err(Error::Http(answer)) => assert_eq!(answer.status(), 503),
            Err(error) => panic!("{error}"),
        }
    };
    let mut admin = gateway.admin().await;
    let mut number = 0;
    eventually("a new session to be told to come later", async || {
        number += 1;
        let token = admin.token(&format!("new-{number}"), WEB).await;
        let mut new = through().await;
        new.say_connect(hello(&token)).await;
        match new.hear().await {
            Heard::Frame(Body::Connected(_)) => false,
            Heard::Closed { code: 4503, reason } => {
                let delay_ms: u32 = reason.parse().expect("the delay");
                assert!(delay_ms >= 10_000);
                true
            }
            other => panic!("{other:?}"),
        }
    })
    .await;
    for _ in 0..10 {
        let mut client = within("room for one that is known", through()).await;
        client.log_in(hello(&known)).await;
    }
}

#[tokio::test]
async fn silence_on_the_admin_port_keeps_nobody_out() {
    let gateway = Gateway::start(&["admin.connections_max=8", "admin.idle_timeout=1h"]).await;
    let place = gateway.place();
    let mut admin = gateway.admin().await;
    let mut session = gateway.connect("alice", WEB).await;
    let mut silent = Vec::new();
    for number in 0..40 {
        let mut stream = TcpStream::connect(place.admin).await.unwrap();
        // Nothing, half a head, and a body that does not come.
        let said = match number % 3 {
            0 => "",
            1 => "POST /auth/user_token HTTP/1.1\r\nhost",
            _ => "POST /auth/user_token HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n",
        };
        stream.write_all(said.as_bytes()).await.unwrap();
        silent.push(stream);
        let mut newcomer = admin.another();
        assert_eq!(newcomer.get("/healthz").await.status, 200);
    }
    // A kept connection that was used meanwhile may have been cut off as well. Its next request opens another.
    let _ = admin.call("GET", "/readyz", &[], "").await;
    admin.send(&notice("alice", "through")).await;
    assert_eq!(text_of(&session.expect_push().await), "through");
}

#[tokio::test]
async fn a_second_gateway_on_either_port_says_so_and_ends() {
    let gateway = Gateway::start(&[]).await;
    let place = gateway.place();
    let other = tempfile::tempdir().unwrap();
    // The command's own settings name the running gateway's ports; the last setting of a key counts.
    for (elsewhere, taken) in [
        ("admin.listen=127.0.0.1:0", place.clients),
        ("listener.listen=127.0.0.1:0", place.admin),
    ] {
        let mut second = gateway.command("serve");
        second
            .args(["--set", elsewhere, "--data"])
            .arg(other.path());
        let ended = tokio::task::spawn_blocking(move || second.output().unwrap());
        let output = within("its end", ended).await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(output.stdout.is_empty());
        let error = format!("cannot listen on {taken}");
        assert!(said.contains(&error) && said.contains("in use"), "{said}");
    }
}
