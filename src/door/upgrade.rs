//! The HTTP before a WebSocket: one request, one answer. Path, origin and subprotocol are checked here;
//! `towncrier-websocket` does the rest of the handshake.

use std::{
    future::poll_fn,
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::http::header::ORIGIN;
use futures_util::FutureExt as _;
use tokio::{
    io::{AsyncRead, ReadBuf},
    task::yield_now,
};
use towncrier_websocket::handshake::{self, BadRequest, Request};

use super::admission::Refused;
use crate::{
    metrics::RefusalReason,
    protocol::{self, Codec},
};

/// The largest request, the same as nginx allows. A browser's request has 2 KiB, and with a company's sign-on cookies 12
/// KiB.
const REQUEST_BYTES_MAX: usize = 32 * 1024;
/// The bytes of one read: more than nearly every request has.
const PIECE_BYTES: usize = 1024;

/// Why a request is not upgraded. Each reason is one HTTP answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// 404: neither `/ws` nor a file of the page.
    NotFound,
    /// 400: not HTTP, or not a handshake of RFC 6455.
    Malformed,
    /// 426: `GET /ws` without a request to upgrade, or for another version than 13.
    NoUpgrade,
    /// 405: not a GET, on the path of a WebSocket.
    Method,
    /// 431: larger than the limit.
    TooLarge,
    /// 431: more headers than the limit.
    TooManyHeaders,
    /// 403: a browser on a page of another origin.
    Origin,
    /// 503: the gateway drains; the client should return after this delay.
    Draining(Duration),
    /// 503, or 429 if the client caused it; the client should return later.
    Admission(Refused),
}

impl From<BadRequest> for Refusal {
    fn from(bad: BadRequest) -> Self {
        match bad {
            BadRequest::Method => Self::Method,
            BadRequest::TooManyHeaders => Self::TooManyHeaders,
            BadRequest::NoUpgrade => Self::NoUpgrade,
            BadRequest::Malformed => Self::Malformed,
        }
    }
}

impl Refusal {
    /// The same for the metric.
    pub(super) fn reason(self) -> RefusalReason {
        match self {
            Self::Origin => RefusalReason::Origin,
            Self::Draining(_) => RefusalReason::Draining,
            Self::Admission(refused) => refused.reason(),
            Self::NotFound
            | Self::Malformed
            | Self::NoUpgrade
            | Self::Method
            | Self::TooLarge
            | Self::TooManyHeaders => RefusalReason::Handshake,
        }
    }

    /// The whole answer as bytes.
    pub(super) fn response(self) -> Vec<u8> {
        let (status, text, header) = match self {
            Self::NotFound => (
                "404 Not Found",
                "not found: clients connect to GET /ws",
                String::new(),
            ),
            Self::Malformed => (
                "400 Bad Request",
                "not a WebSocket handshake (RFC 6455)",
                String::new(),
            ),
            Self::NoUpgrade => (
                "426 Upgrade Required",
                "this is a WebSocket endpoint, version 13",
                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n".into(),
            ),
            // An answer to HEAD has no body, so no method gets one.
            Self::Method => ("405 Method Not Allowed", "", "Allow: GET\r\n".into()),
            Self::TooManyHeaders => (
                "431 Request Header Fields Too Large",
                "the request has more than 124 headers",
                String::new(),
            ),
            Self::TooLarge => (
                "431 Request Header Fields Too Large",
                "the request is above 32 KiB",
                String::new(),
            ),
            Self::Origin => (
                "403 Forbidden",
                "this origin may not connect",
                String::new(),
            ),
            Self::Admission(Refused::BadTokens(after)) => (
                "429 Too Many Requests",
                "too many bad tokens came from your address: come back later",
                retry_after(after),
            ),
            Self::Draining(after)
            | Self::Admission(
                Refused::Connections(after) | Refused::Rate(after) | Refused::Memory(after),
            ) => (
                "503 Service Unavailable",
                "overloaded or going down: come back later",
                retry_after(after),
            ),
        };
        let length = text.len();
        format!(
            "HTTP/1.1 {status}\r\n{header}Content-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}"
        )
        .into_bytes()
    }
}

fn retry_after(wait: Duration) -> String {
    format!("Retry-After: {}\r\n", wait.as_secs().max(1))
}

/// A request, and the bytes read beyond it.
pub(super) struct Read {
    pub(super) request: Result<Request, Refusal>,
    pub(super) rest: Vec<u8>,
}

/// Reads one request. An error means that the client is gone.
pub(super) async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Read> {
    let mut bytes = Vec::new();
    // A request that comes byte by byte is not parsed at each of them: at its end, and each time it has doubled, so that what
    // can be no request is refused early.
    let mut parsed_at = 0;
    loop {
        let before = bytes.len();
        if poll_fn(|cx| poll_piece(stream, cx, &mut bytes)).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let has_doubled = bytes.len() >= 2 * parsed_at || bytes.len() >= REQUEST_BYTES_MAX;
        if !has_doubled && !ends_a_head(&bytes[before.saturating_sub(2)..]) {
            continue;
        }
        parsed_at = bytes.len();
        let mut rest = Vec::new();
        let request = match handshake::read_request(&bytes) {
            Ok(Some((request, length))) => {
                // A buffer of its own, because the connection keeps it, and it is nearly always empty.
                rest = bytes.split_off(length);
                Ok(request)
            }
            Ok(None) if bytes.len() < REQUEST_BYTES_MAX => continue,
            Ok(None) => Err(Refusal::TooLarge),
            Err(bad) => Err(bad.into()),
        };
        return Ok(Read { request, rest });
    }
}

/// True if these bytes contain an empty line, with or without carriage returns.
fn ends_a_head(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|end| end == b"\n\n") || bytes.windows(3).any(|end| end == b"\n\r\n")
}

/// True if the client has hung up by now, as clients do that waited too long for the gateway to start. They must not take
/// the places of clients that still wait. Bytes after the request are added to `rest`.
pub(super) async fn has_gone<S: AsyncRead + Unpin>(stream: &mut S, rest: &mut Vec<u8>) -> bool {
    // After the yield the runtime has asked the kernel; it does not ask for the first read of a stream.
    yield_now().await;
    let more = poll_fn(|cx| poll_piece(stream, cx, rest)).now_or_never();
    matches!(more, Some(Ok(0) | Err(_)))
}

/// Reads into a buffer on the stack: thousands of clients that have sent nothing yet, as after a restart, hold no buffers.
fn poll_piece<S: AsyncRead + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    bytes: &mut Vec<u8>,
) -> Poll<io::Result<usize>> {
    let mut piece = [MaybeUninit::uninit(); PIECE_BYTES];
    let mut piece = ReadBuf::uninit(&mut piece);
    ready!(Pin::new(stream).poll_read(cx, &mut piece))?;
    bytes.extend_from_slice(piece.filled());
    Poll::Ready(Ok(piece.filled().len()))
}

/// A granted request.
pub(super) struct Upgrade {
    /// The answer that makes the stream a WebSocket: RFC 6455 section 4.2.
    pub(super) answer: Vec<u8>,
    /// The protocol that the client speaks on it.
    pub(super) codec: Box<dyn Codec>,
}

/// Grants a request on a protocol's path. `origins` are the origins that a browser may come from; empty: any.
pub(super) fn accept(request: &Request, origins: &[String]) -> Result<Upgrade, Refusal> {
    let codec = protocol::at(request.uri().path()).ok_or(Refusal::NotFound)?;
    if let Some(origin) = request.headers().get(ORIGIN) {
        let mut ours = origins.iter().map(String::as_bytes);
        if !origins.is_empty() && !ours.any(|ours| ours.eq_ignore_ascii_case(origin.as_bytes())) {
            return Err(Refusal::Origin);
        }
    }
    let answer = handshake::accept(request, codec.subprotocol())?;
    Ok(Upgrade { answer, codec })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    fn answer(request: &str, origins: &[&str]) -> Result<String, Refusal> {
        let origins: Vec<String> = origins.iter().map(|&o| o.to_owned()).collect();
        let mut bytes = request.as_bytes();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let read = runtime.block_on(read(&mut bytes)).unwrap();
        let upgrade = accept(&read.request?, &origins)?;
        Ok(String::from_utf8(upgrade.answer).unwrap().to_lowercase())
    }

    fn good(more: &str) -> String {
        format!("{GOOD}{more}\r\n")
    }

    #[test]
    fn get_ws_is_upgraded_and_the_subprotocol_echoed_when_offered() {
        let plain = answer(&good(""), &[]).unwrap();
        assert!(plain.starts_with("http/1.1 101"));
        // The key and answer of RFC 6455 section 1.3.
        assert!(plain.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="));
        assert!(!plain.contains("sec-websocket-protocol"));
        let offers = "Sec-WebSocket-Protocol: mqtt, towncrier.v1\r\n";
        let echoed = answer(&good(offers), &[]).unwrap();
        assert!(echoed.contains("sec-websocket-protocol: towncrier.v1\r\n"));
        for path in ["http://a/ws?x=1", "//ws", "/ws/"] {
            let other = good("").replace("/ws", path);
            assert!(answer(&other, &[]).is_ok(), "{path}");
        }
    }

    #[test]
    fn everything_else_is_refused_with_its_own_status() {
        let refused = |request: &str| answer(request, &[]).unwrap_err();
        let elsewhere = good("").replace("/ws", "/");
        assert_eq!(refused(&elsewhere), Refusal::NotFound);
        for method in ["POST", "HEAD", "OPTIONS"] {
            let other = good("").replace("GET", method);
            assert_eq!(refused(&other), Refusal::Method, "{method}");
        }
        let nowhere = elsewhere.replace("GET", "HEAD");
        assert_eq!(refused(&nowhere), Refusal::NotFound);
        assert_eq!(
            refused("GET /ws HTTP/1.1\r\nHost: a\r\n\r\n"),
            Refusal::NoUpgrade
        );
        assert_eq!(refused("\x16\x03\x01 not http\r\n\r\n"), Refusal::Malformed);
        let many = good(&"A: b\r\n".repeat(200));
        assert_eq!(refused(&many), Refusal::TooManyHeaders);
        let long = good(&format!("Cookie: {}\r\n", "x".repeat(40_000)));
        assert_eq!(refused(&long[..33_000]), Refusal::TooLarge);
        assert_eq!(refused(&good("").replace("1.1", "1.0")), Refusal::Malformed);
    }

    #[test]
    fn twelve_kilobytes_of_cookies_keep_nobody_out() {
        let cookies = format!("Cookie: {}\r\n", "sso=x; ".repeat(1_800));
        assert!(answer(&good(&cookies), &[]).is_ok());
    }

    #[test]
    fn browsers_come_from_the_listed_origins_only_and_others_have_none() {
        let ours = ["https://oa.example"];
        let from = |origin: &str| answer(&good(&format!("Origin: {origin}\r\n")), &ours);
        assert!(from("https://OA.example").is_ok());
        assert_eq!(from("https://evil.example"), Err(Refusal::Origin));
        assert_eq!(from("https://oa.example.evil"), Err(Refusal::Origin));
        assert!(answer(&good(""), &ours).is_ok());
    }

    #[test]
    fn a_refusal_is_a_whole_http_answer() {
        let text = String::from_utf8(Refusal::Draining(Duration::from_secs(7)).response()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 503 "));
        assert!(head.contains("Retry-After: 7\r\n"));
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
        let text = String::from_utf8(Refusal::Method.response()).unwrap();
        assert!(text.starts_with("HTTP/1.1 405 ") && text.contains("\r\nAllow: GET\r\n"));
        assert!(text.ends_with("Content-Length: 0\r\nConnection: close\r\n\r\n"));
        let text = String::from_utf8(Refusal::TooManyHeaders.response()).unwrap();
        let limit = format!("more than {} headers", handshake::HEADERS_MAX);
        assert!(text.contains(&limit), "{text}");
    }
}
