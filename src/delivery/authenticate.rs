//! Issues tokens and checks them. A token is good if its signature and its time are good, and no revocation covers it.

use super::Delivery;
use crate::{
    clock::Doubt,
    ids::{Platform, UserId},
    log::LogError,
    token::{Claims, Issued, KeysUnread, TokenError},
};

/// The reason for which a token is not good.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The token's own contents are not good.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// An administrator logged the user out after the token was issued.
    #[error("the token was revoked")]
    Revoked,
    /// The token is out of its time by the gateway's clock, but the clock may be wrong. The token is judged when the time is
    /// certain.
    #[error("whether the token is in its time is not known: {0}")]
    ClockDoubted(Doubt),
    /// The token is of a key that is not known, and the keys of the company's login cannot be read now.
    #[error(transparent)]
    Keys(#[from] KeysUnread),
    /// The revocations could not be looked up.
    #[error(transparent)]
    Read(#[from] LogError),
}

impl AuthError {
    /// True if the token's key is not known, but a look at the keys of the company's login may find it.
    pub fn is_of_unknown_key(&self) -> bool {
        matches!(self, Self::Token(TokenError::UnknownKey))
    }
}

impl Delivery {
    /// A token for the user on the platform, good from now on. Earlier revocations do not cover it. Cancel safe: a drop issues
    /// no token.
    pub async fn issue_token(&self, user: &UserId, platform: Platform) -> Result<Issued, LogError> {
        let now_ms = self.clock.now_ms();
        let times = self.log.token_times(user, platform).wait().await?;
        let issued_at_ms = now_ms.max(times.revoked_before_ms);
        if issued_at_ms > times.newest_ms {
            self.log.note_token(user, platform, issued_at_ms)?;
        }
        Ok(self.tokens.issue_at(user, platform, now_ms, issued_at_ms))
    }

    /// The claims of the token, if it is good now. Cancel safe.
    pub async fn authenticate(&self, token: &str) -> Result<Claims, AuthError> {
        let claims = self.verify_with_new_keys(token).await?;
        self.check_revocation(&claims).await?;
        Ok(claims)
    }

    /// The same as [`verify`](Self::verify). For a token of an unknown key the keys of the company's login are read once more.
    /// Cancel safe.
    pub async fn verify_with_new_keys(&self, token: &str) -> Result<Claims, AuthError> {
        let verified = self.verify(token);
        let Some(keys) = self.tokens.login_keys() else {
            return verified;
        };
        if !verified.as_ref().is_err_and(AuthError::is_of_unknown_key) {
            return verified;
        }
        keys.look_again().await?;
        self.verify(token)
    }

    /// The claims of the token, if its signature and its time are good. It may be revoked.
    pub fn verify(&self, token: &str) -> Result<Claims, AuthError> {
        let now_ms = self.clock.now_ms();
        let verified = self.tokens.verify(token, now_ms);
        verified.map_err(|error| {
            let doubt = self.doubt(token, error, now_ms);
            doubt.map_or(AuthError::Token(error), AuthError::ClockDoubted)
        })
    }

    /// Refuses the claims of a revoked token. Remembers the others. Cancel safe: a drop remembers nothing.
    pub async fn check_revocation(&self, claims: &Claims) -> Result<(), AuthError> {
        let times = self.log.token_times(&claims.user, claims.platform);
        let times = times.wait().await?;
        if claims.issued_at_ms < times.revoked_before_ms {
            return Err(AuthError::Revoked);
        }
        if claims.issued_at_ms > times.newest_ms {
            // The token's time is remembered, so that a later revocation covers the token even if the clock is set back
            // meanwhile.
            self.log
                .note_token(&claims.user, claims.platform, claims.issued_at_ms)?;
        }
        Ok(())
    }

    /// The doubt about the clock, if the token was refused for its time and could be good by the true time.
    fn doubt(&self, token: &str, error: TokenError, now_ms: u64) -> Option<Doubt> {
        if !matches!(error, TokenError::Expired | TokenError::NotYet) {
            return None;
        }
        let doubt = self.clock.doubt()?;
        if let Doubt::Assumed { ahead_ms } = doubt {
            // The true time is not before the known time. A token that had expired by then has expired for certain.
            let known_ms = now_ms.saturating_sub(ahead_ms.unsigned_abs());
            if self.tokens.verify(token, known_ms) == Err(TokenError::Expired) {
                return None;
            }
        }
        Some(doubt)
    }
}
