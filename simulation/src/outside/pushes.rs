//! The promise of vendor push, at the vendors: no repeat without a crash that explains it, no push to another user's device. `decisions.rs`
//! judges what was decided, and `duties.rs` what is owed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    decisions::SeenTasks,
    duties::{Duty, OpenCase},
    events::ToldEnd,
    proofs::ServedSince,
    service::Service,
    wishes::PushWishes,
};
use crate::trace::violated;
use towncrier::{
    config::{self, DeviceClass},
    ids::Platform,
    message::Provider,
    push::vendor::Outcome,
};

/// A task's end is durable after this time.
const ENDS_WITHIN: Duration = Duration::from_secs(3);
/// A fault of the disk that was ordered lasts no longer.
const FAULT: Duration = Duration::from_secs(10);

/// The end that a vendor gave to a push, with its own word for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PushEnd {
    Sent(String),
    Failed(String),
}

impl PushEnd {
    fn word(&self) -> &str {
        match self {
            Self::Sent(word) | Self::Failed(word) => word,
        }
    }
}

/// One attempt to push to a device.
#[derive(Debug, Clone)]
pub(super) struct Try {
    life: u64,
    /// The vendor's end, even if its answer was lost.
    pub(super) end: Option<PushEnd>,
    /// The time at which the gateway had its answer.
    answered: Option<Instant>,
    /// True if the answer ends the task.
    is_over: bool,
}

#[derive(Debug)]
pub(super) struct RegisteredToken {
    pub(super) user: usize,
    pub(super) class: DeviceClass,
    pub(super) since_ms: u64,
}

/// All facts about pushes.
pub(super) struct Pushes {
    pub(super) after: Duration,
    pub(super) unless_acked_on: Vec<DeviceClass>,
    pub(super) expire_ms: u64,
    pub(super) tasks_max: usize,
    life: u64,
    /// The time at which it began, Unix ms.
    pub(super) began_ms: u64,
    /// The end of each life.
    ended: BTreeMap<u64, Instant>,
    /// The times at which the gateway could not do all its work.
    unwell: Vec<Instant>,
    /// Up to this time nothing is promised about repeats.
    excused: Option<Instant>,
    pub(super) tries: BTreeMap<(String, String), Vec<Try>>,
    count: u64,
    /// The words of the ends that the gateway was given, with their place in that order.
    given: BTreeMap<String, u64>,
    /// The place of the last end that the receiver of webhooks was told, by user, type and vendor.
    told: BTreeMap<(String, String, String), u64>,
    /// The vendors that were not well at a call of this life.
    pub(super) troubled: BTreeSet<u8>,
    gone: BTreeSet<String>,
    pub(super) registered: BTreeMap<String, RegisteredToken>,
    pub(super) cases: BTreeMap<(usize, u64), OpenCase>,
    pub(super) known: BTreeSet<(usize, u64)>,
    pub(super) duties: BTreeMap<(String, String), Duty>,
    pub(super) proofs: ServedSince,
    pub(super) wishes: PushWishes,
    /// The rows of tasks at the last look, which was in this life.
    pub(super) tasks: Option<SeenTasks>,
}

impl Pushes {
    pub(super) fn new(config: &config::Push) -> Self {
        Self {
            after: config.after,
            unless_acked_on: config.unless_acked_on.clone(),
            expire_ms: config.expire_after.as_millis() as u64,
            tasks_max: config.tasks_max,
            life: 0,
            began_ms: 0,
            ended: BTreeMap::new(),
            unwell: Vec::new(),
            excused: None,
            tries: BTreeMap::new(),
            count: 0,
            given: BTreeMap::new(),
            told: BTreeMap::new(),
            troubled: BTreeSet::new(),
            gone: BTreeSet::new(),
            registered: BTreeMap::new(),
            cases: BTreeMap::new(),
            known: BTreeSet::new(),
            duties: BTreeMap::new(),
            proofs: ServedSince::default(),
            wishes: PushWishes::default(),
            tasks: None,
        }
    }

    /// A process begins.
    pub(super) fn starts(&mut self, now_ms: u64) {
        self.life += 1;
        self.began_ms = now_ms;
        self.troubled.clear();
        self.proofs = ServedSince::default();
        self.tasks = None;
    }

    /// The process ends.
    pub(super) fn ends(&mut self) {
        self.ended.insert(self.life, Instant::now());
    }

    /// Another log begins: devices and tasks are gone.
    pub(super) fn begin(&mut self) {
        self.registered.clear();
        self.cases.clear();
        self.known.clear();
        self.duties.clear();
        self.tries.clear();
        self.wishes = PushWishes::default();
    }

    pub(super) fn is_unwell(&mut self) {
        self.unwell.push(Instant::now());
    }

    /// Nothing is promised for what was before this time.
    pub(super) fn excuse(&mut self) {
        self.excused = Some(Instant::now());
        self.cases.clear();
        self.duties.clear();
        self.wishes.forget();
        self.tasks = None;
    }

    /// A vendor's token was registered, durably.
    pub(super) fn registers(
        &mut self,
        token: &str,
        (user, platform): (usize, Platform),
        now_ms: u64,
    ) {
        let Some(class) = DeviceClass::of(platform) else {
            return;
        };
        let registered = RegisteredToken {
            user,
            class,
            since_ms: now_ms,
        };
        self.registered.insert(token.to_owned(), registered);
    }

    /// Nothing is promised any more for the device with this token.
    pub(super) fn forgets(&mut self, token: &str) {
        self.registered.remove(token);
        self.duties.retain(|(_, other), _| other != token);
    }

    /// True if the vendor knows the token no longer.
    pub(super) fn is_gone(&self, token: &str) -> bool {
        self.gone.contains(token)
    }

    /// A push arrives at a vendor that is like this. Returns its answer.
    pub(super) fn arrives(
        &mut self,
        provider: Provider,
        (id, user, token): (&str, &str, &str),
        service: Service,
    ) -> Outcome {
        if service != Service::Up {
            self.troubled.insert(provider as u8);
        }
        let key = (id.to_owned(), token.to_owned());
        self.judge_repeat(&key);
        if !token.starts_with(&format!("{user}.")) {
            violated(
                "push",
                format_args!("{id} of {user} goes to the device {token}"),
            );
        }
        self.count += 1;
        let service = match service {
            Service::Up | Service::Slow | Service::Mute if self.gone.contains(token) => {
                Service::Forgetful
            }
            service => service,
        };
        let (outcome, end) = service.outcome(format!("push-{}", self.count));
        if service == Service::Forgetful {
            self.gone.insert(token.to_owned());
        }
        self.tries.entry(key).or_default().push(Try {
            life: self.life,
            end,
            answered: None,
            is_over: false,
        });
        if service == Service::Forgetful {
            self.forgets(token);
        }
        outcome
    }

    /// The gateway has the answer.
    pub(super) fn answered(&mut self, id: &str, token: &str, is_over: bool) {
        let tries = self.tries.get_mut(&(id.to_owned(), token.to_owned()));
        if let Some(last) = tries.and_then(|tries| tries.last_mut()) {
            last.answered = Some(Instant::now());
            last.is_over = is_over;
            let place = self.given.len() as u64;
            let word = last.end.as_ref().filter(|_| is_over).map(PushEnd::word);
            self.given.extend(word.map(|word| (word.to_owned(), place)));
        }
    }

    /// The ends of a vendor's pushes are told in the order in which the gateway was given them.
    pub(super) fn judge_order(&mut self, ends: Vec<ToldEnd>) {
        for end in ends {
            let Some(place) = self.given.get(&end.word) else {
                continue;
            };
            let told = self.told.entry(end.of).or_default();
            if place < told {
                violated(
                    "webhooks",
                    format_args!("{} is out of order: {place}, behind {told}", end.word),
                );
            }
            *told = *place;
        }
    }

    /// No repeat within one life, unless the vendor asked for it or the answer was lost; none in a later life whose log knows the end.
    fn judge_repeat(&self, key: &(String, String)) {
        for before in self.tries.get(key).into_iter().flatten() {
            if before.life == self.life {
                if before.is_over || before.answered.is_none() {
                    violated("push", format_args!("{key:?} once more after {before:?}"));
                }
                continue;
            }
            if before.is_over && self.is_durable(before) {
                violated(
                    "push",
                    format_args!("{key:?} after a restart, although {before:?}"),
                );
            }
        }
    }

    /// True if the end of a task was durable when its life ended.
    fn is_durable(&self, before: &Try) -> bool {
        let Some(answered) = before.answered else {
            return false;
        };
        let until = answered + ENDS_WITHIN;
        let is_whole = self
            .ended
            .get(&before.life)
            .is_none_or(|ended| *ended >= until);
        let mut unwell = self.unwell.iter();
        let is_well = !unwell.any(|at| (answered - FAULT..=until).contains(at));
        let is_excused = self.excused.is_some_and(|excused| excused >= answered);
        is_whole && is_well && !is_excused && Instant::now() >= until
    }

    /// The words of vendors that webhooks owe: the ends of tasks that are durable.
    pub(super) fn words(&self) -> impl Iterator<Item = &str> {
        let tries = self.tries.values().flatten();
        let over = tries.filter(|one| one.is_over && self.is_durable(one));
        over.filter_map(|one| one.end.as_ref().map(PushEnd::word))
    }
}
