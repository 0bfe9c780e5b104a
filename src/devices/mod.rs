//! The calls by which apps register devices for push, on the client port: `GET`, `POST` and `DELETE /devices`.
//!
//! Promises: a call is its token's user's. A refusal has an HTTP status that fits, and JSON with `errCode`, the same number, and a
//! sentence. A registration that was answered is durable. Leaves to others: HTTP, CORS and bounds on bodies (`door`), the rules of a
//! registration (`delivery`).
//!
//! - this file: the calls; `refusal.rs`: every refusal

mod refusal;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{
        HeaderMap, HeaderValue, Method,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::{IntoResponse as _, Response},
};
use http_body_util::BodyExt as _;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::time::timeout;

use self::refusal::DeviceRefusal;
use crate::{
    delivery::{Delivery, Registration},
    door::Rest,
    ids::Platform,
    token::Claims,
};

/// The path of all calls.
const DEVICES_PATH: &str = "/devices";
/// The longest time for a call: a sync of a slow disk, and those of the registrations before.
const DEVICE_CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// The calls of a gateway, for its client port.
pub(crate) fn rest(delivery: Arc<Delivery>) -> Rest {
    let is_call = |method: &Method, path: &str| {
        path == DEVICES_PATH && [Method::GET, Method::POST, Method::DELETE].contains(method)
    };
    Rest::new(router(delivery), is_call)
}

/// The calls as a router, which answers every path.
fn router(delivery: Arc<Delivery>) -> Router {
    Router::new().fallback(answer).with_state(delivery)
}

/// A device as an app names it.
#[derive(Deserialize)]
struct DeviceBody {
    provider: String,
    token: VendorToken,
    /// By OpenIM's number.
    platform: Option<u32>,
    app: Option<String>,
    lang: Option<String>,
}

/// A vendor's token: a text, or a browser's subscription as an object.
#[derive(Deserialize)]
#[serde(untagged)]
enum VendorToken {
    Text(String),
    Subscription(Map<String, Value>),
}

impl VendorToken {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Subscription(fields) => Value::Object(fields).to_string(),
        }
    }
}

/// The facts that a page needs for a subscription.
#[derive(Serialize)]
struct DeviceKeys<'a> {
    /// The gateway's public key in base64url; `null` while it has none.
    webpush_key: Option<&'a str>,
}

/// The answer to a change.
#[derive(Serialize)]
struct DeviceDone {}

async fn answer(State(delivery): State<Arc<Delivery>>, request: Request) -> Response {
    // A change that is under way when the time is over is still made. Repeating it does no harm.
    let answered = timeout(DEVICE_CALL_TIMEOUT, call(&delivery, request)).await;
    let answered = answered.unwrap_or(Err(DeviceRefusal::Unavailable));
    answered.unwrap_or_else(DeviceRefusal::into_response)
}

async fn call(delivery: &Delivery, request: Request) -> Result<Response, DeviceRefusal> {
    let (parts, body) = request.into_parts();
    let (claims, token) = caller(delivery, &parts.headers).await?;
    if parts.method == Method::GET {
        let webpush_key = delivery.webpush_key();
        return Ok(json(&DeviceKeys { webpush_key }));
    }
    let body = body_of(body).await?;
    let vendor_token = body.token.into_text();
    if parts.method == Method::DELETE {
        let removed = delivery.remove_device(&claims.user, &body.provider, &vendor_token);
        removed.await?;
    } else {
        let platform = body.platform.map(Platform::from_number).transpose();
        let registration = Registration {
            provider: &body.provider,
            token: &vendor_token,
            platform: platform.map_err(|_| DeviceRefusal::Platform)?,
            app: body.app.as_deref().unwrap_or_default(),
            lang: body.lang.as_deref().unwrap_or_default(),
        };
        let registered = delivery.register_device(&claims, token, &registration);
        registered.await?;
    }
    Ok(json(&DeviceDone {}))
}

/// The claims of the token in the header `token`, and the token.
async fn caller<'a>(
    delivery: &Delivery,
    headers: &'a HeaderMap,
) -> Result<(Claims, &'a str), DeviceRefusal> {
    let token = headers.get("token").and_then(|token| token.to_str().ok());
    let token = token.filter(|token| !token.is_empty());
    let token = token.ok_or(DeviceRefusal::NoToken)?;
    Ok((delivery.authenticate(token).await?, token))
}

async fn body_of(body: Body) -> Result<DeviceBody, DeviceRefusal> {
    let bytes = body.collect().await.map_err(|_| DeviceRefusal::Body)?;
    serde_json::from_slice(&bytes.to_bytes()).map_err(|_| DeviceRefusal::Body)
}

/// JSON with HTTP 200.
fn json<T: Serialize>(value: &T) -> Response {
    let bytes = serde_json::to_vec(value);
    let bytes = bytes.expect("our own types have string keys and finite numbers");
    let mut response = Response::new(bytes.into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
