//! RFC 6455 against a real process: the families of cases that WebSocket servers are commonly tested with, each case twice:
//! in one write, and byte by byte. One gateway serves all of them.
//!
//! A case is a name, the bytes that a logged-in client sends, and the frames that it must receive up to the end of the
//! stream. `websocket/src/reader/tests.rs` tests further variants (a message split elsewhere, every close code, every first
//! byte).

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

fn framing() -> Vec<Case> {
    let mut cases = Vec::new();
    for bytes in [4, 124, 125, 126, 127, 128, 65_534, 65_535, 65_536] {
        let message = message(1, bytes);
        let whole = frame(FIN | BINARY, &message);
        cases.push(good(format!("{bytes} bytes"), &[whole], [Answer(1)]));
        for length_bytes in [3, 9] {
            let longer = frame_as(FIN | BINARY, length_bytes, &message);
            let is_shortest = longer.len() == frame(FIN | BINARY, &message).len();
            if bytes < 65_536 && !is_shortest {
                let name = format!("{bytes} bytes with a length of {length_bytes}");
                cases.push(case(name, &[longer], [Close(Some(1002))]));
            }
        }
    }
    for length in [65_537_u64, 1 << 31, 1 << 62, u64::MAX] {
        let header = [&[FIN | BINARY, 0xff][..], &length.to_be_bytes(), &[0; 4]].concat();
        cases.push(case(
            format!("{length} bytes"),
            &[header],
            [Close(Some(1009))],
        ));
    }
    let empty = frame(FIN | BINARY, b"");
    cases.push(case(
        "0 bytes: no frame of the protocol",
        &[empty],
        [Close(Some(4400))],
    ));
    let unmasked = [vec![FIN | BINARY, 4], message(1, 4)].concat();
    cases.push(case("without a mask", &[unmasked], [Close(Some(1002))]));
    let unmasked = vec![FIN | PING, 0];
    cases.push(case(
        "a ping without a mask",
        &[unmasked],
        [Close(Some(1002))],
    ));
    cases
}

fn reserved() -> Vec<Case> {
    let mut cases = Vec::new();
    for bits in 1..8_u8 {
        for opcode in [BINARY, TEXT, CLOSE, PING, PONG] {
            let name = format!("reserved bits {bits:03b} on opcode {opcode:#x}");
            let before = frame(FIN | BINARY, &message(1, 4));
            let bad = frame(FIN | bits << 4 | opcode, b"");
            cases.push(case(name, &[before, bad], [Answer(1), Close(Some(1002))]));
        }
    }
    for opcode in (0x3..0x8).chain(0xb..0x10) {
        for payload in [&b""[..], b"and a payload"] {
            let bad = frame(FIN | opcode, payload);
            let after = frame(FIN | PING, b"late");
            let name = format!("opcode {opcode:#x}");
            cases.push(case(name, &[bad, after], [Close(Some(1002))]));
        }
    }
    cases
}

fn pings() -> Vec<Case> {
    let ping = |payload: &[u8]| frame(FIN | PING, payload);
    let mut cases = Vec::new();
    for payload in [&b""[..], b"hello", &[0, 0xff, 0xfe, 0xfd], &[b'x'; 125]] {
        let name = format!("a ping of {} bytes", payload.len());
        cases.push(good(name, &[ping(payload)], [Pong(payload.to_vec())]));
    }
    for opcode in [PING, PONG, CLOSE] {
        let bad = frame(FIN | opcode, &[b'x'; 126]);
        let name = format!("126 bytes in opcode {opcode:#x}");
        cases.push(case(name, &[bad], [Close(Some(1002))]));
        let bad = [frame(opcode, b""), frame(FIN | CONTINUATION, b"")].concat();
        let name = format!("opcode {opcode:#x} in fragments");
        cases.push(case(name, &[bad], [Close(Some(1002))]));
    }
    let burst: Vec<_> = (0..100).map(|n| ping(&[n])).collect();
    let pongs: Vec<_> = (0..100).map(|n| Pong(vec![n])).collect();
    cases.push(good("a hundred pings", &burst, pongs));
    let pong = |payload: &[u8]| frame(FIN | PONG, payload);
    cases.push(good(
        "pongs that nobody asked for, and a ping",
        &[pong(b""), pong(b"what"), ping(b"a"), pong(b"a")],
        [Pong(b"a".into())],
    ));
    cases
}

fn fragmentation() -> Vec<Case> {
    let whole = message(5, 20);
    let part = |first: u8, range: std::ops::Range<usize>| frame(first, &whole[range]);
    let ping = || frame(FIN | PING, b"p");
    let pong = || Pong(b"p".into());
    let mut cases = vec![
        good(
            "two fragments",
            &[part(BINARY, 0..9), part(FIN | CONTINUATION, 9..20)],
            [Answer(5)],
        ),
        good(
            "two fragments with a ping between them",
            &[part(BINARY, 0..9), ping(), part(FIN | CONTINUATION, 9..20)],
            [pong(), Answer(5)],
        ),
        good(
            "empty fragments at both ends and in the middle",
            &[
                part(BINARY, 0..0),
                part(CONTINUATION, 0..9),
                part(CONTINUATION, 0..0),
                part(CONTINUATION, 9..20),
                part(FIN | CONTINUATION, 0..0),
            ],
            [Answer(5)],
        ),
        good(
            "a fragmented message, a whole one, a fragmented one",
            &[
                part(BINARY, 0..1),
                part(FIN | CONTINUATION, 1..20),
                frame(FIN | BINARY, &message(6, 4)),
                part(BINARY, 0..19),
                part(FIN | CONTINUATION, 19..20),
            ],
            [Answer(5), Answer(6), Answer(5)],
        ),
        good("a close between fragments", &[part(BINARY, 0..9)], []),
        case(
            "a message within a message",
            &[part(BINARY, 0..9), ping(), frame(FIN | BINARY, &whole)],
            [pong(), Close(Some(1002))],
        ),
        case(
            "a first fragment within a message",
            &[part(BINARY, 0..9), part(BINARY, 9..20)],
            [Close(Some(1002))],
        ),
        case(
            "a text within a message",
            &[part(BINARY, 0..9), frame(FIN | TEXT, b"text")],
            [Close(Some(1002))],
        ),
        case(
            "a continuation after the last one",
            &[
                part(BINARY, 0..9),
                part(FIN | CONTINUATION, 9..20),
                part(CONTINUATION, 0..9),
            ],
            [Answer(5), Close(Some(1002))],
        ),
    ];
    for first in [CONTINUATION, FIN | CONTINUATION] {
        let name = format!("a continuation of nothing, {first:#x}");
        let bad = [ping(), part(first, 0..9), frame(FIN | BINARY, &whole)];
        cases.push(case(name, &bad, [pong(), Close(Some(1002))]));
    }
    let every_byte: Vec<_> = (0..20)
        .map(|at| match at {
            0 => part(BINARY, 0..1),
            19 => part(FIN | CONTINUATION, 19..20),
            _ => part(CONTINUATION, at..at + 1),
        })
        .flat_map(|part| [part, ping()])
        .collect();
    let mut heard: Vec<_> = (0..19).map(|_| pong()).collect();
    heard.extend([Answer(5), pong()]);
    cases.push(good(
        "a fragment for each byte, a ping behind each",
        &every_byte,
        heard,
    ));
    cases
}

/// Every text message is refused, because the protocol's frames are binary.
fn text() -> Vec<Case> {
    let mut cases = Vec::new();
    let valid = "κόσμε 🌍".as_bytes();
    for (what, payload) in [
        ("nothing", &b""[..]),
        ("UTF-8", valid),
        ("no UTF-8", b"\xce\xba\xed\xa0\x80"),
    ] {
        let whole = frame(FIN | TEXT, payload);
        cases.push(case(format!("text: {what}"), &[whole], [Close(Some(1003))]));
        let (begin, end) = payload.split_at(payload.len().min(1));
        let fragments = [frame(TEXT, begin), frame(FIN | CONTINUATION, end)];
        let name = format!("text in fragments: {what}");
        cases.push(case(name, &fragments, [Close(Some(1003))]));
    }
    cases
}

fn closing() -> Vec<Case> {
    let with = |code: u16, reason: &[u8]| close(&[&code.to_be_bytes(), reason].concat());
    let mut cases = vec![
        case("a close of nothing", &[close(b"")], [Close(None)]),
        case("a close of one byte", &[close(&[3])], [Close(Some(1002))]),
        case("a reason", &[with(1000, b"bye")], [Close(Some(1000))]),
        case(
            "a reason of 123 bytes",
            &[with(1000, &[b'x'; 123])],
            [Close(Some(1000))],
        ),
        case(
            "a reason of 124 bytes",
            &[with(1000, &[b'x'; 124])],
            [Close(Some(1002))],
        ),
        case(
            "a reason in UTF-8",
            &[with(3000, "κόσμε".as_bytes())],
            [Close(Some(3000))],
        ),
        case(
            "a reason cut short",
            &[with(1000, b"\xce")],
            [Close(Some(1007))],
        ),
        case(
            "a surrogate for a reason",
            &[with(1000, b"\xed\xa0\x80")],
            [Close(Some(1007))],
        ),
        case(
            "a bad code with a bad reason",
            &[with(999, b"\xff")],
            [Close(Some(1002))],
        ),
        case(
            "two closes, the first counts",
            &[with(1001, b""), with(1000, b"")],
            [Close(Some(1001))],
        ),
        case(
            "a message, a ping and rubbish after the close",
            &[
                with(1000, b""),
                frame(FIN | BINARY, &message(1, 4)),
                frame(FIN | PING, b"late"),
                vec![0xff; 500],
            ],
            [Close(Some(1000))],
        ),
        case(
            "a large message after the close",
            &[with(4999, b""), frame(FIN | BINARY, &message(2, 60_000))],
            [Close(Some(4999))],
        ),
    ];
    for code in [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000,
        4999,
    ] {
        let answered = [Close(Some(code))];
        cases.push(case(format!("code {code}"), &[with(code, b"")], answered));
    }
    for code in [
        0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999, 5000, 32_768, 65_535,
    ] {
        let refused = [Close(Some(1002))];
        cases.push(case(format!("code {code}"), &[with(code, b"")], refused));
    }
    cases
}

fn limits() -> Vec<Case> {
    let whole = message(1, 65_536);
    let in_pieces = |bytes: &[u8], piece: usize| {
        let count = bytes.len().div_ceil(piece);
        let parts = bytes.chunks(piece).enumerate();
        parts
            .map(|(index, part)| {
                let opcode = if index == 0 { BINARY } else { CONTINUATION };
                let fin = if index + 1 == count { FIN } else { 0 };
                frame(fin | opcode, part)
            })
            .collect::<Vec<_>>()
    };
    let mut cases = Vec::new();
    for piece in [64, 125, 1000, 65_535] {
        let name = format!("64 KiB in fragments of {piece}");
        cases.push(good(name, &in_pieces(&whole, piece), [Answer(1)]));
        let name = format!("a byte more in fragments of {piece}");
        let passes = [&whole[..], b"."].concat();
        let passes = in_pieces(&passes, piece);
        cases.push(case(name, &passes, [Close(Some(1009))]));
    }
    let endless = vec![frame(CONTINUATION, &[b'.'; 1000]); 200];
    let begun = [vec![frame(BINARY, b"")], endless].concat();
    cases.push(case(
        "a message without an end",
        &begun,
        [Close(Some(1009))],
    ));
    cases
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
        framing(),
        reserved(),
        pings(),
        fragmentation(),
        text(),
        closing(),
        limits(),
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

#[tokio::test]
async fn a_handshake_is_taken_or_refused_as_rfc_6455_says() {
    let gateway = Gateway::start(&["listener.connect_timeout=5s"]).await;
    let other = |line: &str, by: &str| {
        assert!(HANDSHAKE.contains(line));
        HANDSHAKE.replace(line, by)
    };
    let without = |line: &str| other(&format!("{line}\r\n"), "");
    let with = |line: &str| other("\r\n\r\n", &format!("\r\n{line}\r\n\r\n"));
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let cases = [
        ("as it should be", HANDSHAKE.into(), 101),
        (
            "names in any case",
            other("Upgrade: websocket", "UPGRADE: WebSocket"),
            101,
        ),
        (
            "one of several wishes",
            other("Connection: Upgrade", "Connection: keep-alive, Upgrade"),
            101,
        ),
        (
            "wishes in several lines",
            with("Connection: keep-alive"),
            101,
        ),
        (
            "an extension we do not have",
            with("Sec-WebSocket-Extensions: permessage-deflate"),
            101,
        ),
        ("a query", other("/ws", "/ws?token=x"), 101),
        ("a whole URI", other("/ws", "http://here/ws"), 101),
        ("another path", other("/ws", "/elsewhere"), 404),
        ("POST", other("GET", "POST"), 405),
        ("HTTP/1.0", other("HTTP/1.1", "HTTP/1.0"), 400),
        (
            "HTTP/2's preface",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(),
            400,
        ),
        ("no host", without("Host: here"), 400),
        ("no connection", without("Connection: Upgrade"), 426),
        ("no upgrade", without("Upgrade: websocket"), 426),
        (
            "another upgrade",
            other("Upgrade: websocket", "Upgrade: h2c"),
            426,
        ),
        ("no version", without("Sec-WebSocket-Version: 13"), 426),
        ("version 8", other("Version: 13", "Version: 8"), 426),
        ("version 14", other("Version: 13", "Version: 14"), 426),
        ("no key", without(key), 400),
        (
            "a key too short",
            other(key, "Sec-WebSocket-Key: c2hvcnQ="),
            400,
        ),
        (
            "a key that is no base64",
            other(key, "Sec-WebSocket-Key: ?"),
            400,
        ),
        ("a space in a name", with("No Name: x"), 400),
        (
            "a header of 12 KiB, as a company's sign-on has",
            with(&format!("Cookie: {}", "x".repeat(12_000))),
            101,
        ),
        (
            "a header of 40 KiB",
            with(&format!("Cookie: {}", "x".repeat(40_000))),
            431,
        ),
        (
            "a thousand headers",
            with(&["A: b"; 1000].join("\r\n")),
            431,
        ),
    ];
    for (name, request, status) in cases {
        for step in [request.len(), 1] {
            let stream = TcpStream::connect(gateway.place().clients).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (mut from, mut to) = stream.into_split();
            let request = request.clone();
            let saying = tokio::spawn(async move {
                for bytes in request.as_bytes().chunks(step) {
                    if to.write_all(bytes).await.is_err() {
                        break;
                    }
                }
                // The write may fail or succeed; either way the server sends nothing more.
                let _ = to.write_all(&close(b"")).await;
                to
            });
            let mut answer = Vec::new();
            // A reset after the answer is also a valid end.
            let _ = within(name, from.read_to_end(&mut answer)).await;
            drop(saying.await.unwrap());
            let answer = String::from_utf8_lossy(&answer);
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{name} in steps of {step}: {answer}"
            );
            // The names of headers have no case.
            let answer = answer.to_lowercase();
            let accepts = answer.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n");
            assert_eq!(accepts, status == 101, "{name}: {answer}");
            assert!(!answer.contains("sec-websocket-extensions"), "{name}");
            let names_version = answer.contains("sec-websocket-version: 13\r\n");
            assert_eq!(names_version, status == 426, "{name}: {answer}");
        }
    }
}
