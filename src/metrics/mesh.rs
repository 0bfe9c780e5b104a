//! The metrics of the links between gateways.

use metrics::{Counter, Gauge, Histogram, Unit, with_local_recorder};
use metrics_exporter_prometheus::PrometheusRecorder;

/// The links of a gateway, and what it does about lost frames. Cheap to clone; clones count together.
#[derive(Clone)]
#[expect(missing_docs, reason = "`new` has the help text of each metric")]
pub struct MeshMetrics {
    pub links_in: Gauge,
    pub links_out: Gauge,
    pub frames_sent: Counter,
    pub frames_received: Counter,
    pub frames_dropped: Counter,
    pub refused: Counter,
    /// `link`: a link began, ended, or jumped over frames.
    pub repairs_of_links: Counter,
    /// `gateway`: another gateway died.
    pub repairs_of_gateways: Counter,
    /// `sweep`: the regular look.
    pub sweeps: Counter,
    pub sweep_seconds: Histogram,
}

impl MeshMetrics {
    pub(super) fn new(recorder: &PrometheusRecorder) -> Self {
        let counter = |name, help| {
            metrics::describe_counter!(name, Unit::Count, help);
            metrics::counter!(name)
        };
        with_local_recorder(recorder, || {
            metrics::describe_gauge!(
                "towncrier_mesh_links",
                Unit::Count,
                "Links to other gateways that are up, by direction: in, out"
            );
            metrics::describe_counter!(
                "towncrier_mesh_repairs_total",
                Unit::Count,
                "Looks into the store for all sessions, by cause: link (frames were lost), gateway (one died), sweep (once a minute)"
            );
            metrics::describe_histogram!(
                "towncrier_mesh_sweep_seconds",
                Unit::Seconds,
                "One look into the store for all sessions, pauses included"
            );
            let links =
                |direction| metrics::gauge!("towncrier_mesh_links", "direction" => direction);
            let repairs =
                |cause| metrics::counter!("towncrier_mesh_repairs_total", "cause" => cause);
            Self {
                links_in: links("in"),
                links_out: links("out"),
                frames_sent: counter(
                    "towncrier_mesh_frames_sent_total",
                    "Frames written to links to other gateways",
                ),
                frames_received: counter(
                    "towncrier_mesh_frames_received_total",
                    "Frames read from links from other gateways",
                ),
                frames_dropped: counter(
                    "towncrier_mesh_frames_dropped_total",
                    "Frames that found no link or no room; their receivers look into the store",
                ),
                refused: counter(
                    "towncrier_mesh_refused_total",
                    "Connections to mesh.listen that gave no proof",
                ),
                repairs_of_links: repairs("link"),
                repairs_of_gateways: repairs("gateway"),
                sweeps: repairs("sweep"),
                sweep_seconds: metrics::histogram!("towncrier_mesh_sweep_seconds"),
            }
        })
    }
}
