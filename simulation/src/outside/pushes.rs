//! The promise of vendor push: no push for a message that was acked when the decision fell; at least one attempt for every device of
//! a class that was not served; no repeat without a crash that explains it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use prost::Message as _;
use tokio::time::Instant;

use super::service::Service;
use crate::{
    model::{Model, SLACK_MS, at_once, user_id},
    trace::violated,
};
use towncrier::{
    config::{self, DeviceClass},
    ids::Platform,
    log::{Log as _, RowTable, embedded::EmbeddedLog},
    push::vendor::Outcome,
};

/// The time from the facts of a decision to its row: reads of a slow disk.
const DECIDES_WITHIN: Duration = Duration::from_secs(5);
/// A task's end is durable after this time.
const ENDS_WITHIN: Duration = Duration::from_secs(3);
/// A fault of the disk that was ordered lasts no longer.
const FAULT: Duration = Duration::from_secs(10);
/// A device that was registered just before a message may be too late for it, ms.
const REGISTERS_WITHIN_MS: u64 = 2_000;
/// The prefix of the keys of tasks; see `src/push/rows.rs`.
const TASKS: &[u8] = &[2];

/// The end that a vendor gave to a push, with its own word for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PushEnd {
    Sent(String),
    Failed(String),
}

/// One attempt to push to a device.
#[derive(Debug, Clone)]
struct Try {
    life: u64,
    /// The vendor's end, even if its answer was lost.
    end: Option<PushEnd>,
    /// The time at which the gateway had its answer.
    answered: Option<Instant>,
    /// True if the answer ends the task.
    is_over: bool,
}

/// A message to a user of which it is not known yet what each class is owed.
#[derive(Debug)]
struct OpenCase {
    id: String,
    at_ms: u64,
    seen: Instant,
    classes: BTreeSet<DeviceClass>,
}

/// A push that has to be tried.
#[derive(Debug)]
struct Duty {
    user: usize,
    seq: u64,
    at_ms: u64,
}

#[derive(Debug)]
pub(super) struct RegisteredToken {
    user: usize,
    class: DeviceClass,
    since_ms: u64,
}

/// The value of a task's row.
#[derive(Clone, PartialEq, prost::Message)]
struct TaskRow {
    #[prost(bytes = "vec", tag = "1")]
    message_id: Vec<u8>,
    #[prost(string, tag = "2")]
    user: String,
    #[prost(uint64, tag = "3")]
    seq: u64,
    #[prost(uint64, tag = "4")]
    accepted_ms: u64,
    #[prost(uint32, tag = "5")]
    class: u32,
}

/// The moves of the highest ack of a class, in this life.
type Acks = VecDeque<(Instant, u64)>;

/// All facts about pushes.
pub(super) struct Pushes {
    after: Duration,
    unless_acked_on: Vec<DeviceClass>,
    expire_ms: u64,
    life: u64,
    /// The time at which it began, Unix ms.
    began_ms: u64,
    /// The end of each life.
    ended: BTreeMap<u64, Instant>,
    /// The times at which the gateway could not do all its work.
    unwell: Vec<Instant>,
    /// Up to this time nothing is promised about repeats.
    excused: Option<Instant>,
    tries: BTreeMap<(String, String), Vec<Try>>,
    count: u64,
    gone: BTreeSet<String>,
    pub(super) registered: BTreeMap<String, RegisteredToken>,
    cases: BTreeMap<(usize, u64), OpenCase>,
    known: BTreeSet<(usize, u64)>,
    duties: BTreeMap<(String, String), Duty>,
    acks: BTreeMap<(usize, DeviceClass), Acks>,
    /// The rows of tasks at the last look, which was in this life.
    rows: Option<(Instant, BTreeSet<Vec<u8>>)>,
}

impl Pushes {
    pub(super) fn new(config: &config::Push) -> Self {
        Self {
            after: config.after,
            unless_acked_on: config.unless_acked_on.clone(),
            expire_ms: config.expire_after.as_millis() as u64,
            life: 0,
            began_ms: 0,
            ended: BTreeMap::new(),
            unwell: Vec::new(),
            excused: None,
            tries: BTreeMap::new(),
            count: 0,
            gone: BTreeSet::new(),
            registered: BTreeMap::new(),
            cases: BTreeMap::new(),
            known: BTreeSet::new(),
            duties: BTreeMap::new(),
            acks: BTreeMap::new(),
            rows: None,
        }
    }

    /// A process begins.
    pub(super) fn starts(&mut self, now_ms: u64) {
        self.life += 1;
        self.began_ms = now_ms;
        self.acks.clear();
        self.rows = None;
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
    }

    pub(super) fn is_unwell(&mut self) {
        self.unwell.push(Instant::now());
    }

    /// Nothing is promised for what was before this time.
    pub(super) fn excuse(&mut self) {
        self.excused = Some(Instant::now());
        self.cases.clear();
        self.duties.clear();
        self.rows = None;
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
        id: &str,
        user: &str,
        token: &str,
        service: Service,
    ) -> Outcome {
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

    /// Looks at the log of the running process. `settled`: for how long it could do all its work. `phones`: users and classes that have
    /// OpenIM clients, whose proofs are not looked at.
    pub(super) fn look(
        &mut self,
        model: &Model,
        log: &EmbeddedLog,
        users: usize,
        settled: Duration,
        excused_ms: u64,
        phones: &BTreeSet<(usize, DeviceClass)>,
    ) {
        let now = Instant::now();
        for user in 0..users {
            let Ok(sessions) = at_once(log.sessions(&user_id(user))) else {
                self.acks.clear();
                self.rows = None;
                return;
            };
            let mut highest = BTreeMap::new();
            for (key, row) in sessions {
                if let Some(class) = DeviceClass::of(key.platform)
                    && !key.is_openim()
                {
                    let highest = highest.entry(class).or_insert(0);
                    *highest = row.cursor.0.max(*highest);
                }
            }
            for class in DeviceClass::ALL {
                let highest = highest.get(&class).copied().unwrap_or(0);
                let acks = self.acks.entry((user, class)).or_default();
                match acks.back() {
                    Some((_, last)) if *last == highest => {}
                    Some((_, last)) if *last > highest => {
                        acks.clear();
                        acks.push_back((now, highest));
                    }
                    _ => acks.push_back((now, highest)),
                }
            }
        }
        self.judge_rows(log, excused_ms);
        self.take_cases(model, users, excused_ms);
        self.close_cases(model, now, settled, phones);
    }

    /// True while something is to be decided.
    pub(super) fn has_cases(&self) -> bool {
        !self.cases.is_empty()
    }

    /// The time since which a class is served, as far as the looks of this life know.
    fn served_since(&self, user: usize, class: DeviceClass, seq: u64) -> Option<Instant> {
        let classes = self.unless_acked_on.iter().copied().chain([class]);
        let since = classes.filter_map(|class| {
            let acks = self.acks.get(&(user, class))?;
            acks.iter().find(|(_, cursor)| *cursor >= seq)
        });
        since.map(|(since, _)| *since).min()
    }

    /// Each new task is for a class that was not served.
    fn judge_rows(&mut self, log: &EmbeddedLog, excused_ms: u64) {
        let Ok(rows) = at_once(log.rows(RowTable::PushTasks, TASKS, b"", usize::MAX)) else {
            self.rows = None;
            return;
        };
        let keys: BTreeSet<_> = rows.iter().map(|(key, _)| key.to_vec()).collect();
        let before = self.rows.replace((Instant::now(), keys));
        let Some((looked, before)) = before else {
            return;
        };
        for (key, value) in rows {
            let Ok(task) = TaskRow::decode(&value[..]) else {
                violated("push", format_args!("a task does not decode: {value:?}"));
                continue;
            };
            let user = task
                .user
                .strip_prefix('u')
                .and_then(|user| user.parse().ok());
            let mut classes = DeviceClass::ALL.into_iter();
            let class = classes.find(|class| *class as u32 == task.class);
            let (Some(user), Some(class)) = (user, class) else {
                violated("push", format_args!("a task of nobody: {task:?}"));
                continue;
            };
            if before.contains(&key[..]) || task.accepted_ms <= excused_ms {
                continue;
            }
            let since = self.served_since(user, class, task.seq);
            if since.is_some_and(|since| since + DECIDES_WITHIN < looked) {
                violated(
                    "push",
                    format_args!("a push is decided, although the class is served: {task:?}"),
                );
            }
        }
    }

    fn take_cases(&mut self, model: &Model, users: usize, excused_ms: u64) {
        for user in 0..users {
            for (seq, id, at_ms) in model.messages_of(user) {
                if !self.known.insert((user, seq)) || at_ms <= excused_ms {
                    continue;
                }
                let registered = self.registered.values().filter(|one| one.user == user);
                let case = OpenCase {
                    id: id.to_owned(),
                    at_ms,
                    seen: Instant::now(),
                    classes: registered.map(|one| one.class).collect(),
                };
                self.cases.insert((user, seq), case);
            }
        }
    }

    /// Once the decision must have fallen, each class that nothing served is owed a push.
    fn close_cases(
        &mut self,
        model: &Model,
        now: Instant,
        settled: Duration,
        phones: &BTreeSet<(usize, DeviceClass)>,
    ) {
        let must = self.after + 2 * DECIDES_WITHIN;
        let mut open = std::mem::take(&mut self.cases);
        open.retain(|(user, seq), case| {
            case.classes.retain(|class| {
                // An ack that a crash lost served as well.
                let is_lost =
                    case.at_ms <= self.began_ms && model.has_landed_on(*user, *class, *seq);
                !is_lost
                    && !phones.contains(&(*user, *class))
                    && self.served_since(*user, *class, *seq).is_none()
            });
            let is_due = settled >= must && now >= case.seen + must;
            if is_due {
                for (token, one) in &self.registered {
                    let is_owed = one.user == *user
                        && case.classes.contains(&one.class)
                        && one.since_ms + REGISTERS_WITHIN_MS < case.at_ms;
                    if is_owed {
                        let duty = Duty {
                            user: *user,
                            seq: *seq,
                            at_ms: case.at_ms,
                        };
                        self.duties.insert((case.id.clone(), token.clone()), duty);
                    }
                }
            }
            !is_due && !case.classes.is_empty()
        });
        self.cases = open;
    }

    /// Any push that is owed and was not given an end by its vendor.
    pub(super) fn owed(&self, model: &Model) -> Option<String> {
        if let Some(case) = self.cases.first_key_value() {
            return Some(format!("not decided yet: {case:?}"));
        }
        let now_ms = model.clock.now_ms();
        let unmet = self.duties.iter().find(|(key, duty)| {
            let mut tries = self.tries.get(key).into_iter().flatten();
            let is_given = tries.any(|one| one.end.is_some());
            let is_over = duty.at_ms + self.expire_ms <= now_ms + SLACK_MS
                || model.may_be_gone(duty.user, model.epoch, duty.seq);
            !is_given && !is_over
        });
        unmet.map(|unmet| format!("{unmet:?}, tried: {:?}", self.tries.get(unmet.0)))
    }

    /// The words of vendors that webhooks owe: the ends of tasks that are durable.
    pub(super) fn words(&self) -> impl Iterator<Item = &str> {
        let tries = self.tries.values().flatten();
        let over = tries.filter(|one| one.is_over && self.is_durable(one));
        over.filter_map(|one| match one.end.as_ref()? {
            PushEnd::Sent(word) | PushEnd::Failed(word) => Some(&**word),
        })
    }

    /// The number of pushes that were owed, and of those that arrived.
    pub(super) fn counts(&self) -> (usize, u64) {
        (self.duties.len(), self.count)
    }
}
