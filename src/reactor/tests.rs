//! A reactor over real sockets on free ports: admission, the upgrade, drain. `inbox_page.rs`: the page beside the WebSocket.

mod inbox_page;

use std::time::Instant;

use futures_util::FutureExt as _;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::client_async;
use towncrier_websocket::frame::{BINARY, FIN, TEXT, masked};

use super::{mailbox::ReactorMailbox, *};
use crate::{
    connection::tests::fixture::{Client, Said, World},
    door::BindError,
    ids::{ConnectionId, Platform, UserId},
    message::{Live, Message, Numbers, StoredMessage},
    protocol::towncrier_v1::proto::{Ping, client_frame, server_frame::Body},
    registry::{Item, Mailbox as _},
};

fn bind(config: &config::Listener) -> Result<Port, BindError> {
    Port::bind(config, count(config))
}

struct Gateway {
    world: World,
    reactors: Reactors,
}

fn config() -> config::Listener {
    config::Listener {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        reactors: 2,
        inbox: false,
        ..config::Listener::default()
    }
}

fn start(config: &config::Listener) -> Gateway {
    start_with(&Config {
        listener: config.clone(),
        ..Config::default()
    })
}

fn start_with(config: &Config) -> Gateway {
    start_on(bind(&config.listener).expect("a free port"), config)
}

fn start_on(port: Port, config: &Config) -> Gateway {
    let world = World::new(&config.sessions);
    let parts = Parts::new(
        config,
        None,
        Arc::clone(&world.delivery),
        Arc::clone(&world.registry),
        Arc::clone(&world.metrics),
    );
    let reactors = Reactors::start(port, &parts);
    Gateway {
        world,
        reactors: reactors.expect("starts"),
    }
}

impl Gateway {
    async fn open(&self) -> Client<TcpStream> {
        let address = self.reactors.local_addr();
        let stream = TcpStream::connect(address).await.unwrap();
        let request = format!("ws://{address}/ws");
        Client(client_async(request, stream).await.expect("upgraded").0)
    }

    /// A session on the web, caught up.
    async fn log_in(&self, user: &str) -> Client<TcpStream> {
        let mut client = self.open().await;
        let connect = self.world.connect(user, Platform::Web);
        client.say(client_frame::Body::Connect(connect)).await;
        assert!(matches!(client.hear_frame().await, Body::Connected(_)));
        assert!(matches!(client.hear_frame().await, Body::CaughtUp(_)));
        client
    }

    /// The port's answer to a request.
    async fn answer(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.reactors.local_addr())
            .await
            .unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// A listener that panics at the first client.
struct Panics;

impl crate::door::ClientSource for Panics {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, std::net::IpAddr)> {
        panic!("planted");
    }
}

#[tokio::test]
async fn a_reactor_whose_door_panics_ends_and_does_not_look_alive() {
    let world = World::new(&config::Sessions::default());
    let parts = Parts::new(
        &Config::default(),
        None,
        Arc::clone(&world.delivery),
        Arc::clone(&world.registry),
        Arc::clone(&world.metrics),
    );
    let (_stage, stage) = watch::channel(Stage::Serving);
    let tasks = tokio::task::LocalSet::new();
    let served = tasks.run_until(thread::serve(0, Panics, parts, stage));
    timeout(Duration::from_secs(30), served)
        .await
        .expect("it ends")
        .expect_err("with an error");
}

#[tokio::test]
async fn messages_from_any_thread_reach_the_sessions_of_every_reactor() {
    let gateway = start(&config());
    let users: Vec<String> = (0..40).map(|n| format!("u{n}")).collect();
    let mut clients = Vec::new();
    for user in &users {
        clients.push(gateway.log_in(user).await);
    }
    assert_eq!(gateway.world.registry.sessions(), 40);
    let mut reactors: Vec<u64> = users
        .iter()
        .map(|user| gateway.world.registry.presence(user)[0].connection.0 >> 48)
        .collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for user in &users {
                assert_eq!(gateway.world.send(user, user.as_bytes()), 1);
            }
        });
    });
    for (user, client) in users.iter().zip(&mut clients) {
        let messages = client.hear_messages(1).await;
        assert_eq!(messages, [(1, user.clone().into_bytes().into())]);
    }
    reactors.sort_unstable();
    reactors.dedup();
    // The kernel spreads by a hash of the ports. The chance that all of 40 have the same hash is one in 2^39.
    assert_eq!(reactors, [0, 1]);
    drop(gateway.reactors);
    assert_eq!(gateway.world.registry.sessions(), 0);
}

#[tokio::test]
async fn what_is_no_upgrade_gets_a_plain_answer() {
    let gateway = start(&config());
    let elsewhere = gateway.answer("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(elsewhere.starts_with("HTTP/1.1 404 "), "{elsewhere}");
    let plain = gateway.answer("GET /ws HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(plain.starts_with("HTTP/1.1 426 "), "{plain}");
    let garbage = gateway.answer("\x16\x03\x01\r\n\r\n").await;
    assert!(garbage.starts_with("HTTP/1.1 400 "), "{garbage}");
}

#[tokio::test]
async fn a_foreign_origin_is_refused_before_the_upgrade() {
    let gateway = start(&config::Listener {
        origins: vec!["https://oa.example".into()],
        ..config()
    });
    let answer = gateway
        .answer(&format!("{UPGRADE}Origin: https://evil.example\r\n\r\n"))
        .await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}

#[tokio::test]
async fn above_connections_max_clients_are_told_when_to_come_back() {
    let gateway = start(&config::Listener {
        connections_max: 1,
        ..config()
    });
    let mut client = gateway.log_in("u").await;
    let answer = gateway.answer(&format!("{UPGRADE}\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("retry-after: "), "{answer}");
    // A client that leaves makes room.
    client.0.close(None).await.unwrap();
    while client.hear().await != Said::End {}
    let deadline = Instant::now() + Duration::from_secs(10);
    let is_let_in = async || {
        let mut stream = TcpStream::connect(gateway.reactors.local_addr())
            .await
            .unwrap();
        stream
            .write_all(format!("{UPGRADE}\r\n").as_bytes())
            .await
            .unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        status == *b"HTTP/1.1 101"
    };
    while !is_let_in().await {
        assert!(Instant::now() < deadline, "there is never room again");
    }
}

#[tokio::test]
async fn a_client_that_sends_no_request_or_no_connect_is_cut_off() {
    let gateway = start(&config::Listener {
        connect_timeout: Duration::from_millis(200),
        ..config()
    });
    assert_eq!(gateway.answer("GET /ws HT").await, "");
    assert_eq!(gateway.open().await.hear_close().await, 4508);
}

#[tokio::test]
async fn bytes_sent_together_with_the_request_are_heard() {
    let gateway = start(&config());
    // A text frame directly after the request. It is refused, which proves that it was read.
    let request = format!("{UPGRADE}\r\n\u{1}");
    let mut bytes = request.into_bytes();
    bytes.pop();
    bytes.extend(masked(FIN | TEXT, b"x", [0; 4]));
    let mut stream = TcpStream::connect(gateway.reactors.local_addr())
        .await
        .unwrap();
    stream.write_all(&bytes).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let close = [&[0x88, 19, 0x03, 0xeb][..], b"frames are binary"].concat();
    assert!(
        answer.ends_with(&close),
        "{}",
        String::from_utf8_lossy(&answer)
    );
}

#[tokio::test]
async fn draining_sends_everyone_away_closes_the_port_and_ends() {
    let gateway = start(&config());
    let mut clients = Vec::new();
    for n in 0..20 {
        clients.push(gateway.log_in(&format!("u{n}")).await);
    }
    let greeting = gateway.open().await;
    let address = gateway.reactors.local_addr();
    let draining = tokio::spawn(gateway.reactors.drain(Duration::from_millis(300)));
    for client in &mut clients {
        let Body::Draining(draining) = client.hear_frame().await else {
            panic!("not Draining")
        };
        assert!((500..2000).contains(&draining.reconnect_after_ms));
        let Said::Close(4503, text) = client.hear().await else {
            panic!("not closed with 4503")
        };
        assert_eq!(text, draining.reconnect_after_ms.to_string());
    }
    drop((clients, greeting));
    timeout(Duration::from_secs(10), draining)
        .await
        .expect("ends when all are gone")
        .unwrap();
    assert!(
        TcpStream::connect(address).await.is_err(),
        "the port is closed"
    );
    assert_eq!(gateway.world.registry.sessions(), 0);
}

#[tokio::test]
async fn draining_ends_although_a_client_does_not() {
    let gateway = start(&config());
    let _stuck = gateway.log_in("u").await;
    let begun = Instant::now();
    gateway.reactors.drain(Duration::ZERO).await;
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn a_session_that_moves_to_another_reactor_leaves_one_place() {
    let gateway = start(&config());
    let mut older = gateway.log_in("u").await;
    for _ in 0..20 {
        let newer = gateway.log_in("u").await;
        assert!(matches!(older.hear_frame().await, Body::Kicked(_)));
        assert_eq!(older.hear_close().await, 4409);
        older = newer;
    }
    assert_eq!(gateway.world.registry.sessions(), 1);
    older.say(client_frame::Body::Ping(Ping { nonce: 3 })).await;
    assert!(matches!(older.hear_frame().await, Body::Pong(_)));
    let user = UserId::new("u").unwrap();
    assert_eq!(gateway.world.registry.log_out(&user, Platform::Web), 1);
    assert_eq!(older.hear_close().await, 4410);
}

#[tokio::test]
async fn whoever_knocks_before_the_reactors_start_is_let_in_unless_gone_by_then() {
    let config = Config {
        listener: config(),
        ..Config::default()
    };
    let port = bind(&config.listener).expect("a free port");
    let address = port.address;
    let request = format!("{UPGRADE}\r\n");
    let mut gone = TcpStream::connect(address).await.unwrap();
    gone.write_all(request.as_bytes()).await.unwrap();
    drop(gone);
    let waiting = TcpStream::connect(address).await.unwrap();

    let gateway = start_on(port, &config);
    let upgraded = client_async(format!("ws://{address}/ws"), waiting).await;
    upgraded.expect("it was waited for");
    let refused = "towncrier_connections_refused_total{reason=\"handshake\"} 1";
    let is_counted = || gateway.world.metrics.handle().render().contains(refused);
    timeout(Duration::from_secs(10), async {
        while !is_counted() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("who has gone is no connection");
}

#[test]
fn a_port_that_cannot_be_had_is_an_error_that_names_it() {
    let started = bind(&config::Listener {
        // An address for documentation (RFC 5737), which no machine has.
        listen: SocketAddr::from(([192, 0, 2, 1], 0)),
        ..config()
    });
    let error = started.err().expect("refused").to_string();
    assert!(error.contains("192.0.2.1:0"), "{error}");
}

#[tokio::test]
async fn a_port_that_another_gateway_serves_cannot_be_shared() {
    let first = start(&config());
    let second = bind(&config::Listener {
        listen: first.reactors.local_addr(),
        ..config()
    });
    let error = second.err().expect("refused").to_string();
    let address = first.reactors.local_addr().to_string();
    assert!(
        error.contains(&address) && error.contains("in use"),
        "{error}"
    );
}

/// Resident memory of this process, in bytes.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<u64>().unwrap() * 1024
}

#[test]
#[ignore = "measures the whole process: run it alone, optimized"]
fn an_idle_session_costs_at_most_2500_bytes_also_after_a_push() {
    use std::io::{Read as _, Write as _};
    const SESSIONS: u64 = 8000;

    let gateway = start(&config());
    let connect = |n: u64| {
        let connect = gateway.world.connect(&format!("user{n}"), Platform::Web);
        let frame = crate::protocol::towncrier_v1::proto::ClientFrame {
            body: Some(client_frame::Body::Connect(connect)),
        };
        let payload = prost::Message::encode_to_vec(&frame);
        let mut bytes = format!("{UPGRADE}\r\n").into_bytes();
        bytes.extend(masked(FIN | BINARY, &payload, [0; 4]));
        let mut stream = std::net::TcpStream::connect(gateway.reactors.local_addr()).unwrap();
        stream.write_all(&bytes).unwrap();
        stream
    };
    let wait_for = |count: u64| {
        while (gateway.world.registry.sessions() as u64) < count {
            std::thread::yield_now();
        }
    };
    let mut streams: Vec<_> = (0..500).map(connect).collect();
    wait_for(500);
    let before = resident_bytes();
    for n in 500..500 + SESSIONS {
        streams.push(connect(n));
        // With a lag of 100, handshakes under way do not count.
        wait_for((n + 1).saturating_sub(100));
    }
    wait_for(500 + SESSIONS);
    let idle = (resident_bytes() - before) / SESSIONS;
    let body = StoredMessage {
        content: vec![b'x'; 16 * 1024].into(),
        ..Default::default()
    };
    let message = Arc::new(Message::new(body.to_bytes()));
    for (n, stream) in (0..).zip(&mut streams) {
        let user = format!("user{n}");
        gateway
            .world
            .registry
            .deliver(&user, Numbers::default(), &message);
        stream.read_exact(&mut vec![0; 16 * 1024]).unwrap();
    }
    let pushed = (resident_bytes() - before) / SESSIONS;
    println!("{idle} bytes idle, {pushed} after a push of 16 KiB");
    assert!(idle <= 2500 && pushed <= 2500);
}

/// A mailbox with these limits gets ten live items and a last one of another kind. Returns the items that wait.
fn waiting(limits: MailboxLimits, message: &Arc<Message>) -> mailbox::Waiting {
    let mailbox = ReactorMailbox::new(limits, Arc::default());
    for _ in 0..10 {
        let (numbers, message) = (Numbers::default(), Arc::clone(message));
        mailbox.post(ConnectionId(1), Item::Live(Live { numbers, message }));
    }
    mailbox.post(ConnectionId(1), Item::Replaced);
    let waiting = mailbox.take().now_or_never().expect("something waits");
    assert!(mailbox.take().now_or_never().is_none(), "it is empty now");
    waiting
}

#[test]
fn a_full_mailbox_drops_live_items_only_and_says_so() {
    let content = vec![b'x'; 100].into();
    let message = StoredMessage {
        content,
        ..StoredMessage::default()
    };
    let message = Arc::new(Message::new(message.to_bytes()));
    let limits = MailboxLimits::default();
    let few = MailboxLimits {
        live_max: 7,
        ..limits
    };
    let small = MailboxLimits {
        live_bytes_max: 7 * message.bytes(),
        ..limits
    };
    for limits in [few, small] {
        let waiting = waiting(limits, &message);
        assert_eq!(waiting.items.len(), 8);
        assert!(matches!(waiting.items.last(), Some((_, Item::Replaced))));
        assert!(waiting.has_overflowed);
    }
    let waiting = waiting(limits, &message);
    assert_eq!(waiting.items.len(), 11);
    assert!(!waiting.has_overflowed);
}
