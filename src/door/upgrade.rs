//! The HTTP before a WebSocket: a request and its answer. Path, origin and subprotocol are checked here;
//! `towncrier-websocket` does the rest of the handshake.

use std::{
    future::poll_fn,
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::http::{
    HeaderValue, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE, ORIGIN, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE},
};
use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::{
    io::{AsyncRead, ReadBuf},
    task::yield_now,
};
use towncrier_websocket::handshake::{self, BadRequest, Request};

use super::admission::Refused;
use crate::{metrics::RefusalReason, protocol::Codec};

/// The largest request, the same as nginx allows. A browser's request has 2 KiB, and with a company's sign-on cookies 12
/// KiB.
const REQUEST_BYTES_MAX: usize = 32 * 1024;
/// The bytes of one read: more than nearly every request has.
const PIECE_BYTES: usize = 1024;

/// Why a request is not upgraded. Each reason is one HTTP answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UpgradeRefusal {
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

impl From<BadRequest> for UpgradeRefusal {
    fn from(bad: BadRequest) -> Self {
        match bad {
            BadRequest::Method => Self::Method,
            BadRequest::TooManyHeaders => Self::TooManyHeaders,
            BadRequest::NoUpgrade => Self::NoUpgrade,
            BadRequest::Malformed => Self::Malformed,
        }
    }
}

impl UpgradeRefusal {
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

    /// The answer. It ends the connection.
    pub(super) fn response(self) -> Response<Bytes> {
        let (status, text) = match self {
            Self::NotFound => (
                StatusCode::NOT_FOUND,
                "not found: clients connect to GET /ws",
            ),
            Self::Malformed => (
                StatusCode::BAD_REQUEST,
                "not a WebSocket handshake (RFC 6455)",
            ),
            Self::NoUpgrade => (
                StatusCode::UPGRADE_REQUIRED,
                "this is a WebSocket endpoint, version 13",
            ),
            // An answer to HEAD has no body, so no method gets one.
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, ""),
            Self::TooManyHeaders => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "the request has more than 124 headers",
            ),
            Self::TooLarge => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "the request is above 32 KiB",
            ),
            Self::Origin => (StatusCode::FORBIDDEN, "this origin may not connect"),
            Self::Admission(Refused::BadTokens(_)) => (
                StatusCode::TOO_MANY_REQUESTS,
                "too many bad tokens came from your address: come back later",
            ),
            Self::Draining(_) | Self::Admission(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "overloaded or going down: come back later",
            ),
        };
        let mut response = Response::new(Bytes::from_static(text.as_bytes()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        match self {
            Self::NoUpgrade => {
                headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            Self::Method => {
                headers.insert(ALLOW, HeaderValue::from_static("GET"));
            }
            Self::Draining(wait) => {
                headers.insert(RETRY_AFTER, retry_after(wait));
            }
            Self::Admission(refused) => {
                headers.insert(RETRY_AFTER, retry_after(refused.wait()));
            }
            Self::NotFound
            | Self::Malformed
            | Self::TooLarge
            | Self::TooManyHeaders
            | Self::Origin => {}
        }
        response
    }
}

/// The answer that refuses a client's token before its upgrade. OpenIM's clients read the reason only under this status.
pub(super) fn verdict(body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

fn retry_after(wait: Duration) -> HeaderValue {
    wait.as_secs().max(1).into()
}

/// Reads one request, and leaves the bytes read beyond it in `bytes`, where it may begin. The outer error means that the
/// client is gone.
pub(super) async fn read<S: AsyncRead + Unpin>(
    stream: &mut S,
    bytes: &mut Vec<u8>,
) -> io::Result<Result<Request, UpgradeRefusal>> {
    // A request that comes byte by byte is not parsed at each of them: at its end, and each time it has doubled, so that what
    // can be no request is refused early.
    let mut parsed_at = 0;
    let mut before: usize = 0;
    loop {
        let has_doubled = bytes.len() >= 2 * parsed_at || bytes.len() >= REQUEST_BYTES_MAX;
        let may_parse = has_doubled || ends_a_head(&bytes[before.saturating_sub(2)..]);
        if may_parse && !bytes.is_empty() {
            parsed_at = bytes.len();
            match handshake::read_request(bytes) {
                Ok(Some((request, length))) => {
                    // A buffer of its own, because the connection keeps it, and it is nearly always empty.
                    *bytes = bytes.split_off(length);
                    return Ok(Ok(request));
                }
                Ok(None) if bytes.len() < REQUEST_BYTES_MAX => {}
                Ok(None) => return Ok(Err(UpgradeRefusal::TooLarge)),
                Err(bad) => return Ok(Err(bad.into())),
            }
        }
        before = bytes.len();
        if poll_fn(|cx| poll_piece(stream, cx, bytes)).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// True if these bytes contain an empty line, with or without carriage returns.
fn ends_a_head(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|end| end == b"\n\n") || bytes.windows(3).any(|end| end == b"\n\r\n")
}

/// True if the client has hung up by now, as clients do that waited too long for the gateway to start. They must not take
/// the room of clients that still wait. Bytes after the request are added to `rest`.
pub(super) async fn has_gone<S: AsyncRead + Unpin>(stream: &mut S, rest: &mut Vec<u8>) -> bool {
    // After the yield the runtime has asked the kernel; it does not ask for the first read of a stream.
    yield_now().await;
    let more = poll_fn(|cx| poll_piece(stream, cx, rest)).now_or_never();
    matches!(more, Some(Ok(0) | Err(_)))
}

/// Waits for the first bytes of the next request. The error means that the client is gone.
pub(super) async fn wait<S: AsyncRead + Unpin>(
    stream: &mut S,
    bytes: &mut Vec<u8>,
) -> io::Result<()> {
    if bytes.is_empty() && poll_fn(|cx| poll_piece(stream, cx, bytes)).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

/// Reads into a buffer on the stack: thousands of clients that have sent nothing yet, as after a restart, hold no buffers.
pub(super) fn poll_piece<S: AsyncRead + Unpin>(
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

/// Grants a request for a protocol. `origins` are the origins that a browser may come from; empty: any.
pub(super) fn accept(
    request: &Request,
    codec: Box<dyn Codec>,
    origins: &[String],
) -> Result<Upgrade, UpgradeRefusal> {
    check_origin(request, origins)?;
    let answer = handshake::accept(request, codec.subprotocol())?;
    Ok(Upgrade { answer, codec })
}

/// Refuses a browser on a page of an origin that is not among these. Without any in the list, every origin is good.
pub(super) fn check_origin(request: &Request, origins: &[String]) -> Result<(), UpgradeRefusal> {
    if let Some(origin) = request.headers().get(ORIGIN) {
        let mut ours = origins.iter().map(String::as_bytes);
        if !origins.is_empty() && !ours.any(|ours| ours.eq_ignore_ascii_case(origin.as_bytes())) {
            return Err(UpgradeRefusal::Origin);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol;

    const GOOD: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    fn answer(request: &str, origins: &[&str]) -> Result<String, UpgradeRefusal> {
        let origins: Vec<String> = origins.iter().map(|&o| o.to_owned()).collect();
        let mut bytes = request.as_bytes();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let read = runtime.block_on(read(&mut bytes, &mut Vec::new()));
        let request = read.unwrap()?;
        let codec = protocol::of(&request, true).ok_or(UpgradeRefusal::NotFound)?;
        let upgrade = accept(&request, codec, &origins)?;
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
        assert_eq!(refused(&elsewhere), UpgradeRefusal::NotFound);
        for method in ["POST", "HEAD", "OPTIONS"] {
            let other = good("").replace("GET", method);
            assert_eq!(refused(&other), UpgradeRefusal::Method, "{method}");
        }
        let nowhere = elsewhere.replace("GET", "HEAD");
        assert_eq!(refused(&nowhere), UpgradeRefusal::NotFound);
        assert_eq!(
            refused("GET /ws HTTP/1.1\r\nHost: a\r\n\r\n"),
            UpgradeRefusal::NoUpgrade
        );
        assert_eq!(
            refused("\x16\x03\x01 not http\r\n\r\n"),
            UpgradeRefusal::Malformed
        );
        let many = good(&"A: b\r\n".repeat(200));
        assert_eq!(refused(&many), UpgradeRefusal::TooManyHeaders);
        let long = good(&format!("Cookie: {}\r\n", "x".repeat(40_000)));
        assert_eq!(refused(&long[..33_000]), UpgradeRefusal::TooLarge);
        assert_eq!(
            refused(&good("").replace("1.1", "1.0")),
            UpgradeRefusal::Malformed
        );
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
        assert_eq!(from("https://evil.example"), Err(UpgradeRefusal::Origin));
        assert_eq!(from("https://oa.example.evil"), Err(UpgradeRefusal::Origin));
        assert!(answer(&good(""), &ours).is_ok());
    }

    #[test]
    fn a_refusal_says_when_to_return_and_what_is_allowed() {
        let draining = UpgradeRefusal::Draining(Duration::from_secs(7)).response();
        assert_eq!(draining.status(), 503);
        assert_eq!(draining.headers()[RETRY_AFTER], "7");
        let method = UpgradeRefusal::Method.response();
        assert_eq!(method.status(), 405);
        assert_eq!(method.headers()[ALLOW], "GET");
        assert!(method.body().is_empty());
        let text = UpgradeRefusal::TooManyHeaders.response().into_body();
        let text = String::from_utf8(text.into()).unwrap();
        let limit = format!("more than {} headers", handshake::HEADERS_MAX);
        assert!(text.contains(&limit), "{text}");
    }

    #[test]
    fn a_request_that_was_read_with_the_one_before_needs_no_further_byte() {
        let (first, second) = (good(""), good("X: y\r\n"));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let mut bytes = [first.as_bytes(), second.as_bytes()].concat();
        let read = |stream: &str, bytes: &mut Vec<u8>| {
            let read = runtime.block_on(read(&mut stream.as_bytes(), bytes));
            read.unwrap().unwrap()
        };
        assert!(!read("", &mut bytes).headers().contains_key("x"));
        assert_eq!(bytes, second.as_bytes());
        assert!(read("", &mut bytes).headers().contains_key("x"));
        assert!(bytes.is_empty());
        let (begin, end) = second.split_at(30);
        read(end, &mut begin.into());
    }
}
