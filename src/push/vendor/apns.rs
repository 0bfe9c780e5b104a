//! APNs: Apple's push service over HTTP/2, with a signed token.
//!
//! Source: <https://developer.apple.com/documentation/usernotifications/sending-notification-requests-to-apns>, and for the
//! answers <https://developer.apple.com/documentation/usernotifications/handling-notification-responses-from-apns>. The token is
//! signed with the key file and renewed after 40 minutes: Apple takes none older than 60, and no new one within 20. A repeat
//! replaces the notice by `apns-collapse-id`. Answers:
//!
//! | Status, reason | Meaning |
//! |---|---|
//! | 200 | sent; `apns-id` names it |
//! | 410: `Unregistered`, `ExpiredToken`; 400: `BadDeviceToken` | gone |
//! | 403: `ExpiredProviderToken` | our token is too old: a new one, later |
//! | 403, and 400: `MissingTopic`, `TopicDisallowed`, `BadTopic` | credentials |
//! | 429, 5xx, 400: `IdleTimeout` | later |
//! | others | refused, `DeviceTokenNotForTopic` among them: a wrong `topic` must not remove all devices |

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use hyper::{
    Request, Response, StatusCode, Uri,
    header::{AUTHORIZATION, HeaderValue},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    VENDOR_TIMEOUT, Vendor,
    access::{AccessToken, Granted},
    answer::{by_failure, read},
    jwt::ClaimsKey,
    notice::{Notice, Outcome},
    payload::{data, fit},
};
use crate::{
    clock::Clock,
    message::{Device, Provider},
    outbound::{Outbound, retry_after},
};

/// The most devices of one call. Each is a request of its own, at the same time: a user has some.
const APNS_DEVICES_MAX: usize = 16;
/// The largest payload.
const APNS_BYTES_MAX: usize = 4096;
/// The longest time for which Apple keeps a notice.
const STORED_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// A token is renewed at this age, in ms.
const APNS_TOKEN_MS: u64 = 2_400_000;
/// The most bytes of a device token: Apple's have 32, and may grow.
const APNS_TOKEN_BYTES_MAX: usize = 100;

/// APNs.
pub(super) struct Apns {
    pub(super) outbound: Outbound,
    pub(super) clock: Arc<Clock>,
    /// `push.apns.url`, without a slash at its end.
    pub(super) base: String,
    pub(super) key: ClaimsKey,
    pub(super) key_id: String,
    pub(super) team_id: String,
    pub(super) topic: HeaderValue,
    pub(super) access: AccessToken,
}

#[derive(Deserialize)]
struct ApnsAnswer {
    reason: String,
}

impl Apns {
    async fn send(&self, notice: &Notice, devices: &[Device]) -> Vec<Outcome> {
        let Some(payload) = payload(notice) else {
            return vec![Outcome::refused("the notice is too large"); devices.len()];
        };
        let payload = Bytes::from(payload);
        let sending = devices
            .iter()
            .map(|device| self.send_to(notice, device, payload.clone()));
        join_all(sending).await
    }

    async fn send_to(&self, notice: &Notice, device: &Device, payload: Bytes) -> Outcome {
        if !is_device_token(&device.token) {
            return Outcome::gone("no device token of APNs");
        }
        let now_ms = self.clock.now_ms();
        let token = match self
            .access
            .token(now_ms, async { self.grant(now_ms) })
            .await
        {
            Ok(token) => token,
            Err(outcome) => return outcome,
        };
        let uri: Uri = format!("{}/3/device/{}", self.base, device.token)
            .parse()
            .expect("the configuration's URLs were checked");
        let mut authorization = HeaderValue::try_from(format!("bearer {token}"))
            .expect("base64 has only visible ASCII");
        authorization.set_sensitive(true);
        let expires_at_s = now_ms / 1000 + notice.ttl_s(STORED_MAX);
        let request = Request::post(uri)
            .header(AUTHORIZATION, authorization)
            .header("apns-topic", self.topic.clone())
            .header("apns-push-type", "alert")
            .header("apns-priority", "10")
            .header("apns-expiration", expires_at_s)
            .header("apns-collapse-id", notice.id.to_string())
            .body(payload)
            .expect("all parts are valid");
        let answer = match self.outbound.call(request, VENDOR_TIMEOUT).await {
            Ok(answer) => answer,
            Err(error) => return by_failure(&error),
        };
        let reason = read::<ApnsAnswer>(&answer).map(|answer| answer.reason);
        let reason = reason.unwrap_or_else(|| answer.status().to_string());
        if reason == "ExpiredProviderToken" {
            self.access.forget(&token).await;
        }
        meaning(&answer, &reason)
    }

    fn grant(&self, now_ms: u64) -> Result<Granted, Outcome> {
        let claims = json!({"iss": self.team_id, "iat": now_ms / 1000});
        Ok(Granted {
            token: self.key.sign(json!({"kid": self.key_id}), &claims).into(),
            until_ms: now_ms + APNS_TOKEN_MS,
        })
    }
}

fn is_device_token(text: &str) -> bool {
    let is_long = (1..=2 * APNS_TOKEN_BYTES_MAX).contains(&text.len());
    is_long && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn payload(notice: &Notice) -> Option<Vec<u8>> {
    fit(notice, APNS_BYTES_MAX, |title, body| {
        let mut payload = Value::Object(data(notice, false));
        let sound = if notice.sound.is_empty() {
            "default"
        } else {
            &notice.sound
        };
        let mut aps = json!({
            "alert": {"title": title, "body": body},
            "sound": sound,
            "thread-id": notice.conversation_id,
            // An extension of the app may fetch the text before the notice is shown.
            "mutable-content": 1,
        });
        if let Some(badge) = notice.badge {
            aps["badge"] = json!(badge);
        }
        payload["aps"] = aps;
        payload.to_string().into_bytes()
    })
}

fn meaning(answer: &Response<Bytes>, reason: &str) -> Outcome {
    let status = answer.status();
    match (status, reason) {
        (StatusCode::OK, _) => {
            let id = answer
                .headers()
                .get("apns-id")
                .and_then(|id| id.to_str().ok());
            Outcome::sent(id.unwrap_or_default())
        }
        (StatusCode::GONE, _) | (_, "BadDeviceToken") => Outcome::gone(reason),
        (_, "ExpiredProviderToken" | "IdleTimeout") | (StatusCode::TOO_MANY_REQUESTS, _) => {
            Outcome::later(retry_after(answer.headers()), reason)
        }
        (StatusCode::FORBIDDEN, _) | (_, "MissingTopic" | "TopicDisallowed" | "BadTopic") => {
            Outcome::credentials(reason)
        }
        (status, _) if status.is_server_error() => {
            Outcome::later(retry_after(answer.headers()), reason)
        }
        _ => Outcome::refused(reason),
    }
}

impl Vendor for Apns {
    fn provider(&self) -> Provider {
        Provider::Apns
    }

    fn devices_max(&self) -> usize {
        APNS_DEVICES_MAX
    }

    fn push<'a>(
        &'a self,
        notice: &'a Notice,
        devices: &'a [Device],
    ) -> BoxFuture<'a, Vec<Outcome>> {
        Box::pin(self.send(notice, devices))
    }
}
