//! Servers of the store and gateways of a fleet are struck while messages flow. The time without an accepted send is measured after each
//! strike, and the ledger covers all of them.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use serde_json::value::RawValue;
use tokio::{
    task::{JoinHandle, spawn_blocking, spawn_local},
    time::{sleep, timeout},
};
use towncrier_client::{AdminClient, admin::SendFields};

use super::ScenarioStage;
use crate::{
    crew::Crew,
    gateway::{ADMIN, ADMIN_PLATFORM},
    meter::quantiles,
    parcel::To,
    protocol::ServerAddress,
    senders::Load,
    store::PostgresServers,
    target::{Own, Target},
};

/// The user whom the sends that look for the end of an outage go to. No session of the rig is this user's.
const PROBED: &str = "failover-probe";
/// The interval of these sends. They overlap, because one may hang.
const PROBE: Duration = Duration::from_millis(50);
/// The most of them under way.
const PROBES_MAX: u32 = 200;
/// A frozen gateway counts as dead after 10 s without a heartbeat, and then comes back.
const FROZEN: Duration = Duration::from_secs(15);
/// A killed gateway or standby is down for this time.
const DOWN: Duration = Duration::from_secs(2);
/// The load is sent in pieces of this length, until the last strike is over.
const PIECE_S: u32 = 5;

#[derive(Debug, clap::Args)]
pub(crate) struct FailoverPlan {
    /// Sessions, each of a user of its own.
    #[arg(long, default_value_t = 1000)]
    sessions: u32,
    /// Messages a second.
    #[arg(long, default_value_t = 500.0)]
    rate: f64,
    /// Strikes.
    #[arg(long, default_value_t = 4)]
    rounds: u32,
    /// The strikes, in turn: primary, standby and gateway are killed (-9), and a frozen gateway is stopped for 15 s.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "primary,standby,gateway,frozen"
    )]
    strikes: Vec<Strike>,
    /// The time between the end of an outage and the next strike, seconds.
    #[arg(long, default_value_t = 3)]
    calm: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
enum Strike {
    Primary,
    Standby,
    Gateway,
    Frozen,
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "the primary was killed",
            Self::Standby => "a standby was killed",
            Self::Gateway => "a gateway was killed",
            Self::Frozen => "a gateway was frozen",
        })
    }
}

pub(crate) async fn run(plan: FailoverPlan, stage: &mut ScenarioStage) -> anyhow::Result<()> {
    let ServerAddress::Gateway(address) = stage.target.address().clone() else {
        bail!("a broker has no failover: leave out --target");
    };
    let crew = stage.crew.clone();
    let size = stage.size(plan.sessions, 1, (100, 400));
    crew.bring(size, super::ARRIVALS).await?;
    stage.warm_up().await?;
    let timekeeper = crew.keep_time();
    let admins = address
        .gateways
        .iter()
        .map(|ports| AdminClient::new(&ports.admin));
    let admins: Vec<_> = admins.collect::<Result<_, _>>()?;
    let token = admins[0].user_token(&address.secret, ADMIN, ADMIN_PLATFORM);
    let prober = Rc::new(Prober {
        token: token.await?.token,
        admins,
        under_way: Cell::new(0),
        accepted: RefCell::default(),
        failure: RefCell::default(),
    });
    let probing = prober.clone().begin();
    let Target::Own(own) = &mut stage.target else {
        bail!("only servers that the rig has started can be struck: leave out --ws");
    };
    let over = Cell::new(false);
    let strikes = async {
        let outages = strike(&plan, own, &prober, stage.patience).await;
        over.set(true);
        outages
    };
    let (sent, outages) = tokio::join!(send(&crew, plan.rate, &over), strikes);
    probing.abort();
    let ((accepted, refused), outages) = (sent?, outages?);
    crew.settle().await?;
    timekeeper.abort();
    let latencies = crew.latencies().await?;
    let report = &mut stage.report;
    report.row("sessions", crew.sessions().into(), "");
    report.row("sends answered", accepted.into(), "");
    report.row("sends refused", refused.into(), "");
    for (strike, mut seconds) in outages {
        seconds.sort_by(f64::total_cmp);
        report.row(format!("times that {strike}"), seconds.len() as f64, "");
        let median = seconds[seconds.len() / 2];
        report.row("until a send was accepted, median", median, "s");
        let longest = seconds.last().copied().unwrap_or_default();
        report.row("until a send was accepted, longest", longest, "s");
    }
    report.latency("send to durable answer", quantiles(&latencies.answered));
    report.latency("send to landed, at the ready", quantiles(&latencies.landed));
    report.latency("away, a session", quantiles(&latencies.returned));
    stage.close().await
}

/// Sends until it is over. Returns the number of sends that were accepted, and of those refused.
async fn send(crew: &Crew, rate: f64, over: &Cell<bool>) -> anyhow::Result<(u32, u32)> {
    let (mut accepted, mut refused) = (0, 0);
    while !over.get() {
        let sent = crew.send(Load::steady(To::One, rate, PIECE_S)).await?;
        accepted += sent.accepted;
        refused += sent.refused;
    }
    Ok((accepted, refused))
}

/// All strikes, one after the other. Returns the seconds from each to the next accepted send.
async fn strike(
    plan: &FailoverPlan,
    own: &mut Own,
    prober: &Prober,
    patience: Duration,
) -> anyhow::Result<BTreeMap<Strike, Vec<f64>>> {
    let mut outages: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for round in 0..plan.rounds {
        sleep(Duration::from_secs(plan.calm)).await;
        let strike = plan.strikes[round as usize % plan.strikes.len()];
        let gateway = round as usize % own.count();
        prober.accepted.borrow_mut().clear();
        let outage = match strike {
            Strike::Primary => {
                let killed = on_servers(own, PostgresServers::kill_primary).await?;
                let since = Instant::now();
                on_servers(own, PostgresServers::promote).await?;
                let outage = prober.outage_since(since, patience).await?;
                on_servers(own, move |servers| servers.join(killed)).await?;
                outage
            }
            Strike::Standby => {
                let killed = on_servers(own, PostgresServers::kill_standby).await?;
                let outage = prober.outage_since(Instant::now(), patience).await?;
                sleep(DOWN).await;
                on_servers(own, move |servers| servers.restart_standby(killed)).await?;
                outage
            }
            Strike::Gateway => {
                own.kill(gateway)?;
                let since = Instant::now();
                if own.count() == 1 {
                    own.restart(gateway).await?;
                    prober.outage_since(since, patience).await?
                } else {
                    let outage = prober.outage_since(since, patience).await?;
                    sleep(DOWN).await;
                    own.restart(gateway).await?;
                    outage
                }
            }
            Strike::Frozen if own.count() == 1 => {
                bail!("nobody takes the sends of a frozen gateway: add --gateways 2");
            }
            Strike::Frozen => {
                own.freeze(gateway, true)?;
                let outage = prober.outage_since(Instant::now(), patience).await;
                sleep(FROZEN).await;
                own.freeze(gateway, false)?;
                outage?
            }
        };
        outages
            .entry(strike)
            .or_default()
            .push(outage.as_secs_f64());
    }
    Ok(outages)
}

/// Works on the servers of the store in a thread of its own, because the rig's sessions need this one.
async fn on_servers<T: Send + 'static>(
    own: &mut Own,
    work: impl FnOnce(&mut PostgresServers) -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let servers = own.take_store();
    let mut servers = servers.context("there are no servers: add --store postgres --standbys 2")?;
    let done = spawn_blocking(move || (work(&mut servers), servers)).await?;
    own.give_store(done.1);
    done.0
}

/// Sends at short intervals to a user without sessions, and notes which were accepted.
struct Prober {
    admins: Vec<AdminClient>,
    token: String,
    under_way: Cell<u32>,
    /// The begin and the end of each accepted send since the last strike.
    accepted: RefCell<Vec<(Instant, Instant)>>,
    /// The newest reason for which one was not accepted.
    failure: RefCell<String>,
}

impl Prober {
    fn begin(self: Rc<Self>) -> JoinHandle<()> {
        spawn_local(async move {
            for number in 0_usize.. {
                if self.under_way.get() < PROBES_MAX {
                    self.under_way.set(self.under_way.get() + 1);
                    spawn_local(self.clone().probe(number));
                }
                sleep(PROBE).await;
            }
        })
    }

    async fn probe(self: Rc<Self>, number: usize) {
        let began = Instant::now();
        let admin = &self.admins[number % self.admins.len()];
        let content = RawValue::from_string(r#"{"text":"a probe"}"#.to_owned());
        let send = SendFields {
            operation_id: "failover".into(),
            send_id: ADMIN.into(),
            client_msg_id: format!("probe-{number}"),
            sender_nickname: String::new(),
            sender_face_url: String::new(),
            session_type: 1,
            content_type: 101,
            content: content.expect("it is JSON"),
            is_online_only: false,
        };
        match admin.send(&self.token, &send, PROBED).await {
            Ok(_) => self.accepted.borrow_mut().push((began, Instant::now())),
            Err(error) => *self.failure.borrow_mut() = error.to_string(),
        }
        self.under_way.set(self.under_way.get() - 1);
    }

    /// The time from this moment to the acceptance of a send that began later.
    async fn outage_since(&self, since: Instant, patience: Duration) -> anyhow::Result<Duration> {
        let first = || {
            let accepted = self.accepted.borrow();
            let later = accepted.iter().filter(|(began, _)| *began >= since);
            later.map(|(_, ended)| *ended).min()
        };
        let accepted = async {
            loop {
                if let Some(at) = first() {
                    return at - since;
                }
                sleep(PROBE).await;
            }
        };
        let outage = timeout(patience * 2, accepted).await;
        outage.with_context(|| {
            format!(
                "no send was accepted after a strike: {}",
                self.failure.borrow()
            )
        })
    }
}
