//! The state of another system for some time.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::lock;

/// The longest way of a call to a system that is well, and of its answer, ms.
const WAY_MS_MAX: u64 = 150;
/// The same for one that is slow: less than any timeout.
const SLOW_MS_MAX: u64 = 2_000;

/// The manner of a system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in super::super) enum Service {
    #[default]
    Up,
    /// No call reaches it.
    Down,
    /// The system takes its time.
    Slow,
    /// The system asks for a pause.
    Busy,
    /// The system answers with an error of its own.
    Failing,
    /// The system takes each call, and its answers are lost.
    Mute,
    /// The system takes nothing, and says that it never will.
    Refusing,
    /// The system says that devices are gone. A receiver of webhooks fails.
    Forgetful,
    /// The system refuses the caller. A receiver of webhooks fails.
    Locked,
}

impl Service {
    pub(super) const ALL: [Self; 8] = [
        Self::Down,
        Self::Slow,
        Self::Busy,
        Self::Failing,
        Self::Mute,
        Self::Refusing,
        Self::Forgetful,
        Self::Locked,
    ];
}

/// The present manner of one system, shared by all processes that call it.
#[derive(Clone, Default)]
pub(super) struct Weather(Arc<Mutex<Option<(Service, Instant)>>>);

impl Weather {
    /// The system is like this for some time.
    pub(super) fn set(&self, service: Service, time: Duration) {
        *lock(&self.0) = Some((service, Instant::now() + time));
    }

    pub(super) fn clear(&self) {
        *lock(&self.0) = None;
    }

    pub(super) fn now(&self) -> Service {
        let set = *lock(&self.0);
        let set = set.filter(|(_, until)| Instant::now() < *until);
        set.map_or(Service::Up, |(service, _)| service)
    }

    /// One way of a call.
    pub(super) async fn way(&self) {
        let most_ms = match self.now() {
            Service::Slow => SLOW_MS_MAX,
            _ => WAY_MS_MAX,
        };
        sleep(Duration::from_millis(fastrand::u64(1..most_ms))).await;
    }
}
