//! The feed of a log's commits: every entry once, in log order, to each of its consumers.
//!
//! Each kind of log hands its commits on here, on the thread that made them. A consumer is therefore never more than one group of
//! commits behind, and the next group waits for it: no queue grows, and no thread has to be woken.

use std::sync::{Arc, PoisonError, RwLock};

use super::Commit;

/// Takes the commits of a log, for everything that must happen after a message became durable.
pub trait Consumer: Send + Sync + 'static {
    /// Takes the next commits. Their callers are answered already. The log commits nothing more before this returns, so it
    /// must be quick and never wait. A consumer that panics ends the log's thread, and with it the gateway.
    fn take(&self, commits: &[Commit]);
}

/// The consumers of one log.
#[derive(Default)]
pub struct Feed(RwLock<Vec<Arc<dyn Consumer>>>);

impl Feed {
    /// Adds a consumer. It takes all commits from now on.
    pub fn add(&self, consumer: Arc<dyn Consumer>) {
        let mut consumers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        consumers.push(consumer);
    }

    /// Gives the commits to each consumer.
    pub fn hand_on(&self, commits: &[Commit]) {
        if commits.is_empty() {
            return;
        }
        let consumers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        for consumer in &*consumers {
            consumer.take(commits);
        }
    }
}
