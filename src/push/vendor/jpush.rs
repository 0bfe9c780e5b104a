//! JPush (Aurora): push API v3, by alias. The alias of a user is the user id.
//!
//! Source: <https://docs.jiguang.cn/jpush/server/push/rest_api_v3_push>. Bounds: 1,000 aliases a call, an alias of at most 40
//! bytes, a notification of 2,048 bytes for iOS and 4,000 in all. Answers:
//!
//! | HTTP, code | Meaning |
//! |---|---|
//! | 200 | sent; `msg_id` names it |
//! | 400: 1011 | no device has this alias: refused, as the user may get one any day |
//! | 401: 1004; 400: 1008; 403: 2003, 2004 | the keys are wrong, or the app or this machine is barred: credentials |
//! | 429: 2002; 400: 1030; 403: 2005; 5xx: 1000 | too many calls or notices, or JPush is down: later |
//! | others | refused |

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use hyper::{
    Request, Response, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    VENDOR_TIMEOUT, Vendor,
    answer::{by_failure, by_status, read, unnamed},
    notice::{Notice, Outcome},
    payload::{data, fit},
};
use crate::{
    message::{Device, Provider},
    outbound::Outbound,
};

/// The most aliases of one call.
const ALIASES_MAX: usize = 1000;
/// The most bytes of an alias.
const ALIAS_BYTES_MAX: usize = 40;
/// The most bytes of the notification: JPush allows 2,048 for iOS, which holds one of its platforms.
const NOTIFICATION_BYTES_MAX: usize = 3600;
/// The longest time for which JPush keeps a notice.
const TTL_MAX: Duration = Duration::from_secs(10 * 24 * 3600);

/// JPush.
pub(super) struct Jpush {
    outbound: Outbound,
    url: Uri,
    authorization: HeaderValue,
}

#[derive(Deserialize)]
struct JpushSent {
    msg_id: Value,
}

#[derive(Deserialize)]
struct JpushRefused {
    error: JpushFault,
}

#[derive(Deserialize)]
struct JpushFault {
    code: i64,
    #[serde(default)]
    message: String,
}

impl Jpush {
    pub(super) fn new(outbound: Outbound, url: Uri, app_key: &str, master_secret: &str) -> Self {
        let pair = BASE64.encode(format!("{app_key}:{master_secret}"));
        let mut authorization =
            HeaderValue::try_from(format!("Basic {pair}")).expect("base64 has only visible ASCII");
        authorization.set_sensitive(true);
        Self {
            outbound,
            url,
            authorization,
        }
    }

    async fn send(&self, notice: &Notice, devices: &[Device]) -> Vec<Outcome> {
        // One alias that JPush cannot have would spoil the whole list.
        let all = 0..devices.len();
        let good: Vec<_> = all.filter(|at| is_alias(&devices[*at].token)).collect();
        let refused = Outcome::refused("the user id is no alias of JPush");
        let mut outcomes = vec![refused; devices.len()];
        if good.is_empty() {
            return outcomes;
        }
        let aliases: Vec<_> = good.iter().map(|at| &*devices[*at].token).collect();
        let outcome = self.send_to(notice, &aliases).await;
        for at in good {
            outcomes[at] = outcome.clone();
        }
        outcomes
    }

    async fn send_to(&self, notice: &Notice, aliases: &[&str]) -> Outcome {
        let Some(notification) = notification(notice, aliases.len() > 1) else {
            return Outcome::refused("the notice is too large");
        };
        let notification: Value =
            serde_json::from_slice(&notification).expect("it was encoded just now");
        let body = json!({
            "platform": "all",
            "audience": {"alias": aliases},
            "notification": notification,
            "options": {
                "time_to_live": notice.ttl_s(TTL_MAX),
                // Without it the library of an app may have set the sandbox.
                "apns_production": true,
                "apns_collapse_id": notice.id.to_string(),
            },
        });
        let request = Request::post(self.url.clone())
            .header(AUTHORIZATION, self.authorization.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(Bytes::from(body.to_string()))
            .expect("all parts are valid");
        match self.outbound.call(request, VENDOR_TIMEOUT).await {
            Ok(answer) => meaning(&answer),
            Err(error) => by_failure(&error),
        }
    }
}

/// The notification, cut to its bound.
fn notification(notice: &Notice, is_shared: bool) -> Option<Vec<u8>> {
    let extras = data(notice, is_shared);
    // `+1` lets JPush count for each user.
    let badge = match notice.badge {
        Some(badge) if !is_shared => json!(badge),
        _ => json!("+1"),
    };
    fit(notice, NOTIFICATION_BYTES_MAX, |title, body| {
        // An empty alert shows nothing.
        let alert = if body.is_empty() { title } else { body };
        let ios_alert = match body {
            "" => json!({"title": title}),
            _ => json!({"title": title, "body": body}),
        };
        let mut ios = json!({
            "alert": ios_alert,
            "badge": badge,
            "mutable-content": true,
            "extras": extras,
        });
        // JPush itself sets the default sound where none is named.
        if !notice.sound.is_empty() {
            ios["sound"] = json!(notice.sound);
        }
        let android = json!({"alert": alert, "title": title, "extras": extras});
        json!({"android": android, "ios": ios})
            .to_string()
            .into_bytes()
    })
}

/// Letters, digits, `_`, Chinese characters, and `@!#$&*+=.|`.
fn is_alias(text: &str) -> bool {
    let is_allowed =
        |c: char| c.is_ascii_alphanumeric() || "_@!#$&*+=.|".contains(c) || is_chinese(c);
    !text.is_empty() && text.len() <= ALIAS_BYTES_MAX && text.chars().all(is_allowed)
}

fn is_chinese(c: char) -> bool {
    ('\u{4e00}'..='\u{9fff}').contains(&c)
}

fn meaning(answer: &Response<Bytes>) -> Outcome {
    if answer.status().is_success() {
        return match read::<JpushSent>(answer) {
            Some(JpushSent {
                msg_id: Value::String(id),
            }) => Outcome::sent(&id),
            Some(JpushSent { msg_id }) => Outcome::sent(&msg_id.to_string()),
            None => unnamed(answer),
        };
    }
    let Some(JpushRefused { error }) = read(answer) else {
        return match by_status(answer, "") {
            // A wrong URL says nothing about the device.
            Outcome::Gone { reason } => Outcome::refused(&reason),
            outcome => outcome,
        };
    };
    let reason = format!("{} {}", error.code, error.message);
    match error.code {
        1004 | 1008 | 2003 | 2004 => Outcome::credentials(&reason),
        1000 | 1030 | 2002 | 2005 => Outcome::later(reset_after(answer), &reason),
        _ if answer.status().is_server_error() => Outcome::later(reset_after(answer), &reason),
        _ => Outcome::refused(&reason),
    }
}

/// The pause after which JPush counts calls anew: `X-Rate-Limit-Reset`, in seconds.
fn reset_after(answer: &Response<Bytes>) -> Option<Duration> {
    let asked = crate::outbound::retry_after(answer.headers());
    asked.or_else(|| {
        let text = answer.headers().get("x-rate-limit-reset")?.to_str().ok()?;
        let seconds = text.trim().parse().ok()?;
        Some(Duration::from_secs(seconds).min(crate::outbound::ASKED_WAIT_MAX))
    })
}

impl Vendor for Jpush {
    fn provider(&self) -> Provider {
        Provider::JPush
    }

    fn devices_max(&self) -> usize {
        ALIASES_MAX
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_whose_body_was_too_large_is_sent() {
        let answer = Response::new(Bytes::new());
        assert_eq!(meaning(&answer), Outcome::sent(""));
    }

    #[test]
    fn an_alias_has_at_most_40_bytes_of_the_characters_that_jpush_takes() {
        for good in [
            "18712345678",
            "a_B9",
            "张三",
            "x@!#$&*+=.|",
            &"x".repeat(ALIAS_BYTES_MAX),
        ] {
            assert!(is_alias(good), "{good}");
        }
        for bad in [
            "",
            "a-b",
            "a b",
            "é",
            "a,b",
            &"x".repeat(ALIAS_BYTES_MAX + 1),
        ] {
            assert!(!is_alias(bad), "{bad}");
        }
    }
}
