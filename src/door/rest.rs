//! The REST calls of OpenIM's SDKs on the client port, beside the WebSocket.
//!
//! Promises: a call has the admission, the origins and the deadlines of every request of this port. Its connection goes on after
//! it, without TLS as well, and may then ask for anything that the port serves. A preflight is answered here. Leaves to others:
//! the calls themselves, which a router answers in bounded time.

use std::time::Duration;

use axum::{
    Router,
    body::Body,
    http::{
        HeaderName, HeaderValue, Method, Request, Response, StatusCode,
        header::{
            ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
            ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
            CONTENT_LENGTH, EXPECT, ORIGIN, VARY,
        },
    },
};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    time::{Instant, timeout_at},
};

use super::{
    admission::Arrival,
    body::{self, BodyFault},
    response::{encode, ends},
};

/// The longest silence between two calls of a connection. It is longer than callers keep an idle connection (nginx 60 s, Go 90
/// s), so that no call meets a connection that this port is about to close. A silent connection keeps nobody out: it is an
/// arrival, and the oldest gives way.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(100);
/// The time for which a browser remembers a preflight: two days, OpenIM's number.
const PREFLIGHT_LIFE_S: u64 = 172_800;
/// The header with a caller's token.
const TOKEN: HeaderName = HeaderName::from_static("token");

/// The mark of an answer to a call whose token was signed by no key of ours. It counts against the caller's address.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ForgedToken;

/// The calls, and the paths that are theirs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Rest {
    calls: TowerToHyperService<Router>,
    is_call: fn(&str) -> bool,
}

/// An answer as bytes. The connection ends after the last one.
pub(super) struct RestAnswer {
    pub(super) bytes: Vec<u8>,
    pub(super) is_last: bool,
}

impl Rest {
    /// `router` answers the requests on the paths for which `is_call` is true.
    pub(crate) fn new(router: Router, is_call: fn(&str) -> bool) -> Self {
        Self {
            calls: TowerToHyperService::new(router),
            is_call,
        }
    }

    /// True if the request is a call, or a preflight of one.
    pub(super) fn takes(&self, request: &Request<()>) -> bool {
        let is_method = [Method::POST, Method::OPTIONS].contains(request.method());
        is_method && (self.is_call)(request.uri().path())
    }

    /// Reads the body, which is due at `by`, and answers the call. `bytes` were read behind the head of the request, and in the end
    /// are those behind its body. `has_any_origin`: pages of every origin may call. `None`: the client is gone or too slow. Not
    /// cancel safe: a drop loses the call, which may have been done.
    pub(super) async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        request: Request<()>,
        stream: &mut S,
        bytes: &mut Vec<u8>,
        (arrival, by): (&Arrival, Instant),
        has_any_origin: bool,
    ) -> Option<RestAnswer> {
        if request.headers().contains_key(EXPECT) {
            let go_on = stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
            timeout_at(by, go_on).await.ok()?.ok()?;
        }
        let read = timeout_at(by, body::read(&request, stream, bytes))
            .await
            .ok()?;
        let origin = request.headers().get(ORIGIN).cloned();
        let mut is_last = ends(&request) || read.is_err();
        let mut response = match read {
            Err(BodyFault::Gone) => return None,
            Err(BodyFault::Malformed) => status(StatusCode::BAD_REQUEST),
            Err(BodyFault::TooLarge) => status(StatusCode::PAYLOAD_TOO_LARGE),
            Ok(_) if request.method() == Method::OPTIONS => preflight(&request),
            Ok(body) => {
                let token = request.headers().get(TOKEN).cloned();
                let response = self.call(request.map(|()| body)).await;
                if response.extensions().get::<ForgedToken>().is_some() {
                    let token = token.as_ref().and_then(|token| token.to_str().ok());
                    arrival.note_bad_token(token.unwrap_or_default());
                }
                response
            }
        };
        is_last |= response.status().is_server_error();
        allow(&mut response, origin, has_any_origin);
        // The answer to a preflight or a call has its body also when the method is not GET.
        let bytes = encode(&response, &Method::POST, is_last);
        Some(RestAnswer { bytes, is_last })
    }

    async fn call(&self, request: Request<Vec<u8>>) -> Response<Bytes> {
        let Ok(response) = self.calls.call(request.map(Body::from)).await;
        let (mut parts, body) = response.into_parts();
        // `encode` writes the length.
        parts.headers.remove(CONTENT_LENGTH);
        match body.collect().await {
            Ok(body) => Response::from_parts(parts, body.to_bytes()),
            Err(_) => status(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}

fn status(status: StatusCode) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    response
}

/// The answer to a browser that asks if a page may make a call: with any method, and the headers that it asks for.
fn preflight(request: &Request<()>) -> Response<Bytes> {
    let mut response = status(StatusCode::OK);
    let any = HeaderValue::from_static("*");
    let asked = request.headers().get(ACCESS_CONTROL_REQUEST_HEADERS);
    let asked = asked.cloned().unwrap_or_else(|| any.clone());
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, any);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked);
    headers.insert(ACCESS_CONTROL_MAX_AGE, PREFLIGHT_LIFE_S.into());
    response
}

/// Lets the page read the answer. A token is in a header that the page must know, and never in a cookie that the browser would
/// add. So a foreign page gains nothing from the permission.
fn allow(response: &mut Response<Bytes>, origin: Option<HeaderValue>, has_any_origin: bool) {
    let headers = response.headers_mut();
    if has_any_origin {
        let any = HeaderValue::from_static("*");
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, any);
    } else if let Some(origin) = origin {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(VARY, HeaderValue::from_static("origin"));
    }
}
