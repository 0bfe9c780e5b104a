//! The service manager that started the gateway. It hears when the gateway serves, that the gateway goes down, and, where it keeps
//! a watchdog, that the gateway is well. systemd's `Type=notify` and `WatchdogSec=` are meant. Without `NOTIFY_SOCKET` in the
//! environment nobody is told anything.

use std::{convert::Infallible, future::pending, io, time::Duration};

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};

/// Says that both ports are served.
pub(super) fn say_ready() {
    say(NotifyState::Ready);
}

/// Says that the gateway drains.
pub(super) fn say_stopping() {
    say(NotifyState::Stopping);
}

/// Feeds the watchdog twice in its time while `is_well` holds. Never returns. Cancel safe.
pub(super) async fn feed_watchdog(is_well: impl Fn() -> bool) -> Infallible {
    let Some(patience) = sd_notify::watchdog_enabled() else {
        return pending().await;
    };
    // An interval of zero is refused.
    let mut turn = interval((patience / 2).max(Duration::from_millis(1)));
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turn.tick().await;
        if is_well() {
            say(NotifyState::Watchdog);
        }
    }
}

/// A manager that does not hear has its own deadlines, so the gateway goes on.
fn say(state: NotifyState<'_>) {
    let told: io::Result<()> = sd_notify::notify(&[state]);
    if let Err(error) = told {
        tracing::warn!(%error, "the service manager at NOTIFY_SOCKET cannot be told");
    }
}
