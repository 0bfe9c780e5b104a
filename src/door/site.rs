//! The inbox page on the client port, beside the WebSocket, over HTTP/1.1 and 1.0, because proxies and probes speak both.
//!
//! Promises: only the first line and the headers of a request are read. The page holds no user's data: it asks for a token.
//! No answer depends on the address of a request, because behind a proxy every request comes from the proxy's machine.

use axum::http::{HeaderValue, Method, Request, Response, StatusCode, header::ALLOW};
use bytes::Bytes;

use crate::pages::Page;

/// The page.
pub(super) struct Site {
    page: Page,
}

impl Site {
    pub(super) fn new() -> Self {
        Self {
            page: Page::inbox(),
        }
    }

    /// The answer, if the request is for a file of the page.
    pub(super) fn answer(&self, request: &Request<()>) -> Option<Response<Bytes>> {
        let uri = request.uri();
        let path = uri.path().trim_start_matches('/');
        let file = self.page.answer(path, uri.query(), request.headers())?;
        Some(match *request.method() {
            Method::GET | Method::HEAD => file,
            Method::OPTIONS => allowing(StatusCode::NO_CONTENT),
            _ => allowing(StatusCode::METHOD_NOT_ALLOWED),
        })
    }
}

/// An answer that names the methods that a file allows.
fn allowing(status: StatusCode) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    let methods = HeaderValue::from_static("GET, HEAD, OPTIONS");
    response.headers_mut().insert(ALLOW, methods);
    response
}

#[cfg(test)]
mod tests {
    use super::{super::response::encode, *};

    fn answer(request: &str) -> String {
        let parsed = towncrier_websocket::handshake::read_request(request.as_bytes());
        let (request, _) = parsed.unwrap().expect("it is whole");
        let response = Site::new().answer(&request).unwrap();
        let bytes = encode(&response, request.method(), true);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[test]
    fn the_page_is_served_over_either_version_of_http() {
        for request in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET // HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.0\r\nHost: a\r\nConnection: close\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
        ] {
            let answer = answer(request);
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            assert!(answer.ends_with("</html>\n"), "{answer}");
        }
    }

    #[test]
    fn head_has_the_pages_head_and_other_methods_are_told_which_there_are() {
        let page = answer("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let (head, _) = page.split_once("\r\n\r\n").unwrap();
        assert_eq!(answer("HEAD / HTTP/1.0\r\n\r\n"), format!("{head}\r\n\r\n"));
        let allow = "allow: GET, HEAD, OPTIONS\r\n";
        let options = answer("OPTIONS / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(
            options.starts_with("HTTP/1.1 204 ") && options.contains(allow),
            "{options}"
        );
        let post = answer("POST / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(
            post.starts_with("HTTP/1.1 405 ") && post.contains(allow),
            "{post}"
        );
    }
}
