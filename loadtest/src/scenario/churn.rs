//! Connections end and reconnect at a rate while messages flow: the cost of that, and its effect on the others.
//!
//! The run has two halves at the same rate of sends, one without churn and one with it.

use std::time::Duration;

use super::ScenarioStage;
use crate::{
    crowd::Orders,
    meter::{Latencies, quantiles},
    parcel::To,
    senders::Load,
};

#[derive(Debug, clap::Args)]
pub(crate) struct ChurnPlan {
    /// Sessions, each of a user of its own.
    #[arg(long, default_value_t = 5000)]
    sessions: u32,
    /// Connections that end a second, at random; each session reconnects with the protocol's jitter.
    #[arg(long, default_value_t = 500.0)]
    churn: f64,
    /// Sends a second, each to one random user.
    #[arg(long, default_value_t = 2000.0)]
    rate: f64,
    /// The length of each half, seconds.
    #[arg(long, default_value_t = 20)]
    seconds: u32,
}

pub(crate) async fn run(plan: ChurnPlan, stage: &mut ScenarioStage) -> anyhow::Result<()> {
    let crew = stage.crew.clone();
    let size = stage.size(plan.sessions, 1, (400, 400));
    crew.bring(size, super::ARRIVALS).await?;
    stage
        .report
        .row("sessions connected", plan.sessions.into(), "");
    stage.warm_up().await?;
    let timekeeper = crew.keep_time();
    let before = stage.look()?;
    let calm = half(&plan, stage).await?;
    let between = stage.look()?;
    let lifetime = Duration::from_secs_f64(f64::from(plan.sessions) / plan.churn);
    let orders = Orders {
        lifetime: Some(lifetime),
        ..Orders::default()
    };
    crew.order(orders).await?;
    let churned = half(&plan, stage).await?;
    let after = stage.look()?;
    crew.order(Orders::default()).await?;
    timekeeper.abort();

    let messages = plan.rate * f64::from(plan.seconds);
    stage.cpu_rows("without churn", (before, between), messages, "µs/message");
    stage.cpu_rows("with churn", (between, after), messages, "µs/message");
    let returns = churned.returned.len() as f64;
    let report = &mut stage.report;
    report.row("sessions back", returns / f64::from(plan.seconds), "/s");
    let landed = [&calm, &churned].map(|half| quantiles(&half.landed));
    report.row(
        "p99 with churn over p99 without",
        landed[1].p99_us as f64 / landed[0].p99_us as f64,
        "×",
    );
    report.latency("send to landed, without churn", landed[0]);
    report.latency("send to landed, with churn", landed[1]);
    report.latency(
        "the same, at those who were away",
        quantiles(&churned.hindered),
    );
    report.latency("away, a session", quantiles(&churned.returned));
    stage.close().await
}

async fn half(plan: &ChurnPlan, stage: &ScenarioStage) -> anyhow::Result<Latencies> {
    stage.crew.reset().await?;
    let load = Load::steady(To::One, plan.rate, plan.seconds);
    stage.crew.send(load).await?;
    stage.crew.latencies().await
}
