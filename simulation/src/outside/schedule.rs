//! The other systems of a seed, and the operations on them. Their generator is one of its own, so that a seed without them means what
//! it meant before there were any.

use std::time::Duration;

use fastrand::Rng;

use super::{PROVIDERS, Service};
use crate::schedule::{Operation, Timed};
use towncrier::config::{Config, DeviceClass};

/// The longest time for which a system is not well, ms.
const UNWELL_MS_MAX: u64 = 120_000;
/// The longest absence of all systems, s.
const AWAY_S_MAX: u64 = 3 * 3_600;

/// Sets the other systems of a seed up, and adds their operations between the others. One seed in three has none.
/// Only where `TOWNCRIER_OUTSIDE` is set: the judge of these systems still gives alarms that nobody has explained.
pub(in super::super) fn add_outside(seed: u64, config: &mut Config, operations: &mut Vec<Timed>) {
    if std::env::var_os("TOWNCRIER_OUTSIDE").is_none() {
        return;
    }
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
    // Stable: operations of the same time keep their order.
    operations.sort_by_key(|timed| timed.at);
}
