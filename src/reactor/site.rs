//! The inbox page on the client port, beside the WebSocket.
//!
//! Promises: nothing of a request but its first line and headers is read, and every answer ends its connection. The page holds
//! nothing of anybody's: it asks for a token. No answer depends on where a request comes from, because behind a proxy every
//! request comes from the proxy's machine.

use axum::http::{Request, Response};
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
        let path = uri.path().strip_prefix('/')?;
        self.page.answer(path, uri.query(), request.headers())
    }
}

/// An answer as it goes over the wire, the last of its connection: the head, then the body.
pub(super) fn encode(response: &Response<Bytes>) -> Vec<u8> {
    let status = response.status();
    let mut bytes = format!("HTTP/1.1 {status}\r\n").into_bytes();
    for (name, value) in response.headers() {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    let body = response.body();
    let end = format!(
        "content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    bytes.extend_from_slice(end.as_bytes());
    bytes.extend_from_slice(body);
    bytes
}
