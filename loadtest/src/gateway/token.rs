//! Tokens that the rig signs itself, with the key of the gateway that it has started. Asking for very many takes minutes.

use std::time::{SystemTime, SystemTimeError};

use towncrier_client::token::{TokenClaims, TokenKey};

/// Longer than any run.
const LIFETIME_S: u64 = 7 * 86_400;

/// The signer of one run.
#[derive(Debug)]
pub(super) struct Signer {
    key: TokenKey,
    now_s: u64,
}

impl Signer {
    pub(super) fn new(key: &str) -> Result<Self, SystemTimeError> {
        Ok(Self {
            key: TokenKey::new(key.as_bytes()),
            now_s: SystemTime::UNIX_EPOCH.elapsed()?.as_secs(),
        })
    }

    /// A token for a user on a platform, given by its name and number.
    pub(super) fn token(&self, user_id: &str, platform: (&str, u32)) -> String {
        self.key.sign(&TokenClaims {
            user_id,
            platform: platform.0,
            platform_id: platform.1,
            expires_at_s: self.now_s + LIFETIME_S,
            not_before_s: self.now_s,
            issued_at_s: self.now_s,
            issued_at_ms: self.now_s * 1000,
        })
    }
}
