//! Some sessions read slowly and some not at all: the effect on the others.
//!
//! The run has two halves at the same rate of sends. In the first all sessions read. Each message goes to many receivers at
//! once, so that slow sessions are among them.

use super::ScenarioStage;
use crate::{
    crowd::{Orders, Share},
    meter::{Latencies, quantiles},
    parcel::To,
    senders::Load,
};

#[derive(Debug, clap::Args)]
pub(crate) struct SlowPlan {
    /// Sessions, each of a user of its own.
    #[arg(long, default_value_t = 1000)]
    sessions: u32,
    /// Share of them that reads once a second.
    #[arg(long, default_value_t = 0.1, value_parser = super::share)]
    slow: f64,
    /// Share of them that reads nothing.
    #[arg(long, default_value_t = 0.1, value_parser = super::share)]
    deaf: f64,
    /// Receivers of each send.
    #[arg(long, default_value_t = 100)]
    batch: u32,
    /// Sends a second.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// Bytes of a message's content.
    #[arg(long, default_value = "4000", value_parser = super::content_bytes)]
    bytes: (usize, usize),
    /// The length of each half, seconds.
    #[arg(long, default_value_t = 30)]
    seconds: u32,
}

pub(crate) async fn run(plan: SlowPlan, stage: &mut ScenarioStage) -> anyhow::Result<()> {
    let crew = stage.crew.clone();
    let size = stage.size(plan.sessions, 1, plan.bytes);
    crew.bring(size, super::ARRIVALS).await?;
    stage
        .report
        .row("sessions connected", plan.sessions.into(), "");
    stage.warm_up().await?;
    let timekeeper = crew.keep_time();
    let all = half(&plan, stage).await?;
    let before = stage.look()?;
    let deaf = Share {
        from: 0.0,
        to: plan.deaf,
    };
    let slow = Share {
        from: plan.deaf,
        to: plan.deaf + plan.slow,
    };
    let orders = Orders {
        deaf,
        slow,
        ..Orders::default()
    };
    crew.order(orders).await?;
    let others = half(&plan, stage).await?;
    let after = stage.look()?;
    timekeeper.abort();

    let landed = [&all, &others].map(|half| quantiles(&half.landed));
    let report = &mut stage.report;
    report.row(
        "p99 of the others over p99 when all read",
        landed[1].p99_us as f64 / landed[0].p99_us as f64,
        "×",
    );
    if let (Some(before), Some(after)) = (before.server, after.server) {
        let hindered = f64::from(plan.sessions) * (plan.slow + plan.deaf);
        let grown = after.rss.saturating_sub(before.rss) as f64 / hindered;
        report.row("server RSS, for each slow or deaf", grown, "bytes/session");
    }
    report.latency("send to landed, all read", landed[0]);
    report.latency("send to landed, the others", landed[1]);
    report.latency("send to landed, the slow", quantiles(&others.hindered));
    // The slow sessions get everything in the end.
    crew.order(Orders::default()).await?;
    stage.close().await
}

async fn half(plan: &SlowPlan, stage: &ScenarioStage) -> anyhow::Result<Latencies> {
    stage.crew.reset().await?;
    let load = Load::steady(To::Batch(plan.batch), plan.rate, plan.seconds);
    stage.crew.send(load).await?;
    stage.crew.latencies().await
}
