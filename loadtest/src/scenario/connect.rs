//! Many sessions connect, stay, and are reached: the cost of each.

use std::time::{Duration, Instant};

use super::ScenarioStage;
use crate::{crowd::Size, meter::quantiles, process};

#[derive(Debug, clap::Args)]
pub(crate) struct ConnectPlan {
    /// Sessions, each of a user of its own.
    #[arg(long, default_value_t = 10_000)]
    sessions: u32,
    /// Sessions started a second.
    #[arg(long, default_value_t = super::ARRIVALS)]
    rate: f64,
    /// The time for which they are held idle, seconds.
    #[arg(long, default_value_t = 30)]
    hold: u64,
    /// For very many: sessions take a few hundred bytes of the rig, start as fast as the gateway accepts them (one of the
    /// rig's own), and send no heartbeat (so set sessions.heartbeat=1h).
    #[arg(long)]
    lean: bool,
}

pub(crate) async fn run(plan: ConnectPlan, stage: &mut ScenarioStage) -> anyhow::Result<()> {
    warm_up(stage).await?;
    let crew = stage.crew.clone();
    let size = Size {
        is_lean: plan.lean,
        ..stage.size(plan.sessions, 1, (200, 200))
    };
    crew.enlist(size).await?;
    let (before, slab_before) = (stage.look()?, process::slab()?);
    let timekeeper = crew.keep_time();
    let began = Instant::now();
    crew.gather(plan.rate).await?;
    let sessions = f64::from(plan.sessions);
    stage.report.row("sessions connected", sessions, "");
    stage.report.row("ramp", began.elapsed().as_secs_f64(), "s");
    let after = stage.look()?;
    stage.cpu_rows("connecting", (before, after), sessions, "µs/session");

    // The remains of connecting (buffers of handshakes, the state store's work) do not count as an idle session's cost.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let idle = stage.look()?;
    let held = Duration::from_secs(plan.hold);
    tokio::time::sleep(held).await;
    let after = stage.look()?;
    let held = sessions * held.as_secs_f64();
    stage.cpu_rows("idle", (idle, after), held, "µs/s/session");
    let report = &mut stage.report;
    if let (Some(before), Some(after)) = (before.server, after.server) {
        let grown = |before: u64, after: u64| after.saturating_sub(before) as f64 / sessions;
        report.row("server RSS", grown(before.rss, after.rss), "bytes/session");
        report.row("server RSS, all of it", after.rss as f64 / 1e6, "MB");
        report.row(
            "kernel slab, this machine's, both ends",
            grown(slab_before, process::slab()?),
            "bytes/session",
        );
    }
    let connected = crew.look().await?.connected;
    report.row("sessions still connected", connected.into(), "");
    crew.reset().await?;
    crew.reach_all(1).await?;
    crew.settle().await?;
    timekeeper.abort();
    if let (Some(before), Some(after)) = (before.server, stage.look()?.server) {
        let each = after.rss.saturating_sub(before.rss) as f64 / sessions;
        let row = "server RSS after a message to each";
        stage.report.row(row, each, "bytes/session");
    }
    let latencies = crew.latencies().await?;
    stage.report.latency(
        "send to landed, one message to each",
        quantiles(&latencies.landed),
    );
    stage.close().await
}

/// First sessions and a first batch, for costs that do not belong to a session: code, buffers, threads.
async fn warm_up(stage: &ScenarioStage) -> anyhow::Result<()> {
    let crew = &stage.crew;
    crew.enlist(stage.size(crew.processes() * 100, 1, (200, 200)))
        .await?;
    crew.gather(super::ARRIVALS).await?;
    stage.warm_up().await?;
    crew.close().await?;
    Ok(())
}
