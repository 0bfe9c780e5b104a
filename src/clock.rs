//! Time, behind a trait so that simulation can own it.
//!
//! Wall time never goes backwards within a process: message ids, batch times and revocations are compared by it.
//! Waiting is tokio's business (`tokio::time`, which tests pause); this is only "what time is it".

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{SystemTime, UNIX_EPOCH},
};

/// What time it is.
pub trait Clock: Send + Sync + 'static {
    /// Unix time in ms. Never less than an earlier answer.
    fn now_ms(&self) -> u64;
}

/// The machine's clock, held back from going backwards when it is set.
#[derive(Debug, Default)]
pub struct SystemClock {
    latest_ms: AtomicU64,
}

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let now_ms = since_epoch.as_millis() as u64;
        self.latest_ms.fetch_max(now_ms, Relaxed).max(now_ms)
    }
}
