//! The other systems of a seed, and the operations on them. Their generator is one of its own, so that a seed without them means what
//! it meant before there were any.

use std::time::Duration;

use fastrand::Rng;

use super::{PROVIDERS, Service};
use crate::{
    device::Owner,
    network::Side,
    schedule::{Death, Loss, Operation, Timed},
    store::Fate,
};
use towncrier::config::{Config, DeviceClass};

/// The longest time for which a system is not well, ms.
const UNWELL_MS_MAX: u64 = 120_000;
/// The span of acks around the deadline of a decision.
const RACE: Duration = Duration::from_secs(1);
/// The age of a message at which it is decided, if its receiver is absent or has acked it.
const DECIDED_AFTER: Duration = Duration::from_millis(500);
/// The longest time for which an app is closed, ms.
const CLOSED_MS_MAX: u64 = 240_000;
/// The longest absence of all systems, s.
const AWAY_S_MAX: u64 = 3 * 3_600;

/// Sets the other systems of a seed up, and adds their operations between the others. One seed in three has none.
pub(in super::super) fn add_outside(
    seed: u64,
    config: &mut Config,
    owners: &[Owner],
    operations: &mut Vec<Timed>,
) {
    let mut random = Rng::with_seed(seed ^ 0x006f_7574_7369_6465);
    let kind = random.u8(..6);
    let (has_push, has_webhooks) = (kind >= 2 && kind != 3, kind >= 3);
    if has_push {
        // The address is never called: the vendor is in memory.
        config.push.http.url = "http://vendor.invalid".into();
        config.push.after = Duration::from_secs(*random.choice(&[2, 10, 30]).unwrap_or(&10));
        if random.u8(..4) == 0 {
            config.push.expire_after = Duration::from_secs(120);
        }
        if random.u8(..4) == 0 {
            config.push.unless_acked_on = vec![DeviceClass::Pc];
        }
    }
    if has_webhooks {
        config.webhooks.url = "http://receiver.invalid".into();
        config.webhooks.batch_max = *random.choice(&[1, 2, 5, 100]).unwrap_or(&100);
    }
    if !has_push && !has_webhooks {
        return;
    }
    let end_ms = operations.last().map_or(0, |last| last.at.as_millis());
    let kinds = random.u32(..);
    for _ in 0..random.usize(..12) {
        let kind = random.usize(..Service::ALL.len());
        if kinds & (1 << kind) == 0 {
            continue;
        }
        let service = Service::ALL[kind];
        let time = Duration::from_millis(random.u64(1..UNWELL_MS_MAX));
        let system = random.usize(..=PROVIDERS.len());
        let at = Duration::from_millis(random.u64(..=end_ms as u64));
        let operation = Operation::System(system, service, time);
        operations.push(Timed { at, operation });
    }
    if random.u8(..10) == 0 {
        let at = Duration::from_millis(random.u64(..=end_ms as u64));
        let operation = Operation::Away(Duration::from_secs(random.u64(1_800..AWAY_S_MAX)));
        operations.push(Timed { at, operation });
    }
    if has_push {
        if random.u8(..8) == 0 {
            config.push.tasks_max = random.usize(1..6);
        }
        add_races(&mut random, config.push.after, owners, operations);
        add_wishes(&mut random, owners, operations);
        add_pockets(&mut random, owners, operations);
    }
    // Stable: operations of the same time keep their order.
    operations.sort_by_key(|timed| timed.at);
}

/// Adds what comes at about the time of a decision: acks of a device, whose link stalls, and deaths of the gateway.
fn add_races(random: &mut Rng, after: Duration, owners: &[Owner], operations: &mut Vec<Timed>) {
    let sends = operations.iter().filter_map(|timed| match timed.operation {
        Operation::Send(_) => Some(timed.at),
        _ => None,
    });
    let sends: Vec<_> = sends.collect();
    for _ in 0..random.usize(..4) {
        let Some(at) = random.choice(&sends) else {
            return;
        };
        let device = random.usize(..owners.len());
        let stall = (after + RACE / 2).saturating_sub(RACE.mul_f64(random.f64()));
        let operation = Operation::Stall(device, Side::Device, stall);
        operations.insert(0, Timed { at: *at, operation });
    }
    if random.bool() {
        return;
    }
    for _ in 0..random.usize(..5) {
        let Some(at) = random.choice(&sends) else {
            return;
        };
        // A message is decided half a second after it was accepted, or at its deadline.
        let decided = *random.choice(&[DECIDED_AFTER, after]).unwrap_or(&after);
        let at = *at + decided.mul_f64(0.9 + random.f64() / 5.0);
        let death = Death {
            power: random.bool().then_some(Loss::Anything),
            state: Fate::Kept,
            has_flip: false,
            down: Duration::from_millis(random.u64(..3_000)),
        };
        let operation = Operation::CrashWithin(random.u64(1..12), death);
        operations.push(Timed { at, operation });
    }
}

/// Adds changes of do-not-disturb.
fn add_wishes(random: &mut Rng, owners: &[Owner], operations: &mut Vec<Timed>) {
    let end_ms = operations.last().map_or(0, |last| last.at.as_millis());
    for _ in 0..random.usize(..8).saturating_sub(3) {
        let at = Duration::from_millis(random.u64(..=end_ms as u64));
        let operation = Operation::Silence {
            user: random.choice(owners).map_or(0, |owner| owner.user),
            conversation: random.usize(..4),
            is_silent: random.u8(..3) > 0,
        };
        operations.push(Timed { at, operation });
    }
}

/// Closes apps for some time: most pushes are for those.
fn add_pockets(random: &mut Rng, owners: &[Owner], operations: &mut Vec<Timed>) {
    let end_ms = operations.last().map_or(0, |last| last.at.as_millis());
    for _ in 0..random.usize(..5) {
        let device = random.usize(..owners.len());
        let at = Duration::from_millis(random.u64(..=end_ms as u64));
        let until = at + Duration::from_millis(random.u64(..CLOSED_MS_MAX));
        let (close, open) = (Operation::Close(device), Operation::Open(device));
        operations
            .extend([(at, close), (until, open)].map(|(at, operation)| Timed { at, operation }));
    }
}
