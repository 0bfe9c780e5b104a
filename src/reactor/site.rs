//! What a browser may ask the client port for, beside the WebSocket: the inbox page, and a sign-in for a first look at it.
//!
//! Promises: nothing of a request but its first line and headers is read, and every answer ends its connection. A token is
//! given out only while `listener.demo` is on and the admin port on a loopback address, to a browser on this very machine
//! that knows the gateway by a name of this machine and asks from the page itself, never for an administrator, and no faster
//! than bad tokens are taken.

use axum::http::{
    HeaderValue, Request, Response, StatusCode, Uri,
    header::{CACHE_CONTROL, CONTENT_TYPE, HOST},
    uri::Authority,
};
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde_json::json;

use crate::{
    admission::Arrival,
    config::Config,
    delivery::Delivery,
    ids::{Platform, UserId},
    pages::Page,
};

/// Says whether there is a sign-in.
const DEMO: &str = "/demo";
/// Signs in: `?userID=`, percent-encoded.
const DEMO_TOKEN: &str = "/demo/token";

/// The page and whom it signs in.
pub(super) struct Site {
    page: Page,
    has_demo: bool,
    /// Administrators: whoever had a token of theirs could do everything.
    user_ids_refused: Vec<String>,
}

impl Site {
    pub(super) fn new(config: &Config) -> Self {
        // Where that limit is off, it is for a proxy's sake, and then everybody seems to come from this machine.
        let is_limited = config.listener.bad_tokens_per_minute_max > 0;
        let is_private = config.admin.listen.ip().to_canonical().is_loopback();
        let has_demo = config.listener.demo && is_private && is_limited;
        if has_demo {
            tracing::info!(
                "the inbox signs whoever is on this machine in without a token: listener.demo = false ends that"
            );
        }
        Self {
            page: Page::inbox(),
            has_demo,
            user_ids_refused: config.admin.user_ids.clone(),
        }
    }

    /// The answer, if this is asked for here.
    pub(super) fn answer(
        &self,
        request: &Request<()>,
        arrival: &Arrival,
        delivery: &Delivery,
    ) -> Option<Response<Bytes>> {
        let uri = request.uri();
        match uri.path() {
            DEMO => {
                let is_open = self.check_demo(request, arrival).is_ok();
                Some(json(StatusCode::OK, &json!({ "demo": is_open })))
            }
            DEMO_TOKEN => Some(
                self.sign_in(request, arrival, delivery)
                    .unwrap_or_else(|(status, error)| json(status, &json!({ "error": error }))),
            ),
            path => self
                .page
                .answer(path.strip_prefix('/')?, uri.query(), request.headers()),
        }
    }

    fn sign_in(
        &self,
        request: &Request<()>,
        arrival: &Arrival,
        delivery: &Delivery,
    ) -> Result<Response<Bytes>, (StatusCode, &'static str)> {
        self.check_demo(request, arrival)?;
        let user = user_id(request.uri())
            .ok_or((StatusCode::BAD_REQUEST, "give ?userID=, 1 to 64 bytes"))?;
        if self.user_ids_refused.iter().any(|id| id == user.as_str()) {
            return Err((StatusCode::FORBIDDEN, "not as an administrator"));
        }
        // What can be had for nothing is counted like what cannot succeed.
        arrival.note_bad_token();
        let issued = delivery.issue_token(&user, Platform::Web);
        let body = json!({
            "userID": user.as_str(),
            "token": issued.token,
            "expireTimeSeconds": issued.expires_at_s,
        });
        Ok(json(StatusCode::OK, &body))
    }

    fn check_demo(
        &self,
        request: &Request<()>,
        arrival: &Arrival,
    ) -> Result<(), (StatusCode, &'static str)> {
        // The name in `Host` is this machine's unless a foreign name was made to point here, or a proxy forwards.
        let is_ours = has_local_host(request) && is_asked_by_own_page(request);
        if self.has_demo && arrival.is_local() && is_ours {
            Ok(())
        } else {
            Err((
                StatusCode::FORBIDDEN,
                "sign in with a token: listener.demo is off, or you are not on this machine",
            ))
        }
    }
}

fn has_local_host(request: &Request<()>) -> bool {
    let host = request.headers().get(HOST).map(HeaderValue::as_bytes);
    let Some(Ok(host)) = host.map(Authority::try_from) else {
        return false;
    };
    let name = host.host();
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = |address: std::net::IpAddr| address.to_canonical().is_loopback();
    name.eq_ignore_ascii_case("localhost") || address.parse().is_ok_and(is_loopback)
}

/// False where a browser asks for another site's page, or for a picture or a link: neither can read the answer, but each
/// question counts against this machine. What is no browser does not say.
fn is_asked_by_own_page(request: &Request<()>) -> bool {
    let says = |name, value| {
        let said = request.headers().get(name);
        said.is_none_or(|said: &HeaderValue| said == value)
    };
    says("sec-fetch-site", "same-origin") && says("sec-fetch-dest", "empty")
}

fn user_id(uri: &Uri) -> Option<UserId> {
    let fields = uri.query()?.split('&');
    let id = fields
        .filter_map(|field| field.strip_prefix("userID="))
        .next()?;
    UserId::new(&percent_decode_str(id).decode_utf8().ok()?).ok()
}

fn json(status: StatusCode, body: &serde_json::Value) -> Response<Bytes> {
    let mut response = Response::new(body.to_string().into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
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

#[cfg(test)]
mod tests {
    use super::*;

    fn is_local(host: &str) -> bool {
        has_local_host(&Request::builder().header(HOST, host).body(()).unwrap())
    }

    #[test]
    fn a_host_is_local_by_the_names_of_this_machine_only() {
        for host in [
            "localhost",
            "LOCALHOST:10001",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:10001",
        ] {
            assert!(is_local(host), "{host}");
        }
        for host in [
            "oa.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "[::2]",
            "0.0.0.0",
            "",
        ] {
            assert!(!is_local(host), "{host}");
        }
        assert!(!has_local_host(&Request::new(())));
    }

    #[test]
    fn only_a_script_of_our_own_page_asks_where_a_browser_says_who_does() {
        let asks = |site: &str, destination: &str| {
            let request = Request::builder()
                .header("sec-fetch-site", site)
                .header("sec-fetch-dest", destination);
            is_asked_by_own_page(&request.body(()).unwrap())
        };
        assert!(asks("same-origin", "empty") && is_asked_by_own_page(&Request::new(())));
        assert!(!asks("cross-site", "empty") && !asks("same-site", "empty"));
        assert!(!asks("same-origin", "image") && !asks("none", "document"));
    }

    #[test]
    fn a_user_id_is_percent_decoded_and_checked() {
        let id = |uri: &str| user_id(&uri.parse().unwrap()).map(|id| id.as_str().to_owned());
        assert_eq!(id("/demo/token?userID=alice").as_deref(), Some("alice"));
        assert_eq!(
            id("/demo/token?x=1&userID=%E5%BC%A0%E4%B8%89").as_deref(),
            Some("张三")
        );
        for bad in [
            "/",
            "/?userID",
            "/?userID=",
            "/?userID=%00",
            "/?userID=%FF",
            "/?userid=a",
        ] {
            assert_eq!(id(bad), None, "{bad}");
        }
    }
}
