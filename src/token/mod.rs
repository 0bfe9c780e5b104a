//! Tokens: JSON Web Tokens (RFC 7519). The gateway's own are signed with HMAC-SHA-256 and have OpenIM's claims: `UID` and
//! `Platform` (v2), `UserID` and `PlatformID` (v3). One version's claims are enough. Those of a company's own login are signed
//! with RS256 or ES256, and the configuration names their claims.
//!
//! Promises: a token that verifies was issued by a holder of one of the two secret keys, or of a key of the company's login,
//! names a valid user and a known platform, and has not expired. Signatures are compared in constant time, and no other
//! algorithm is known. A secret key checks HS256 alone, and a public key never does. Leaves to others: revocation (the log's),
//! the list of administrators (`admin`'s), and reading the company's keys from their place (`jwks`).
//!
//! - `key_set.rs`: the public keys of a company's login
//! - `login_keys.rs`: those in force, and the claims of its tokens
//!
//! The client library signs (`client/src/token.rs`), for the gateway, the load test and any login server with the key. This
//! file checks: which header, which claims, at which time. `docs/architecture.md#decisions` says why no library does it.

mod key_set;
mod login_keys;

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use serde::{Deserialize, Deserializer, de::Error as _};
use towncrier_client::token::{HEADER, TokenClaims, TokenKey};

pub use self::{
    key_set::{KEY_SET_BYTES_MAX, KeySet, KeySetFault},
    login_keys::{KEYS_WAIT, KeysUnread, LoginKeys},
};
use crate::{
    config,
    ids::{IdError, Platform, UserId},
};

/// The longest token that is checked, in bytes. Our tokens have about 300. Tokens of a company's login server hold groups
/// and roles and grow to several KiB. Proxies and servers accept headers of 8 to 16 KiB, so callers have no longer tokens.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Latest time of issue, Unix ms: the end of the year 9999. A token from the end of all numbers could never be revoked, since
/// a revocation lies behind the newest token.
const ISSUED_AT_MS_MAX: u64 = 253_402_300_799_999;

/// `nbf` and `iat` may be ahead of our clock by this many seconds, because tokens may come from a machine whose clock is ahead.
const CLOCK_LEEWAY_S: u64 = 60;

/// Issues and verifies tokens. Shared by all rooms that meet one.
pub struct Tokens {
    /// The key that signs, and verifies first.
    current: TokenKey,
    /// The key before the rotation, which still verifies.
    previous: Option<TokenKey>,
    lifetime_s: u64,
    /// The keys of the company's own login, if it has one.
    login_keys: Option<Arc<LoginKeys>>,
}

/// The claims of a good token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The user that it names.
    pub user: UserId,
    /// The platform that it names.
    pub platform: Platform,
    /// The time at which it was issued, Unix ms; a revocation is compared with it. 0 if the token does not say it. A token of a
    /// company's login counts as issued 60 s before its `iat`: the login's clock may be ahead by as much, and a revocation covers
    /// all tokens that were issued before it, also those that the gateway has not seen.
    pub issued_at_ms: u64,
    /// The time until which it is valid, Unix seconds.
    pub expires_at_s: u64,
}

/// A new token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The token, for the header `token` and for `Connect`.
    pub token: String,
    /// The time until which it is valid, Unix seconds.
    pub expires_at_s: u64,
}

/// Why a token is not good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not three parts of base64url, or not the JSON they should hold.
    #[error("the token is malformed")]
    Malformed,
    /// An algorithm or an extension we do not know, or another algorithm than its key's.
    #[error("the token's algorithm is not accepted")]
    Algorithm,
    /// The token names a key that the company's login does not have.
    #[error("the token's key is not known")]
    UnknownKey,
    /// The company's login made it for another system.
    #[error("the token's iss or aud is another one")]
    Purpose,
    /// Neither key signed it.
    #[error("the token's signature does not verify")]
    Signature,
    /// The token's time is over.
    #[error("the token has expired")]
    Expired,
    /// The token's time has not begun.
    #[error("the token is not valid yet")]
    NotYet,
    /// The claims of OpenIM v2 and those of v3 name different users or platforms.
    #[error("the token's claims contradict each other")]
    Contradiction,
    /// `UID` or `UserID` is no user id.
    #[error("the token's user {0}")]
    User(IdError),
    /// `Platform` or `PlatformID` is no platform.
    #[error("the token's platform {0}")]
    Platform(IdError),
}

/// An algorithm of signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256, by the gateway's own keys.
    Hs256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
}

#[derive(Deserialize)]
struct JwtHeader {
    alg: String,
    /// The name of the key in its set.
    kid: Option<String>,
    /// RFC 7515 section 4.1.11: a token with an extension that is not understood must be refused. We know none.
    crit: Option<serde::de::IgnoredAny>,
}

/// The claims as the token holds them. Times are whole seconds, as in OpenIM.
#[derive(Deserialize)]
struct Payload {
    /// OpenIM v2's name of the user.
    #[serde(rename = "UID")]
    user_v2: Option<String>,
    /// OpenIM v3's name of the user.
    #[serde(rename = "UserID")]
    user_v3: Option<String>,
    /// OpenIM v2's claim: the platform's name.
    #[serde(rename = "Platform")]
    platform_v2: Option<String>,
    /// OpenIM v3's claim: the platform's number.
    #[serde(rename = "PlatformID")]
    platform_v3: Option<u32>,
    #[serde(deserialize_with = "seconds")]
    exp: u64,
    #[serde(default, deserialize_with = "seconds")]
    nbf: u64,
    #[serde(default, deserialize_with = "seconds")]
    iat: u64,
    /// Our own claim in ms, because a login right after a logout falls into the same second.
    iat_ms: Option<u64>,
}

impl Tokens {
    /// Takes the keys. An empty key is replaced by a random one that only this process knows, and never by a known one.
    pub fn new(config: &config::Auth) -> Self {
        let current = if config.token_key.is_empty() {
            TokenKey::new(
                &[
                    *uuid::Uuid::new_v4().as_bytes(),
                    *uuid::Uuid::new_v4().as_bytes(),
                ]
                .concat(),
            )
        } else {
            TokenKey::new(config.token_key.as_bytes())
        };
        let previous = Some(config.token_key_previous.as_bytes())
            .filter(|key| !key.is_empty())
            .map(TokenKey::new);
        Self {
            current,
            previous,
            lifetime_s: config.token_lifetime.as_secs(),
            login_keys: LoginKeys::new(config),
        }
    }

    /// The keys of the company's own login, for their reader.
    pub fn login_keys(&self) -> Option<&Arc<LoginKeys>> {
        self.login_keys.as_ref()
    }

    /// A token for `user` on `platform`, valid from `now_ms` (Unix ms) for `auth.token_lifetime`.
    pub fn issue(&self, user: &UserId, platform: Platform, now_ms: u64) -> Issued {
        self.issue_at(user, platform, now_ms, now_ms)
    }

    /// The same with another `issued_at_ms`. Revocations are compared with it: with a time later than now, the token
    /// survives a revocation at a later moment.
    pub fn issue_at(
        &self,
        user: &UserId,
        platform: Platform,
        now_ms: u64,
        issued_at_ms: u64,
    ) -> Issued {
        let now_s = now_ms / 1000;
        let expires_at_s = now_s.saturating_add(self.lifetime_s);
        let claims = TokenClaims {
            user_id: user.as_str(),
            platform: platform.name(),
            platform_id: platform.number(),
            expires_at_s,
            not_before_s: now_s,
            issued_at_s: now_s,
            issued_at_ms,
        };
        Issued {
            token: self.current.sign(&claims),
            expires_at_s,
        }
    }

    /// The claims of `token`, if it is good at `now_ms` (Unix ms). Revocation is not checked here.
    pub fn verify(&self, token: &str, now_ms: u64) -> Result<Claims, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let (algorithm, key_id) = match header {
            HEADER => (Algorithm::Hs256, None),
            header => read_header(header)?,
        };
        let (signature, payload) = (decode(signature)?, decode(payload));
        let payload = if algorithm == Algorithm::Hs256 {
            self.check_signature(signed, &signature)?;
            serde_json::from_slice(&payload?).map_err(|_| TokenError::Malformed)?
        } else {
            let keys = self.login_keys.as_ref().ok_or(TokenError::Algorithm)?;
            keys.check(algorithm, key_id.as_deref(), signed.as_bytes(), &signature)?;
            keys.read(&payload?)?
        };
        let mut claims = payload.check(now_ms / 1000)?;
        if algorithm != Algorithm::Hs256 {
            claims.issued_at_ms = claims.issued_at_ms.saturating_sub(CLOCK_LEEWAY_S * 1000);
        }
        Ok(claims)
    }

    fn check_signature(&self, signed: &str, signature: &[u8]) -> Result<(), TokenError> {
        let verifies = |key: &TokenKey| key.verifies(signed, signature);
        if verifies(&self.current) || self.previous.as_ref().is_some_and(verifies) {
            Ok(())
        } else {
            Err(TokenError::Signature)
        }
    }
}

impl Payload {
    fn check(self, now_s: u64) -> Result<Claims, TokenError> {
        if now_s >= self.exp {
            return Err(TokenError::Expired);
        }
        let issued_at_ms = self.iat_ms.unwrap_or(self.iat.saturating_mul(1000));
        if issued_at_ms > ISSUED_AT_MS_MAX {
            return Err(TokenError::Malformed);
        }
        if self.nbf.max(self.iat) > now_s.saturating_add(CLOCK_LEEWAY_S) {
            return Err(TokenError::NotYet);
        }
        let platform_v2 = self.platform_v2.map(|name| name.parse()).transpose();
        let platform_v3 = self.platform_v3.map(Platform::from_number).transpose();
        let user = agreed(self.user_v2, self.user_v3)?;
        Ok(Claims {
            user: UserId::new(&user).map_err(TokenError::User)?,
            platform: agreed(
                platform_v2.map_err(TokenError::Platform)?,
                platform_v3.map_err(TokenError::Platform)?,
            )?,
            issued_at_ms,
            expires_at_s: self.exp,
        })
    }
}

/// The value of a claim that has a name in each version of OpenIM. One is enough; two must be equal.
fn agreed<T: PartialEq>(v2: Option<T>, v3: Option<T>) -> Result<T, TokenError> {
    match (v2, v3) {
        (Some(v2), Some(v3)) if v2 != v3 => Err(TokenError::Contradiction),
        (v2, v3) => v2.or(v3).ok_or(TokenError::Malformed),
    }
}

/// Reads a NumericDate (RFC 7519 section 2) down to the whole second: some issuers write a fraction.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let date = serde_json::Number::deserialize(deserializer)?;
    let whole = |date: f64| (0.0..1e15).contains(&date).then_some(date as u64);
    date.as_u64()
        .or_else(|| date.as_f64().and_then(whole))
        .ok_or_else(|| D::Error::custom("no date"))
}

fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    BASE64URL.decode(part).map_err(|_| TokenError::Malformed)
}

/// Reads a header that differs from ours: another issuer may write its keys in another order.
fn read_header(header: &str) -> Result<(Algorithm, Option<String>), TokenError> {
    let header: JwtHeader =
        serde_json::from_slice(&decode(header)?).map_err(|_| TokenError::Malformed)?;
    let algorithm = match &*header.alg {
        "HS256" => Algorithm::Hs256,
        "RS256" => Algorithm::Rs256,
        "ES256" => Algorithm::Es256,
        _ => return Err(TokenError::Algorithm),
    };
    match header.crit {
        None => Ok((algorithm, header.kid)),
        Some(_) => Err(TokenError::Algorithm),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hmac::{Hmac, KeyInit as _, Mac as _};
    use sha2::Sha256;

    use super::*;

    const NOW_MS: u64 = 1_645_697_804_432;

    fn tokens(key: &str, previous: &str) -> Tokens {
        Tokens::new(&config::Auth {
            token_key: key.into(),
            token_key_previous: previous.into(),
            token_lifetime: Duration::from_secs(3600),
            ..config::Auth::default()
        })
    }

    fn user() -> UserId {
        UserId::new("18712345678").unwrap()
    }

    fn keyed(key: &[u8]) -> Hmac<Sha256> {
        Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
    }

    /// A token with any header and payload, signed with `key`.
    fn sign(key: &str, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", BASE64URL.encode(header), BASE64URL.encode(payload));
        let signature = keyed(key.as_bytes()).chain_update(&signed).finalize();
        format!("{signed}.{}", BASE64URL.encode(signature.into_bytes()))
    }

    fn verify_payload(payload: &str) -> Result<Claims, TokenError> {
        let token = sign("key", r#"{"alg":"HS256","typ":"JWT"}"#, payload);
        tokens("key", "").verify(&token, NOW_MS)
    }

    #[test]
    fn an_issued_token_verifies_until_it_expires() {
        let tokens = tokens("key", "");
        for platform in Platform::ALL {
            let issued = tokens.issue(&user(), platform, NOW_MS);
            assert_eq!(issued.expires_at_s, NOW_MS / 1000 + 3600);
            let claims = Claims {
                user: user(),
                platform,
                issued_at_ms: NOW_MS,
                expires_at_s: issued.expires_at_s,
            };
            assert_eq!(tokens.verify(&issued.token, NOW_MS), Ok(claims.clone()));
            assert_eq!(tokens.verify(&issued.token, NOW_MS + 3_599_000), Ok(claims));
            assert_eq!(
                tokens.verify(&issued.token, NOW_MS + 3_600_000),
                Err(TokenError::Expired)
            );
        }
    }

    #[test]
    fn the_signature_is_the_one_other_libraries_make() {
        // RFC 7515 has its HS256 example over a binary key. This one was made with Python's hmac and the key "key".
        let payload = r#"{"UID":"u1","Platform":"Web","exp":4102444800}"#;
        assert_eq!(
            sign("key", r#"{"alg":"HS256","typ":"JWT"}"#, payload),
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJVSUQiOiJ1MSIsIlBsYXRmb3JtIjoiV2ViIiwiZXhwIjo0MTAyNDQ0ODAwfQ.Sar5qWc7xvLyvHKtn7maM-6IUvpHTKt6Qu1FCpv8jFY"
        );
    }

    #[test]
    fn dates_may_have_a_fraction_and_no_token_comes_from_the_end_of_time() {
        let verify =
            |dates: &str| verify_payload(&format!(r#"{{"UID":"u1","Platform":"Web",{dates}}}"#));
        let claims = verify(r#""exp":4102444800.75,"iat":1645697804.9,"nbf":1e9"#).unwrap();
        assert_eq!(claims.expires_at_s, 4_102_444_800);
        assert_eq!(claims.issued_at_ms, 1_645_697_804_000);
        for absurd in [
            r#""exp":4102444800,"iat_ms":18446744073709551615"#,
            r#""exp":4102444800,"iat":18446744073709551615"#,
            r#""exp":-1"#,
            r#""exp":"4102444800""#,
        ] {
            assert_eq!(verify(absurd), Err(TokenError::Malformed), "{absurd}");
        }
    }

    #[test]
    fn another_secret_does_not_verify() {
        let token = tokens("other", "")
            .issue(&user(), Platform::Web, NOW_MS)
            .token;
        let refused = Err(TokenError::Signature);
        assert_eq!(tokens("key", "").verify(&token, NOW_MS), refused);
        assert_eq!(tokens("", "").verify(&token, NOW_MS), refused);
    }

    #[test]
    fn an_empty_key_is_never_a_known_one() {
        let token = sign(
            "",
            r#"{"alg":"HS256"}"#,
            r#"{"UID":"u1","Platform":"Web","exp":4102444800}"#,
        );
        assert_eq!(
            tokens("", "").verify(&token, NOW_MS),
            Err(TokenError::Signature)
        );
        let ours = tokens("", "");
        let token = ours.issue(&user(), Platform::Web, NOW_MS).token;
        assert!(ours.verify(&token, NOW_MS).is_ok());
    }

    #[test]
    fn the_previous_key_still_verifies_but_no_longer_signs() {
        let old = tokens("old", "")
            .issue(&user(), Platform::Web, NOW_MS)
            .token;
        let rotated = tokens("new", "old");
        assert!(rotated.verify(&old, NOW_MS).is_ok());
        let new = rotated.issue(&user(), Platform::Web, NOW_MS).token;
        assert!(tokens("new", "").verify(&new, NOW_MS).is_ok());
        assert_eq!(
            tokens("old", "").verify(&new, NOW_MS),
            Err(TokenError::Signature)
        );
        assert_eq!(
            tokens("new", "").verify(&old, NOW_MS),
            Err(TokenError::Signature)
        );
    }

    #[test]
    fn no_algorithm_but_hs256_is_known_where_no_login_has_keys() {
        let payload = r#"{"UID":"u1","Platform":"Web","exp":4102444800}"#;
        for header in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"None"}"#,
            r#"{"alg":"HS512"}"#,
            r#"{"alg":"RS256"}"#,
            r#"{"alg":"ES256"}"#,
            r#"{"alg":"hs256"}"#,
            r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
        ] {
            let token = sign("key", header, payload);
            assert_eq!(
                tokens("key", "").verify(&token, NOW_MS),
                Err(TokenError::Algorithm),
                "{header}"
            );
        }
        let unsigned = format!(
            "{}.{}.",
            BASE64URL.encode(r#"{"alg":"none"}"#),
            BASE64URL.encode(payload)
        );
        assert_eq!(
            tokens("key", "").verify(&unsigned, NOW_MS),
            Err(TokenError::Algorithm)
        );
        let reordered = sign("key", r#"{"typ":"JWT","alg":"HS256"}"#, payload);
        assert!(tokens("key", "").verify(&reordered, NOW_MS).is_ok());
    }

    #[test]
    fn every_changed_byte_is_refused() {
        let tokens = tokens("key", "");
        let token = tokens.issue(&user(), Platform::Web, NOW_MS).token;
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(tokens.verify(&changed, NOW_MS).is_err(), "byte {at}");
        }
        for length in 0..token.len() {
            assert!(
                tokens.verify(&token[..length], NOW_MS).is_err(),
                "length {length}"
            );
        }
    }

    #[test]
    fn a_token_with_hundreds_of_groups_verifies() {
        let groups: Vec<_> = (0..300)
            .map(|n| format!(r#""department-{n:03}-notices""#))
            .collect();
        let groups = groups.join(",");
        let payload = format!(
            r#"{{"UID":"u1","Platform":"Web","exp":4102444800,"aud":["oa","notices"],"groups":[{groups}]}}"#
        );
        assert_eq!(verify_payload(&payload).unwrap().user.as_str(), "u1");
    }

    #[test]
    fn what_is_no_token_is_malformed() {
        let long = "a".repeat(TOKEN_BYTES_MAX + 1);
        for text in ["", ".", "..", "...", "a.b", "a.b.c", "é.é.é", HEADER, &long] {
            assert_eq!(
                tokens("key", "").verify(text, NOW_MS),
                Err(TokenError::Malformed),
                "{text:?}"
            );
        }
    }

    #[test]
    fn claims_of_the_wrong_shape_are_refused() {
        for payload in [
            r#"{"Platform":"Web","exp":4102444800}"#,
            r#"{"UID":"u1","exp":4102444800}"#,
            r#"{"UID":"u1","Platform":"Web"}"#,
            r#"{"UID":"u1","Platform":"Web","exp":"4102444800"}"#,
            r#"{"UID":"u1","Platform":"Web","exp":-1}"#,
            r#"{"UID":"u1","Platform":"Web","exp":4102444800,"nbf":"never"}"#,
            r#"{"UID":1,"Platform":"Web","exp":4102444800}"#,
            r#"[]"#,
            "",
        ] {
            assert_eq!(
                verify_payload(payload),
                Err(TokenError::Malformed),
                "{payload}"
            );
        }
    }

    #[test]
    fn the_claims_of_one_version_are_enough_and_those_of_two_must_agree() {
        let of = |claims: &str| {
            let claims = verify_payload(&format!(r#"{{{claims},"exp":4102444800}}"#))?;
            Ok((claims.user.to_string(), claims.platform))
        };
        let web = Ok(("u1".to_owned(), Platform::Web));
        for good in [
            r#""UID":"u1","Platform":"Web""#,
            r#""UserID":"u1","PlatformID":5"#,
            r#""UID":"u1","Platform":"Web","UserID":"u1","PlatformID":5"#,
            r#""UID":"u1","Platform":"5","UserID":"u1","PlatformID":5"#,
        ] {
            assert_eq!(of(good), web, "{good}");
        }
        for contradiction in [
            r#""UID":"u1","Platform":"Web","UserID":"u2","PlatformID":5"#,
            r#""UID":"u1","Platform":"Web","UserID":"u1","PlatformID":1"#,
            r#""UID":"u1","Platform":"Web","UserID":"u2""#,
            r#""UID":"u1","Platform":"Web","UserID":"","PlatformID":5"#,
        ] {
            let refused = Err(TokenError::Contradiction);
            assert_eq!(of(contradiction), refused, "{contradiction}");
        }
        for malformed in [
            r#""UserID":"u1""#,
            r#""PlatformID":5"#,
            r#""UserID":1,"PlatformID":5"#,
            r#""UserID":"u1","PlatformID":"5""#,
            r#""UserID":"u1","PlatformID":-5"#,
        ] {
            assert_eq!(of(malformed), Err(TokenError::Malformed), "{malformed}");
        }
        let unknown = r#""UserID":"u1","PlatformID":12"#;
        assert_eq!(of(unknown), Err(TokenError::Platform(IdError::Platform)));
    }

    #[test]
    fn unknown_platforms_and_bad_users_are_refused() {
        let of = |user: &str, platform: &str| {
            verify_payload(&format!(
                r#"{{"UID":"{user}","Platform":"{platform}","exp":4102444800}}"#
            ))
            .map(|_| ())
        };
        assert_eq!(of("u1", "Web"), Ok(()));
        assert_eq!(of("u1", "APad"), Ok(()), "OpenIM's spelling");
        assert_eq!(
            of("u1", "Toaster"),
            Err(TokenError::Platform(IdError::Platform))
        );
        assert_eq!(of("u1", ""), Err(TokenError::Platform(IdError::Platform)));
        assert_eq!(of("", "Web"), Err(TokenError::User(IdError::Empty)));
        assert_eq!(of("a\\nb", "Web"), Err(TokenError::User(IdError::Control)));
        assert_eq!(
            of(&"x".repeat(65), "Web"),
            Err(TokenError::User(IdError::TooLong(65)))
        );
    }

    #[test]
    fn clocks_a_few_seconds_apart_agree() {
        let tokens = tokens("key", "");
        let ahead = |ms| tokens.issue(&user(), Platform::Web, NOW_MS + ms).token;
        assert!(tokens.verify(&ahead(5_000), NOW_MS).is_ok());
        assert!(tokens.verify(&ahead(60_000), NOW_MS).is_ok());
        assert_eq!(
            tokens.verify(&ahead(61_000), NOW_MS),
            Err(TokenError::NotYet)
        );
    }

    #[test]
    fn a_token_from_a_time_to_come_is_not_valid_yet() {
        let issued = |at_s: u64| {
            let payload =
                format!(r#"{{"UID":"u1","Platform":"Web","exp":4102444800,"iat":{at_s}}}"#);
            verify_payload(&payload).map(|claims| claims.issued_at_ms)
        };
        let last_s = NOW_MS / 1000 + 60;
        assert_eq!(issued(last_s), Ok(last_s * 1000));
        assert_eq!(issued(last_s + 1), Err(TokenError::NotYet));
    }

    #[test]
    fn a_token_without_milliseconds_counts_from_its_second() {
        let issued = |payload| verify_payload(payload).map(|claims| claims.issued_at_ms);
        assert_eq!(
            issued(r#"{"UID":"u1","Platform":"Web","exp":4102444800,"iat":7}"#),
            Ok(7000)
        );
        assert_eq!(
            issued(r#"{"UID":"u1","Platform":"Web","exp":4102444800}"#),
            Ok(0)
        );
    }

    mod of_a_login {
        //! Tokens of a company's own login.

        use futures_util::FutureExt as _;
        use ring::{
            rand::SystemRandom,
            signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
        };
        use serde_json::{Value, json};

        use super::*;
        use crate::config::ClaimNames;

        /// The modulus of an RSA key that nobody here can sign with.
        const MODULUS: [u8; 256] = [0xff; 256];

        struct Login {
            pair: EcdsaKeyPair,
            tokens: Tokens,
        }

        impl Login {
            fn new(config: config::Auth) -> Self {
                let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
                let der = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
                let pair = EcdsaKeyPair::from_pkcs8(algorithm, der.as_ref(), &random).unwrap();
                let tokens = Tokens::new(&config::Auth {
                    token_key: "key".into(),
                    jwks_file: "keys.json".into(),
                    ..config
                });
                let login = Self { pair, tokens };
                login.publish("e");
                login
            }

            fn publish(&self, id: &str) {
                let point = &self.pair.public_key().as_ref()[1..];
                let [x, y] = [&point[..32], &point[32..]].map(|part| BASE64URL.encode(part));
                let set = json!({ "keys": [
                    { "kty": "EC", "crv": "P-256", "kid": id, "x": x, "y": y },
                    { "kty": "RSA", "kid": "r", "e": "AQAB", "n": BASE64URL.encode(MODULUS) },
                ] });
                let set = KeySet::decode(set.to_string().as_bytes()).unwrap();
                assert_eq!(set.len(), 2);
                self.tokens.login_keys().unwrap().replace(set);
            }

            fn sign(&self, header: &Value, payload: &Value) -> String {
                let parts = [header, payload].map(|part| BASE64URL.encode(part.to_string()));
                let signed = parts.join(".");
                let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes());
                format!("{signed}.{}", BASE64URL.encode(signature.unwrap()))
            }

            fn verify(&self, header: &Value, payload: &Value) -> Result<Claims, TokenError> {
                self.tokens.verify(&self.sign(header, payload), NOW_MS)
            }

            /// With a good header.
            fn claims(&self, payload: Value) -> Result<Claims, TokenError> {
                self.verify(&json!({ "alg": "ES256", "kid": "e" }), &payload)
            }
        }

        fn payload() -> Value {
            json!({ "UserID": "u1", "PlatformID": 5, "exp": NOW_MS / 1000 + 60, "iat": NOW_MS / 1000 })
        }

        #[test]
        fn a_token_of_the_login_is_good_beside_our_own_until_its_key_goes() {
            let login = Login::new(config::Auth::default());
            let claims = login.claims(payload()).unwrap();
            assert_eq!(
                (claims.user.as_str(), claims.platform),
                ("u1", Platform::Web)
            );
            assert_eq!(claims.issued_at_ms, (NOW_MS / 1000 - 60) * 1000);
            let without_id = login.verify(&json!({ "alg": "ES256" }), &payload());
            assert!(without_id.is_ok(), "it is the only key of its algorithm");
            let ours = login.tokens.issue(&user(), Platform::Web, NOW_MS).token;
            assert!(login.tokens.verify(&ours, NOW_MS).is_ok());
            login.publish("another");
            assert_eq!(login.claims(payload()), Err(TokenError::UnknownKey));
            let strangers = Login::new(config::Auth::default());
            let forged = strangers.sign(&json!({ "alg": "ES256", "kid": "another" }), &payload());
            let refused = login.tokens.verify(&forged, NOW_MS);
            assert_eq!(refused, Err(TokenError::Signature));
        }

        #[test]
        fn no_token_chooses_how_it_is_checked() {
            let login = Login::new(config::Auth::default());
            for (header, refusal) in [
                (json!({ "alg": "none", "kid": "e" }), TokenError::Algorithm),
                (json!({ "alg": "ES384", "kid": "e" }), TokenError::Algorithm),
                (json!({ "alg": "PS256", "kid": "r" }), TokenError::Algorithm),
                // A key of another type.
                (json!({ "alg": "RS256", "kid": "e" }), TokenError::Algorithm),
                (json!({ "alg": "ES256", "kid": "r" }), TokenError::Algorithm),
                (json!({ "alg": "RS256", "kid": "r" }), TokenError::Signature),
                (json!({ "alg": "HS256", "kid": "e" }), TokenError::Signature),
                (
                    json!({ "alg": "ES256", "kid": "x" }),
                    TokenError::UnknownKey,
                ),
                (
                    json!({ "alg": "ES256", "kid": "e", "crit": ["b64"] }),
                    TokenError::Algorithm,
                ),
                // A key that the token brings along is no key of the login.
                (
                    json!({ "alg": "ES256", "kid": "x", "jwk": { "kty": "EC" }, "jku": "http://a" }),
                    TokenError::UnknownKey,
                ),
                (json!({ "alg": "ES256", "kid": 7 }), TokenError::Malformed),
            ] {
                assert_eq!(login.verify(&header, &payload()), Err(refusal), "{header}");
            }
            // The published key as a secret.
            let text = payload().to_string();
            let point = login.pair.public_key().as_ref();
            for secret in [
                point,
                &point[1..],
                &MODULUS,
                BASE64URL.encode(point).as_bytes(),
            ] {
                let signed =
                    [r#"{"alg":"HS256","kid":"e"}"#, &text].map(|part| BASE64URL.encode(part));
                let signed = signed.join(".");
                let signature = keyed(secret).chain_update(&signed).finalize().into_bytes();
                let token = format!("{signed}.{}", BASE64URL.encode(signature));
                let refused = login.tokens.verify(&token, NOW_MS);
                assert_eq!(refused, Err(TokenError::Signature));
            }
            // Without a place of keys there is no such login.
            let token = login.sign(&json!({ "alg": "ES256", "kid": "e" }), &payload());
            let refused = tokens("key", "").verify(&token, NOW_MS);
            assert_eq!(refused, Err(TokenError::Algorithm));
        }

        #[test]
        fn the_configuration_names_the_claims_and_the_purpose() {
            let login = Login::new(config::Auth {
                claims: ClaimNames {
                    user: "sub".into(),
                    platform: "device".into(),
                },
                issuer: "https://login.example".into(),
                audience: "towncrier".into(),
                ..config::Auth::default()
            });
            // OpenIM's names mean nothing here, whatever they hold.
            let good = json!({
                "sub": "alice", "device": "iOS", "iss": "https://login.example", "aud": "towncrier",
                "exp": NOW_MS / 1000 + 60, "UID": { "a": 1 }, "UserID": "admin", "Platform": 3,
            });
            let claims = login.claims(good.clone()).unwrap();
            assert_eq!(
                (claims.user.as_str(), claims.platform),
                ("alice", Platform::Ios)
            );
            assert_eq!(claims.issued_at_ms, 0);
            let with = |name: &str, value: Value| {
                let mut claims = good.clone();
                claims[name] = value;
                login.claims(claims).map(|claims| claims.platform)
            };
            assert_eq!(with("device", json!(5)), Ok(Platform::Web));
            assert_eq!(with("aud", json!(["mail", "towncrier"])), Ok(Platform::Ios));
            for (name, value, refusal) in [
                ("sub", json!(7), TokenError::Malformed),
                ("sub", Value::Null, TokenError::Malformed),
                ("device", json!([]), TokenError::Malformed),
                (
                    "device",
                    json!("x"),
                    TokenError::Platform(IdError::Platform),
                ),
                ("iss", json!("https://login.example/"), TokenError::Purpose),
                ("iss", Value::Null, TokenError::Purpose),
                ("aud", json!("mail"), TokenError::Purpose),
                ("aud", json!(["mail"]), TokenError::Purpose),
                ("aud", Value::Null, TokenError::Purpose),
                ("exp", Value::Null, TokenError::Malformed),
                ("exp", json!(NOW_MS / 1000), TokenError::Expired),
                ("nbf", json!(NOW_MS / 1000 + 61), TokenError::NotYet),
                ("iat", json!(NOW_MS / 1000 + 61), TokenError::NotYet),
            ] {
                assert_eq!(with(name, value.clone()), Err(refusal), "{name} {value}");
            }
        }

        /// A revocation at any moment covers the token if it was issued before: the time that counts is never after now.
        #[test]
        fn no_token_of_the_login_counts_as_issued_after_now() {
            let login = Login::new(config::Auth::default());
            for ahead_s in [0, 5, 60] {
                let mut payload = payload();
                payload["iat"] = json!(NOW_MS / 1000 + ahead_s);
                // The gateway's own claim means nothing in another's token.
                payload["iat_ms"] = json!(NOW_MS + 3_600_000);
                let claims = login.claims(payload).unwrap();
                assert!(claims.issued_at_ms <= NOW_MS, "{ahead_s}");
            }
        }

        #[tokio::test(start_paused = true)]
        async fn a_token_of_an_unknown_key_waits_for_a_look_that_begins_after_it() {
            let login = Login::new(config::Auth::default());
            let keys = login.tokens.login_keys().unwrap();
            let early = keys.begin_look();
            let mut waiting = std::pin::pin!(keys.look_again());
            assert!((&mut waiting).now_or_never().is_none());
            keys.end_look(early, true);
            assert!((&mut waiting).now_or_never().is_none());
            keys.wanted().await;
            let later = keys.begin_look();
            keys.end_look(later, true);
            assert_eq!(waiting.await, Ok(()));
            let failing = async {
                let look = keys.begin_look();
                keys.end_look(look, false);
            };
            let mut waiting = std::pin::pin!(keys.look_again());
            assert!((&mut waiting).now_or_never().is_none());
            failing.await;
            assert_eq!(waiting.await, Err(KeysUnread));
            assert_eq!(keys.look_again().await, Err(KeysUnread), "nobody looks");
        }
    }
}
