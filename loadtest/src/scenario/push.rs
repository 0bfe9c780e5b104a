//! Most users are away, and each has a device: the gateway decides about every message, and asks a vendor to show it.
//!
//! Vendor and receiver of webhooks are the rig's own, so each push and each event is checked. With the same load and
//! `--vendor none` a second run tells the price.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::bail;
use tokio::{time::sleep, try_join};

use super::{Look, ScenarioStage};
use crate::{
    callee::{Callee, Conduct, EventBooks, VendorBooks},
    crowd::{Crowd, Size},
    gateway::GatewayAddress,
    ledger::SessionStanding,
    machine::SyncWatch,
    meter::{Latencies, quantiles},
    parcel::To,
    process::MemoryCourse,
    protocol::{Protocol, ServerAddress},
    senders::{self, Load},
};

/// The key of the callees' signatures, which nobody checks.
const SECRET: &str = "whsec_bG9hZHRlc3QtbG9hZHRlc3QtbG9hZHRlc3Q=";
/// The interval of looks at the gateway's metrics.
const LOOK: Duration = Duration::from_millis(250);
/// The process number of the users who are away: they open no connection, so it gives no source address away.
const NOBODY: u8 = 255;

#[derive(Debug, clap::Args)]
pub(crate) struct PushPlan {
    /// Users, each with one device.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(2..))]
    users: u32,
    /// Percent of them that are online, with a session that acks; at least one user is, and at least one is not.
    #[arg(long, default_value_t = 10.0)]
    online: f64,
    /// Messages a second, to the users in turn.
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    /// The length of the run, seconds.
    #[arg(long, default_value_t = 30)]
    seconds: u32,
    /// Bytes of a message's content, e.g. 400 or 100..2000.
    #[arg(long, default_value = "400", value_parser = super::content_bytes)]
    bytes: (usize, usize),
    /// The vendor's conduct. With none there are no devices.
    #[arg(long, value_enum, default_value_t = Conduct::Ok)]
    vendor: Conduct,
    /// The conduct of the receiver of webhooks. With none there are no webhooks.
    #[arg(long, value_enum, default_value_t = Conduct::None)]
    webhooks: Conduct,
    /// The delay of slow ones, ms.
    #[arg(long, default_value_t = 200)]
    delay: u64,
    /// Seconds from the first send on for which the receiver of webhooks is away. The memory of the gateway is then told over time.
    #[arg(long, default_value_t = 0)]
    down_for: u32,
}

/// The systems that the gateway of a run calls, and the users who are away.
pub(crate) struct PushCallees {
    absent: Rc<Crowd>,
    vendor: Option<(Callee, Rc<VendorBooks>)>,
    receiver: Option<(Callee, Rc<EventBooks>)>,
}

/// The decisions of the gateway so far.
#[derive(Debug, Clone, Copy, Default)]
struct Decisions {
    all: f64,
    pushed: f64,
    served: f64,
    /// Pushes that wait for the vendor.
    waiting: f64,
    /// Pushes that the vendor took, as the gateway knows.
    sent: f64,
}

/// The course of the decisions.
#[derive(Debug, Clone, Copy, Default)]
struct DecisionPace {
    at_last: Decisions,
    /// Decisions a second until the last push was decided.
    a_second: f64,
    /// From the last send until the last push was decided.
    behind: Duration,
}

/// The messages that were accepted, the first ones included.
#[derive(Debug, Clone, Copy)]
struct PushLoads {
    online: u32,
    absent: u32,
    /// The warm-up's are among them.
    probes: u32,
}

impl PushPlan {
    /// Opens the callees. The gateway is started after them.
    pub(crate) async fn open(&self, patience: Duration) -> anyhow::Result<PushCallees> {
        if !(0.0..=100.0).contains(&self.online) {
            bail!("--online is a share in percent, 0 to 100");
        }
        let size = Size {
            users: self.users - self.users_online(),
            sessions_each: 1,
            content_bytes: self.bytes,
            is_lean: false,
            patience,
        };
        let absent = Crowd::new(size, NOBODY)?;
        let delay = Duration::from_millis(self.delay);
        let mut callees = PushCallees {
            absent,
            vendor: None,
            receiver: None,
        };
        if self.vendor != Conduct::None {
            let books = VendorBooks::new(Rc::clone(&callees.absent));
            let callee = Callee::listen(self.vendor, delay, books.clone()).await?;
            callees.vendor = Some((callee, books));
        }
        if self.webhooks != Conduct::None {
            let books = EventBooks::new();
            let callee = Callee::listen(self.webhooks, delay, books.clone()).await?;
            callees.receiver = Some((callee, books));
        }
        Ok(callees)
    }

    fn users_online(&self) -> u32 {
        let online = f64::from(self.users) * self.online / 100.0;
        (online.round() as u32).clamp(1, self.users - 1)
    }
}

impl PushCallees {
    /// The settings by which a gateway calls them.
    pub(crate) fn settings(&self) -> Vec<String> {
        let mut settings = Vec::new();
        if let Some((vendor, _)) = &self.vendor {
            settings.push(format!("push.http.url={}", vendor.url()));
            settings.push(format!("push.http.secret={SECRET}"));
        }
        if let Some((receiver, _)) = &self.receiver {
            settings.push(format!("webhooks.url={}", receiver.url()));
            settings.push(format!("webhooks.secrets={SECRET}"));
        }
        settings
    }
}

pub(crate) async fn run(
    plan: PushPlan,
    callees: &PushCallees,
    stage: &mut ScenarioStage,
) -> anyhow::Result<()> {
    let ServerAddress::Gateway(gateway) = stage.target.address().clone() else {
        bail!("only a gateway has devices");
    };
    let crew = stage.crew.clone();
    let online = plan.users_online();
    let size = stage.size(online, 1, plan.bytes);
    crew.enlist(size).await?;
    if callees.vendor.is_some() {
        register(&plan, callees, &gateway, stage).await?;
    }
    crew.gather(super::ARRIVALS).await?;
    stage.report.row("sessions connected", online.into(), "");
    let protocol = Protocol::enter(stage.target.address()).await?;
    let probe = warm_up(callees, &gateway, &protocol, stage).await?;

    let timekeeper = crew.keep_time();
    let syncs = stage.target.dir().map(SyncWatch::begin).transpose()?;
    let (before, began) = (stage.look()?, Instant::now());
    let back = began + Duration::from_secs(plan.down_for.into());
    let memory = MemoryCourse::default();
    let mut looking = None;
    if plan.down_for > 0 {
        let Some((receiver, _)) = &callees.receiver else {
            bail!("--down-for needs a receiver of webhooks: --webhooks ok");
        };
        receiver.leave_until(back);
        looking = stage
            .target
            .process_id()
            .map(|process| memory.follow(process, began));
    }
    let share = f64::from(online) / f64::from(plan.users);
    let load = |rate| Load {
        has_notice: true,
        ..Load::steady(To::InTurn(1), rate, plan.seconds)
    };
    let to_absent = async {
        let load = load(plan.rate * (1.0 - share));
        Ok(senders::send(&callees.absent, &protocol, load).await)
    };
    let (to_online, to_absent) = try_join!(crew.send(load(plan.rate * share)), to_absent)?;
    let sent = PushLoads {
        online: online + to_online.accepted,
        absent: probe + to_absent.accepted,
        probes: online + probe,
    };
    let sending = began.elapsed();
    let syncs = syncs.map(SyncWatch::end).transpose()?;
    crew.settle().await?;
    let mut pace = DecisionPace::default();
    if callees.vendor.is_some() {
        pace = decide_all(&gateway, stage.patience, &sent, began).await?;
        pace.behind = pace.behind.saturating_sub(sending);
    }
    let messages = u64::from(sent.online + sent.absent);
    come_to_rest(callees, messages, stage.patience).await;
    let told_after = back.elapsed();
    if let Some(looking) = looking {
        looking.abort();
    }
    let after = stage.look()?;
    timekeeper.abort();

    let accepted = f64::from(to_online.accepted + to_absent.accepted);
    let report = &mut stage.report;
    let seconds = to_online.took.max(to_absent.took).as_secs_f64();
    report.row("rate asked for", plan.rate, "sends/s");
    report.row("sends answered", accepted / seconds, "sends/s");
    let refused = to_online.refused + to_absent.refused;
    report.row("sends refused", refused.into(), "");
    cost_rows(stage, (before, after), accepted);
    if plan.down_for > 0 {
        let report = &mut stage.report;
        let told_after = told_after.as_secs_f64();
        report.row("all told after the receiver was back", told_after, "s");
        for (second, rss) in memory.take() {
            report.row(format!("server RSS at {second} s"), rss as f64 / 1e6, "MB");
        }
    }
    let at_last = match &callees.vendor {
        Some(_) => decisions(&gateway).await?,
        None => Decisions::default(),
    };
    let lag = match &callees.receiver {
        Some(_) => metric(&gateway, "towncrier_webhook_lag_seconds").await?,
        None => 0.0,
    };
    let latencies = crew.latencies().await?;
    let report = &mut stage.report;
    report.latency("send to durable answer", quantiles(&latencies.answered));
    report.latency("send to landed", quantiles(&latencies.all_landed()));
    if let Some(syncs) = syncs {
        report.latency("the disk's sync meanwhile, once due", syncs);
    }
    stage.close().await?;
    vendor_report(callees, stage, &pace, at_last, &sent);
    receiver_report(callees, stage, messages, lag);
    let incidents = callees.absent.incidents.take();
    for (what, times) in incidents {
        *stage.report.incidents.entry(what).or_default() += times;
    }
    Ok(())
}

/// A device for each user.
async fn register(
    plan: &PushPlan,
    callees: &PushCallees,
    gateway: &GatewayAddress,
    stage: &mut ScenarioStage,
) -> anyhow::Result<()> {
    let access = gateway.enter().await?;
    let began = Instant::now();
    stage.crew.register().await?;
    access.register_absent(&callees.absent).await?;
    let took = began.elapsed().as_secs_f64();
    let report = &mut stage.report;
    report.row("devices registered", plan.users.into(), "");
    report.row("registering", took, "s");
    report.row("registrations", f64::from(plan.users) / took, "/s");
    Ok(())
}

/// A first message to each user who is online and to one who is away, in both ways that a run sends. Returns those to the latter,
/// once they are decided: a gateway that has just started pushes nothing for a while.
async fn warm_up(
    callees: &PushCallees,
    gateway: &GatewayAddress,
    protocol: &Protocol,
    stage: &ScenarioStage,
) -> anyhow::Result<u32> {
    stage.warm_up().await?;
    let load = Load {
        has_notice: true,
        ..Load::reach_all(1, 1)
    };
    let probe = senders::send(&callees.absent, protocol, load).await;
    if let Some((vendor, _)) = &callees.vendor {
        let online = f64::from(stage.crew.sessions());
        let is_so = |now: &Decisions| now.pushed >= 1.0 && now.all >= online + 1.0;
        decided(gateway, stage.patience, is_so).await?;
        vendor.forget();
    }
    callees.absent.meter.borrow_mut().reset();
    Ok(probe.accepted)
}

/// Waits until every message was decided. The times count from `began`.
async fn decide_all(
    gateway: &GatewayAddress,
    patience: Duration,
    sent: &PushLoads,
    began: Instant,
) -> anyhow::Result<DecisionPace> {
    let is_so = |now: &Decisions| now.pushed >= sent.absent.into();
    let until_pushed = decided(gateway, patience, is_so).await?;
    let took = began.elapsed();
    let is_so = |now: &Decisions| now.all >= f64::from(sent.online + sent.absent);
    Ok(DecisionPace {
        at_last: decided(gateway, patience, is_so).await?,
        a_second: (until_pushed.all - f64::from(sent.probes)) / took.as_secs_f64(),
        behind: took,
    })
}

/// Waits until the decisions are so, or until none was made for `patience`.
async fn decided(
    gateway: &GatewayAddress,
    patience: Duration,
    is_so: impl Fn(&Decisions) -> bool,
) -> anyhow::Result<Decisions> {
    let (mut last, mut moved) = (Decisions::default(), Instant::now());
    loop {
        let now = decisions(gateway).await?;
        if is_so(&now) || moved.elapsed() > patience {
            return Ok(now);
        }
        if now.all > last.all {
            moved = Instant::now();
        }
        last = now;
        sleep(LOOK).await;
    }
}

async fn decisions(gateway: &GatewayAddress) -> anyhow::Result<Decisions> {
    let metrics = gateway.metrics().await?;
    let decided = |outcome| {
        let name = format!("towncrier_push_decisions_total{{outcome=\"{outcome}\"}}");
        metrics.get(&name).copied().unwrap_or(0.0)
    };
    let all = ["served", "pushed", "do-not-disturb", "expired"].map(decided);
    let waiting = metrics.get("towncrier_push_tasks{provider=\"http\"}");
    let sent = r#"towncrier_push_outcomes_total{provider="http",outcome="sent"}"#;
    Ok(Decisions {
        all: all.iter().sum(),
        served: all[0],
        pushed: all[1],
        waiting: waiting.copied().unwrap_or(0.0),
        sent: metrics.get(sent).copied().unwrap_or(0.0),
    })
}

async fn metric(gateway: &GatewayAddress, name: &str) -> anyhow::Result<f64> {
    Ok(gateway.metrics().await?.get(name).copied().unwrap_or(0.0))
}

/// Waits until callees that are well have everything, or until nothing more came for `patience`.
async fn come_to_rest(callees: &PushCallees, messages: u64, patience: Duration) {
    let missing = || {
        let vendor = callees
            .vendor
            .as_ref()
            .filter(|(callee, _)| callee.is_well());
        let pushes = vendor.map_or(0, |_| callees.absent.ledger.borrow().missing_everywhere());
        let receiver = callees.receiver.as_ref();
        let receiver = receiver.filter(|(callee, _)| callee.is_well());
        let events = receiver.map_or(0, |(_, books)| {
            messages.saturating_sub(books.tally().messages)
        });
        pushes + events
    };
    let (mut last, mut moved) = (missing(), Instant::now());
    while last > 0 && moved.elapsed() < patience {
        sleep(LOOK).await;
        let now = missing();
        if now < last {
            (last, moved) = (now, Instant::now());
        }
    }
}

/// The gateway's processor time and memory.
fn cost_rows(stage: &mut ScenarioStage, looks: (Look, Look), accepted: f64) {
    stage.cpu_rows("sending and what follows", looks, accepted, "µs/message");
    if let (Some(before), Some(after)) = (looks.0.server, looks.1.server) {
        let report = &mut stage.report;
        report.row("server RSS before", before.rss as f64 / 1e6, "MB");
        report.row("server RSS after", after.rss as f64 / 1e6, "MB");
        report.row("server RSS peak", after.rss_peak as f64 / 1e6, "MB");
    }
}

/// The decisions, the vendor's calls, and the faults of both.
fn vendor_report(
    callees: &PushCallees,
    stage: &mut ScenarioStage,
    pace: &DecisionPace,
    at_last: Decisions,
    sent: &PushLoads,
) {
    let Some((vendor, books)) = &callees.vendor else {
        return;
    };
    let report = &mut stage.report;
    report.row("decisions", pace.at_last.all, "");
    report.row("decisions: served", pace.at_last.served, "");
    report.row("decisions: pushed", pace.at_last.pushed, "");
    report.row("decisions a second", pace.a_second, "/s");
    report.row(
        "the last push decided after",
        pace.behind.as_secs_f64(),
        "s",
    );
    let seen = vendor.seen();
    report.row("attempts", seen.calls as f64, "");
    report.row("attempts a second", seen.a_second(), "/s");
    report.row("attempts at once, at most", seen.at_once.into(), "");
    report.row("pushes that wait for the vendor", at_last.waiting, "");
    let absent = &callees.absent;
    let ledger = absent.ledger.borrow();
    let accepted = f64::from(sent.absent);
    let (undecided, users_missed) = if vendor.is_well() {
        let missed = (0..absent.size.users).filter(|user| ledger.missing(*user, 0) > 0);
        (ledger.missing_everywhere(), missed.count() as u64)
    } else {
        // Nobody tells which users these are.
        let missed = accepted - at_last.waiting - at_last.sent;
        let missed = missed.max(accepted - at_last.pushed).max(0.0) as u64;
        (missed, missed)
    };
    let pushes = ledger.tally(|_, _| SessionStanding::CaughtUp);
    report.row("pushes repeated", pushes.duplicated as f64, "");
    report.row("users missed", users_missed as f64, "");
    report.row("pushes for users who acked", books.to_online() as f64, "");
    let mut called = Latencies::default();
    called.add(&absent.meter.borrow().latencies());
    report.latency("send to the vendor's call", quantiles(&called.all_landed()));
    report.fault("a message to a user who is away, without a push", undecided);
    report.fault(
        "a push for a user who was online and acked",
        books.to_online(),
    );
    report.fault("a push of no message", pushes.ghost + books.unreadable());
}

/// The events, and their faults.
fn receiver_report(callees: &PushCallees, stage: &mut ScenarioStage, messages: u64, lag: f64) {
    let Some((receiver, books)) = &callees.receiver else {
        return;
    };
    let (tally, seen) = (books.tally(), receiver.seen());
    let report = &mut stage.report;
    report.row("events", tally.events as f64, "");
    report.row("event requests", seen.calls as f64, "");
    report.row("event requests a second", seen.a_second(), "/s");
    report.row("messages told", tally.messages as f64, "");
    report.row("events repeated", tally.repeated as f64, "");
    report.row("events behind", lag, "s");
    if receiver.is_well() {
        let missing = messages.saturating_sub(tally.messages);
        report.fault("a message without an event", missing);
    }
    report.fault("an event out of order", tally.disordered);
    report.fault("a repeated event with another content", tally.altered);
    report.fault("events lost", tally.losses);
    report.fault("a call without events", tally.unreadable);
}
