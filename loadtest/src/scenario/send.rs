//! Messages flow at a constant rate, or at the highest rate at which their p99 stays below a limit, or as fast as they are
//! answered.

use std::time::Duration;

use super::{Look, ScenarioStage, content_bytes};
use crate::{
    crowd::SESSIONS_EACH_MAX,
    machine::SyncWatch,
    meter::{Latencies, Quantiles, quantiles},
    parcel::To,
    senders::{Load, LoadResult},
};

/// A step of the search is given up once a message is sent this late.
const LATE_MAX: Duration = Duration::from_secs(1);
/// The search ends when it knows the rate within this share.
const PRECISION: f64 = 0.06;

#[derive(Debug, clap::Args)]
pub(crate) struct SendPlan {
    /// Users online.
    #[arg(long, default_value_t = 1000)]
    users: u32,
    /// Sessions of each user: fan-out.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(SESSIONS_EACH_MAX)))]
    platforms: u32,
    /// Sends a second; the search begins with it.
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    /// The length of the run, or of each step of the search, seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Receivers of each send; above 1, each send is a batch.
    #[arg(long, default_value_t = 1)]
    batch: u32,
    /// Each send goes to all users.
    #[arg(long, conflicts_with = "batch")]
    broadcast: bool,
    /// Bytes of a message's content, e.g. 400 or 100..2000.
    #[arg(long, default_value = "400", value_parser = content_bytes)]
    bytes: (usize, usize),
    /// Connections that send.
    #[arg(long, default_value_t = 256)]
    lanes: usize,
    /// Without a rate: each connection sends as soon as its last send was answered.
    #[arg(long, conflicts_with_all = ["rate", "search"])]
    closed: bool,
    /// Search for the highest rate at which the p99 of send to landed stays below --p99.
    #[arg(long)]
    search: bool,
    /// The limit of the search, ms.
    #[arg(long, default_value_t = 100)]
    p99: u64,
}

/// One rate, tried.
struct RateStep {
    sent: LoadResult,
    latencies: Latencies,
    /// The disk's sync times meanwhile.
    syncs: Option<Quantiles>,
    before: Look,
    after: Look,
}

pub(crate) async fn run(plan: SendPlan, stage: &mut ScenarioStage) -> anyhow::Result<()> {
    let crew = stage.crew.clone();
    let size = stage.size(plan.users, plan.platforms, plan.bytes);
    crew.bring(size, super::ARRIVALS).await?;
    let sessions = crew.sessions();
    stage.report.row("sessions connected", sessions.into(), "");
    stage.warm_up().await?;
    let timekeeper = crew.keep_time();
    let rate = match (plan.closed, plan.search) {
        (true, _) => None,
        (_, true) => Some(search(stage, &plan).await?),
        _ => Some(plan.rate),
    };
    let step = try_rate(stage, &plan, rate).await?;
    timekeeper.abort();
    let (sent, receivers) = (step.sent, receivers(&plan));
    let accepted = f64::from(sent.accepted);
    let (landed, seconds) = (step.latencies.all_landed(), sent.took.as_secs_f64());
    let report = &mut stage.report;
    if let Some(rate) = rate {
        let name = match plan.search {
            true => "highest rate",
            false => "rate asked for",
        };
        report.row(name, rate, "sends/s");
    }
    report.row("sends answered", accepted / seconds, "sends/s");
    report.row(
        "messages landed",
        landed.len() as f64 / seconds,
        "messages/s",
    );
    report.row("sends refused", sent.refused.into(), "");
    let looks = (step.before, step.after);
    stage.cpu_rows(
        "sending and landing",
        looks,
        accepted * receivers,
        "µs/message",
    );
    let report = &mut stage.report;
    if let Some(server) = step.after.server {
        report.row("server RSS", server.rss as f64 / 1e6, "MB");
    }
    report.latency(
        "send to durable answer",
        quantiles(&step.latencies.answered),
    );
    report.latency("send to landed", quantiles(&landed));
    if let Some(syncs) = step.syncs {
        report.latency("the disk's sync meanwhile, once due", syncs);
    }
    stage.close().await
}

/// The durable messages of one send.
fn receivers(plan: &SendPlan) -> f64 {
    match plan.broadcast {
        true => plan.users.into(),
        false => plan.batch.min(plan.users).into(),
    }
}

async fn try_rate(
    stage: &ScenarioStage,
    plan: &SendPlan,
    rate: Option<f64>,
) -> anyhow::Result<RateStep> {
    let crew = &stage.crew;
    let to = match plan.batch {
        _ if plan.broadcast => To::Everyone,
        1 => To::One,
        batch => To::Batch(batch),
    };
    let messages = rate.map(|rate| (rate * f64::from(plan.seconds)).ceil() as u32);
    let load = Load {
        to,
        messages: messages.unwrap_or(u32::MAX),
        lasts: match rate {
            Some(_) => Duration::MAX,
            None => Duration::from_secs(plan.seconds.into()),
        },
        rate,
        lanes: plan.lanes,
        has_notice: false,
        late_max: if plan.search { LATE_MAX } else { Duration::MAX },
    };
    crew.reset().await?;
    let syncs = stage.target.dir().map(SyncWatch::begin).transpose()?;
    let before = stage.look()?;
    let sent = crew.send(load).await?;
    let syncs = syncs.map(SyncWatch::end).transpose()?;
    crew.settle().await?;
    let after = stage.look()?;
    Ok(RateStep {
        sent,
        latencies: crew.latencies().await?,
        syncs,
        before,
        after,
    })
}

/// Doubles the rate until the limit is passed, then halves the interval.
async fn search(stage: &ScenarioStage, plan: &SendPlan) -> anyhow::Result<f64> {
    let (mut good, mut bad) = (0.0, f64::INFINITY);
    let mut rate = plan.rate;
    while bad - good > good * PRECISION {
        // A second attempt if the first fails: a disk that stalls for a tenth of a second decides the p99 of one attempt.
        let is_good = holds(stage, plan, rate).await? || holds(stage, plan, rate).await?;
        if is_good {
            good = rate;
        } else {
            bad = rate;
        }
        rate = if bad.is_finite() {
            (good + bad) / 2.0
        } else {
            rate * 2.0
        };
        if rate < 1.0 {
            anyhow::bail!("not even one send a second holds");
        }
    }
    Ok(good)
}

/// True if nearly all messages land in time at this rate.
async fn holds(stage: &ScenarioStage, plan: &SendPlan, rate: f64) -> anyhow::Result<bool> {
    let step = try_rate(stage, plan, Some(rate)).await?;
    let p99_us = quantiles(&step.latencies.all_landed()).p99_us;
    let holds = !step.sent.is_late && step.sent.refused == 0 && p99_us <= plan.p99 * 1000;
    let verdict = if holds { "holds" } else { "does not hold" };
    let disk = step.syncs.map_or_else(String::new, |syncs| {
        format!(" (the disk's sync {:.1} ms)", syncs.p99_us as f64 / 1000.0)
    });
    let p99_ms = p99_us as f64 / 1000.0;
    eprintln!("{rate:.0} sends/s: p99 {p99_ms:.1} ms{disk}, {verdict}");
    Ok(holds)
}
