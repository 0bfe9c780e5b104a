//! The content of a run: a setup, devices, and a list of timed operations, all made from the seed before anything runs.
//!
//! The list is explicit, so that a failing one can be shortened. Each seed uses only some kinds of faults, because a fault
//! that is always present hides the effects of others.

use std::{fmt, time::Duration};

use fastrand::Rng;

use super::{
    device::{Crash, Owner},
    gateway::Setup,
    letter::Talk,
    network::Side,
    outside::{Service, add_outside},
    phone::{PhoneOwner, add_phones},
    store::Fate,
};
use towncrier::{config::Config, ids::Platform, reactor::MailboxLimits};

/// One operation. It names devices, users and letters by number, so that it can be left out without a change to the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Operation {
    /// A caller sends a letter, perhaps not for the first time.
    Send(Letter),
    /// A burst of letters at once.
    Burst(Vec<Letter>),
    /// A device's user opens the app, with a new token.
    Open(usize),
    /// A phone's user logs in anew: the token is another one, and the store is kept.
    LogIn(usize),
    /// A phone's link is whole, and nothing else happens until the phone has everything.
    Calm(usize),
    /// The app is killed.
    Close(usize),
    /// The app dies at its next landing.
    CrashAt(usize, Crash),
    /// The app is installed again: its store is empty.
    Reinstall(usize),
    /// The device's connections are cut.
    Cut(usize),
    /// The device's connections swallow all bytes.
    HalfOpen(usize),
    /// The bytes that one side writes arrive later.
    Stall(usize, Side, Duration),
    /// The device has no network.
    Outage(usize, Duration),
    /// The gateway dies now.
    Crash(Death),
    /// The gateway dies within this many operations of its disk.
    CrashWithin(u64, Death),
    /// The gateway drains, and starts again after this long.
    Drain(Duration),
    /// A user is logged out on a platform.
    LogOut(usize, Platform),
    /// These of a user's newest messages are deleted, counted from the head.
    Delete(usize, Vec<u64>),
    /// A user is registered.
    Register(usize),
    /// The machine sleeps.
    Suspend(Duration),
    /// The wall clock is far ahead for some time; if the time has an odd number of ms, far behind.
    ClockWrong(Duration),
    /// The disk is full for some time.
    DiskFull(Duration),
    /// The next sync fails; then an operator restarts the gateway.
    SyncFails,
    /// One read in this many has to wait for the disk.
    Cold(u32),
    /// The data directory is lost: another log begins.
    LoseLog,
    /// A vendor of push, or the receiver of webhooks behind them, is like this for some time.
    System(usize, Service, Duration),
    /// All of them are away for hours.
    Away(Duration),
    /// A device's user reads a conversation, up to the message at this distance from the newest one that the device knows.
    Read {
        device: usize,
        conversation: usize,
        back: u64,
    },
    /// A user's backend does. 0: it names a seq above all.
    MarkRead {
        user: usize,
        conversation: usize,
        back: u64,
    },
    /// A user wants no push of a conversation, or does again.
    Silence {
        user: usize,
        conversation: usize,
        is_silent: bool,
    },
}

/// The end of the process, and the state that it finds afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Death {
    /// `None`: the process was killed, and the machine runs on.
    pub(super) power: Option<Loss>,
    pub(super) state: Fate,
    /// A bit of the segments flips, and is repaired at the next start.
    pub(super) has_flip: bool,
    pub(super) down: Duration,
}

/// The effect of a power cut on unsynced writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// All of them are lost.
    Everything,
    /// Any part of them is lost.
    Anything,
}

/// A letter as a caller sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Letter {
    pub(super) number: u64,
    /// The receivers; `None`: all users.
    pub(super) receivers: Option<Vec<usize>>,
    pub(super) talk: Talk,
    pub(super) key: Option<u32>,
    pub(super) is_online_only: bool,
    pub(super) bytes: usize,
}

/// An operation and its time.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Timed {
    pub(super) at: Duration,
    pub(super) operation: Operation,
}

impl fmt::Debug for Timed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>9.3}s {:?}", self.at.as_secs_f64(), self.operation)
    }
}

/// From a link that is nearly always full to one that seldom is.
const WAYS_BYTES_MAX: [usize; 3] = [512, 4 * 1024, 16 * 1024];

/// Everything that a seed decides.
#[derive(Debug, Clone)]
pub struct Schedule {
    pub(super) seed: u64,
    pub(super) setup: Setup,
    /// The bytes on their way in one direction of a connection.
    pub(super) way_bytes_max: usize,
    pub(super) users: usize,
    pub(super) owners: Vec<Owner>,
    /// Their numbers follow the ones of the other devices.
    pub(super) phones: Vec<PhoneOwner>,
    pub(super) operations: Vec<Timed>,
}

impl Schedule {
    /// The schedule of a seed.
    pub fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let mut setup = setup(&mut random);
        let users = random.usize(1..=3);
        let owners = (0..random.usize(2..=5))
            .map(|_| owner(&mut random, users))
            .collect::<Vec<_>>();
        let mut maker = Maker {
            seed,
            random,
            users,
            devices: owners.len(),
            letters: Vec::new(),
            kinds: 0,
        };
        let mut operations = maker.operations();
        add_reads(seed, users, owners.len(), &mut operations);
        let phones = add_phones(seed, users, owners.len(), &mut operations);
        add_outside(seed, &mut setup.config, &owners, &mut operations);
        Self {
            seed,
            setup,
            way_bytes_max: WAYS_BYTES_MAX[(seed % 3) as usize],
            users,
            owners,
            phones,
            operations,
        }
    }
}

fn setup(random: &mut Rng) -> Setup {
    let seconds = Duration::from_secs;
    let pick = |random: &mut Rng, choices: &[u64]| *random.choice(choices).expect("there are some");
    let mut config = Config::default();
    config.auth.token_key = "a key that is the same in every run".into();
    config.listener.reactors = random.usize(1..=2);
    config.listener.inbox = false;
    // Limits that depend on the machine of the simulation, or on a secret hash, are switched off.
    config.listener.memory_bytes_max = u64::MAX;
    config.listener.bad_tokens_per_minute_max = 0;
    config.listener.outbox_frames_max = pick(random, &[8, 16, 512]) as usize;
    config.sessions.policy = random.u8(..=5);
    config.delivery.window = pick(random, &[1, 2, 4, 16, 256]) as u32;
    config.log.segment_bytes = pick(random, &[600, 2_000, 10_000, 1 << 20]);
    config.log.retention = seconds(pick(random, &[120, 900, 30 * 86_400]));
    config.log.idempotency_retention = seconds(pick(random, &[60, 3_600, 7 * 86_400]));
    config.log.checkpoint_interval = seconds(pick(random, &[1, 5, 20]));
    config.log.queue_max = pick(random, &[2, 64, 65_536]) as usize;
    config.log.dir = "simulated".into();
    Setup {
        config,
        mailbox: MailboxLimits {
            live_max: pick(random, &[1, 4, 65_536]) as usize,
            ..MailboxLimits::default()
        },
        lie: None,
    }
}

fn owner(random: &mut Rng, users: usize) -> Owner {
    use Platform::{Android, IPad, Ios, Linux, Web, Windows};
    let platforms = [Ios, Android, Web, Windows, Linux, IPad];
    Owner {
        user: random.usize(..users),
        platform: *random.choice(&platforms).expect("there are some"),
        id: format!("d{}", random.u8(..2)),
    }
}

/// The generator of all decisions about conversations. It is one of its own, so that a seed means for everything else what it
/// meant before there were conversations.
pub(super) fn reading_random(seed: u64) -> Rng {
    Rng::with_seed(seed ^ 0x7265_6164_7265_6164)
}

/// Adds reads between the operations. One seed in four has none.
fn add_reads(seed: u64, users: usize, devices: usize, operations: &mut Vec<Timed>) {
    let mut random = reading_random(seed);
    let end = operations.last().map_or(Duration::ZERO, |last| last.at);
    let has_reads = random.u8(..4) > 0;
    let count = if has_reads {
        random.usize(..=operations.len() / 2)
    } else {
        0
    };
    for _ in 0..count {
        let conversation = random.usize(..4);
        let back = random.u64(..4) * random.u64(..2);
        let operation = if random.u8(..5) == 0 {
            Operation::MarkRead {
                user: random.usize(..users),
                conversation,
                back,
            }
        } else {
            Operation::Read {
                device: random.usize(..devices),
                conversation,
                back,
            }
        };
        let at = Duration::from_millis(random.u64(..=end.as_millis() as u64));
        operations.push(Timed { at, operation });
    }
    // Stable: operations of the same time keep their order.
    operations.sort_by_key(|timed| timed.at);
}

/// The conversation of a letter. All letters with one key have the same.
fn talk(seed: u64, letter: u64) -> Talk {
    match reading_random(seed ^ letter).u8(..8) {
        0..4 => Talk::Notices,
        4 | 5 => Talk::Alerts,
        group => Talk::Group(group - 6),
    }
}

struct Maker {
    seed: u64,
    random: Rng,
    users: usize,
    devices: usize,
    letters: Vec<Letter>,
    /// The kinds of faults that this seed uses, one bit each.
    kinds: u32,
}

impl Maker {
    fn operations(&mut self) -> Vec<Timed> {
        self.kinds = self.random.u32(..) & self.random.u32(..);
        let mut operations = Vec::new();
        let mut at = Duration::ZERO;
        for device in 0..self.devices {
            let operation = Operation::Open(device);
            operations.push(Timed { at, operation });
        }
        for _ in 0..self.random.usize(20..150) {
            // Operations are mostly close together, and sometimes come after a pause.
            let most_ms = if self.random.u8(..6) == 0 {
                30_000
            } else {
                1_000
            };
            at += Duration::from_millis(self.random.u64(..most_ms));
            let operation = self.operation();
            operations.push(Timed { at, operation });
        }
        operations
    }

    fn operation(&mut self) -> Operation {
        loop {
            let kind = self.random.u32(..40);
            if kind >= 20 || self.kinds & (1 << kind) != 0 {
                return self.operation_of(kind);
            }
        }
    }

    fn operation_of(&mut self, kind: u32) -> Operation {
        let device = self.random.usize(..self.devices);
        let user = self.random.usize(..self.users);
        match kind {
            0 => Operation::Close(device),
            1 => Operation::CrashAt(
                device,
                if self.random.bool() {
                    Crash::BeforeCommit
                } else {
                    Crash::AfterCommit
                },
            ),
            2 => Operation::Reinstall(device),
            3 => Operation::Cut(device),
            4 => Operation::HalfOpen(device),
            5 => {
                let side = if self.random.bool() {
                    Side::Device
                } else {
                    Side::Gateway
                };
                Operation::Stall(device, side, self.time(40_000))
            }
            6 => Operation::Outage(device, self.time(60_000)),
            7 | 8 => Operation::Crash(self.death()),
            9 | 10 => Operation::CrashWithin(self.random.u64(1..60), self.death()),
            11 => Operation::Drain(self.time(10_000)),
            12 => Operation::LogOut(
                user,
                *self
                    .random
                    .choice(&[Platform::Ios, Platform::Web, Platform::Windows])
                    .expect("there are some"),
            ),
            13 => Operation::Delete(
                user,
                (0..self.random.u64(1..4))
                    .map(|_| self.random.u64(..6))
                    .collect(),
            ),
            14 => Operation::Suspend(self.time(400_000)),
            15 => Operation::ClockWrong(self.time(3_000)),
            16 => Operation::DiskFull(self.time(10_000)),
            17 => Operation::SyncFails,
            18 => Operation::Cold(self.random.u32(..4)),
            19 if self.random.u8(..4) == 0 => Operation::LoseLog,
            19 => Operation::Register(user),
            20..25 => Operation::Open(device),
            25 | 26 => Operation::Burst(
                (0..self.random.usize(2..30))
                    .map(|_| self.letter())
                    .collect(),
            ),
            _ => Operation::Send(self.letter()),
        }
    }

    fn time(&mut self, most_ms: u64) -> Duration {
        Duration::from_millis(self.random.u64(1..most_ms))
    }

    fn death(&mut self) -> Death {
        let power = match self.random.u8(..4) {
            0 => Some(Loss::Everything),
            1 => Some(Loss::Anything),
            _ => None,
        };
        let state = match self.random.u8(..12) {
            0 => Fate::Lost,
            1 => Fate::Broken,
            2 => Fate::Unbelievable,
            _ => Fate::Kept,
        };
        Death {
            power,
            state,
            has_flip: self.random.u8(..6) == 0,
            down: self.time(5_000),
        }
    }

    fn letter(&mut self) -> Letter {
        let repeats = self.random.u8(..4) == 0;
        if repeats && let Some(earlier) = self.random.choice(&self.letters) {
            let mut letter = earlier.clone();
            if self.random.u8(..4) == 0 {
                // The same key with another body.
                letter.number = self.number();
                self.letters.push(letter.clone());
            }
            return letter;
        }
        let receivers = match self.random.u8(..8) {
            0 => None,
            1 => Some((0..self.users).collect()),
            _ => Some(vec![self.random.usize(..self.users)]),
        };
        let is_online_only = self.random.u8(..12) == 0;
        let is_keyed = !is_online_only && self.random.bool();
        let number = self.number();
        let letter = Letter {
            number,
            receivers,
            talk: talk(self.seed, number),
            key: is_keyed.then_some(number as u32),
            is_online_only,
            bytes: if self.random.u8(..10) == 0 {
                self.random.usize(..4_000)
            } else {
                self.random.usize(..60)
            },
        };
        if is_keyed {
            self.letters.push(letter.clone());
        }
        letter
    }

    /// A number that no other letter of the schedule has.
    fn number(&mut self) -> u64 {
        self.random.u64(..1 << 32)
    }
}
