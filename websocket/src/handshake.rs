//! The HTTP before a WebSocket, section 4: one request and one answer, read and written by either side.
//!
//! httparse parses the HTTP. The caller checks path and origin, and chooses the subprotocol.

use base64::{
    Engine as _, alphabet,
    engine::{GeneralPurpose, GeneralPurposeConfig},
};
use tungstenite::{
    handshake::{client::Response, derive_accept_key, machine::TryParse as _},
    http::{
        Method, StatusCode, Version,
        header::{
            CONNECTION, HOST, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
            SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
        },
    },
};

/// Decodes a `Sec-WebSocket-Key`. The last character of 16 bytes has four bits without meaning, and RFC 6455's own example
/// sets one of them.
const NONCE: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// The most headers of a request: a browser behind two proxies sends about 40.
pub const HEADERS_MAX: usize = 124;

/// A client's request: method, path, version and headers.
pub type Request = tungstenite::http::Request<()>;

/// Why a request is no handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// The request is HTTP, but no GET.
    #[error("not a GET")]
    Method,
    /// The request has more than [`HEADERS_MAX`] headers.
    #[error("too many headers")]
    TooManyHeaders,
    /// It does not ask for a WebSocket, or asks for another version than 13.
    #[error("no wish for a WebSocket of version 13")]
    NoUpgrade,
    /// It is not HTTP/1.1, or lacks the host or a valid key.
    #[error("malformed")]
    Malformed,
}

/// Why an answer makes no WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadAnswer {
    /// The server refuses, with this HTTP status.
    #[error("the handshake was answered with HTTP {0}")]
    Refused(u16),
    /// It is not HTTP/1.1, or answers another request.
    #[error("the handshake was not answered by a WebSocket server")]
    Malformed,
}

/// The request at the front of `bytes` and its length; `None` while it is not complete. It also reads other methods and
/// HTTP/1.0, for a server that answers more than handshakes. The caller bounds `bytes`.
pub fn read_request(bytes: &[u8]) -> Result<Option<(Request, usize)>, BadRequest> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    let length = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(BadRequest::TooManyHeaders),
        Err(_) => return Err(BadRequest::Malformed),
    };
    let version = if parsed.version == Some(0) {
        Version::HTTP_10
    } else {
        Version::HTTP_11
    };
    let mut request = Request::builder()
        .method(parsed.method.unwrap_or_default())
        .uri(parsed.path.unwrap_or_default())
        .version(version);
    for header in parsed.headers {
        request = request.header(header.name, header.value);
    }
    let request = request.body(()).map_err(|_| BadRequest::Malformed)?;
    Ok(Some((request, length)))
}

/// The head of the answer that accepts a request: section 4.2. It names `subprotocol` if the request offers it.
pub fn accept(request: &Request, subprotocol: &str) -> Result<Vec<u8>, BadRequest> {
    if request.method() != Method::GET {
        return Err(BadRequest::Method);
    }
    let headers = request.headers();
    let wants = |name, what| items(request, name).any(|item| item.eq_ignore_ascii_case(what));
    let is_known = |version| version == "13";
    if !wants(CONNECTION, "upgrade")
        || !wants(UPGRADE, "websocket")
        || !headers.get(SEC_WEBSOCKET_VERSION).is_some_and(is_known)
    {
        return Err(BadRequest::NoUpgrade);
    }
    let key = headers
        .get(SEC_WEBSOCKET_KEY)
        .filter(|key| NONCE.decode(key).is_ok_and(|nonce| nonce.len() == 16))
        .ok_or(BadRequest::Malformed)?;
    if !headers.contains_key(HOST) || request.version() != Version::HTTP_11 {
        return Err(BadRequest::Malformed);
    }
    let protocol = if items(request, SEC_WEBSOCKET_PROTOCOL).any(|offer| offer == subprotocol) {
        format!("Sec-WebSocket-Protocol: {subprotocol}\r\n")
    } else {
        String::new()
    };
    let accept = derive_accept_key(key.as_bytes());
    Ok(format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{protocol}\r\n"
    )
    .into_bytes())
}

/// The items of a list, which may be spread over several headers of one name.
fn items(request: &Request, name: HeaderName) -> impl Iterator<Item = &str> {
    let lists = request.headers().get_all(name).into_iter();
    lists
        .flat_map(|list| list.to_str().unwrap_or_default().split(','))
        .map(str::trim)
}

/// A client's request, section 4.1. `key`: 16 random bytes in base64.
pub fn request(host: &str, path: &str, key: &str, subprotocol: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
    )
    .into_bytes()
}

/// The length of the answer at the front of `bytes` that accepts the request with this `key`; `None` while it is not
/// complete.
pub fn read_answer(bytes: &[u8], key: &str) -> Result<Option<usize>, BadAnswer> {
    let parsed = Response::try_parse(bytes).map_err(|_| BadAnswer::Malformed)?;
    let Some((length, answer)) = parsed else {
        return Ok(None);
    };
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(BadAnswer::Refused(answer.status().as_u16()));
    }
    let accept = answer.headers().get(SEC_WEBSOCKET_ACCEPT);
    if accept.is_none_or(|accept| accept != derive_accept_key(key.as_bytes()).as_str()) {
        return Err(BadAnswer::Malformed);
    }
    Ok(Some(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    // The key and answer of RFC 6455 section 1.3.
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    fn good() -> String {
        String::from_utf8(request("here", "/ws", KEY, "towncrier.v1")).unwrap()
    }

    fn answer(request: &str) -> Result<String, BadRequest> {
        let parsed = read_request(request.as_bytes())?;
        let (request, _) = parsed.expect("it is whole");
        accept(&request, "towncrier.v1").map(|answer| String::from_utf8(answer).unwrap())
    }

    #[test]
    fn each_side_takes_the_others_word() {
        let answer = answer(&good()).unwrap();
        assert!(answer.contains(&format!("\r\nSec-WebSocket-Accept: {ACCEPT}\r\n")));
        assert_eq!(read_answer(answer.as_bytes(), KEY), Ok(Some(answer.len())));
        let with_more = [answer.as_bytes(), b"\x88\0"].concat();
        assert_eq!(read_answer(&with_more, KEY), Ok(Some(answer.len())));
        for end in 0..answer.len() {
            assert_eq!(read_answer(&answer.as_bytes()[..end], KEY), Ok(None));
        }
        for end in 0..good().len() {
            assert!(matches!(read_request(&good().as_bytes()[..end]), Ok(None)));
        }
    }

    #[test]
    fn unused_bits_of_a_key_may_be_set() {
        // The first key is from RFC 6455 section 4.1.
        for key in ["AQIDBAUGBwgJCgsMDQ4PEC==", "AAAAAAAAAAAAAAAAAAAAAB=="] {
            let accept = derive_accept_key(key.as_bytes());
            let answer = answer(&good().replace(KEY, key)).unwrap();
            assert!(answer.contains(&accept), "{key}");
        }
    }

    #[test]
    fn an_answer_is_believed_only_where_it_answers_this_request() {
        let answer = answer(&good()).unwrap();
        let other = answer.replace(ACCEPT, "AAAAAAAAAAAAAAAAAAAAAAAAAAA=");
        assert_eq!(
            read_answer(other.as_bytes(), KEY),
            Err(BadAnswer::Malformed)
        );
        let refused = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\r\n";
        assert_eq!(read_answer(refused, KEY), Err(BadAnswer::Refused(503)));
        assert_eq!(
            read_answer(b"\x88\x02no http\r\n\r\n", KEY),
            Err(BadAnswer::Malformed)
        );
    }

    #[test]
    fn a_subprotocol_is_named_where_it_is_offered() {
        let named = |offers: &str| {
            let request = good().replace("Protocol: towncrier.v1", offers);
            let answer = answer(&request).unwrap();
            answer.contains("\r\nSec-WebSocket-Protocol: towncrier.v1\r\n")
        };
        assert!(named("Protocol: towncrier.v1"));
        assert!(named("Protocol: mqtt, towncrier.v1"));
        assert!(!named("Protocol: mqtt"));
        assert!(!named("Unknown: towncrier.v1"));
    }

    #[test]
    fn a_request_that_is_no_handshake_is_refused() {
        let without = |line: &str| answer(&good().replace(&format!("{line}\r\n"), ""));
        let other = |this: &str, that: &str| answer(&good().replace(this, that));
        let (upgrade, malformed) = (Err(BadRequest::NoUpgrade), Err(BadRequest::Malformed));
        for line in [
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
        ] {
            assert_eq!(without(line), upgrade, "{line}");
        }
        for version in [": 8", ": 14", ": 13, 8", ": "] {
            assert_eq!(other(": 13", version), upgrade, "{version}");
        }
        assert_eq!(without("Host: here"), malformed);
        assert_eq!(without(&format!("Sec-WebSocket-Key: {KEY}")), malformed);
        for key in [
            "",
            "dGhlIHNhbXBsZQ==",
            "dGhlIHNhbXBsZSBub25jZQ",
            "no base64",
        ] {
            assert_eq!(other(KEY, key), malformed, "{key}");
        }
        assert_eq!(other("HTTP/1.1", "HTTP/1.0"), malformed);
        assert_eq!(other("GET", "POST"), Err(BadRequest::Method));
        let many = "A: b\r\n".repeat(200);
        let many = other("Host", &format!("{many}Host"));
        assert_eq!(many, Err(BadRequest::TooManyHeaders));
    }

    #[test]
    fn lists_may_stand_in_several_headers_and_names_in_any_case() {
        let apart = good().replace(
            "Connection: Upgrade",
            "CONNECTION: keep-alive\r\nConnection: UPGRADE",
        );
        assert!(answer(&apart).is_ok());
        let others = good().replace("Upgrade: websocket", "upgrade: h2c, WebSocket");
        assert!(answer(&others).is_ok());
    }
}
