//! The parts that the benches of the log share: a log, appenders in a closed loop, and the result of a round.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use towncrier::{
    clock::Clock,
    config,
    ids::{MessageId, UserId},
    log::{Append, Log, embedded::EmbeddedLog},
    metrics::Metrics,
};

/// As many senders as a busy gateway has at once. With few of them the loop would measure the disk's latency.
pub(crate) const APPENDERS: u64 = 1024;
pub(crate) const BODY_BYTES: usize = 400;

/// The result of one round.
#[derive(Clone)]
pub(crate) struct Round {
    pub(crate) per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

impl std::fmt::Display for Round {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
        write!(
            f,
            "{:>9.0}/s  p50 {:>6.2} ms  p99 {:>6.2} ms",
            self.per_second,
            ms(self.p50),
            ms(self.p99)
        )
    }
}

impl Round {
    pub(crate) fn of(mut latencies: Vec<Duration>, elapsed: Duration) -> Self {
        latencies.sort_unstable();
        let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
        Self {
            per_second: latencies.len() as f64 / elapsed.as_secs_f64(),
            p50: at(0.5),
            p99: at(0.99),
        }
    }
}

/// A number from the command line.
pub(crate) fn argument(name: &str, default: u64) -> u64 {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments
        .nth(1)
        .map_or(default, |value| value.parse().expect("a whole number"))
}

/// Runs the closed loop: `append` number `n`, until all are answered.
pub(crate) async fn closed_loop<F, A>(appends: u64, append: F) -> Round
where
    F: Fn(u64) -> A + Send + Sync + 'static,
    A: Future<Output = ()> + Send,
{
    let (append, next) = (Arc::new(append), Arc::new(AtomicU64::new(0)));
    let begun = Instant::now();
    let appenders: Vec<_> = (0..APPENDERS)
        .map(|_| {
            let (append, next) = (append.clone(), next.clone());
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                loop {
                    let number = next.fetch_add(1, Relaxed);
                    if number >= appends {
                        return latencies;
                    }
                    let begun = Instant::now();
                    append(number).await;
                    latencies.push(begun.elapsed());
                }
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for appender in appenders {
        latencies.extend(appender.await.expect("no appender panics"));
    }
    Round::of(latencies, begun.elapsed())
}

/// Opens a log.
pub(crate) fn open(config: &config::Log) -> Arc<EmbeddedLog> {
    let clock = Arc::new(Clock::system());
    let log = EmbeddedLog::open(config, clock, Arc::new(Metrics::new()));
    Arc::new(log.expect("the log opens"))
}

/// Appends this many messages without a key, number `n` to `user(n)`.
pub(crate) async fn append_all(
    log: &Arc<EmbeddedLog>,
    appends: u64,
    user: impl Fn(u64) -> String + Send + Sync + 'static,
) -> Round {
    let body = Bytes::from(vec![b'x'; BODY_BYTES]);
    let (log, clock) = (Arc::clone(log), Clock::system());
    closed_loop(appends, move |number| {
        let now = clock.now_ms();
        let message_id = MessageId::new(now);
        let append = Append {
            message_id,
            send_time_ms: now,
            sender: "oa".into(),
            client_message_id: message_id.to_string().into(),
            is_keyed: false,
            fingerprint: [0; 16],
            body: body.clone(),
            is_marks: false,
            receivers: vec![UserId::new(&user(number)).expect("an id")],
        };
        let pending = log.append(append).expect("room in the queue");
        async move { drop(pending.await.expect("an answer").expect("accepted")) }
    })
    .await
}
