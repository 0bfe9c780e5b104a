//! The server is killed under all sessions, each with a backlog: the time until all are connected again and have it. Of a fleet one
//! gateway is killed, and the others take its sessions.

use std::time::{Duration, Instant};

use anyhow::bail;

use super::ScenarioStage;
use crate::{
    crowd::{Counts, Orders, Share},
    meter::quantiles,
    target::Target,
};

#[derive(Debug, clap::Args)]
pub(crate) struct StormPlan {
    /// Sessions, each of a user of its own.
    #[arg(long, default_value_t = 10_000)]
    sessions: u32,
    /// The backlog of each session, in messages.
    #[arg(long, default_value_t = 10)]
    backlog: u32,
    /// The sessions are away while their backlog is sent; without it, they are connected and read nothing.
    #[arg(long)]
    away: bool,
}

pub(crate) async fn run(plan: StormPlan, stage: &mut ScenarioStage) -> anyhow::Result<()> {
    let crew = stage.crew.clone();
    let size = stage.size(plan.sessions, 1, (400, 400));
    crew.bring(size, super::ARRIVALS).await?;
    stage
        .report
        .row("sessions connected", plan.sessions.into(), "");
    stage.warm_up().await?;
    let steady = stage.look()?;
    // From here on no session reads: sends are accepted, but do not land.
    crew.order(Orders {
        away: plan.away,
        deaf: Share::ALL,
        ..Orders::default()
    })
    .await?;
    if plan.away {
        let sessions = crew.sessions();
        let gone = |counts: &Counts| ((sessions - counts.connected).into(), sessions.into());
        if !crew.until(stage.patience, "gone", gone).await? {
            bail!("not all sessions left");
        }
    }
    crew.reach_all(plan.backlog).await?;

    let Target::Own(server) = &mut stage.target else {
        bail!("only a server that the rig has started can be killed: leave out --ws");
    };
    crew.reset().await?;
    let timekeeper = crew.keep_time();
    let began = Instant::now();
    server.kill(0)?;
    // Each session notices at once. Bytes that the kernel still holds for it do not count, because it leaves before it
    // reads again.
    crew.come_back().await?;
    crew.order(Orders::default()).await?;
    if server.count() == 1 {
        server.restart(0).await?;
        let listening = began.elapsed().as_secs_f64();
        let report = &mut stage.report;
        report.row("until the server listened again", listening, "s");
    }
    let is_over = crew.return_of_all(stage.patience * 2).await?;
    let back = began.elapsed().as_secs_f64();
    let report = &mut stage.report;
    if is_over {
        report.row("kill to everyone back and caught up", back, "s");
    } else {
        let missing = crew.sessions() - crew.look().await?.caught_up;
        report.row("sessions that came not back", missing.into(), "");
    }
    let latencies = crew.latencies().await?;
    report.latency("away, a session", quantiles(&latencies.returned));
    report.latency("its replay", quantiles(&latencies.replayed));
    for (reason, times) in stage.target.address().refusals().await? {
        stage
            .report
            .row(format!("connections refused: {reason}"), times, "");
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    timekeeper.abort();
    let after = stage.look()?;
    if let (Some(steady), Some(after)) = (steady.server, after.server) {
        let report = &mut stage.report;
        report.row("server RSS before", steady.rss as f64 / 1e6, "MB");
        report.row("server RSS peak after", after.rss_peak as f64 / 1e6, "MB");
        let ratio = after.rss_peak as f64 / steady.rss as f64;
        report.row("peak over steady", ratio, "×");
        report.row("server CPU", after.cpu.as_secs_f64(), "s");
    }
    stage.close().await
}
