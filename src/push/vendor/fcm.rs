//! FCM: Google's push service, HTTP v1.
//!
//! Source: <https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages>, and for the errors
//! <https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode>. An access token is granted for signed claims of the
//! service account (<https://developers.google.com/identity/protocols/oauth2/service-account#httprest>) and good for an hour.
//! Answers:
//!
//! | Status, error code | Meaning |
//! |---|---|
//! | 200 | sent; `name` names it |
//! | 404: `UNREGISTERED`; 403: `SENDER_ID_MISMATCH`; 400: `INVALID_ARGUMENT` of `message.token` | gone |
//! | 400: other `INVALID_ARGUMENT` | refused |
//! | 429: `QUOTA_EXCEEDED`; 500: `INTERNAL`; 503: `UNAVAILABLE` | later, without its own wait after a minute |
//! | 401 of our token | a new one, and once more; then credentials |
//! | 401: `THIRD_PARTY_AUTH_ERROR` | Google's access to APNs or to a browser's service is wrong: refused, as other devices work |
//! | other 401, 403 and 404 | credentials |

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use hyper::{
    Request, Response, StatusCode, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    VENDOR_TIMEOUT, Vendor,
    access::{AccessToken, Granted},
    answer::{by_failure, by_status, read, text, unnamed},
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
const FCM_DEVICES_MAX: usize = 16;
/// The most bytes of title, text and data together. FCM allows 4,096.
const FCM_BYTES_MAX: usize = 4000;
/// The longest time for which Google keeps a notice.
const FCM_KEPT_MAX: Duration = Duration::from_secs(28 * 24 * 3600);
/// The time of the claims for a grant, in seconds: the longest that Google takes.
const CLAIMS_S: u64 = 3600;
/// An access token is renewed this long before it runs out, in ms: longer than a call takes.
const RENEWED_BEFORE_MS: u64 = 300_000;
/// Without `Retry-After` Google asks for a pause of a minute.
const FCM_PAUSE: Duration = Duration::from_secs(60);
/// The right that the access token has.
const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
/// The head of a grant's body; the claims follow.
const GRANT: &str = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=";

/// FCM.
pub(super) struct Fcm {
    pub(super) outbound: Outbound,
    pub(super) clock: Arc<Clock>,
    /// The URL of a send, of the project.
    pub(super) send_url: Uri,
    pub(super) token_url: Uri,
    pub(super) account: ServiceAccount,
    pub(super) key: ClaimsKey,
    pub(super) access: AccessToken,
}

/// The file of a service account, as Google gives it out. Other fields are ignored.
#[derive(Clone, Deserialize)]
pub(super) struct ServiceAccount {
    pub(super) project_id: String,
    pub(super) client_email: String,
    pub(super) private_key: String,
    #[serde(default)]
    pub(super) private_key_id: String,
    /// The receiver that the claims name.
    pub(super) token_uri: String,
}

#[derive(Deserialize)]
struct OauthGrant {
    access_token: String,
    expires_in: u64,
}

#[derive(Deserialize)]
struct OauthRefused {
    error: String,
    #[serde(default)]
    error_description: String,
}

#[derive(Deserialize)]
struct FcmSent {
    name: String,
}

#[derive(Deserialize)]
struct FcmRefused {
    error: FcmFault,
}

#[derive(Deserialize)]
struct FcmFault {
    #[serde(default)]
    status: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    details: Vec<FcmDetail>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FcmDetail {
    error_code: Option<String>,
    #[serde(default)]
    field_violations: Vec<FcmField>,
}

#[derive(Deserialize)]
struct FcmField {
    field: String,
}

impl FcmFault {
    /// The code of FCM, or else that of Google's APIs.
    fn code(&self) -> &str {
        let code = self
            .details
            .iter()
            .find_map(|detail| detail.error_code.as_deref());
        code.unwrap_or(&self.status)
    }

    fn is_about_the_token(&self) -> bool {
        let mut fields = self
            .details
            .iter()
            .flat_map(|detail| &detail.field_violations);
        fields.any(|violation| violation.field == "message.token")
    }
}

impl Fcm {
    async fn send(&self, notice: &Notice, devices: &[Device]) -> Vec<Outcome> {
        let Some((title, body)) = shown(notice) else {
            return vec![Outcome::refused("the notice is too large"); devices.len()];
        };
        let now_s = self.clock.now_ms() / 1000;
        let message = message(notice, &title, &body, now_s);
        let sending = devices.iter().map(async |device| {
            let mut message = message.clone();
            message["token"] = json!(device.token);
            let body = Bytes::from(json!({"message": message}).to_string());
            self.send_to(body).await.unwrap_or_else(|outcome| outcome)
        });
        join_all(sending).await
    }

    /// Sends, and sends again with a new access token where Google no longer takes the old one.
    async fn send_to(&self, body: Bytes) -> Result<Outcome, Outcome> {
        let mut is_again = false;
        loop {
            let token = self.access.token(self.clock.now_ms(), self.grant()).await?;
            let mut authorization = HeaderValue::try_from(format!("Bearer {token}"))
                .map_err(|_| Outcome::refused("an access token of another form"))?;
            authorization.set_sensitive(true);
            let request = Request::post(self.send_url.clone())
                .header(AUTHORIZATION, authorization)
                .header(CONTENT_TYPE, "application/json")
                .body(body.clone())
                .expect("all parts are valid");
            let answer = self.outbound.call(request, VENDOR_TIMEOUT).await;
            let answer = answer.map_err(|error| by_failure(&error))?;
            let outcome = meaning(&answer);
            let is_old = answer.status() == StatusCode::UNAUTHORIZED
                && matches!(outcome, Outcome::Credentials { .. });
            if !is_old || is_again {
                return Ok(outcome);
            }
            self.access.forget(&token).await;
            is_again = true;
        }
    }

    async fn grant(&self) -> Result<Granted, Outcome> {
        let now_ms = self.clock.now_ms();
        let claims = json!({
            "iss": self.account.client_email,
            "scope": SCOPE,
            "aud": self.account.token_uri,
            "iat": now_ms / 1000,
            "exp": now_ms / 1000 + CLAIMS_S,
        });
        let header = json!({"typ": "JWT", "kid": self.account.private_key_id});
        let body = format!("{GRANT}{}", self.key.sign(header, &claims));
        let request = Request::post(self.token_url.clone())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Bytes::from(body))
            .expect("all parts are valid");
        let answer = self.outbound.call(request, VENDOR_TIMEOUT).await;
        let answer = answer.map_err(|error| by_failure(&error))?;
        if let Some(OauthGrant {
            access_token,
            expires_in,
        }) = read(&answer)
        {
            let lasts_ms = expires_in
                .saturating_mul(1000)
                .saturating_sub(RENEWED_BEFORE_MS);
            return Ok(Granted {
                token: access_token.into(),
                until_ms: now_ms.saturating_add(lasts_ms),
            });
        }
        Err(match by_status(&answer, "") {
            outcome @ Outcome::Later { .. } => outcome,
            _ => match read::<OauthRefused>(&answer) {
                Some(words) => {
                    Outcome::credentials(&format!("{} {}", words.error, words.error_description))
                }
                None => Outcome::credentials(&format!("{}: no access token", answer.status())),
            },
        })
    }
}

/// Title and text, cut to the bound.
fn shown(notice: &Notice) -> Option<(String, String)> {
    let data = strings(notice);
    let fitting = fit(notice, FCM_BYTES_MAX, |title, body| {
        json!([title, body, data]).to_string().into_bytes()
    })?;
    let (title, body, _): (String, String, Value) =
        serde_json::from_slice(&fitting).expect("it was encoded just now");
    Some((title, body))
}

/// The data for the app. FCM takes only texts.
fn strings(notice: &Notice) -> Map<String, Value> {
    let data = data(notice, false).into_iter();
    let texts = data.map(|(key, value)| match value {
        Value::String(_) => (key, value),
        value => (key, Value::String(value.to_string())),
    });
    texts.collect()
}

/// The message without its receiver.
fn message(notice: &Notice, title: &str, body: &str, now_s: u64) -> Value {
    let ttl_s = notice.ttl_s(FCM_KEPT_MAX);
    let id = notice.id.to_string();
    let sound = if notice.sound.is_empty() {
        "default"
    } else {
        &notice.sound
    };
    let mut android = json!({"tag": id, "sound": sound});
    let mut aps =
        json!({"sound": sound, "thread-id": notice.conversation_id, "mutable-content": 1});
    if let Some(badge) = notice.badge {
        android["notification_count"] = json!(badge);
        aps["badge"] = json!(badge);
    }
    json!({
        "notification": {"title": title, "body": body},
        "data": strings(notice),
        "android": {"priority": "HIGH", "ttl": format!("{ttl_s}s"), "notification": android},
        "apns": {
            "headers": {
                "apns-collapse-id": id,
                "apns-expiration": (now_s + ttl_s).to_string(),
                "apns-priority": "10",
            },
            "payload": {"aps": aps},
        },
        "webpush": {
            "headers": {"TTL": ttl_s.to_string(), "Urgency": "high"},
            "notification": {"tag": id},
        },
    })
}

fn meaning(answer: &Response<Bytes>) -> Outcome {
    let status = answer.status();
    if status.is_success() {
        return match read::<FcmSent>(answer) {
            Some(FcmSent { name }) => Outcome::sent(&name),
            None => unnamed(answer),
        };
    }
    let wait = || retry_after(answer.headers()).or(Some(FCM_PAUSE));
    let Some(FcmRefused { error }) = read(answer) else {
        return match by_status(answer, &text(answer)) {
            // A wrong URL says nothing about the device.
            Outcome::Gone { reason } => Outcome::refused(&reason),
            Outcome::Later { reason, .. } => Outcome::later(wait(), &reason),
            outcome => outcome,
        };
    };
    let reason = format!("{} {}", error.code(), error.message);
    match error.code() {
        "UNREGISTERED" | "SENDER_ID_MISMATCH" => Outcome::gone(&reason),
        "INVALID_ARGUMENT" if error.is_about_the_token() => Outcome::gone(&reason),
        "QUOTA_EXCEEDED" | "UNAVAILABLE" | "INTERNAL" => Outcome::later(wait(), &reason),
        "THIRD_PARTY_AUTH_ERROR" => Outcome::refused(&reason),
        _ => match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
                Outcome::credentials(&reason)
            }
            StatusCode::TOO_MANY_REQUESTS => Outcome::later(wait(), &reason),
            status if status.is_server_error() => Outcome::later(wait(), &reason),
            _ => Outcome::refused(&reason),
        },
    }
}

impl Vendor for Fcm {
    fn provider(&self) -> Provider {
        Provider::Fcm
    }

    fn devices_max(&self) -> usize {
        FCM_DEVICES_MAX
    }

    fn push<'a>(
        &'a self,
        notice: &'a Notice,
        devices: &'a [Device],
    ) -> BoxFuture<'a, Vec<Outcome>> {
        Box::pin(self.send(notice, devices))
    }
}
