//! RFC 6455 against a real process: the families of cases that WebSocket servers are commonly tested with, each case twice:
//! in one write, and byte by byte. One gateway serves all of them.
//!
//! A case is a name, the bytes that a logged-in client sends, and the frames that it must receive up to the end of the
//! stream. `families.rs` has the cases. `websocket/src/reader/tests.rs` tests further variants (a message split elsewhere,
//! every close code, every first byte).

mod families;

use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use towncrier::protocol::towncrier_v1::proto::{
    ClientFrame, Connect, Ping, ServerFrame, client_frame, server_frame::Body,
};
use towncrier_websocket::{
    Reader, Received, Rules, Side,
    frame::{BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, masked},
};

use crate::support::{Gateway, WEB, within};

const HANDSHAKE: &str = "GET /ws HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame from the server.
#[derive(Debug, PartialEq)]
enum Heard {
    /// The protocol's `Pong` with this nonce: a whole binary message was taken.
    Answer(u64),
    Pong(Vec<u8>),
    Close(Option<u16>),
}
use Heard::{Answer, Close, Pong};

struct Case {
    name: String,
    says: Vec<u8>,
    hears: Vec<Heard>,
    /// The client closes once it has received all that.
    closes: bool,
}

/// A case whose bytes end the connection.
fn case(name: impl Into<String>, says: &[Vec<u8>], hears: impl Into<Vec<Heard>>) -> Case {
    Case {
        name: name.into(),
        says: says.concat(),
        hears: hears.into(),
        closes: false,
    }
}

/// A case whose bytes are valid.
fn good(name: impl Into<String>, says: &[Vec<u8>], hears: impl Into<Vec<Heard>>) -> Case {
    Case {
        closes: true,
        ..case(name, says, hears)
    }
}

/// A client's frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    masked(first, payload, MASK)
}

/// The same with its length in 3 or 9 bytes, even if fewer are enough.
fn frame_as(first: u8, length_bytes: usize, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u64).to_be_bytes();
    let whole = frame(first, payload);
    let masked = &whole[whole.len() - payload.len() - MASK.len()..];
    let head = match length_bytes {
        3 => [&[first, 0x80 | 126][..], &length[6..]].concat(),
        _ => [&[first, 0x80 | 127][..], &length].concat(),
    };
    [&head, masked].concat()
}

fn close(payload: &[u8]) -> Vec<u8> {
    frame(FIN | CLOSE, payload)
}

/// A `Ping` of the protocol in exactly `bytes` bytes (4, or 8 and more). Its field 15 is unknown to the gateway.
fn message(nonce: u8, bytes: usize) -> Vec<u8> {
    assert!(nonce < 0x80, "one byte of a varint");
    let ping = client_frame::Body::Ping(Ping {
        nonce: nonce.into(),
    });
    let mut message = ClientFrame { body: Some(ping) }.encode_to_vec();
    if let Some(padding) = bytes.checked_sub(message.len() + 4) {
        let length = [
            padding & 0x7f | 0x80,
            padding >> 7 & 0x7f | 0x80,
            padding >> 14,
        ];
        message.push(15 << 3 | 2);
        message.extend(length.map(|byte| byte as u8));
        message.resize(bytes, b'.');
    }
    assert_eq!(message.len(), bytes);
    message
}

/// A logged-in client that has received nothing else.
struct Client {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    heard: Vec<u8>,
}

impl Client {
    /// `Connect` comes in one write with the handshake.
    async fn log_in(gateway: &Gateway, connect: &[u8]) -> Self {
        let stream = TcpStream::connect(gateway.place().clients).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (from, to) = stream.into_split();
        let mut client = Self {
            from,
            to,
            heard: Vec::new(),
        };
        let says = [HANDSHAKE.as_bytes(), connect].concat();
        client.to.write_all(&says).await.unwrap();
        let head = loop {
            let end = client.heard.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                break end + 4;
            }
            client.hear_more().await;
        };
        assert!(client.heard.starts_with(b"HTTP/1.1 101 "));
        client.heard.drain(..head);
        for _ in ["Connected", "CaughtUp"] {
            while !matches!(client.heard[..], [0x82, length, ref rest @ ..] if rest.len() >= length.into())
            {
                client.hear_more().await;
            }
            client.heard.drain(..2 + usize::from(client.heard[1]));
        }
        client
    }

    async fn hear_more(&mut self) {
        let read = self.from.read_buf(&mut self.heard);
        assert!(within("more", read).await.unwrap() > 0, "the stream ended");
    }

    /// The frames up to the end of the stream. The server ends it.
    async fn play(mut self, case: &Case, is_in_one_write: bool) -> Vec<Heard> {
        let step = if is_in_one_write { case.says.len() } else { 1 };
        for bytes in case.says.chunks(step) {
            // A client that is closed meanwhile learns it from the close frame.
            if self.to.write_all(bytes).await.is_err() {
                break;
            }
        }
        if case.closes {
            while read(&self.heard).0.len() < case.hears.len() {
                self.hear_more().await;
            }
            let bye = close(&1000_u16.to_be_bytes());
            self.to.write_all(&bye).await.unwrap();
        }
        let end = self.from.read_to_end(&mut self.heard);
        within(&case.name, end).await.unwrap();
        let (mut heard, rest) = read(&self.heard);
        assert!(
            rest.is_empty(),
            "{}: a frame was begun and not ended",
            case.name
        );
        if case.closes {
            assert_eq!(heard.pop(), Some(Close(Some(1000))), "{}", case.name);
        }
        heard
    }
}

/// The server's complete messages, and the beginning of another.
fn read(mut bytes: &[u8]) -> (Vec<Heard>, &[u8]) {
    let rules = Rules {
        from: Side::Server,
        takes_text: false,
        message_bytes_max: 1 << 20,
    };
    let mut heard = Vec::new();
    let mut rest = bytes;
    let mut reader = Reader::default();
    while let Some(message) = reader.next(&mut bytes, &rules).unwrap() {
        rest = bytes;
        heard.push(match message {
            Received::Binary(payload) => match ServerFrame::decode(payload).unwrap().body {
                Some(Body::Pong(pong)) => Answer(pong.nonce),
                body => panic!("{body:?}"),
            },
            Received::Close(close) => Close(close.map(|close| close.code)),
            Received::Pong(payload) => Pong(payload.to_vec()),
            message => panic!("{message:?} is nothing that a server says"),
        });
    }
    (heard, rest)
}

#[tokio::test]
async fn every_case_of_every_family_is_answered_as_rfc_6455_says() {
    let gateway = Gateway::start(&[]).await;
    let connect = ClientFrame {
        body: Some(client_frame::Body::Connect(Connect {
            token: gateway.token("conform", WEB).await,
            ..Connect::default()
        })),
    };
    let connect = frame(FIN | BINARY, &connect.encode_to_vec());
    let families = [
        families::framing(),
        families::reserved(),
        families::pings(),
        families::fragmentation(),
        families::text(),
        families::closing(),
        families::limits(),
    ];
    println!("{} cases", families.iter().flatten().count());
    for case in families.iter().flatten() {
        let client = Client::log_in(&gateway, &connect).await;
        let heard = client.play(case, true).await;
        assert_eq!(heard, case.hears, "{}", case.name);
        // This takes a system call for each byte. A large case would show nothing new.
        if case.says.len() < 2000 {
            let client = Client::log_in(&gateway, &connect).await;
            let heard = client.play(case, false).await;
            assert_eq!(heard, case.hears, "{}, byte by byte", case.name);
        }
    }
}

/// The handshake with this line in place of another.
fn with_other(line: &str, by: &str) -> String {
    assert!(HANDSHAKE.contains(line));
    HANDSHAKE.replace(line, by)
}

/// The handshake without this line.
fn without(line: &str) -> String {
    with_other(&format!("{line}\r\n"), "")
}

/// The handshake with one line more.
fn with(line: &str) -> String {
    with_other("\r\n\r\n", &format!("\r\n{line}\r\n\r\n"))
}

/// The answer to a request that comes in steps of this many bytes. The names of headers have no case, so all is in lower case.
async fn answer_to(gateway: &Gateway, request: &str, step: usize) -> String {
    let stream = TcpStream::connect(gateway.place().clients).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut from, mut to) = stream.into_split();
    let bytes = request.as_bytes().to_owned();
    let saying = tokio::spawn(async move {
        for part in bytes.chunks(step) {
            if to.write_all(part).await.is_err() {
                break;
            }
        }
        // The write may fail or succeed; either way the server sends nothing more.
        let _ = to.write_all(&close(b"")).await;
        to
    });
    let mut answer = Vec::new();
    // A reset after the answer is also a valid end.
    let _ = within(request, from.read_to_end(&mut answer)).await;
    drop(saying.await.unwrap());
    String::from_utf8_lossy(&answer).to_lowercase()
}

#[tokio::test]
async fn a_handshake_that_rfc_6455_allows_is_taken_without_extensions() {
    let gateway = Gateway::start(&["listener.connect_timeout=5s"]).await;
    let cookies = format!("Cookie: {}", "x".repeat(12_000));
    let cases = [
        ("as it should be", HANDSHAKE.into()),
        (
            "names in any case",
            with_other("Upgrade: websocket", "UPGRADE: WebSocket"),
        ),
        (
            "one of several wishes",
            with_other("Connection: Upgrade", "Connection: keep-alive, Upgrade"),
        ),
        ("wishes in several lines", with("Connection: keep-alive")),
        (
            "an extension we do not have",
            with("Sec-WebSocket-Extensions: permessage-deflate"),
        ),
        ("a query", with_other("/ws", "/ws?token=x")),
        ("a whole URI", with_other("/ws", "http://here/ws")),
        (
            "a header of 12 KiB, as a company's sign-on has",
            with(&cookies),
        ),
    ];
    let accepted = "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n";
    for (name, request) in cases {
        for step in [request.len(), 1] {
            let answer = answer_to(&gateway, &request, step).await;
            assert!(answer.starts_with("http/1.1 101 "), "{name}: {answer}");
            assert!(answer.contains(accepted), "{name}: {answer}");
            let has_extension = answer.contains("sec-websocket-extensions");
            assert!(!has_extension, "{name}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_request_that_is_no_handshake_of_rfc_6455_is_refused_with_its_status() {
    let gateway = Gateway::start(&["listener.connect_timeout=5s"]).await;
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let cookies = format!("Cookie: {}", "x".repeat(40_000));
    let cases = [
        (404, "another path", with_other("/ws", "/elsewhere")),
        (405, "POST", with_other("GET", "POST")),
        (400, "HTTP/1.0", with_other("HTTP/1.1", "HTTP/1.0")),
        (
            400,
            "HTTP/2's preface",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(),
        ),
        (400, "no host", without("Host: here")),
        (426, "no connection", without("Connection: Upgrade")),
        (426, "no upgrade", without("Upgrade: websocket")),
        (
            426,
            "another upgrade",
            with_other("Upgrade: websocket", "Upgrade: h2c"),
        ),
        (426, "no version", without("Sec-WebSocket-Version: 13")),
        (426, "version 8", with_other("Version: 13", "Version: 8")),
        (426, "version 14", with_other("Version: 13", "Version: 14")),
        (400, "no key", without(key)),
        (
            400,
            "a key too short",
            with_other(key, "Sec-WebSocket-Key: c2hvcnQ="),
        ),
        (
            400,
            "a key that is no base64",
            with_other(key, "Sec-WebSocket-Key: ?"),
        ),
        (400, "a space in a name", with("No Name: x")),
        (431, "a header of 40 KiB", with(&cookies)),
        (
            431,
            "a thousand headers",
            with(&["A: b"; 1000].join("\r\n")),
        ),
    ];
    for (status, name, request) in cases {
        for step in [request.len(), 1] {
            let answer = answer_to(&gateway, &request, step).await;
            let has_status = answer.starts_with(&format!("http/1.1 {status} "));
            assert!(has_status, "{name} in steps of {step}: {answer}");
            assert!(!answer.contains("sec-websocket-accept"), "{name}: {answer}");
            let names_version = answer.contains("sec-websocket-version: 13\r\n");
            assert_eq!(names_version, status == 426, "{name}: {answer}");
        }
    }
}
