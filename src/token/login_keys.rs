//! The keys of a company's own login, as they are now, and the claims of its tokens.
//!
//! Somebody else reads the keys from their place. A token of a key that is not known waits for one more look at that place, so
//! that a key which the company begins to use is good at once.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use serde_json::Value;
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

use super::{Algorithm, KeySet, Payload, TokenError};
use crate::config;

/// The time for which a token of an unknown key waits for a look at the keys' place. A login waits for 5 s in all.
pub const KEYS_WAIT: Duration = Duration::from_secs(4);

/// The keys could not be read in time, so a token of an unknown key is not judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the keys of the company's login cannot be read")]
pub struct KeysUnread;

/// The keys in force, and the names of the claims. Shared by the tokens and by the reader of the keys.
pub struct LoginKeys {
    set: RwLock<Arc<KeySet>>,
    claims: config::ClaimNames,
    issuer: String,
    audience: String,
    /// The number of the newest look at the keys' place.
    begun: AtomicU64,
    ended: watch::Sender<KeysLook>,
    wanted: Notify,
}

/// A look at the keys' place that ended.
#[derive(Debug, Clone, Copy, Default)]
struct KeysLook {
    number: u64,
    is_good: bool,
}

impl LoginKeys {
    /// No keys yet; `None` if the configuration names no place for them.
    pub(super) fn new(config: &config::Auth) -> Option<Arc<Self>> {
        config.has_login_keys().then(|| {
            Arc::new(Self {
                set: RwLock::default(),
                claims: config.claims.clone(),
                issuer: config.issuer.clone(),
                audience: config.audience.clone(),
                begun: AtomicU64::new(0),
                ended: watch::Sender::new(KeysLook::default()),
                wanted: Notify::new(),
            })
        })
    }

    /// From now on only these keys are good.
    pub fn replace(&self, set: KeySet) {
        *self.set.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(set);
    }

    /// The reader begins a look at the keys' place. Returns the look's number.
    pub fn begin_look(&self) -> u64 {
        self.begun.fetch_add(1, Relaxed) + 1
    }

    /// The look ended. `is_good`: the keys in force are those of the place.
    pub fn end_look(&self, number: u64, is_good: bool) {
        self.ended.send_replace(KeysLook { number, is_good });
    }

    /// Returns when a token waits for a look. Cancel safe.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Waits for a look that begins after this call, for at most [`KEYS_WAIT`]. Cancel safe.
    ///
    /// # Errors
    /// [`KeysUnread`] if the look failed or did not end in time.
    pub async fn look_again(&self) -> Result<(), KeysUnread> {
        let mut ended = self.ended.subscribe();
        let newest = self.begun.load(Relaxed);
        self.wanted.notify_one();
        let look = timeout(KEYS_WAIT, ended.wait_for(|look| look.number > newest)).await;
        match look {
            Ok(Ok(look)) if look.is_good => Ok(()),
            _ => Err(KeysUnread),
        }
    }

    /// Checks the signature of a token.
    pub(super) fn check(
        &self,
        algorithm: Algorithm,
        key_id: Option<&str>,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<(), TokenError> {
        let set = Arc::clone(&self.set.read().unwrap_or_else(PoisonError::into_inner));
        set.check(algorithm, key_id, signed, signature)
    }

    /// The claims of a token with a good signature, under the names that the configuration gives them.
    pub(super) fn read(&self, json: &[u8]) -> Result<Payload, TokenError> {
        let malformed = |_| TokenError::Malformed;
        let all: Value = serde_json::from_slice(json).map_err(malformed)?;
        self.check_purpose(&all)?;
        let mut payload: Payload = serde_json::from_slice(json)
            .or_else(|_| self.dates_of(&all))
            .map_err(malformed)?;
        // `iat_ms` is a claim of the gateway's own tokens.
        payload.iat_ms = None;
        let names = &self.claims;
        if !names.user.is_empty() {
            payload.user_v2 = all[&names.user].as_str().map(str::to_owned);
            payload.user_v3 = None;
        }
        if !names.platform.is_empty() {
            let platform = &all[&names.platform];
            payload.platform_v2 = platform.as_str().map(str::to_owned);
            payload.platform_v3 = platform.as_u64().and_then(|number| number.try_into().ok());
        }
        Ok(payload)
    }

    /// The dates alone: a claim with one of OpenIM's names may mean something else in a company's token.
    fn dates_of(&self, all: &Value) -> Result<Payload, serde_json::Error> {
        let dates = ["exp", "nbf", "iat"].into_iter().filter_map(|name| {
            let date = all.get(name)?.clone();
            Some((name.to_owned(), date))
        });
        serde_json::from_value(Value::Object(dates.collect()))
    }

    /// The token must be for this gateway: the company's login may sign tokens for other systems with the same keys.
    fn check_purpose(&self, all: &Value) -> Result<(), TokenError> {
        let is_issuer = self.issuer.is_empty() || all["iss"].as_str() == Some(&self.issuer);
        let audience = &all["aud"];
        let is_ours = |audience: &Value| audience.as_str() == Some(&self.audience);
        let is_for_us = self.audience.is_empty()
            || is_ours(audience)
            || audience
                .as_array()
                .is_some_and(|list| list.iter().any(is_ours));
        if is_issuer && is_for_us {
            Ok(())
        } else {
            Err(TokenError::Purpose)
        }
    }
}
