//! Every metric of the gateway, with name, unit, labels and help, in one place.
//!
//! A [`Metrics`] belongs to one gateway and is handed to its rooms. Nothing is global, so a test may run several gateways.
//! No label holds a user or a connection. The counters balance for each kind of entry, counted once per receiver: `accepted =
//! acked + pending + expired` from the first start of a data directory on. Counters begin at 0 with each process; `pending`
//! does not.
//!
//! - `admin_route.rs`: the answers of one route of the admin API
//! - `before_send.rs`: the questions before a send
//! - `backup.rs`: the backups of the log
//! - `mesh.rs`: the links between gateways
//! - `push.rs`, `login_keys.rs`: those of vendor push, and of the keys of a company's own login
//! - `device_outcome.rs`: what became of a device; `refusal_reason.rs`: why a connection was refused

mod admin_route;
mod backup;
mod before_send;
mod device_outcome;
mod login_keys;
mod mesh;
mod push;
mod refusal_reason;

use std::sync::Arc;

use metrics::{Counter, Gauge, Histogram, Unit, with_local_recorder};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

pub use self::{
    admin_route::AdminRoute,
    backup::BackupMetrics,
    before_send::AskOutcome,
    device_outcome::DeviceOutcome,
    login_keys::LoginKeysMetrics,
    mesh::MeshMetrics,
    push::{PushMetrics, PushOutcomes},
    refusal_reason::RefusalReason,
};
use crate::{ids::Platform, process};

/// The bounds of the time histograms, in seconds: from one fast sync to a request's deadline.
const SECONDS: [f64; 12] = [
    0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0,
];
/// The bounds of the histogram of commit sizes, in messages.
const MESSAGES: [f64; 8] = [1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0];

/// A value for each kind of an inbox's entries. The label `kind` has these two values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ByKind<T> {
    /// `message`: entries of messages.
    pub messages: T,
    /// `marks`: entries of read marks.
    pub marks: T,
}

impl<T> ByKind<T> {
    /// Makes a value for each kind from its label.
    fn labelled(make: impl Fn(&'static str) -> T) -> Self {
        Self {
            messages: make("message"),
            marks: make("marks"),
        }
    }
}

impl ByKind<Counter> {
    /// Adds so many entries of each kind.
    pub fn increment(&self, by: ByKind<u64>) {
        self.messages.increment(by.messages);
        self.marks.increment(by.marks);
    }
}

impl ByKind<Gauge> {
    /// Sets the number of entries of each kind.
    pub fn set(&self, to: ByKind<u64>) {
        self.messages.set(to.messages as f64);
        self.marks.set(to.marks as f64);
    }
}

/// Handles to every metric. Cheap to use from any thread.
#[expect(missing_docs, reason = "`new` has the help text of each metric")]
pub struct Metrics {
    recorder: PrometheusRecorder,
    pub accepted: ByKind<Counter>,
    pub appended: Counter,
    pub pushed: Counter,
    pub acked: ByKind<Counter>,
    pub resent: Counter,
    pub expired: ByKind<Counter>,
    pub pending: ByKind<Gauge>,
    pub queue_depth: Gauge,
    pub queue_bytes: Gauge,
    pub spreads: Gauge,
    pub reads_waiting: Gauge,
    /// Over all reactors.
    pub arrivals: Gauge,
    pub admin_connections: Gauge,
    pub admin_connections_cut_off: Counter,
    /// At the last sweep, over all reactors.
    pub outboxes_full: Gauge,
    /// At the last sweep, over all reactors.
    pub windows_full: Gauge,
    pub reactor_turn_seconds: Histogram,
    /// As of the last time each reactor took its items.
    pub mailbox_depth: Gauge,
    pub mailbox_overflows: Counter,
    pub commit_messages: Histogram,
    pub commit_seconds: Histogram,
    pub checkpoint_seconds: Histogram,
    pub state_rows_waiting: Gauge,
    pub log_bytes: Gauge,
    pub log_segments: Gauge,
    pub log_writable: Gauge,
    pub clock_ahead: Gauge,
    pub disk_reads: Counter,
    /// The log counts each position once.
    pub damage_met: Counter,
    pub log_lines_dropped: Counter,
    /// One for each event.
    pub webhook_delivered: Counter,
    /// One for each request.
    pub webhook_failed: Counter,
    pub webhook_lag: Gauge,
    pub webhook_dead_letters: Gauge,
    /// As of the last [`render`](Self::render).
    memory_bytes: Gauge,
    /// With or without a session.
    pub connections: Gauge,
    pub frames_received: Counter,
    pub bytes_sent: Counter,
    pub push: PushMetrics,
    pub login_keys: LoginKeysMetrics,
    pub backup: BackupMetrics,
    pub mesh: MeshMetrics,
}

impl Metrics {
    /// A new set of metrics, all zero.
    pub fn new() -> Self {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)
            .and_then(|builder| {
                builder.set_buckets_for_metric(Matcher::Suffix("_messages".into()), &MESSAGES)
            })
            .expect("the bounds are not empty")
            .build_recorder();
        with_local_recorder(&recorder, describe_labelled);
        let counter = |name, help| {
            with_local_recorder(&recorder, || {
                metrics::describe_counter!(name, Unit::Count, help);
                metrics::counter!(name)
            })
        };
        let counter_by_kind = |name, help| {
            with_local_recorder(&recorder, || {
                metrics::describe_counter!(name, Unit::Count, help);
                ByKind::labelled(|kind| metrics::counter!(name, "kind" => kind))
            })
        };
        let gauge_by_kind = |name, help| {
            with_local_recorder(&recorder, || {
                metrics::describe_gauge!(name, Unit::Count, help);
                ByKind::labelled(|kind| metrics::gauge!(name, "kind" => kind))
            })
        };
        let gauge = |name, unit, help| {
            with_local_recorder(&recorder, || {
                metrics::describe_gauge!(name, unit, help);
                metrics::gauge!(name)
            })
        };
        let histogram = |name, unit, help| {
            with_local_recorder(&recorder, || {
                metrics::describe_histogram!(name, unit, help);
                metrics::histogram!(name)
            })
        };
        Self {
            accepted: counter_by_kind(
                "towncrier_messages_accepted_total",
                "Messages and entries of read marks accepted and durable, one per receiver",
            ),
            appended: counter(
                "towncrier_log_appends_total",
                "Messages and entries of read marks appended to the log, one per send",
            ),
            pushed: counter(
                "towncrier_messages_pushed_total",
                "Messages and read marks put into outboxes, resends included",
            ),
            acked: counter_by_kind(
                "towncrier_messages_acked_total",
                "Messages and entries of read marks acked by a first session of their receiver",
            ),
            resent: counter(
                "towncrier_messages_resent_total",
                "Messages and read marks pushed again after a rewind or Resend",
            ),
            expired: counter_by_kind(
                "towncrier_messages_expired_total",
                "Messages and entries of read marks removed by retention before any ack",
            ),
            pending: gauge_by_kind(
                "towncrier_messages_pending",
                "Messages and entries of read marks stored and not yet acked",
            ),
            queue_depth: gauge(
                "towncrier_writer_queue_depth",
                Unit::Count,
                "Appends waiting for the log writer",
            ),
            queue_bytes: gauge(
                "towncrier_writer_queue_bytes",
                Unit::Bytes,
                "Bytes of the appends waiting for the log writer",
            ),
            spreads: gauge(
                "towncrier_messages_to_everyone_waiting",
                Unit::Count,
                "Messages to everyone that not every user has yet",
            ),
            reads_waiting: gauge(
                "towncrier_log_reads_waiting",
                Unit::Count,
                "Reads of the log that wait for a thread or for the disk",
            ),
            arrivals: gauge(
                "towncrier_arrivals",
                Unit::Count,
                "Connections of the client port without a session",
            ),
            admin_connections: gauge(
                "towncrier_admin_connections",
                Unit::Count,
                "Connections of the admin port",
            ),
            admin_connections_cut_off: counter(
                "towncrier_admin_connections_cut_off_total",
                "Idle connections of the admin port that were closed for another one",
            ),
            outboxes_full: gauge(
                "towncrier_outboxes_full",
                Unit::Count,
                "Sessions whose outbox is full",
            ),
            windows_full: gauge(
                "towncrier_windows_full",
                Unit::Count,
                "Sessions that get no message before their next ack",
            ),
            reactor_turn_seconds: histogram(
                "towncrier_reactor_turn_seconds",
                Unit::Seconds,
                "Processor time of a reactor between two of its turns, at most 10 ms when nothing holds it",
            ),
            mailbox_depth: gauge(
                "towncrier_mailbox_depth",
                Unit::Count,
                "Items waiting in the reactors' mailboxes",
            ),
            mailbox_overflows: counter(
                "towncrier_mailbox_overflows_total",
                "Live items dropped; the log is read instead",
            ),
            commit_messages: histogram(
                "towncrier_commit_messages",
                Unit::Count,
                "Messages in one group commit",
            ),
            commit_seconds: histogram(
                "towncrier_commit_seconds",
                Unit::Seconds,
                "Write and sync of one group commit",
            ),
            checkpoint_seconds: histogram(
                "towncrier_checkpoint_seconds",
                Unit::Seconds,
                "One state checkpoint",
            ),
            state_rows_waiting: gauge(
                "towncrier_state_rows_waiting",
                Unit::Count,
                "Changed rows that wait for the state store",
            ),
            log_bytes: gauge("towncrier_log_bytes", Unit::Bytes, "Size of all segments"),
            log_segments: gauge("towncrier_log_segments", Unit::Count, "Number of segments"),
            log_writable: gauge(
                "towncrier_log_writable",
                Unit::Count,
                "1 while appends are possible, else 0",
            ),
            clock_ahead: gauge(
                "towncrier_clock_ahead_seconds",
                Unit::Seconds,
                "Wall clock less the gateway's clock where they are over a minute apart, else 0",
            ),
            disk_reads: counter(
                "towncrier_log_disk_reads_total",
                "Reads of the log that waited for the disk",
            ),
            damage_met: counter(
                "towncrier_log_damage_total",
                "Damaged positions met while reading the log",
            ),
            log_lines_dropped: counter(
                "towncrier_stderr_lines_dropped_total",
                "Lines of the stderr log that were lost",
            ),
            webhook_delivered: counter(
                "towncrier_webhook_events_delivered_total",
                "Events that the receiver of webhooks took",
            ),
            webhook_failed: counter(
                "towncrier_webhook_requests_failed_total",
                "Requests with events that the receiver of webhooks did not take",
            ),
            webhook_lag: gauge(
                "towncrier_webhook_lag_seconds",
                Unit::Seconds,
                "Age of the oldest event on its way to the receiver of webhooks, 0 when none waits",
            ),
            webhook_dead_letters: gauge(
                "towncrier_webhook_dead_letters",
                Unit::Count,
                "Events that the receiver of webhooks refused",
            ),
            memory_bytes: gauge(
                "towncrier_memory_bytes",
                Unit::Bytes,
                "Resident memory of the process that belongs to no file",
            ),
            connections: gauge("towncrier_connections", Unit::Count, "Open WebSockets"),
            frames_received: counter(
                "towncrier_frames_received_total",
                "Frames received from clients",
            ),
            bytes_sent: counter(
                "towncrier_sent_bytes_total",
                "Bytes written to clients' sockets",
            ),
            push: PushMetrics::new(&recorder),
            login_keys: LoginKeysMetrics::new(&recorder),
            backup: BackupMetrics::new(&recorder),
            mesh: MeshMetrics::new(&recorder),
            recorder,
        }
    }

    /// Sessions connected now, by platform.
    pub fn sessions(&self, platform: Platform) -> Gauge {
        with_local_recorder(
            &self.recorder,
            || metrics::gauge!("towncrier_sessions", "platform" => platform.name()),
        )
    }

    /// Counts a connection that the gateway closed with this code.
    pub fn closed(&self, code: u16) {
        with_local_recorder(&self.recorder, || {
            metrics::counter!("towncrier_connections_closed_total", "code" => code.to_string())
                .increment(1);
        });
    }

    /// Counts a connection that was refused before it had a session.
    pub fn refused(&self, reason: RefusalReason) {
        with_local_recorder(&self.recorder, || {
            metrics::counter!("towncrier_connections_refused_total", "reason" => reason.label())
                .increment(1);
        });
    }

    /// Counts what became of a device of this provider.
    pub fn device(&self, provider: &'static str, outcome: DeviceOutcome) {
        let outcome = outcome.text();
        with_local_recorder(&self.recorder, || {
            metrics::counter!("towncrier_devices_total", "provider" => provider, "outcome" => outcome)
                .increment(1);
        });
    }

    /// Handles for one route of the admin API, looked up once.
    pub fn admin_route(self: &Arc<Self>, path: &'static str) -> AdminRoute {
        with_local_recorder(&self.recorder, || AdminRoute {
            metrics: Arc::clone(self),
            path,
            answered_ok: metrics::counter!("towncrier_admin_requests_total", "path" => path, "status" => "200"),
            seconds: metrics::histogram!("towncrier_admin_request_seconds", "path" => path),
        })
    }

    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> String {
        self.memory_bytes.set(process::memory_bytes() as f64);
        self.handle().render()
    }

    /// The handle for the upkeep of the histograms.
    pub fn handle(&self) -> PrometheusHandle {
        self.recorder.handle()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn describe_labelled() {
    metrics::describe_gauge!(
        "towncrier_sessions",
        Unit::Count,
        "Sessions connected now, by platform"
    );
    metrics::describe_counter!(
        "towncrier_connections_closed_total",
        Unit::Count,
        "Connections closed by the gateway, by close code"
    );
    metrics::describe_counter!(
        "towncrier_connections_refused_total",
        Unit::Count,
        format!(
            "Connections refused before Connect, by reason: {}",
            RefusalReason::ALL.map(RefusalReason::label).join(", ")
        )
    );
    metrics::describe_counter!(
        "towncrier_devices_total",
        Unit::Count,
        "Registrations and removals of devices for push, by provider and outcome"
    );
    metrics::describe_counter!(
        "towncrier_admin_requests_total",
        Unit::Count,
        "Admin requests answered"
    );
    before_send::describe();
    metrics::describe_histogram!(
        "towncrier_admin_request_seconds",
        Unit::Seconds,
        "Time to answer an admin request"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_of_refusals_names_each_reason_that_is_counted() {
        let metrics = Metrics::new();
        for (index, reason) in RefusalReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{reason:?} is listed once");
            metrics.refused(reason);
        }
        let text = metrics.handle().render();
        let mut lines = text.lines();
        let help = lines.find_map(|line| line.split_once("before Connect, by reason: "));
        let (_, named) = help.expect("there is a help text");
        let mut counted: Vec<_> = text
            .lines()
            .filter_map(|line| {
                line.split_once("refused_total{reason=\"")?
                    .1
                    .strip_suffix("\"} 1")
            })
            .collect();
        counted.sort_by_key(|reason| named.split(", ").position(|name| name == *reason));
        assert_eq!(counted.join(", "), named);
    }
}
