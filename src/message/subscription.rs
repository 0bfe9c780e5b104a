//! A browser's subscription for Web Push (RFC 8030, 8291), as a page sends it: an address of the browser's service, and two keys.
//!
//! The gateway will call the address. A user chooses it, so only addresses of the services that the operator allows are taken.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use serde::{Deserialize, Serialize};

/// The services of the browsers: Chrome and most others, Firefox, Edge on Windows, Safari. `*.` stands for one or more names.
pub const PUSH_SERVICES: [&str; 4] = [
    "fcm.googleapis.com",
    "*.push.services.mozilla.com",
    "*.notify.windows.com",
    "*.push.apple.com",
];

/// A subscription whose parts have their right form.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushSubscription {
    /// The address of the service for this subscription: https, a host name, no port, no user.
    pub endpoint: String,
    /// The browser's keys.
    pub keys: SubscriptionKeys,
}

/// The keys of a subscription, in base64url.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionKeys {
    /// The browser's public key: an uncompressed point of P-256, 65 bytes.
    pub p256dh: String,
    /// The secret that authenticates pushes, 16 bytes.
    pub auth: String,
}

impl PushSubscription {
    /// Reads a subscription from the JSON of `PushSubscription.toJSON()`. Fields that are not needed are dropped.
    ///
    /// # Errors
    /// The text is no subscription. The sentence says which part is wrong.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let subscription: Self = serde_json::from_str(text)
            .map_err(|_| "must be a push subscription as JSON, with endpoint and keys")?;
        if subscription.host().is_none() {
            return Err("must have an endpoint that is an https address with a host name");
        }
        let bytes = |text: &str| BASE64URL.decode(text.trim_end_matches('='));
        let key = bytes(&subscription.keys.p256dh);
        if !key.is_ok_and(|key| key.len() == 65 && key.first() == Some(&4)) {
            return Err("must have keys.p256dh, a point of P-256 in base64url");
        }
        let secret = bytes(&subscription.keys.auth);
        if !secret.is_ok_and(|secret| secret.len() == 16) {
            return Err("must have keys.auth, 16 bytes in base64url");
        }
        Ok(subscription)
    }

    /// The subscription as JSON, always in the same form.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts are always JSON")
    }

    /// The host of the endpoint; `None` if the endpoint is no https address with a host name, or has a port or a user.
    fn host(&self) -> Option<&str> {
        let rest = self.endpoint.strip_prefix("https://")?;
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\\\"<>^`{|}#".contains(&byte);
        let host = rest.split(['/', '?']).next()?;
        (rest.bytes().all(is_plain) && is_host_name(host)).then_some(host)
    }

    /// True if the endpoint is at one of these services: a host name, or `*.` and the end of one.
    pub fn is_at<T: AsRef<str>>(&self, services: &[T]) -> bool {
        let Some(host) = self.host() else {
            return false;
        };
        let host = host.to_ascii_lowercase();
        services.iter().any(|service| {
            let service = service.as_ref().to_ascii_lowercase();
            match service.strip_prefix('*') {
                Some(end) => host.len() > end.len() && host.ends_with(end) && end.starts_with('.'),
                None => host == service,
            }
        })
    }
}

/// True if this is a name of DNS with at least one dot, and no address: the last part begins with a letter.
fn is_host_name(host: &str) -> bool {
    let is_label = |label: &str| {
        let is_known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=63).contains(&label.len()) && label.bytes().all(is_known)
    };
    let last = host.rsplit('.').next().unwrap_or_default();
    host.len() <= 253
        && host.contains('.')
        && host.split('.').all(is_label)
        && last.starts_with(|first: char| first.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(endpoint: &str) -> String {
        let key = BASE64URL.encode([&[4][..], &[7; 64]].concat());
        let secret = BASE64URL.encode([9; 16]);
        let keys = serde_json::json!({ "p256dh": key, "auth": secret });
        let text =
            serde_json::json!({ "endpoint": endpoint, "expirationTime": null, "keys": keys });
        text.to_string()
    }

    #[test]
    fn a_subscription_of_each_browser_is_taken_and_kept_in_one_form() {
        for endpoint in [
            "https://fcm.googleapis.com/fcm/send/abc:def",
            "https://updates.push.services.mozilla.com/wpush/v2/gAAA",
            "https://wns2-par02p.notify.windows.com/w/?token=BQY%3d",
            "https://web.push.apple.com/QGu",
        ] {
            let subscription = PushSubscription::parse(&text(endpoint)).unwrap();
            assert!(subscription.is_at(&PUSH_SERVICES), "{endpoint}");
            let again = PushSubscription::parse(&subscription.to_json()).unwrap();
            assert_eq!(again.to_json(), subscription.to_json());
            assert!(!subscription.to_json().contains("expirationTime"));
        }
    }

    #[test]
    fn an_address_that_is_no_browsers_service_is_refused() {
        for endpoint in [
            "https://example.com/fcm.googleapis.com",
            "https://fcm.googleapis.com.example.com/a",
            "https://push.apple.com/a",
            "https://.push.apple.com/a",
            "https://evilpush.apple.com.evil.net/a",
            "https://xpush.apple.com/a",
        ] {
            let taken = PushSubscription::parse(&text(endpoint));
            assert!(
                !taken.is_ok_and(|one| one.is_at(&PUSH_SERVICES)),
                "{endpoint}"
            );
        }
        for endpoint in [
            "",
            "http://fcm.googleapis.com/a",
            "HTTPS://fcm.googleapis.com/a",
            "https://127.0.0.1/a",
            "https://2130706433/a",
            "https://0x7f.1/a",
            "https://[::1]/a",
            "https://localhost/a",
            "https://fcm.googleapis.com:8080/a",
            "https://fcm.googleapis.com@127.0.0.1/a",
            "https://a@fcm.googleapis.com/a",
            "https://fcm.googleapis.com\\@evil.net/a",
            "https://fcm.googleapis.com/a b",
            "https://fcm.googleapis.com/a\r\nHost: b",
            "https://fcm.googleapis.com/#a",
            "https://fcm.googleapis.com./a",
            "https://fcm.googleapis\u{3002}com/a",
            "file:///etc/passwd",
        ] {
            assert!(
                PushSubscription::parse(&text(endpoint)).is_err(),
                "{endpoint}"
            );
        }
    }

    #[test]
    fn keys_of_another_form_are_refused() {
        let good = text("https://web.push.apple.com/a");
        let key = BASE64URL.encode([&[4][..], &[7; 64]].concat());
        let secret = BASE64URL.encode([9; 16]);
        assert!(PushSubscription::parse(&good).is_ok());
        for (from, to) in [
            (&*key, "AAAA"),
            (&*key, "no base64!"),
            (&*key, ""),
            (&*secret, "AAAA"),
            (&*secret, &*key),
            ("p256dh", "other"),
            ("keys", "other"),
        ] {
            let wrong = good.replace(from, to);
            assert!(PushSubscription::parse(&wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "null", "[]", "7", "\"text\"", "{\"endpoint\": 7}"] {
            assert!(PushSubscription::parse(wrong).is_err(), "{wrong}");
        }
    }
}
