//! P7 measured: the delays that hostile clients cause for honest ones, and their cost for the gateway.
//!
//! - `honest.rs`: sessions with a steady flow of durable sends
//! - `attacks.rs`: the attacks

mod attacks;
mod honest;

use std::{collections::BTreeMap, time::Duration};

use self::{
    attacks::{ATTACKS, Assault, Attack, Target},
    honest::{Honest, Spell},
};
use crate::support::{Gateway, WEB, admin::Admin, authority::Authority, eventually, notice};

/// The number of users whose tokens the hostile clients have, and the backlog of each.
const HOSTILE_USERS: usize = 50;

/// The size of the test.
struct Scale {
    sessions: usize,
    sends_per_second: u32,
    spell: Duration,
    /// A share of the attacks' number and rate.
    share: f64,
    backlog: usize,
}

/// The size for a measurement by an operator.
const MEASURED: Scale = Scale {
    sessions: 200,
    // 3,000 of them in a spell: 30 are beyond its p99.
    sends_per_second: 1000,
    spell: Duration::from_secs(3),
    share: 1.0,
    backlog: 500,
};

/// The size that CI has time for.
const BRIEF: Scale = Scale {
    sessions: 20,
    sends_per_second: 100,
    spell: Duration::from_millis(500),
    share: 0.05,
    backlog: 20,
};

/// The attacks on a port with or without TLS.
fn attacks(has_tls: bool) -> impl Iterator<Item = &'static Attack> {
    ATTACKS
        .iter()
        .filter(move |attack| attack.needs_tls == has_tls)
}

/// A gateway with honest clients on it.
struct Stage {
    gateway: Gateway,
    admin: Admin,
    honest: Honest,
    target: Target,
    scale: Scale,
}

impl Stage {
    async fn set(scale: Scale, has_tls: bool, settings: &[&str]) -> Self {
        let authority = Authority::new();
        let tls = authority.settings("listener");
        let mut settings = settings.to_vec();
        if has_tls {
            settings.extend(tls.iter().map(String::as_str));
        }
        let gateway = Gateway::start(&settings).await;
        let mut admin = gateway.admin().await;
        let trust = has_tls.then(|| authority.trust());
        let honest = Honest::begin(&gateway, trust.as_ref(), scale.sessions).await;
        let users: Vec<String> = (0..HOSTILE_USERS).map(|n| format!("hostile-{n}")).collect();
        let mut batch = notice("", &"x".repeat(8 * 1024));
        batch["recvIDList"] = users.clone().into();
        for _ in 0..scale.backlog {
            let answer = admin.post("/manager/batch_send_msg", &batch).await;
            assert_eq!(answer.code(), 0, "{}", answer.text);
        }
        let mut tokens = Vec::new();
        for user in &users {
            tokens.push(admin.token(user, WEB).await);
        }
        let target = Target {
            clients: gateway.place().clients,
            tokens,
        };
        Self {
            gateway,
            admin,
            honest,
            target,
            scale,
        }
    }

    async fn spell(&mut self) -> Spell {
        let Scale {
            sends_per_second,
            spell,
            ..
        } = self.scale;
        self.honest.spell(sends_per_second, spell).await
    }

    /// The middle one of three spells, because a disk that stalls for a tenth of a second decides the p99 of one spell.
    async fn spells(&mut self) -> Spell {
        let mut three = [self.spell().await, self.spell().await, self.spell().await];
        three.sort_unstable_by_key(|spell| spell.p99);
        let [_, middle, _] = three;
        middle
    }

    /// Waits until only the honest sessions are connected, all of them.
    async fn recover(&mut self) {
        let honest = self.honest.left() as f64;
        let name = "towncrier_connections";
        eventually("the hostile clients' connections to end", async || {
            self.admin.metric(name).await == honest
        })
        .await;
    }

    /// Connections that the gateway refused or closed, by reason or code.
    async fn ends(&mut self) -> BTreeMap<String, u64> {
        let text = self.admin.get("/metrics").await.text;
        let of = |line: &str| {
            let rest = line.strip_prefix("towncrier_connections_")?;
            let (_, rest) = rest.split_once("_total{")?;
            let (_, rest) = rest.split_once("=\"")?;
            let (label, count) = rest.split_once("\"} ")?;
            Some((label.to_owned(), count.parse().ok()?))
        };
        text.lines().filter_map(of).collect()
    }

    /// Turns of the reactors above 50 ms of their own processor time.
    async fn long_turns(&mut self) -> f64 {
        let name = "towncrier_reactor_turn_seconds";
        let short = format!("{name}_bucket{{le=\"0.05\"}}");
        // Read in this order: turns that end in between then count as short.
        let all = self.admin.metric(&format!("{name}_count")).await;
        assert!(all > 0.0);
        (all - self.admin.metric(&short).await).max(0.0)
    }
}

#[tokio::test]
#[ignore = "a minute of attacks at their own pace: `cargo test --test scenarios -- --ignored honest_messages`"]
async fn honest_messages_land_whatever_others_do() {
    for has_tls in [false, true] {
        let hasty = [
            "listener.upgrade_timeout=300ms",
            "listener.connect_timeout=300ms",
            "listener.bad_tokens_per_minute_max=2",
            "sessions.heartbeat=1h",
        ];
        let mut stage = Stage::set(BRIEF, has_tls, &hasty).await;
        for attack in attacks(has_tls) {
            let before = stage.ends().await;
            let assault = Assault::begin(attack, &stage.target, stage.scale.share);
            // Every message lands in order; otherwise this does not return.
            stage.spell().await;
            for &end in attack.ends {
                eventually(&format!("{}: {end}", attack.name), async || {
                    stage.ends().await.get(end) > before.get(end)
                })
                .await;
            }
            assault.end().await;
            stage.recover().await;
        }
        assert_eq!(stage.long_turns().await, 0.0, "a reactor was held");
        stage.gateway.kill();
    }
}

#[tokio::test]
#[ignore = "five minutes: `cargo test --release --test scenarios -- --ignored --nocapture hostile`"]
/// With `ATTACK` set, only the attacks whose name contains it.
async fn hostile_clients_take_little_from_honest_ones() {
    /// Outboxes of twice `outbox_bytes_max` and 128 KiB for 50 sessions are 32 MB. 2,048 arrivals with 32 KiB of request each
    /// are 64 MB. The allocator keeps as much again of the first.
    const GROWTH_MAX: u64 = 128 << 20;
    let mut failures = Vec::new();
    println!(
        "{} honest sessions, {} durable sends a second; attackers: one thread at nice 10, paced, on the gateway's own cores\n\
         times from due to landed, ms, of the middle one of three spells of {:?}; before: the same without the attack; memory \
         beyond that before it, MiB\n",
        MEASURED.sessions, MEASURED.sends_per_second, MEASURED.spell,
    );
    println!(
        "| attack | a second | of a core | before p50 | p99 | under it p50 | p99 | p99 ratio | memory | after | ends |\n\
         |---|---|---|---|---|---|---|---|---|---|---|"
    );
    let only = std::env::var("ATTACK").unwrap_or_default();
    for has_tls in [false, true] {
        let chosen: Vec<_> = attacks(has_tls)
            .filter(|attack| attack.name.contains(&only))
            .collect();
        if chosen.is_empty() {
            continue;
        }
        let mut stage = Stage::set(MEASURED, has_tls, &["sessions.heartbeat=1h"]).await;
        // The costs of a first spell do not belong to an attack.
        stage.spell().await;
        for attack in chosen {
            let quiet = stage.spells().await;
            let (memory, ends) = (stage.gateway.resident_bytes(), stage.ends().await);
            let assault = Assault::begin(attack, &stage.target, stage.scale.share);
            let disturbed = stage.spells().await;
            let under = stage.gateway.resident_bytes().saturating_sub(memory);
            let tally = assault.end().await;
            stage.recover().await;
            let after = stage.gateway.resident_bytes().saturating_sub(memory);
            let ended = stage.ends().await;
            let ended = ended.iter().filter_map(|(label, count)| {
                let count = count - ends.get(label).unwrap_or(&0);
                (count > 0).then(|| format!("{label}: {count}"))
            });
            let ratio = disturbed.p99.div_duration_f64(quiet.p99);
            let ms = |time: Duration| time.as_secs_f64() * 1e3;
            let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            println!(
                "| {} | {:.0} | {:.0} % | {:.1} | {:.1} | {:.1} | {:.1} | {ratio:.2} | {:.1} | {:.1} | {} |",
                attack.name,
                tally.per_second,
                tally.cpu_share * 100.0,
                ms(quiet.p50),
                ms(quiet.p99),
                ms(disturbed.p50),
                ms(disturbed.p99),
                mib(under),
                mib(after),
                ended.collect::<Vec<_>>().join(", "),
            );
            if ratio > 2.0 || under.max(after) > GROWTH_MAX {
                failures.push(attack.name);
            }
        }
        println!("reactor turns above 50 ms: {}", stage.long_turns().await);
        stage.gateway.kill();
    }
    assert!(failures.is_empty(), "beyond their bounds: {failures:?}");
}
