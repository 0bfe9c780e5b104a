//! The version of a request: OpenIM v3 has `operationID` as a header, v2 has it in the body.

use std::str;

use axum::{
    extract::Request,
    http::HeaderMap,
    middleware::Next,
    response::{IntoResponse as _, Response},
    routing::{MethodRouter, any},
};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;

use super::{super::error::Refusal, error::V3Refusal};

/// The header `operationID`; names of headers have no case.
const OPERATION: &str = "operationid";

fn is_v3(headers: &HeaderMap) -> bool {
    headers.contains_key(OPERATION)
}

/// The caller's operationID; `None` if the header is missing, empty or not UTF-8.
pub(super) fn operation_id(headers: &HeaderMap) -> Option<&str> {
    let id = str::from_utf8(headers.get(OPERATION)?.as_bytes()).ok()?;
    Some(id).filter(|id| !id.is_empty())
}

/// Refuses a request without an operationID.
pub(in crate::admin) async fn check_operation(
    request: Request,
    next: Next,
) -> Result<Response, V3Refusal> {
    if operation_id(request.headers()).is_none() {
        return Err(V3Refusal::NoOperation);
    }
    Ok(next.run(request).await)
}

/// The handler of a path that both versions have.
pub(in crate::admin) fn either(v2: MethodRouter, v3: MethodRouter) -> MethodRouter {
    let [v2, v3] = [v2, v3].map(TowerToHyperService::new);
    any(move |request: Request| {
        if is_v3(request.headers()) {
            v3.call(request)
        } else {
            v2.call(request)
        }
    })
}

/// The answer to a request that no handler takes, in the words of its version.
pub(in crate::admin) fn in_words_of(headers: &HeaderMap, refusal: Refusal) -> Response {
    if is_v3(headers) {
        V3Refusal::from(refusal).into_response()
    } else {
        refusal.into_response()
    }
}
