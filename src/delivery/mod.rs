//! Stub, to be dropped.
#![expect(missing_docs, reason = "stub")]

use std::sync::Arc;

use crate::{
    clock::Clock,
    config,
    ids::{Epoch, Seq, SessionKey, UserId},
    log::{Inbox, Log, Patience, ReadError, ReadLimit, SessionRow, Stored},
    metrics::Metrics,
    registry::Registry,
    token::{Claims, TokenError, Tokens},
};

pub struct Delivery {
    log: Arc<dyn Log>,
    tokens: Arc<Tokens>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("revoked")]
    Revoked,
    #[error(transparent)]
    Read(#[from] ReadError),
}

pub struct Standing {
    pub inbox: Inbox,
    pub stored: Option<Seq>,
}

impl Delivery {
    pub fn new(
        _: &config::Delivery,
        log: Arc<dyn Log>,
        _: Arc<Registry>,
        tokens: Arc<Tokens>,
        clock: Arc<dyn Clock>,
        _: Arc<Metrics>,
    ) -> Self {
        Self { log, tokens, clock }
    }
    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }
    pub fn epoch(&self) -> Epoch {
        self.log.epoch()
    }
    pub fn authenticate(&self, token: &str) -> Result<Claims, AuthError> {
        let claims = self.tokens.verify(token, self.now_ms())?;
        if claims.issued_at_ms < self.log.revoked_before_ms(&claims.user, claims.platform)? {
            return Err(AuthError::Revoked);
        }
        Ok(claims)
    }
    pub fn inbox(&self, user: &UserId) -> Result<Inbox, ReadError> {
        self.log.inbox(user)
    }
    pub fn resume(&self, key: &SessionKey) -> Result<Standing, ReadError> {
        Ok(Standing {
            inbox: self.log.inbox(&key.user)?,
            stored: self.log.session(key)?.map(|row| row.cursor),
        })
    }
    pub fn replay_now(
        &self,
        user: &UserId,
        after: Seq,
        limit: ReadLimit,
    ) -> Result<Vec<Stored>, ReadError> {
        self.log.read(user, after, limit, Patience::MemoryOnly)
    }
    pub async fn replay(
        self: Arc<Self>,
        user: UserId,
        after: Seq,
        limit: ReadLimit,
    ) -> Result<Vec<Stored>, ReadError> {
        tokio::task::spawn_blocking(move || self.log.read(&user, after, limit, Patience::Disk))
            .await
            .expect("reads do not panic")
    }
    pub fn ack(&self, key: &SessionKey, seq: Seq) -> Result<(), ReadError> {
        let row = SessionRow {
            cursor: seq,
            acked_at_ms: self.now_ms(),
        };
        self.log.store_cursor(key, row)
    }
    pub fn sent(&self, _: &SessionKey, _: Seq) {}
}
