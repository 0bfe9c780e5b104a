//! Tokens are issued; one is good if its signature and its time are, and nobody revoked it.

use super::Delivery;
use crate::{
    clock::Doubt,
    ids::{Platform, UserId},
    log::LogError,
    token::{Claims, Issued, TokenError},
};

/// Why a token is not good.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The token itself says so.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// An administrator logged the user out after it was issued.
    #[error("the token was revoked")]
    Revoked,
    /// It is out of its time by a clock that the wall clock contradicts: whether it is good shows once the two agree.
    #[error("whether the token is in its time is not known: {0}")]
    ClockDoubted(Doubt),
    /// Whether it was revoked could not be looked up.
    #[error(transparent)]
    Read(#[from] LogError),
}

impl Delivery {
    /// A token for the user on the platform, good from now on, whatever was revoked before.
    pub fn issue_token(&self, user: &UserId, platform: Platform) -> Result<Issued, LogError> {
        let now_ms = self.clock.now_ms();
        let times = self.log.token_times(user, platform)?;
        let issued_at_ms = now_ms.max(times.revoked_before_ms);
        if issued_at_ms > times.newest_ms {
            self.log.note_token(user, platform, issued_at_ms)?;
        }
        Ok(self.tokens.issue_at(user, platform, now_ms, issued_at_ms))
    }

    /// Whom the token stands for, if it is good now.
    pub fn authenticate(&self, token: &str) -> Result<Claims, AuthError> {
        let verified = self.tokens.verify(token, self.clock.now_ms());
        let claims = verified.map_err(|error| match (error, self.clock.doubt()) {
            (TokenError::Expired | TokenError::NotYet, Some(doubt)) => {
                AuthError::ClockDoubted(doubt)
            }
            (error, _) => error.into(),
        })?;
        let times = self.log.token_times(&claims.user, claims.platform)?;
        if claims.issued_at_ms < times.revoked_before_ms {
            return Err(AuthError::Revoked);
        }
        if claims.issued_at_ms > times.newest_ms {
            // Remembered, so that a revocation meets it also where the clock is set back meanwhile.
            self.log
                .note_token(&claims.user, claims.platform, claims.issued_at_ms)?;
        }
        Ok(claims)
    }
}
