//! Sessions that were away for long reconnect: the time until they have their backlog.

use anyhow::bail;

use super::ScenarioStage;
use crate::{
    crowd::{Orders, Share},
    meter::quantiles,
};

#[derive(Debug, clap::Args)]
pub(crate) struct ReplayPlan {
    /// The backlog of each session, in messages.
    #[arg(long, default_value_t = 100_000)]
    messages: u32,
    /// Sessions that reconnect at once, each of a user of its own.
    #[arg(long, default_value_t = 1)]
    sessions: u32,
    /// Bytes of a message's content.
    #[arg(long, default_value = "400", value_parser = super::content_bytes)]
    bytes: (usize, usize),
}

pub(crate) async fn run(plan: ReplayPlan, stage: &mut ScenarioStage) -> anyhow::Result<()> {
    let crew = stage.crew.clone();
    let size = stage.size(plan.sessions, 1, plan.bytes);
    crew.bring(size, super::ARRIVALS).await?;
    stage.warm_up().await?;
    let deaf = Share::ALL;
    crew.order(Orders {
        deaf,
        ..Orders::default()
    })
    .await?;
    crew.reach_all(plan.messages).await?;
    crew.reset().await?;

    let timekeeper = crew.keep_time();
    let before = stage.look()?;
    crew.come_back().await?;
    crew.order(Orders::default()).await?;
    if !crew.return_of_all(stage.patience).await? {
        bail!(
            "a session is still behind after {:?}: have more --patience",
            stage.patience
        );
    }
    let after = stage.look()?;
    timekeeper.abort();
    let replayed = quantiles(&crew.latencies().await?.replayed);
    let took = replayed.max_us as f64 / 1e6;
    let messages = f64::from(plan.messages) * f64::from(plan.sessions);
    let report = &mut stage.report;
    report.row("sessions behind", plan.sessions.into(), "");
    report.row("messages behind, all together", messages, "");
    report.row("from connected to all landed", took, "s");
    report.row("caught up", messages / took, "messages/s");
    report.latency("from connected to all landed", replayed);
    stage.cpu_rows(
        "replaying and landing",
        (before, after),
        messages,
        "µs/message",
    );
    stage.close().await
}
