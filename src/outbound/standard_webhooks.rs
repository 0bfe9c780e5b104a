//! Signatures by the Standard Webhooks specification.
//!
//! A receiver verifies the header `webhook-signature` with a secret that it shares with the gateway: HMAC-SHA-256 over id,
//! time and body. While a secret is changed there are two, and each call has the signatures of both. Source:
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use bytes::Bytes;
use hyper::{
    Request, Uri,
    header::{CONTENT_TYPE, HeaderValue},
};
use ring::hmac;

/// The text before the base64 of a secret.
const SECRET_PREFIX: &str = "whsec_";
/// The fewest bytes of a secret, by the specification.
const WEBHOOK_SECRET_BYTES_MIN: usize = 24;
/// The most bytes of a secret, by the specification.
const WEBHOOK_SECRET_BYTES_MAX: usize = 64;
/// The most secrets: the new one, and the old one while receivers change over.
const WEBHOOK_SECRETS_MAX: usize = 2;

/// Why a text is no secret. Its text does not show the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretFault {
    /// The text does not begin with `whsec_`, or base64 does not follow.
    #[error("must be whsec_ and base64, e.g. from: echo whsec_$(openssl rand -base64 32)")]
    Form,
    /// The number of its bytes.
    #[error(
        "holds {0} bytes: it must hold {WEBHOOK_SECRET_BYTES_MIN} to {WEBHOOK_SECRET_BYTES_MAX} bytes"
    )]
    Length(usize),
    /// The number of the secrets.
    #[error("lists {0} secrets: one, or two during a change")]
    Count(usize),
}

/// The secrets of one receiver, one or two. No print shows them.
#[derive(Clone)]
pub struct WebhookSecrets(Vec<hmac::Key>);

impl WebhookSecrets {
    /// Reads one or two secrets of the form `whsec_` and base64.
    pub fn parse(texts: &[impl AsRef<str>]) -> Result<Self, SecretFault> {
        if texts.is_empty() || texts.len() > WEBHOOK_SECRETS_MAX {
            return Err(SecretFault::Count(texts.len()));
        }
        let keys = texts.iter().map(|text| parse(text.as_ref()));
        keys.collect::<Result<_, _>>().map(Self)
    }

    /// The value of `webhook-signature`: one signature for each secret, with a space between two. `timestamp_s` is the time of
    /// this attempt, Unix seconds.
    pub fn sign(&self, id: &str, timestamp_s: u64, body: &[u8]) -> String {
        let signatures = self.0.iter().map(|key| {
            let mut context = hmac::Context::with_key(key);
            context.update(id.as_bytes());
            context.update(format!(".{timestamp_s}.").as_bytes());
            context.update(body);
            format!("v1,{}", BASE64.encode(context.sign()))
        });
        signatures.collect::<Vec<_>>().join(" ")
    }

    /// A signed POST of JSON. `id` names the event and stays the same at each attempt; it has only visible ASCII.
    ///
    /// # Panics
    ///
    /// If `id` has other characters.
    pub fn post(&self, url: &Uri, id: &str, timestamp_s: u64, body: Bytes) -> Request<Bytes> {
        let signature = self.sign(id, timestamp_s, &body);
        Request::post(url.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp_s)
            .header("webhook-signature", signature)
            .body(body)
            .expect("ids of events have only visible ASCII")
    }
}

/// A time as the specification writes it, ISO 8601 in UTC: `2026-11-30T11:35:32.042Z`. `time_ms` is Unix ms.
pub fn iso_8601(time_ms: u64) -> String {
    let (days, ms) = (time_ms / 86_400_000, time_ms % 86_400_000);
    // A calendar whose years begin in March has its leap day at the end of a year: Howard Hinnant, `civil_from_days`.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = era * 400 + year + next;
    let (hour, minute) = (ms / 3_600_000, ms / 60_000 % 60);
    let (second, ms) = (ms / 1000 % 60, ms % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

fn parse(text: &str) -> Result<hmac::Key, SecretFault> {
    let encoded = text.strip_prefix(SECRET_PREFIX).ok_or(SecretFault::Form)?;
    let secret = BASE64.decode(encoded).map_err(|_| SecretFault::Form)?;
    if !(WEBHOOK_SECRET_BYTES_MIN..=WEBHOOK_SECRET_BYTES_MAX).contains(&secret.len()) {
        return Err(SecretFault::Length(secret.len()));
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &secret))
}

impl fmt::Debug for WebhookSecrets {
    /// Never prints a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookSecrets({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification and of its libraries.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const TIMESTAMP_S: u64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    #[test]
    fn the_example_of_the_specification_has_its_signature() {
        let secrets = WebhookSecrets::parse(&[SECRET]).unwrap();
        assert_eq!(secrets.sign(ID, TIMESTAMP_S, BODY), SIGNATURE);
    }

    #[test]
    fn two_secrets_give_two_signatures_in_their_order() {
        let other = format!("whsec_{}", BASE64.encode([7; 32]));
        let alone = WebhookSecrets::parse(&[&other]).unwrap();
        let both = WebhookSecrets::parse(&[&*other, SECRET]).unwrap();
        let expected = format!("{} {SIGNATURE}", alone.sign(ID, TIMESTAMP_S, BODY));
        assert_eq!(both.sign(ID, TIMESTAMP_S, BODY), expected);
    }

    #[test]
    fn a_post_has_id_time_and_signature_in_its_headers() {
        let secrets = WebhookSecrets::parse(&[SECRET]).unwrap();
        let url = Uri::from_static("https://oa.example/hook");
        let request = secrets.post(&url, ID, TIMESTAMP_S, Bytes::from_static(BODY));
        let header = |name: &str| request.headers()[name].to_str().unwrap();
        assert_eq!(header("webhook-id"), ID);
        assert_eq!(header("webhook-timestamp"), "1614265330");
        assert_eq!(header("webhook-signature"), SIGNATURE);
        assert_eq!(header("content-type"), "application/json");
        assert_eq!((request.uri(), &request.body()[..]), (&url, BODY));
    }

    #[test]
    fn a_time_is_written_in_utc_with_its_ms() {
        for (time_ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_001, "2000-02-29T00:00:00.001Z"),
            (951_868_799_999, "2000-02-29T23:59:59.999Z"),
            (1_614_265_330_000, "2021-02-25T15:02:10.000Z"),
            (1_798_675_200_000, "2026-12-31T00:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(iso_8601(time_ms), text);
        }
    }

    #[test]
    fn a_secret_of_another_form_is_refused_and_never_shown() {
        let refused = |text: &str| {
            let fault = WebhookSecrets::parse(&[text]).unwrap_err();
            assert!(!fault.to_string().contains("c2VjcmV0"), "{fault}");
            fault
        };
        assert_eq!(refused("c2VjcmV0"), SecretFault::Form);
        assert_eq!(refused("whsec_c2VjcmV0!"), SecretFault::Form);
        assert_eq!(refused("whsec_c2VjcmV0"), SecretFault::Length(6));
        let long = format!("whsec_{}", BASE64.encode([b's'; 65]));
        assert_eq!(refused(&long), SecretFault::Length(65));
        let none: [&str; 0] = [];
        assert_eq!(
            WebhookSecrets::parse(&none).unwrap_err(),
            SecretFault::Count(0)
        );
        let three = [SECRET; 3];
        assert_eq!(
            WebhookSecrets::parse(&three).unwrap_err(),
            SecretFault::Count(3)
        );
        let printed = format!("{:?}", WebhookSecrets::parse(&[SECRET]).unwrap());
        assert_eq!(printed, "WebhookSecrets(1)");
    }
}
