//! The fan-out: each durable message goes to the sessions that are online.

use std::sync::Arc;

use crate::{
    log::{Commit, Consumer},
    message::Message,
    registry::Registry,
};

/// Carries each durable message to the sessions online, in log order, on the log's thread.
pub(super) struct FanOut {
    pub(super) registry: Arc<Registry>,
}

impl Consumer for FanOut {
    fn take(&self, commits: &[Commit]) {
        for commit in commits {
            let message = Arc::new(Message::of(commit.epoch, commit.body.clone()));
            for (user, seq) in &*commit.placed {
                self.registry.deliver(user.as_str(), *seq, &message);
            }
        }
    }
}
