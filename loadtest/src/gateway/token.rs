//! Tokens that the rig signs itself, with the key of the gateway that it has started. Asking for very many takes minutes.

use std::time::{SystemTime, SystemTimeError};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// `{"alg":"HS256","typ":"JWT"}`
const HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";
/// Longer than any run.
const LIFETIME_S: u64 = 7 * 86_400;

/// The signer of one run.
#[derive(Debug)]
pub(super) struct Signer {
    key: Hmac<Sha256>,
    now_s: u64,
}

impl Signer {
    pub(super) fn new(key: &str) -> Result<Self, SystemTimeError> {
        Ok(Self {
            key: Hmac::new_from_slice(key.as_bytes()).expect("HMAC takes keys of any length"),
            now_s: SystemTime::UNIX_EPOCH.elapsed()?.as_secs(),
        })
    }

    /// A token for a user of the ledger (letters, digits and a dash) on a platform, by name.
    pub(super) fn token(&self, user_id: &str, platform: &str) -> String {
        let Self { key, now_s } = self;
        let claims = format!(
            r#"{{"UID":"{user_id}","Platform":"{platform}","exp":{},"nbf":{now_s},"iat":{now_s}}}"#,
            now_s + LIFETIME_S
        );
        let mut token = format!("{HEADER}.{}", BASE64URL.encode(claims));
        let signature = key.clone().chain_update(&token).finalize();
        token.push('.');
        BASE64URL.encode_string(signature.into_bytes(), &mut token);
        token
    }
}
