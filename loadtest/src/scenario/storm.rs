//! The server is killed under all sessions, each with a backlog: how long until everyone is back and has it all.

use std::time::{Duration, Instant};

use anyhow::bail;

use super::{Look, close, connect::reach_all, gather};
use crate::{crowd::Size, report::Report, target::Target};

#[derive(Debug, clap::Args)]
pub(crate) struct Plan {
    /// Sessions, each of a user of its own.
    #[arg(long, default_value_t = 10_000)]
    sessions: u32,
    /// Messages that wait for each.
    #[arg(long, default_value_t = 10)]
    backlog: u32,
}

pub(crate) async fn run(
    plan: Plan,
    target: &mut Target,
    patience: Duration,
    report: &mut Report,
) -> anyhow::Result<()> {
    let size = Size {
        users: plan.sessions,
        sessions_each: 1,
        content_bytes: (400, 400),
        patience,
    };
    let crowd = gather(target, size, 2000.0).await?;
    report.row("sessions connected", plan.sessions.into(), "");
    reach_all(&crowd, 1).await;
    crowd
        .until(crowd.size.patience, |crowd| crowd.is_settled())
        .await;
    let steady = Look::at(target)?;
    // From here on nobody reads: what is sent is accepted and not landed.
    crowd
        .orders
        .send_modify(|orders| orders.deaf_users = plan.sessions);
    reach_all(&crowd, plan.backlog).await;

    let Target::Own(server) = target else {
        bail!("only a server that the rig has started can be killed: leave out --ws");
    };
    let began = Instant::now();
    server.kill()?;
    server.restart()?;
    report.row(
        "until the server listened again",
        began.elapsed().as_secs_f64(),
        "s",
    );
    crowd.orders.send_modify(|orders| orders.deaf_users = 0);
    crowd.come_back();
    let sessions = crowd.sessions();
    let is_back = |crowd: &crate::crowd::Crowd| {
        crowd.connected.get() == sessions && crowd.caught_up.get() == sessions
    };
    if !crowd.until(crowd.size.patience * 2, is_back).await {
        report.row(
            "sessions that came not back",
            (sessions - crowd.caught_up.get()).into(),
            "",
        );
    }
    report.row(
        "kill to everyone back and caught up",
        began.elapsed().as_secs_f64(),
        "s",
    );
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = Look::at(target)?;
    if let (Some(steady), Some(after)) = (steady.server, after.server) {
        report.row("server RSS before", steady.rss as f64 / 1e6, "MB");
        report.row("server RSS peak after", after.rss_peak as f64 / 1e6, "MB");
        report.row(
            "peak over steady",
            after.rss_peak as f64 / steady.rss as f64,
            "×",
        );
        report.row("server CPU", after.cpu.as_secs_f64(), "s");
    }
    close(&crowd, report).await;
    Ok(())
}
