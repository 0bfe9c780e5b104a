//! Messages flow at a constant rate, or at the highest at which their p99 stays below a limit, or as fast as they are
//! answered.

use std::{rc::Rc, time::Duration};

use super::{Look, close, content_bytes, cpu_rows, gather, keep_time};
use crate::{
    crowd::{Crowd, SESSIONS_EACH_MAX, Size},
    meter::Quantiles,
    report::Report,
    senders::{self, Load, Sent, To},
    target::Target,
};

/// A step of the search is given up once a message is sent so late.
const LATE_MAX: Duration = Duration::from_secs(1);
/// The search ends when it knows the rate within this share.
const PRECISION: f64 = 0.06;

#[derive(Debug, clap::Args)]
pub(crate) struct Plan {
    /// Users online.
    #[arg(long, default_value_t = 1000)]
    users: u32,
    /// Sessions of each user: fan-out.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(SESSIONS_EACH_MAX)))]
    platforms: u32,
    /// Sends a second; the search begins with it.
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    /// Seconds, of the run or of each step of the search.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Receivers of each send: one batch for so many.
    #[arg(long, default_value_t = 1)]
    batch: u32,
    /// Each send goes to everyone.
    #[arg(long, conflicts_with = "batch")]
    broadcast: bool,
    /// Bytes of a message's content, e.g. 400 or 100..2000.
    #[arg(long, default_value = "400", value_parser = content_bytes)]
    bytes: (usize, usize),
    /// HTTP connections that send.
    #[arg(long, default_value_t = 256)]
    lanes: usize,
    /// At no rate: each connection sends as soon as its last send was answered.
    #[arg(long, conflicts_with_all = ["rate", "search"])]
    closed: bool,
    /// Search for the highest rate at which the p99 of send to landed stays below --p99.
    #[arg(long)]
    search: bool,
    /// The limit of the search, ms.
    #[arg(long, default_value_t = 100)]
    p99: u64,
    /// Connections that end and come back, a second.
    #[arg(long, default_value_t = 0.0)]
    churn: f64,
    /// Share of users, 0 to 1, that read nothing until the load is over.
    #[arg(long, default_value_t = 0.0)]
    slow: f64,
}

/// One rate, tried.
struct Step {
    sent: Sent,
    landed: Quantiles,
    before: Look,
    after: Look,
}

pub(crate) async fn run(
    plan: Plan,
    target: &Target,
    patience: Duration,
    report: &mut Report,
) -> anyhow::Result<()> {
    let size = Size {
        users: plan.users,
        sessions_each: plan.platforms,
        content_bytes: plan.bytes,
        patience,
    };
    let crowd = gather(target, size, 2000.0).await?;
    let sessions = f64::from(crowd.sessions());
    report.row("sessions connected", sessions, "");
    // The first batch brings along what a gateway has only once.
    super::connect::reach_all(&crowd, 1).await;
    crowd.until(crowd.size.patience, Crowd::is_settled).await;
    let deaf_users = (f64::from(plan.users) * plan.slow.clamp(0.0, 1.0)) as u32;
    crowd.orders.send_modify(|orders| {
        orders.deaf_users = deaf_users;
        orders.lifetime =
            (plan.churn > 0.0).then(|| Duration::from_secs_f64(sessions / plan.churn));
    });

    let timekeeper = keep_time(&crowd);
    let rate = match (plan.closed, plan.search) {
        (true, _) => None,
        (_, true) => Some(search(&crowd, target, &plan).await?),
        _ => Some(plan.rate),
    };
    let step = try_rate(&crowd, target, &plan, rate).await?;
    timekeeper.abort();
    let (sent, receivers) = (step.sent, receivers(&plan));
    if let Some(rate) = rate {
        let name = match plan.search {
            true => "highest rate",
            false => "rate asked for",
        };
        report.row(name, rate, "sends/s");
    }
    let accepted = f64::from(sent.accepted);
    report.row(
        "sends answered",
        accepted / sent.took.as_secs_f64(),
        "sends/s",
    );
    let landed = step.landed.count as f64;
    report.row(
        "messages landed",
        landed / sent.took.as_secs_f64(),
        "messages/s",
    );
    report.row("sends refused", sent.refused.into(), "");
    cpu_rows(
        report,
        "sending and landing",
        (step.before, step.after),
        accepted * receivers,
        "µs/message",
    );
    if let Some(server) = step.after.server {
        report.row("server RSS", server.rss as f64 / 1e6, "MB");
    }
    report.latency(
        "send to durable answer",
        crowd.meter.borrow().send_to_answer(),
    );
    report.latency("send to landed", step.landed);
    // Whoever was slow gets it all in the end.
    crowd.orders.send_modify(|orders| {
        orders.deaf_users = 0;
        orders.lifetime = None;
    });
    close(&crowd, report).await;
    Ok(())
}

/// Durable messages of one send.
fn receivers(plan: &Plan) -> f64 {
    match plan.broadcast {
        true => plan.users.into(),
        false => plan.batch.min(plan.users).into(),
    }
}

async fn try_rate(
    crowd: &Rc<Crowd>,
    target: &Target,
    plan: &Plan,
    rate: Option<f64>,
) -> anyhow::Result<Step> {
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
        late_max: if plan.search { LATE_MAX } else { Duration::MAX },
    };
    crowd.meter.borrow_mut().begin();
    let before = Look::at(target)?;
    let sent = senders::send(crowd, load).await;
    // Those who read nothing, or are away, are not waited for.
    if plan.slow == 0.0 && plan.churn == 0.0 {
        crowd.until(crowd.size.patience, Crowd::is_settled).await;
    }
    let after = Look::at(target)?;
    let landed = crowd.meter.borrow().send_to_landed();
    Ok(Step {
        sent,
        landed,
        before,
        after,
    })
}

/// Doubles until the limit is passed, then halves the interval.
async fn search(crowd: &Rc<Crowd>, target: &Target, plan: &Plan) -> anyhow::Result<f64> {
    let (mut good, mut bad) = (0.0, f64::INFINITY);
    let mut rate = plan.rate;
    while bad - good > good * PRECISION {
        let step = try_rate(crowd, target, plan, Some(rate)).await?;
        let is_good =
            !step.sent.is_late && step.sent.refused == 0 && step.landed.p99_us <= plan.p99 * 1000;
        let verdict = if is_good { "holds" } else { "does not hold" };
        let p99_ms = step.landed.p99_us as f64 / 1000.0;
        eprintln!("{rate:.0} sends/s: p99 {p99_ms:.1} ms, {verdict}");
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
