//! A histogram of the time for which our own code holds a reactor's thread.
//!
//! A task wakes every [`PERIOD`] and records the processor time that its thread has used since the task ran last. The task
//! cannot run while other code holds the thread. So code that holds the thread longer than a bucket's bound always counts
//! above that bound. A recorded time may also be the sum of several short pieces of work. Only the thread's own time
//! counts, so other processes on the same core add nothing.

use std::{sync::Arc, time::Duration};

use rustix::time::{ClockId, clock_gettime};
use tokio::time::sleep;

use crate::{metrics::Metrics, threads::Pulse};

/// The interval of readings. Shorter turns do not matter. It is half of 50 ms, which raises an alarm, so that a thread
/// which is merely busy raises none. A shorter interval would cost a third of the processor time of 10,000 idle sessions.
const PERIOD: Duration = Duration::from_millis(25);

/// Watches its own thread, and beats the pulse with each turn. Never returns.
pub(super) async fn watch(metrics: Arc<Metrics>, pulse: Pulse) {
    let mut before = thread_time();
    loop {
        sleep(PERIOD).await;
        pulse.beat();
        let now = thread_time();
        let used = now.saturating_sub(before);
        metrics.reactor_turn_seconds.record(used.as_secs_f64());
        before = now;
    }
}

/// The processor time that the calling thread has used.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads::watched;

    /// The number of turns above 50 ms that `watch` saw, while the thread was held for `hold` of its own time at once.
    fn long_turns(hold: Duration) -> u64 {
        let metrics = Arc::new(Metrics::new());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (pulse, _watched) = watched("reactor-0");
            let watching = watch(Arc::clone(&metrics), pulse);
            let holding = async {
                // The watch has started by now.
                tokio::task::yield_now().await;
                let begin = thread_time();
                while thread_time() - begin < hold {}
                sleep(2 * PERIOD).await;
            };
            tokio::select! {
                biased;
                () = watching => {}
                () = holding => {}
            }
        });
        let text = metrics.handle().render();
        let count = |what: &str| -> u64 {
            let name = format!("towncrier_reactor_turn_seconds_{what} ");
            let value = text.lines().find_map(|line| line.strip_prefix(&name));
            value.expect("it is there").parse().unwrap()
        };
        count("count") - count("bucket{le=\"0.05\"}")
    }

    #[test]
    fn whatever_holds_the_thread_is_seen() {
        assert_eq!(long_turns(Duration::from_millis(60)), 1);
        assert_eq!(long_turns(Duration::from_millis(10)), 0);
    }
}
