//! Many sessions come, stay, and are reached: what each costs.

use std::time::{Duration, Instant};

use super::{Look, close, cpu_rows, gather};
use crate::{
    crowd::{Crowd, Size},
    process,
    report::Report,
    senders::{self, Load, To},
    target::Target,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Plan {
    /// Sessions, each of a user of its own.
    #[arg(long, default_value_t = 10_000)]
    sessions: u32,
    /// Sessions started a second.
    #[arg(long, default_value_t = 2000.0)]
    rate: f64,
    /// How long they are held idle, seconds.
    #[arg(long, default_value_t = 30)]
    hold: u64,
}

pub(crate) async fn run(
    plan: Plan,
    target: &Target,
    patience: Duration,
    report: &mut Report,
) -> anyhow::Result<()> {
    warm_up(target, patience).await?;
    let size = |users| Size {
        users,
        sessions_each: 1,
        content_bytes: (200, 200),
        patience,
    };
    let crowd = Crowd::new(target.place(), size(plan.sessions)).await?;
    let tokens = crowd.tokens().await?;
    let (before, slab_before) = (Look::at(target)?, process::slab()?);
    let began = Instant::now();
    crowd.gather(tokens, plan.rate).await;
    super::everyone_connected(&crowd).await?;
    let sessions = f64::from(plan.sessions);
    report.row("sessions connected", sessions, "");
    report.row("ramp", began.elapsed().as_secs_f64(), "s");
    let after = Look::at(target)?;
    cpu_rows(
        report,
        "connecting",
        (before, after),
        sessions,
        "µs/session",
    );

    // What connecting left behind (buffers of handshakes, the state store's work) is no idle session's.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let idle = Look::at(target)?;
    let held = Duration::from_secs(plan.hold);
    tokio::time::sleep(held).await;
    let after = Look::at(target)?;
    cpu_rows(
        report,
        "idle",
        (idle, after),
        sessions * held.as_secs_f64(),
        "µs/s/session",
    );
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
    report.row("sessions still connected", crowd.connected.get().into(), "");
    reach_all(&crowd, 1).await;
    report.latency(
        "send to landed, one message to each",
        crowd.meter.borrow().send_to_landed(),
    );
    close(&crowd, report).await;
    Ok(())
}

/// A first session and a first batch bring along what is no session's cost: code, buffers, threads.
async fn warm_up(target: &Target, patience: Duration) -> anyhow::Result<()> {
    let size = Size {
        users: 100,
        sessions_each: 1,
        content_bytes: (200, 200),
        patience,
    };
    let crowd = gather(target, size, 1000.0).await?;
    reach_all(&crowd, 1).await;
    crowd.close().await;
    crowd.dismiss();
    Ok(())
}

/// So many messages to every user, in batches.
pub(super) async fn reach_all(crowd: &std::rc::Rc<Crowd>, messages_each: u32) {
    let batch = 100.min(crowd.size.users);
    let load = Load {
        to: To::InTurn(batch),
        messages: crowd.size.users.div_ceil(batch) * messages_each,
        lasts: Duration::MAX,
        rate: None,
        lanes: 16,
        late_max: Duration::MAX,
    };
    senders::send(crowd, load).await;
}
