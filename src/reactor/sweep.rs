//! The deadlines of all connections of a reactor, on one timer. A timer for each connection would cost 112 bytes.
//!
//! A sweep goes through all connections in slices, so that 100,000 of them are not checked at once. Deadlines are therefore
//! late by up to one sweep, whose length follows the shortest deadline.

use std::{rc::Rc, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::{Parts, table::ConnectionTable};
use crate::{
    connection::{Context, FullSessions},
    metrics::Metrics,
};

/// The number of slices of a sweep.
const SLICES: u32 = 4;
/// The shortest and longest sweep: a shorter one would cost too much processor time, a longer one is not precise enough.
const SWEEP_MIN: Duration = Duration::from_millis(20);
const SWEEP_MAX: Duration = Duration::from_secs(1);

/// The length of a sweep through all connections: a quarter of the shortest deadline.
pub(super) fn period(parts: &Parts) -> Duration {
    let shortest = parts
        .config
        .connect_timeout
        .min(parts.session.stall_timeout)
        .min(parts.session.resend_after)
        .min(parts.session.heartbeat);
    (shortest / 4).clamp(SWEEP_MIN, SWEEP_MAX)
}

/// Sweeps. Never returns.
pub(super) async fn sweep(context: Rc<Context>, table: Rc<ConnectionTable>, period: Duration) {
    let slice = period / SLICES;
    let mut position = None;
    let mut full = FullSessions::default();
    let mut told = FullSessions::default();
    let mut due = Instant::now();
    loop {
        // After a delay the schedule restarts. Catching up would check every connection several times in a row.
        due = (due + slice).max(Instant::now());
        sleep_until(due).await;
        let late = due.elapsed();
        if late > period {
            // This thread is late, and not the clients.
            context.stand_still(late);
        }
        let count = table.len().div_ceil(SLICES as usize).max(1);
        let (handles, next) = table.after(position, count);
        let now = context.now();
        for handle in &handles {
            let mut connection = handle.borrow_mut();
            connection.tick(now);
            connection.add_to(&mut full);
        }
        position = next;
        if position.is_none() {
            let full = std::mem::take(&mut full);
            tell(&context.metrics, std::mem::replace(&mut told, full), full);
        }
    }
}

/// Changes the metrics, which count the sessions of all reactors, by the change in this one.
fn tell(metrics: &Metrics, before: FullSessions, now: FullSessions) {
    let change = |before: u32, now: u32| f64::from(now) - f64::from(before);
    let outboxes = change(before.outboxes, now.outboxes);
    metrics.outboxes_full.increment(outboxes);
    let windows = change(before.windows, now.windows);
    metrics.windows_full.increment(windows);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::{
        task::{LocalSet, yield_now},
        time::{advance, sleep},
    };

    use super::*;
    use crate::{
        config,
        connection::{OutboxLimits, tests::fixture::World},
        metrics::Metrics,
        reactor::mailbox::{MailboxLimits, ReactorMailbox},
        session::Moment,
    };

    #[tokio::test(start_paused = true)]
    async fn time_in_which_the_thread_stood_still_passes_for_no_client() {
        let world = World::new(&config::Sessions::default());
        let mailbox = ReactorMailbox::new(MailboxLimits::default(), Arc::new(Metrics::new()));
        let outbox = OutboxLimits {
            frames_max: 8,
            bytes_max: 1 << 20,
        };
        let context = world.context(Arc::new(mailbox), outbox);
        let period = Duration::from_millis(100);
        let seconds = |seconds| Moment::default().plus(Duration::from_secs(seconds));
        let tasks = LocalSet::new();
        tasks.spawn_local(sweep(
            Rc::clone(&context),
            Rc::new(ConnectionTable::new(0)),
            period,
        ));
        tasks
            .run_until(async {
                sleep(Duration::from_secs(3)).await;
                assert!(
                    context.now() >= seconds(3),
                    "a sweep in time takes none away"
                );
                advance(Duration::from_secs(60)).await;
                yield_now().await;
                assert!(context.now() < seconds(4), "a minute stood still");
                sleep(Duration::from_secs(3)).await;
                assert!(context.now() >= seconds(6), "time goes on");
            })
            .await;
    }
}
