//! The texts of other systems that the gateway reads or goes by: a wait that a server asks for, a browser's subscription, a secret.

use axum::http::{HeaderMap, HeaderValue, Uri, header};
use towncrier::{
    message::{PUSH_SERVICES, PushSubscription},
    outbound::{ASKED_WAIT_MAX, WebhookSecrets, retry_after},
};

/// `data` is a `Retry-After`, a `Date`, and a text that is read as a subscription and as a secret, separated by zero bytes.
///
/// No wait is longer than its bound. A subscription that is taken for one of a browser's service leads there, by the reader of
/// URLs that makes the call.
pub fn calls(data: &[u8]) {
    let mut parts = data.splitn(3, |byte| *byte == 0);
    let mut headers = HeaderMap::new();
    for name in [header::RETRY_AFTER, header::DATE] {
        let part = parts.next().unwrap_or_default();
        if let Ok(value) = HeaderValue::from_bytes(part) {
            headers.insert(name, value);
        }
    }
    let wait = retry_after(&headers);
    assert!(wait.is_none_or(|wait| wait <= ASKED_WAIT_MAX), "{wait:?}");

    let text = String::from_utf8_lossy(parts.next().unwrap_or_default());
    if let Err(fault) = WebhookSecrets::parse(&[&text]) {
        assert!(!fault.to_string().is_empty());
    }
    let Ok(subscription) = PushSubscription::parse(&text) else {
        return;
    };
    assert_eq!(
        PushSubscription::parse(&subscription.to_json()).map(|again| again.to_json()),
        Ok(subscription.to_json())
    );
    let Ok(uri) = subscription.endpoint.parse::<Uri>() else {
        return;
    };
    let authority = uri
        .authority()
        .expect("an https address has a host")
        .as_str();
    assert!(!authority.contains(['@', ':']), "{authority}");
    if subscription.is_at(&PUSH_SERVICES) {
        let host = authority.to_ascii_lowercase();
        let is_there = |service: &str| match service.strip_prefix('*') {
            Some(end) => host.ends_with(end),
            None => host == service,
        };
        assert!(PUSH_SERVICES.into_iter().any(is_there), "{host}");
    }
}
