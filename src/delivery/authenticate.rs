//! Tokens are issued; one is good if its signature and its time are, and nobody revoked it.

use super::Delivery;
use crate::{
    ids::{Platform, UserId},
    log::ReadError,
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
    /// Whether it was revoked could not be looked up.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Delivery {
    /// A token for the user on the platform, good from now on.
    pub fn issue_token(&self, user: &UserId, platform: Platform) -> Issued {
        self.tokens.issue(user, platform, self.clock.now_ms())
    }

    /// Whom the token stands for, if it is good now.
    pub fn authenticate(&self, token: &str) -> Result<Claims, AuthError> {
        let claims = self.tokens.verify(token, self.clock.now_ms())?;
        if claims.issued_at_ms < self.log.revoked_before_ms(&claims.user, claims.platform)? {
            return Err(AuthError::Revoked);
        }
        Ok(claims)
    }
}
