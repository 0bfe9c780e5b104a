//! The answers as JSON with HTTP 200.

use axum::{
    http::{
        HeaderValue,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::Response,
};
use serde::Serialize;

/// An answer without data.
#[derive(Serialize)]
pub(super) struct NoData {}

/// The form of every success.
#[derive(Serialize)]
struct SuccessBody<T> {
    #[serde(rename = "errCode")]
    code: u16,
    #[serde(rename = "errMsg")]
    name: &'static str,
    #[serde(rename = "errDlt")]
    detail: &'static str,
    data: T,
}

/// The answer of a call that was done.
pub(super) fn success<T: Serialize>(data: T) -> Response {
    json(&SuccessBody {
        code: 0,
        name: "",
        detail: "",
        data,
    })
}

/// Any JSON with HTTP 200.
pub(super) fn json<T: Serialize>(value: &T) -> Response {
    let bytes = serde_json::to_vec(value);
    let bytes = bytes.expect("our own types have string keys and finite numbers");
    let mut response = Response::new(bytes.into());
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().insert(CACHE_CONTROL, no_store);
    response
}
