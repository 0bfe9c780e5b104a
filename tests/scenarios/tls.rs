//! TLS on either port: clients and commands with a given authority, certificates that change, and clients that must be
//! refused.

use std::{fs, path::Path, process::Command, sync::Arc};

use rustls::{
    ALL_VERSIONS, ClientConfig, RootCertStore, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    version::{TLS12, TLS13},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::client_async;
use towncrier_client::{
    ClientConnection, Lost, Tcp, Trust,
    proto::{Connect, Connected, Ping, client_frame, server_frame::Body},
};

use crate::support::{Gateway, WEB, authority::Authority, eventually, within};

/// Starts a gateway with TLS on these ports, and these settings.
async fn start(authority: &Authority, sections: &[&str], more: &[&str]) -> Gateway {
    let tls = sections
        .iter()
        .flat_map(|section| authority.settings(section));
    let settings: Vec<String> = tls.chain(more.iter().map(|&more| more.into())).collect();
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    Gateway::start(&settings).await
}

fn url(gateway: &Gateway) -> String {
    format!("wss://{}/ws", gateway.place().clients)
}

/// A session, up to its `Connected`.
async fn log_in(gateway: &Gateway, trust: &Trust, token: String) -> (ClientConnection, Connected) {
    let url = url(gateway);
    let opened = ClientConnection::open_trusting(&Tcp, &url, trust).await;
    let mut connection = opened.expect("a WebSocket over TLS");
    let connect = Connect {
        token,
        ..Connect::default()
    };
    say(&mut connection, client_frame::Body::Connect(connect)).await;
    match hear(&mut connection).await {
        Body::Connected(connected) => (connection, connected),
        other => panic!("expected Connected, got {other:?}"),
    }
}

async fn say(connection: &mut ClientConnection, body: client_frame::Body) {
    connection.send(body).await.expect("it is taken");
}

async fn hear(connection: &mut ClientConnection) -> Body {
    within("a frame", connection.receive())
        .await
        .expect("a frame")
}

/// Runs a command to its successful end, beside the test. Returns its output.
async fn printed(mut command: Command) -> String {
    let run = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = within("the end of a command", run).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

fn command(gateway: &Gateway, name: &str, ca: &Path, arguments: &[&str]) -> Command {
    let mut command = gateway.command(name);
    command.arg("--ca").arg(ca).args(arguments);
    command
}

#[tokio::test]
async fn a_message_passes_both_ports_over_tls() {
    let authority = Authority::new();
    let gateway = start(&authority, &["listener", "admin"], &[]).await;
    let ca = authority.ca();
    let token = command(&gateway, "token", &ca, &["--user", "alice"]);
    let token = printed(token).await.trim().to_owned();
    let (mut connection, connected) = log_in(&gateway, &authority.trust(), token).await;
    assert_eq!(connected.user_id, "alice");
    assert!(matches!(hear(&mut connection).await, Body::CaughtUp(_)));
    // Larger than a TLS record.
    let text = "x".repeat(40_000);
    let send = ["--to", "alice", "--text", &text];
    printed(command(&gateway, "send", &ca, &send)).await;
    let Body::Push(push) = hear(&mut connection).await else {
        panic!("expected a Push")
    };
    let content = String::from_utf8(push.messages[0].content.to_vec()).unwrap();
    assert!(content.contains(&text));
    // The client that lands and reconnects works like the other commands.
    let mut listen = command(&gateway, "listen", &ca, &["--user", "alice", "--json"]);
    listen.stdout(std::process::Stdio::piped());
    let mut listen = listen.spawn().unwrap();
    let stdout = listen.stdout.take().expect("it is piped");
    let line = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
        line
    });
    let line = within("a printed message", line).await.unwrap();
    listen.kill().unwrap();
    listen.wait().unwrap();
    assert!(line.contains(&text), "{line}");
}

#[tokio::test]
async fn a_new_certificate_is_served_without_a_restart_and_a_broken_one_is_not() {
    let (old, new) = (Authority::new(), Authority::new());
    let gateway = start(&old, &["listener"], &[]).await;
    let token = gateway.token("alice", WEB).await;
    let (mut session, _) = log_in(&gateway, &old.trust(), token).await;
    assert!(matches!(hear(&mut session).await, Body::CaughtUp(_)));

    fs::write(old.certificate(), "no certificate").unwrap();
    eventually("a word on the broken file", async || {
        gateway.said().contains("the one before is served")
    })
    .await;
    let url = url(&gateway);
    let still = ClientConnection::open_trusting(&Tcp, &url, &old.trust()).await;
    assert!(still.is_ok(), "{:?}", still.err());

    new.sign(&old.certificate(), &old.key(), 2999);
    let trust = new.trust();
    eventually("the new certificate", async || {
        ClientConnection::open_trusting(&Tcp, &url, &trust)
            .await
            .is_ok()
    })
    .await;
    assert!(
        ClientConnection::open_trusting(&Tcp, &url, &old.trust())
            .await
            .is_err()
    );
    // A connected session stays connected.
    say(&mut session, client_frame::Body::Ping(Ping { nonce: 7 })).await;
    assert!(matches!(hear(&mut session).await, Body::Pong(pong) if pong.nonce == 7));
}

#[tokio::test]
async fn what_is_no_modern_tls_is_refused_on_either_port() {
    let authority = Authority::new();
    let gateway = start(&authority, &["listener", "admin"], &[]).await;
    let place = gateway.place();
    // RFC 4346: a ClientHello of TLS 1.1 with TLS_RSA_WITH_AES_128_CBC_SHA, in its record.
    let hello = [&[0x03, 0x02][..], &[7; 32], &[0, 0, 2, 0, 0x2f, 1, 0]].concat();
    let length = u8::try_from(hello.len()).unwrap();
    let old = [&[22, 3, 1, 0, length + 4, 1, 0, 0, length][..], &hello].concat();
    let plain = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
    for (port, said) in [place.clients, place.admin]
        .into_iter()
        .flat_map(|port| [(port, &old), (port, &plain)])
    {
        let mut stream = TcpStream::connect(port).await.unwrap();
        stream.write_all(said).await.unwrap();
        let mut answer = Vec::new();
        // A reset is also a valid end.
        let _ = within("the end", stream.read_to_end(&mut answer)).await;
        // The answer is at most an alert.
        assert!(answer.is_empty() || answer[0] == 21, "{answer:?}");
    }
    let opened = ClientConnection::open_trusting(&Tcp, &url(&gateway), &authority.trust()).await;
    assert!(opened.is_ok(), "{:?}", opened.err());
}

/// A stream to the client port, secured with one of these versions.
async fn secure(
    authority: &Authority,
    gateway: &Gateway,
    versions: &[&'static SupportedProtocolVersion],
) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(authority.ca()).unwrap();
    roots.add(ca).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let clients = gateway.place().clients;
    let stream = TcpStream::connect(clients).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let tls = connector.connect(ServerName::from(clients.ip()), stream);
    within("the TLS handshake", tls).await.unwrap()
}

#[tokio::test]
async fn a_client_that_speaks_only_tls_1_2_or_only_1_3_is_served() {
    let authority = Authority::new();
    let gateway = start(&authority, &["listener"], &[]).await;
    for version in [&TLS12, &TLS13] {
        let tls = secure(&authority, &gateway, &[version]).await;
        let upgrade = client_async(url(&gateway), tls);
        let upgraded = within("the upgrade", upgrade).await;
        assert!(upgraded.is_ok(), "{:?}", upgraded.err());
    }
}

#[tokio::test]
async fn a_page_and_a_websocket_come_over_one_secured_connection() {
    let authority = Authority::new();
    let gateway = start(&authority, &["listener"], &["listener.inbox=true"]).await;
    let mut stream = secure(&authority, &gateway, ALL_VERSIONS).await;
    // The second request comes with the first, as a browser may send them.
    let requests = "GET /icon.svg HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2);
    stream.write_all(requests.as_bytes()).await.unwrap();
    let mut answers = Vec::new();
    let ends = |answers: &[u8]| String::from_utf8_lossy(answers).matches("</svg>").count();
    while ends(&answers) < 2 {
        let read = within("an answer", stream.read_buf(&mut answers)).await;
        assert!(read.unwrap() > 0, "{answers:?}");
    }
    let answers = String::from_utf8(answers).unwrap();
    assert!(!answers.contains("connection: close"), "{answers}");
    let upgraded = client_async(url(&gateway), stream).await;
    upgraded.expect("the same connection");
}

#[tokio::test]
async fn a_client_refuses_a_certificate_that_expired_or_that_it_has_no_reason_to_believe() {
    let (expired, good) = (Authority::new(), Authority::new());
    expired.sign(&expired.certificate(), &expired.key(), 2001);
    let refused = async |authority: &Authority, trust: &Trust| {
        let gateway = start(authority, &["listener"], &[]).await;
        let opened = ClientConnection::open_trusting(&Tcp, &url(&gateway), trust).await;
        match opened.expect_err("refused") {
            Lost::Io(error) => error.to_string(),
            other => panic!("{other}"),
        }
    };
    let said = refused(&expired, &expired.trust()).await;
    assert!(said.contains("expired"), "{said}");
    let said = refused(&good, &Authority::new().trust()).await;
    assert!(said.contains("invalid peer certificate"), "{said}");
}

#[tokio::test]
async fn half_a_tls_handshake_is_waited_for_no_longer_than_a_request() {
    let authority = Authority::new();
    let gateway = start(
        &authority,
        &["listener", "admin"],
        &[
            "listener.upgrade_timeout=300ms",
            "listener.connect_timeout=1h",
            "admin.idle_timeout=300ms",
        ],
    )
    .await;
    let place = gateway.place();
    for port in [place.clients, place.admin] {
        for said in [&[][..], &[22, 3, 1, 1, 0, 1]] {
            let mut stream = TcpStream::connect(port).await.unwrap();
            stream.write_all(said).await.unwrap();
            let _ = within("the end", stream.read_to_end(&mut Vec::new())).await;
        }
    }
}

#[tokio::test]
async fn silence_in_tls_keeps_nobody_out() {
    let authority = Authority::new();
    let gateway = start(
        &authority,
        &["listener", "admin"],
        &[
            "listener.upgrade_timeout=1h",
            "listener.connect_timeout=1h",
            "listener.handshakes_max=4",
            "admin.connections_max=4",
            "admin.idle_timeout=1h",
        ],
    )
    .await;
    let place = gateway.place();
    let mut silent = Vec::new();
    for _ in 0..20 {
        for port in [place.clients, place.admin] {
            silent.push(TcpStream::connect(port).await.unwrap());
        }
    }
    let token = command(&gateway, "token", &authority.ca(), &["--user", "alice"]);
    let token = printed(token).await.trim().to_owned();
    log_in(&gateway, &authority.trust(), token).await;
}

#[tokio::test]
async fn in_a_storm_nobody_is_secured_only_to_be_refused() {
    let authority = Authority::new();
    let gateway = start(
        &authority,
        &["listener"],
        &["listener.handshakes_per_second_max=1"],
    )
    .await;
    let mut admin = gateway.admin().await;
    let (url, trust) = (url(&gateway), authority.trust());
    // Repeated until a connection comes within a second after another that was admitted.
    eventually("a cut", async || {
        matches!(
            ClientConnection::open_trusting(&Tcp, &url, &trust).await,
            Err(Lost::Io(_))
        )
    })
    .await;
    let refused = "towncrier_connections_refused_total{reason=\"rate\"}";
    assert!(admin.metric(refused).await >= 1.0);
    eventually("the end of the storm", async || {
        ClientConnection::open_trusting(&Tcp, &url, &trust)
            .await
            .is_ok()
    })
    .await;
}

#[test]
fn check_names_a_certificate_that_cannot_be_used() {
    let authority = Authority::new();
    let check = || {
        let mut command = crate::support::gateway::towncrier();
        command.arg("check");
        for setting in authority.settings("admin") {
            command.args(["--set", &setting]);
        }
        command.output().unwrap()
    };
    assert!(check().status.success());
    fs::write(authority.key(), "no key").unwrap();
    let output = check();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("key.pem"),
        "{said}"
    );
}
