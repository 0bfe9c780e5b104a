//! Access tokens that run out: one at a time, made when it is needed.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use tokio::sync::Mutex;

use super::notice::Outcome;

/// The token in use. Calls that need a new one wait for the first of them to get it, and fail with it.
#[derive(Default)]
pub(super) struct AccessToken {
    state: Mutex<AccessState>,
    /// The grants that failed.
    failures: AtomicU64,
}

#[derive(Default)]
struct AccessState {
    granted: Option<Granted>,
    /// The end of the last grant that failed.
    failure: Option<Outcome>,
}

/// A token, and how long it is good.
#[derive(Clone)]
pub(super) struct Granted {
    pub(super) token: Arc<str>,
    /// The token is renewed from this time on, Unix ms.
    pub(super) until_ms: u64,
}

impl AccessToken {
    /// The token in use, or else the one that `make` gets. A call that waited for another call's grant shares its failure: otherwise
    /// each of them would wait for a grant of its own. Cancel safe.
    pub(super) async fn token(
        &self,
        now_ms: u64,
        make: impl Future<Output = Result<Granted, Outcome>>,
    ) -> Result<Arc<str>, Outcome> {
        let before = self.failures.load(Relaxed);
        let mut state = self.state.lock().await;
        let in_use = state.granted.as_ref();
        if let Some(granted) = in_use.filter(|granted| now_ms < granted.until_ms) {
            return Ok(Arc::clone(&granted.token));
        }
        if self.failures.load(Relaxed) != before
            && let Some(failure) = &state.failure
        {
            return Err(failure.clone());
        }
        match make.await {
            Ok(new) => {
                state.failure = None;
                Ok(Arc::clone(&state.granted.insert(new).token))
            }
            Err(failure) => {
                self.failures.fetch_add(1, Relaxed);
                state.failure = Some(failure.clone());
                Err(failure)
            }
        }
    }

    /// The vendor no longer takes this token. Another one that came meanwhile stays. Cancel safe.
    pub(super) async fn forget(&self, token: &str) {
        let mut state = self.state.lock().await;
        state.granted.take_if(|granted| &*granted.token == token);
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

    #[tokio::test]
    async fn calls_that_wait_for_a_grant_share_its_failure() {
        let access = AccessToken::default();
        let grants = AtomicU64::new(0);
        let call = || {
            access.token(0, async {
                grants.fetch_add(1, Relaxed);
                // The others come meanwhile.
                tokio::task::yield_now().await;
                Err(Outcome::later(None, "no answer"))
            })
        };
        let ends = futures_util::future::join_all((0..8).map(|_| call())).await;
        assert_eq!(ends, vec![Err(Outcome::later(None, "no answer")); 8]);
        assert_eq!(grants.load(Relaxed), 1);
        assert!(call().await.is_err());
        assert_eq!(grants.load(Relaxed), 2, "who comes later tries again");
    }
}
