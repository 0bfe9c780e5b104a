//! How long a reactor's tasks wait for their turn because of our own code, as an operator's histogram.
//!
//! Every [`PERIOD`] a task asks how much processor time its thread has used since it asked last. Whatever held the thread
//! without a pause lies between two of its turns, so nothing that holds it longer than a bucket's bound escapes that bucket;
//! and as it is the thread's own time, other processes on the same core add nothing.

use std::{sync::Arc, time::Duration};

use rustix::time::{ClockId, clock_gettime};
use tokio::time::sleep;

use crate::{metrics::Metrics, watch::Pulse};

/// A turn of less is of no interest. Half of what is an alarm, 50 ms, so that a thread which is merely busy gives none; more
/// often would be a third of what 10,000 idle sessions cost.
const PERIOD: Duration = Duration::from_millis(25);

/// Watches its own thread for ever, and says with each turn that it goes round.
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

/// Processor time that the calling thread has used.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::watched;

    /// How many of the turns that `watch` saw were above 50 ms, while the thread was held for `hold` of its own time at once.
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
                // It is watched by now.
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
