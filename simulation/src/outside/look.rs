//! A look at the running gateway.

use std::time::Duration;

use tokio::time::Instant;

use super::pushes::Pushes;
use crate::{gateway::Gateway, model::Model};

/// The gateway between two of its steps.
pub(super) struct LookAtGateway<'a> {
    pub(super) model: &'a Model,
    pub(super) gateway: &'a Gateway,
    pub(super) users: usize,
    /// The time for which it could do all its work.
    pub(super) settled: Duration,
    /// Nothing is promised for messages up to this time, Unix ms.
    pub(super) excused_ms: u64,
    pub(super) now: Instant,
    /// The gateway's clock, Unix ms.
    pub(super) now_ms: u64,
}

impl Pushes {
    /// Looks at the gateway, and judges what was decided since the last look.
    pub(super) fn look(&mut self, look: &LookAtGateway<'_>) {
        if self.proofs.look(look).is_err() {
            self.proofs = super::proofs::ServedSince::default();
            self.tasks = None;
            return;
        }
        self.judge_tasks(look);
        self.take_cases(look);
        self.close_cases(look);
        self.note_served(look.model);
    }
}
