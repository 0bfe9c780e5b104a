//! Getui: REST API v2, by alias. The alias of a user is the user id.
//!
//! Source: <https://docs.getui.com/getui/server/rest_v2/push/>. A call needs an access token, which the app key and a signature
//! with the master secret get; it is good for a day. Bounds: 1,000 aliases a list, a title of 50 and a text of 256 characters. A
//! list takes two calls: one stores the notice, one names the aliases. Answers:
//!
//! | HTTP, code | Meaning |
//! |---|---|
//! | 200: 0 | sent; the task's id names it |
//! | 401: 10001 | the token ran out: a new one, and once more; then credentials |
//! | 401: 10002, others; of the first call 400 too | credentials |
//! | 401: 10003, 10005; 429; 403; 5xx | too many calls or notices, or Getui is down: later |
//! | 200: 2 | Getui starts: later |
//! | 200: 301 | the URL belongs to another region: credentials |
//! | others | refused, an alias without a device among them |

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use hyper::{Request, Response, StatusCode, Uri, header::CONTENT_TYPE};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    VENDOR_TIMEOUT, Vendor,
    access::{AccessToken, Granted},
    answer::{by_failure, by_status, read, unnamed},
    notice::{Notice, Outcome},
    payload::{data, first_chars},
};
use crate::{
    clock::Clock,
    message::{Device, Provider},
    outbound::{Outbound, retry_after},
};

/// The most aliases of one call.
const LIST_ALIASES_MAX: usize = 999;
/// The most characters of a title.
const TITLE_CHARS_MAX: usize = 50;
/// The most characters of a text.
const TEXT_CHARS_MAX: usize = 256;
/// The most characters of the payload for the app.
const PAYLOAD_CHARS_MAX: usize = 3072;
/// The longest time for which Getui keeps a notice.
const KEPT_MAX: Duration = Duration::from_secs(3 * 24 * 3600);
/// An access token is renewed this long before it runs out, in ms: longer than a call takes.
const RENEWED_BEFORE_MS: u64 = 300_000;

/// Getui.
pub(super) struct Getui {
    pub(super) outbound: Outbound,
    pub(super) clock: Arc<Clock>,
    /// `push.getui.url`, `/v2/` and the app's id.
    pub(super) base: String,
    pub(super) app_key: String,
    pub(super) master_secret: String,
    pub(super) access: AccessToken,
}

#[derive(Deserialize)]
struct GetuiAnswer {
    code: i64,
    #[serde(default)]
    msg: String,
    #[serde(default)]
    data: Value,
}

#[derive(Deserialize)]
struct GetuiToken {
    token: String,
    /// Unix ms, as text.
    expire_time: String,
}

impl Getui {
    async fn send(&self, notice: &Notice, devices: &[Device]) -> Vec<Outcome> {
        let aliases: Vec<_> = devices.iter().map(|device| &*device.token).collect();
        let sending = async {
            match aliases[..] {
                [alias] => self.send_one(notice, alias).await,
                _ => self.send_list(notice, &aliases).await,
            }
        };
        let outcome = match sending.await {
            Ok(data) => Outcome::sent(task_of(&data)),
            Err(outcome) => outcome,
        };
        vec![outcome; devices.len()]
    }

    async fn send_one(&self, notice: &Notice, alias: &str) -> Result<Value, Outcome> {
        let mut body = content(notice, false);
        // Getui drops a second request of the same id, so that a repeat is not shown twice.
        let id = Sha256::digest(format!("{}\0{alias}", notice.id));
        body["request_id"] = json!(hex(&id[..16]));
        body["audience"] = json!({"alias": [alias]});
        self.call("/push/single/alias", &body).await
    }

    async fn send_list(&self, notice: &Notice, aliases: &[&str]) -> Result<Value, Outcome> {
        let stored = self
            .call("/push/list/message", &content(notice, true))
            .await?;
        let Some(task) = stored["taskid"].as_str() else {
            return Err(Outcome::refused("an answer of another form"));
        };
        let body = json!({"audience": {"alias": aliases}, "taskid": task, "is_async": false});
        self.call("/push/list/alias", &body).await?;
        Ok(json!({task: {}}))
    }

    /// Makes a call, and makes it again with a new token where Getui no longer takes the old one.
    async fn call(&self, path: &str, body: &Value) -> Result<Value, Outcome> {
        let mut is_again = false;
        loop {
            let token = self.access.token(self.clock.now_ms(), self.grant()).await?;
            let answer = self.post(path, Some(&token), body).await?;
            match meaning(&answer) {
                Meaning::Done(data) => return Ok(data),
                Meaning::OldToken if !is_again => self.access.forget(&token).await,
                Meaning::OldToken => return Err(Outcome::credentials("10001 token")),
                Meaning::Other(outcome) => return Err(outcome),
            }
            is_again = true;
        }
    }

    async fn grant(&self) -> Result<Granted, Outcome> {
        let timestamp = self.clock.now_ms().to_string();
        let signed = format!("{}{timestamp}{}", self.app_key, self.master_secret);
        let sign = hex(&Sha256::digest(signed));
        let body = json!({"sign": sign, "timestamp": timestamp, "appkey": self.app_key});
        let answer = self.post("/auth", None, &body).await?;
        let is_bad = answer.status() == StatusCode::BAD_REQUEST;
        match meaning(&answer) {
            Meaning::Done(data) => {
                let token: GetuiToken = serde_json::from_value(data)
                    .map_err(|_| Outcome::refused("an answer of another form"))?;
                let until_ms = token.expire_time.parse().unwrap_or(0_u64);
                Ok(Granted {
                    token: token.token.into(),
                    until_ms: until_ms.saturating_sub(RENEWED_BEFORE_MS),
                })
            }
            Meaning::OldToken => Err(Outcome::credentials("10001 sign")),
            Meaning::Other(Outcome::Refused { reason }) if is_bad => {
                Err(Outcome::credentials(&reason))
            }
            Meaning::Other(outcome) => Err(outcome),
        }
    }

    async fn post(
        &self,
        path: &str,
        token: Option<&str>,
        body: &Value,
    ) -> Result<Response<Bytes>, Outcome> {
        let uri: Uri = format!("{}{path}", self.base)
            .parse()
            .expect("the configuration's URLs were checked");
        let mut request = Request::post(uri).header(CONTENT_TYPE, "application/json;charset=utf-8");
        if let Some(token) = token {
            request = request.header("token", token);
        }
        let request = request.body(Bytes::from(body.to_string()));
        // A token with other characters than a header has is none that we can use.
        let request = request.map_err(|_| Outcome::refused("an answer of another form"))?;
        let answer = self.outbound.call(request, VENDOR_TIMEOUT).await;
        answer.map_err(|error| by_failure(&error))
    }
}

/// The meaning of an answer.
enum Meaning {
    /// The call did what it should; its data.
    Done(Value),
    /// The access token ran out.
    OldToken,
    Other(Outcome),
}

fn meaning(answer: &Response<Bytes>) -> Meaning {
    let status = answer.status();
    let Some(GetuiAnswer { code, msg, data }) = read(answer) else {
        return match by_status(answer, "") {
            // A wrong URL says nothing about the device.
            Outcome::Gone { reason } => Meaning::Other(Outcome::refused(&reason)),
            Outcome::Sent { .. } => match unnamed(answer) {
                Outcome::Sent { .. } => Meaning::Done(Value::Null),
                outcome => Meaning::Other(outcome),
            },
            outcome => Meaning::Other(outcome),
        };
    };
    let reason = format!("{code} {msg}");
    let later = || Outcome::later(retry_after(answer.headers()), &reason);
    Meaning::Other(match (status, code) {
        (StatusCode::OK, 0) => return Meaning::Done(data),
        (_, 10001) => return Meaning::OldToken,
        (_, 2 | 10003 | 10005) => later(),
        (StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS, _) => later(),
        (status, _) if status.is_server_error() => later(),
        (StatusCode::UNAUTHORIZED, _) | (_, 301) => Outcome::credentials(&reason),
        _ => Outcome::refused(&reason),
    })
}

/// The notice without its receivers.
fn content(notice: &Notice, is_shared: bool) -> Value {
    let title = first_chars(&notice.title, TITLE_CHARS_MAX);
    // Getui refuses a notice without a text.
    let text = match first_chars(notice.shown(), TEXT_CHARS_MAX) {
        "" => title,
        text => text,
    };
    let payload = payload(notice, is_shared);
    let notification =
        json!({"title": title, "body": text, "click_type": "payload", "payload": payload});
    let badge = match notice.badge {
        Some(badge) if !is_shared => badge.to_string(),
        _ => "+1".into(),
    };
    let sound = if notice.sound.is_empty() {
        "default"
    } else {
        &notice.sound
    };
    json!({
        "settings": {"ttl": notice.ttl_s(KEPT_MAX) * 1000},
        "push_message": {"notification": notification},
        "push_channel": {
            "ios": {
                "type": "notify",
                "payload": payload,
                "auto_badge": badge,
                "apns-collapse-id": notice.id.to_string(),
                "aps": {"alert": {"title": title, "body": text}, "sound": sound, "content-available": 0},
            },
            // For phones that their maker's service reaches while the app does not run.
            "android": {
                "ups": {"notification": {"title": title, "body": text, "click_type": "startapp"}},
            },
        },
    })
}

/// The text that the app gets at a tap.
fn payload(notice: &Notice, is_shared: bool) -> String {
    let mut data: Map<String, Value> = data(notice, is_shared);
    let text = Value::from(data.clone()).to_string();
    if text.chars().count() <= PAYLOAD_CHARS_MAX {
        return text;
    }
    data.remove("ex");
    Value::from(data).to_string()
}

/// The id of the task: the only name in the data of a push.
fn task_of(data: &Value) -> &str {
    let tasks = data.as_object().and_then(|tasks| tasks.keys().next());
    tasks.map_or("", String::as_str)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Vendor for Getui {
    fn provider(&self) -> Provider {
        Provider::Getui
    }

    fn devices_max(&self) -> usize {
        LIST_ALIASES_MAX
    }

    fn takes_many_users(&self) -> bool {
        true
    }

    fn push<'a>(
        &'a self,
        notice: &'a Notice,
        devices: &'a [Device],
    ) -> BoxFuture<'a, Vec<Outcome>> {
        Box::pin(self.send(notice, devices))
    }
}
