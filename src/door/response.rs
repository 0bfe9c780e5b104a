//! One HTTP/1.1 response as bytes, for the client port, which reads its HTTP itself.

use axum::http::{
    HeaderValue, Method, Request, Response, Version,
    header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING},
};
use bytes::Bytes;

/// True if another request may follow this one, whose body is not read, on its connection. So a body ends the connection.
pub(super) fn may_go_on(request: &Request<()>) -> bool {
    let headers = request.headers();
    let has_body = headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING);
    !has_body && !ends(request)
}

/// True if the client ends its connection with this request, or speaks HTTP/1.0.
pub(super) fn ends(request: &Request<()>) -> bool {
    let mut lists = request.headers().get_all(CONNECTION).into_iter();
    let closes = |list: &HeaderValue| {
        let list = list.to_str().unwrap_or_default();
        list.split(',')
            .any(|item| item.trim().eq_ignore_ascii_case("close"))
    };
    request.version() != Version::HTTP_11 || lists.any(closes)
}

/// The head, then the body, which an answer to HEAD omits. `is_last`: the connection ends after it.
pub(super) fn encode(response: &Response<Bytes>, method: &Method, is_last: bool) -> Vec<u8> {
    let status = response.status();
    let mut bytes = format!("HTTP/1.1 {status}\r\n").into_bytes();
    for (name, value) in response.headers() {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    let body = response.body();
    bytes.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    if is_last {
        bytes.extend_from_slice(b"connection: close\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    if method != Method::HEAD {
        bytes.extend_from_slice(body);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, header::RETRY_AFTER};

    use super::*;

    #[test]
    fn a_response_is_whole_and_says_if_it_is_the_last() {
        let mut response = Response::new(Bytes::from_static(b"text"));
        response.headers_mut().insert(RETRY_AFTER, 7.into());
        let encode = |method, is_last| {
            let bytes = encode(&response, &method, is_last);
            String::from_utf8(bytes).unwrap()
        };
        let head = "HTTP/1.1 200 OK\r\nretry-after: 7\r\ncontent-length: 4\r\n";
        assert_eq!(encode(Method::GET, false), format!("{head}\r\ntext"));
        let last = format!("{head}connection: close\r\n\r\n");
        assert_eq!(encode(Method::GET, true), format!("{last}text"));
        assert_eq!(encode(Method::HEAD, true), last);
    }

    #[test]
    fn a_connection_goes_on_unless_the_client_or_a_body_ends_it() {
        let request = |version, headers: &[(HeaderName, &str)]| {
            let mut request = Request::builder().version(version);
            for (name, value) in headers {
                request = request.header(name, *value);
            }
            may_go_on(&request.body(()).unwrap())
        };
        let new = Version::HTTP_11;
        assert!(request(new, &[]));
        assert!(request(new, &[(CONNECTION, "keep-alive")]));
        assert!(!request(Version::HTTP_10, &[]));
        assert!(!request(new, &[(CONNECTION, "te, Close")]));
        assert!(!request(new, &[(CONTENT_LENGTH, "4")]));
        assert!(!request(new, &[(TRANSFER_ENCODING, "chunked")]));
    }
}
