//! The phones of a seed, and the operations on them. Their generator is one of its own, so that a seed without phones means what it
//! meant before there were phones.

use std::time::Duration;

use fastrand::Rng;
use loadtest::{SdkCore, SdkForm};

use super::PhoneOwner;
use crate::{
    device::Crash,
    network::Side,
    schedule::{Death, Loss, Operation, Timed},
    store::Fate,
};
use towncrier::ids::Platform;

/// One seed in so many has phones.
const SEEDS_PER_PHONES: u8 = 3;
/// A link that breaks twice breaks within this time, ms: a core asks nothing at the second connect.
const TWICE_MS_MAX: u64 = 5_000;

/// The kinds of operations that a seed may use. Beside them it always opens phones.
const KINDS: u32 = 10;

/// Adds phones to a schedule, with their operations between the others. `first`: the number of the first phone.
pub(in super::super) fn add_phones(
    seed: u64,
    users: usize,
    first: usize,
    operations: &mut Vec<Timed>,
) -> Vec<PhoneOwner> {
    let mut random = Rng::with_seed(seed ^ 0x7068_6f6e_6573);
    if random.u8(..SEEDS_PER_PHONES) > 0 {
        return Vec::new();
    }
    let platforms = [Platform::Ios, Platform::Android, Platform::Windows];
    let owner = |random: &mut Rng| {
        let user = random.usize(..users);
        if random.u8(..3) == 0 {
            return PhoneOwner {
                user,
                platform: Platform::Web,
                form: SdkForm {
                    core: SdkCore::JavaScript,
                    is_gzipped: false,
                },
            };
        }
        PhoneOwner {
            user,
            platform: *random.choice(&platforms).expect("there are some"),
            form: SdkForm {
                core: SdkCore::Go,
                is_gzipped: random.bool(),
            },
        }
    };
    let count = random.usize(1..=2);
    let owners: Vec<_> = (0..count).map(|_| owner(&mut random)).collect();
    let end_ms = operations
        .last()
        .map_or(0, |last| last.at.as_millis() as u64);
    let kinds = random.u32(..) & random.u32(..);
    for phone in first..first + count {
        let at = Duration::ZERO;
        let operation = Operation::Open(phone);
        operations.push(Timed { at, operation });
    }
    for _ in 0..random.usize(5..40) {
        let phone = random.usize(first..first + count);
        let at_ms = random.u64(..=end_ms);
        let kind = random.u32(..KINDS + 3);
        let is_used = kind < KINDS && kinds & (1 << kind) != 0;
        let kind = if is_used { kind } else { KINDS };
        let operation = operation(&mut random, phone, kind);
        let mut add = |at_ms: u64, operation| {
            let at = Duration::from_millis(at_ms.min(end_ms));
            operations.push(Timed { at, operation });
        };
        add(at_ms, operation);
        // Often the link breaks soon after, perhaps with the gateway.
        if random.bool() {
            let again_ms = at_ms + random.u64(..TWICE_MS_MAX);
            let again = if kinds & (1 << KINDS) != 0 && random.bool() {
                Operation::Crash(death(&mut random))
            } else {
                Operation::Cut(phone)
            };
            add(again_ms, again);
            add(
                again_ms + random.u64(..TWICE_MS_MAX),
                Operation::Calm(phone),
            );
        }
    }
    // Stable: operations of the same time keep their order.
    operations.sort_by_key(|timed| timed.at);
    owners
}

fn operation(random: &mut Rng, phone: usize, kind: u32) -> Operation {
    let mut time = |most_ms| Duration::from_millis(random.u64(1..most_ms));
    match kind {
        0 => Operation::Close(phone),
        1 => Operation::CrashAt(phone, Crash::BeforeCommit),
        2 => Operation::CrashAt(phone, Crash::AfterCommit),
        3 => Operation::Reinstall(phone),
        4 => Operation::HalfOpen(phone),
        5 => Operation::Stall(phone, Side::Device, time(20_000)),
        6 => Operation::Stall(phone, Side::Gateway, time(20_000)),
        7 => Operation::Outage(phone, time(60_000)),
        8 => Operation::LogIn(phone),
        9 => Operation::Cut(phone),
        _ => Operation::Open(phone),
    }
}

/// The gateway comes back while a core that connects again asks nothing.
fn death(random: &mut Rng) -> Death {
    Death {
        power: match random.u8(..3) {
            0 => Some(Loss::Everything),
            1 => Some(Loss::Anything),
            _ => None,
        },
        state: Fate::Kept,
        has_flip: false,
        down: Duration::from_millis(random.u64(1..1_000)),
    }
}
