//! Access tokens that run out: one at a time, made when it is needed.

use std::sync::Arc;

use tokio::sync::Mutex;

use super::notice::Outcome;

/// The token in use. Calls that need a new one wait for the first of them to get it.
#[derive(Default)]
pub(super) struct AccessToken(Mutex<Option<Granted>>);

/// A token, and how long it is good.
#[derive(Clone)]
pub(super) struct Granted {
    pub(super) token: Arc<str>,
    /// It is renewed from this time on, Unix ms.
    pub(super) until_ms: u64,
}

impl AccessToken {
    /// The token in use, or else the one that `make` gets. Cancel safe.
    pub(super) async fn token(
        &self,
        now_ms: u64,
        make: impl Future<Output = Result<Granted, Outcome>>,
    ) -> Result<Arc<str>, Outcome> {
        let mut granted = self.0.lock().await;
        if let Some(granted) = granted.as_ref().filter(|granted| now_ms < granted.until_ms) {
            return Ok(Arc::clone(&granted.token));
        }
        let new = make.await?;
        Ok(Arc::clone(&granted.insert(new).token))
    }

    /// The vendor no longer takes this token. Another one that came meanwhile stays. Cancel safe.
    pub(super) async fn forget(&self, token: &str) {
        self.0
            .lock()
            .await
            .take_if(|granted| &*granted.token == token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(token: &str, until_ms: u64) -> Result<Granted, Outcome> {
        let token = token.into();
        Ok(Granted { token, until_ms })
    }

    #[tokio::test]
    async fn a_token_is_made_once_until_it_runs_out_or_is_forgotten() {
        let access = AccessToken::default();
        let token = async |now_ms, new| {
            let made = access
                .token(now_ms, async { granted(new, now_ms + 10) })
                .await;
            made.unwrap().to_string()
        };
        assert_eq!(token(100, "a").await, "a");
        assert_eq!(token(109, "b").await, "a");
        assert_eq!(token(110, "b").await, "b");
        access.forget("a").await;
        assert_eq!(token(111, "c").await, "b");
        access.forget("b").await;
        assert_eq!(token(112, "c").await, "c");
    }

    #[tokio::test]
    async fn a_failure_is_not_kept() {
        let access = AccessToken::default();
        let failed = access
            .token(0, async { Err(Outcome::credentials("no")) })
            .await;
        assert_eq!(failed, Err(Outcome::credentials("no")));
        let made = access.token(0, async { granted("a", 1) }).await;
        assert_eq!(made.as_deref(), Ok("a"));
    }
}
