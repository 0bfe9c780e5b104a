//! All loads at once, for any time: single messages and batches, clients that are killed or read slowly or not at all, and
//! the server killed under them. `--seed` repeats a run as far as the machine does.

use std::time::Duration;

use anyhow::bail;
use tokio::{
    time::{Instant, sleep_until},
    try_join,
};

use super::ScenarioStage;
use crate::{
    crew::Crew,
    crowd::{Orders, SESSIONS_EACH_MAX, Share},
    meter::quantiles,
    parcel::To,
    senders::Load,
    target::{Own, Target},
};

/// The time for which the same users are slow or read nothing: long enough for resends, and short enough that the ledger's
/// memory for them stays small.
const HINDRANCE: Duration = Duration::from_secs(15);
/// The share of all messages that are sent in batches.
const BATCHED: f64 = 0.5;
/// Receivers of a batch.
const BATCH: u32 = 50;

#[derive(Debug, clap::Args)]
pub(crate) struct SoakPlan {
    /// Users.
    #[arg(long, default_value_t = 1000)]
    users: u32,
    /// Sessions of each user.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=i64::from(SESSIONS_EACH_MAX)))]
    platforms: u32,
    /// Messages a second, half of them in batches of 50.
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    /// The length of the run, seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Clients that are killed a second, each at any moment, also between landing and ack; they reconnect.
    #[arg(long, default_value_t = 20.0)]
    churn: f64,
    /// Share of users that read slowly, and share that read nothing; other users every 15 s.
    #[arg(long, default_value_t = 0.05, value_parser = super::share)]
    slow: f64,
    /// The number of times that the server is killed (-9) and started again, at any moment.
    #[arg(long, default_value_t = 0)]
    kills: u32,
    /// Bytes of a message's content.
    #[arg(long, default_value = "100..2000", value_parser = super::content_bytes)]
    bytes: (usize, usize),
}

pub(crate) async fn run(plan: SoakPlan, stage: &mut ScenarioStage) -> anyhow::Result<()> {
    let crew = stage.crew.clone();
    let size = stage.size(plan.users, plan.platforms, plan.bytes);
    crew.bring(size, super::ARRIVALS).await?;
    stage.warm_up().await?;
    let timekeeper = crew.keep_time();
    let began = stage.look()?;
    let ends = Instant::now() + Duration::from_secs(plan.seconds.into());
    let alone = Load::steady(To::One, plan.rate * (1.0 - BATCHED), plan.seconds);
    let batch = BATCH.min(plan.users / crew.processes());
    let batched = plan.rate * BATCHED / f64::from(batch);
    let batches = Load::steady(To::Batch(batch), batched, plan.seconds);
    let server = match &mut stage.target {
        Target::Own(own) => Some(&mut **own),
        Target::Remote(_) => None,
    };
    let (alone, batches, (), ()) = try_join!(
        crew.send(alone),
        crew.send(batches),
        hinder(&plan, &crew, ends),
        kill(&plan, server, ends),
    )?;
    crew.order(Orders::default()).await?;
    crew.settle().await?;
    timekeeper.abort();
    let ended = stage.look()?;

    let latencies = crew.latencies().await?;
    let report = &mut stage.report;
    report.row("sessions", crew.sessions().into(), "");
    report.row(
        "sends answered",
        (alone.accepted + batches.accepted).into(),
        "",
    );
    report.row(
        "sends refused",
        (alone.refused + batches.refused).into(),
        "",
    );
    report.row(
        "clients killed and back",
        latencies.returned.len() as f64,
        "",
    );
    report.row("server killed and back", plan.kills.into(), "");
    report.row("rig RSS at the beginning", began.rig.rss as f64 / 1e6, "MB");
    report.row("rig RSS at the end", ended.rig.rss as f64 / 1e6, "MB");
    if let (Some(began), Some(ended)) = (began.server, ended.server) {
        report.row("server RSS at the beginning", began.rss as f64 / 1e6, "MB");
        report.row("server RSS at the end", ended.rss as f64 / 1e6, "MB");
    }
    report.latency("send to durable answer", quantiles(&latencies.answered));
    report.latency("send to landed, at the ready", quantiles(&latencies.landed));
    report.latency(
        "send to landed, at the others",
        quantiles(&latencies.hindered),
    );
    report.latency("away, a session", quantiles(&latencies.returned));
    stage.close().await
}

/// Makes some users read slowly and some read nothing, and changes the users from time to time.
async fn hinder(plan: &SoakPlan, crew: &Crew, ends: Instant) -> anyhow::Result<()> {
    let sessions = f64::from(crew.sessions());
    let lifetime = (plan.churn > 0.0).then(|| Duration::from_secs_f64(sessions / plan.churn));
    while Instant::now() < ends {
        let from = fastrand::f64() * (1.0 - 2.0 * plan.slow).max(0.0);
        let middle = from + plan.slow;
        let orders = Orders {
            deaf: Share { from, to: middle },
            slow: Share {
                from: middle,
                to: middle + plan.slow,
            },
            lifetime,
            ..Orders::default()
        };
        crew.order(orders).await?;
        sleep_until(ends.min(Instant::now() + HINDRANCE)).await;
    }
    Ok(())
}

/// Kills the server, or a gateway of a fleet, at random moments, and starts it again.
async fn kill(plan: &SoakPlan, server: Option<&mut Own>, ends: Instant) -> anyhow::Result<()> {
    if plan.kills == 0 {
        return Ok(());
    }
    let Some(server) = server else {
        bail!("only a server that the rig has started can be killed: leave out --kills");
    };
    let all = ends - Instant::now();
    let mut moments: Vec<_> = (0..plan.kills)
        .map(|_| all.mul_f64(fastrand::f64()))
        .collect();
    moments.sort_unstable();
    let began = Instant::now();
    for moment in moments {
        sleep_until(began + moment).await;
        let number = fastrand::usize(..server.count());
        server.kill(number)?;
        server.restart(number).await?;
    }
    Ok(())
}
