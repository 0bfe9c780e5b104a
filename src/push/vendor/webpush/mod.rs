//! Web Push (RFC 8030): the services of the browsers' makers, which wake the inbox page's service worker.
//!
//! The message is encrypted for the browser (RFC 8291), so that its service cannot read it, and the request is signed with the
//! gateway's own key (RFC 8292, VAPID). A subscription works only with the key that it was made for. A repeat replaces the
//! notice by `Topic`, and by the tag that the page gives it. Answers, by RFC 8030 section 5 and 7, and RFC 8292 section 4.2:
//!
//! | Status | Meaning |
//! |---|---|
//! | 201, other 2xx | sent; `Location` names it |
//! | 404, 410 | gone |
//! | 429, 5xx | later |
//! | 400, 401, 403, 413, others | refused. A subscription is a user's word: one that was made for another key must not stop the others |
//!
//! A subscription's URL comes from a user. It must be https on a host of `push.webpush.hosts`, and lead to no private address.
//!
//! - `encryption.rs`: the encryption of a message

mod encryption;

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use hyper::{
    Request, StatusCode, Uri,
    header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, LOCATION},
};
use serde_json::{Value, json};

use self::encryption::{PLAIN_BYTES_MAX, encrypt};
use super::{
    VENDOR_TIMEOUT, Vendor,
    answer::{by_failure, by_status, text},
    jwt::ClaimsKey,
    notice::{Notice, Outcome},
    payload::{data, fit},
};
use crate::{
    clock::Clock,
    message::{Device, Provider, PushSubscription},
    outbound::Outbound,
};

/// The most devices of one call. Each is a request of its own, at the same time: a user has some.
const WEBPUSH_DEVICES_MAX: usize = 16;
/// The longest time for which the services keep a notice.
const WEBPUSH_KEPT_MAX: Duration = Duration::from_secs(28 * 24 * 3600);
/// The time for which a signature is good, in seconds. RFC 8292 allows a day; clocks differ.
const SIGNED_S: u64 = 12 * 3600;

/// Web Push.
pub(super) struct WebPush {
    pub(super) outbound: Outbound,
    pub(super) clock: Arc<Clock>,
    pub(super) key: ClaimsKey,
    /// `push.webpush.subject`: a `mailto:` or https URL at which a service reaches the operator.
    pub(super) subject: String,
    pub(super) hosts: Vec<String>,
    /// `push.webpush.url`, without a slash at its end: a relay, which gets the requests with the service's host as the first
    /// part of their path. Empty: they go to the services themselves.
    pub(super) relay: String,
}

/// The parts of a subscription.
struct Browser {
    endpoint: Uri,
    /// A point of P-256.
    public: Vec<u8>,
    auth: [u8; 16],
}

impl WebPush {
    async fn send(&self, notice: &Notice, devices: &[Device]) -> Vec<Outcome> {
        let Some(payload) = payload(notice) else {
            return vec![Outcome::refused("the notice is too large"); devices.len()];
        };
        join_all(
            devices
                .iter()
                .map(|device| self.send_to(notice, device, &payload)),
        )
        .await
    }

    async fn send_to(&self, notice: &Notice, device: &Device, payload: &[u8]) -> Outcome {
        let Some(subscription) = self.read(&device.token) else {
            return Outcome::gone("no subscription at a service of push.webpush.hosts");
        };
        let Some(body) = encrypt(payload, &subscription.public, &subscription.auth) else {
            return Outcome::gone("the subscription's key is no point of the curve");
        };
        let mut authorization = self.authorization(&subscription.endpoint);
        authorization.set_sensitive(true);
        let request = Request::post(self.url(&subscription.endpoint))
            .header(AUTHORIZATION, authorization)
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_ENCODING, "aes128gcm")
            .header("ttl", notice.ttl_s(WEBPUSH_KEPT_MAX))
            .header("urgency", "high")
            // At most 32 characters of base64url: exactly an id.
            .header("topic", notice.id.to_string())
            .body(Bytes::from(body))
            .expect("all parts are valid");
        let answer = match self.outbound.call(request, VENDOR_TIMEOUT).await {
            Ok(answer) => answer,
            Err(error) => return by_failure(&error),
        };
        match answer.status() {
            status if status.is_success() => {
                let name = answer
                    .headers()
                    .get(LOCATION)
                    .and_then(|name| name.to_str().ok());
                Outcome::sent(name.unwrap_or_default())
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Outcome::refused(&format!("{}: {}", answer.status().as_u16(), text(&answer)))
            }
            _ => by_status(&answer, &text(&answer)),
        }
    }

    /// The parts of a subscription that was checked when it was registered. The hosts may have changed since.
    fn read(&self, token: &str) -> Option<Browser> {
        let subscription = PushSubscription::parse(token).ok()?;
        if !subscription.is_at(&self.hosts) {
            return None;
        }
        let bytes = |text: &str| BASE64URL.decode(text.trim_end_matches('=')).ok();
        Some(Browser {
            endpoint: subscription.endpoint.parse().ok()?,
            public: bytes(&subscription.keys.p256dh)?,
            auth: bytes(&subscription.keys.auth)?.try_into().ok()?,
        })
    }

    fn url(&self, endpoint: &Uri) -> Uri {
        if self.relay.is_empty() {
            return endpoint.clone();
        }
        let path = endpoint.path_and_query().map_or("/", |path| path.as_str());
        let host = endpoint.host().unwrap_or_default();
        let url = format!("{}/{host}{path}", self.relay);
        url.parse().expect("both parts were checked")
    }

    fn authorization(&self, endpoint: &Uri) -> HeaderValue {
        let claims = json!({
            "aud": format!("https://{}", endpoint.host().unwrap_or_default()),
            "exp": self.clock.now_ms() / 1000 + SIGNED_S,
            "sub": self.subject,
        });
        let signed = self.key.sign(json!({"typ": "JWT"}), &claims);
        let key = BASE64URL.encode(self.key.public());
        HeaderValue::try_from(format!("vapid t={signed}, k={key}"))
            .expect("base64 has only visible ASCII")
    }
}

/// The page's service worker shows it: `web/inbox/src/sw.ts`.
fn payload(notice: &Notice) -> Option<Vec<u8>> {
    let data = Value::Object(data(notice, false));
    fit(notice, PLAIN_BYTES_MAX, |title, body| {
        let mut payload = data.clone();
        payload["title"] = json!(title);
        payload["body"] = json!(body);
        if let Some(badge) = notice.badge {
            payload["badge"] = json!(badge);
        }
        payload.to_string().into_bytes()
    })
}

impl Vendor for WebPush {
    fn provider(&self) -> Provider {
        Provider::WebPush
    }

    fn devices_max(&self) -> usize {
        WEBPUSH_DEVICES_MAX
    }

    fn push<'a>(
        &'a self,
        notice: &'a Notice,
        devices: &'a [Device],
    ) -> BoxFuture<'a, Vec<Outcome>> {
        Box::pin(self.send(notice, devices))
    }
}
