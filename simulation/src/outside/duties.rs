//! The promise of at least one attempt for every device of a class that was not served.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

use super::{events::Events, look::LookAtGateway, pushes::Pushes};
use crate::{
    letter::is_unpushed,
    model::{Model, SLACK_MS},
};
use towncrier::config::DeviceClass;

/// The time from the facts of a decision to its row: reads of a slow disk.
const DECIDES_WITHIN: Duration = Duration::from_secs(5);
/// A device that was registered just before a message may be too late for it, ms.
const REGISTERS_WITHIN_MS: u64 = 2_000;

/// A message to a user of which it is not known yet what each class is owed.
#[derive(Debug)]
pub(super) struct OpenCase {
    id: String,
    /// Its conversation, and its number there.
    place: (String, u64),
    at_ms: u64,
    seen: Instant,
    classes: BTreeSet<DeviceClass>,
}

/// A push that has to be tried.
#[derive(Debug)]
pub(super) struct Duty {
    user: usize,
    class: DeviceClass,
    seq: u64,
    /// The conversation, and the number there.
    place: (String, u64),
    at_ms: u64,
    /// True once the class was served. A push that waits for its vendor then ends without a further attempt.
    may_be_served: bool,
}

impl Pushes {
    /// True while something is to be decided.
    pub(super) fn has_cases(&self) -> bool {
        !self.cases.is_empty()
    }

    pub(super) fn take_cases(&mut self, look: &LookAtGateway<'_>) {
        let model = look.model;
        for user in 0..look.users {
            for (seq, id, at_ms) in model.messages_of(user) {
                if self.known.contains(&(user, seq)) {
                    continue;
                }
                let Some(place) = model.place_of(user, seq) else {
                    continue;
                };
                self.known.insert((user, seq));
                if at_ms <= look.excused_ms || is_unpushed(place.letter) {
                    continue;
                }
                let registered = self.registered.values().filter(|one| one.user == user);
                let case = OpenCase {
                    id: id.to_owned(),
                    place: (place.conversation, place.number),
                    at_ms,
                    seen: look.now,
                    classes: registered.map(|one| one.class).collect(),
                };
                self.cases.insert((user, seq), case);
            }
        }
    }

    /// Once the decision must have fallen, each class that nothing served is owed a push.
    pub(super) fn close_cases(&mut self, look: &LookAtGateway<'_>) {
        let must = self.after + 2 * DECIDES_WITHIN;
        let mut open = std::mem::take(&mut self.cases);
        open.retain(|(user, seq), case| {
            let may_be_served = |class: DeviceClass| {
                let proofs = &self.proofs;
                let since_ms = proofs.since_ms(*user, class, *seq, Some(&case.place));
                since_ms.is_some() || proofs.is_awake(*user, class, *seq)
            };
            let by_other = self
                .unless_acked_on
                .iter()
                .any(|class| may_be_served(*class));
            let wants = self.wishes.want(*user, &case.place.0, case.seen);
            case.classes.retain(|class| {
                // An ack that a crash lost served as well.
                let is_lost =
                    case.at_ms <= self.began_ms && look.model.has_landed_on(*user, *class, *seq);
                !is_lost && !by_other && wants && !may_be_served(*class)
            });
            let is_due = look.settled >= must && look.now >= case.seen + must;
            if is_due {
                for (token, one) in &self.registered {
                    let is_owed = one.user == *user
                        && case.classes.contains(&one.class)
                        && one.since_ms + REGISTERS_WITHIN_MS < case.at_ms;
                    if is_owed {
                        let duty = Duty {
                            user: *user,
                            class: one.class,
                            seq: *seq,
                            place: case.place.clone(),
                            at_ms: case.at_ms,
                            may_be_served: false,
                        };
                        self.duties.insert((case.id.clone(), token.clone()), duty);
                    }
                }
            }
            !is_due && !case.classes.is_empty()
        });
        self.cases = open;
    }

    /// Notes what was served since it was owed.
    pub(super) fn note_served(&mut self, model: &Model) {
        for duty in self.duties.values_mut().filter(|duty| !duty.may_be_served) {
            let (user, seq) = (duty.user, duty.seq);
            let others = self.unless_acked_on.iter().copied();
            duty.may_be_served = others.chain([duty.class]).any(|class| {
                let since_ms = self.proofs.since_ms(user, class, seq, Some(&duty.place));
                since_ms.is_some()
                    || self.proofs.is_awake(user, class, seq)
                    || model.has_landed_on(user, class, seq)
            });
        }
    }

    /// Any push that is owed and was not given an end by its vendor. `events`: what the receiver of webhooks was told, if there is one.
    pub(super) fn owed(&self, model: &Model, events: Option<&Events>) -> Option<String> {
        if let Some(case) = self.cases.first_key_value() {
            return Some(format!("not decided yet: {case:?}"));
        }
        let now_ms = model.clock.now_ms();
        let unmet = self.duties.iter().find(|(key, duty)| {
            let mut tries = self.tries.get(key).into_iter().flatten();
            let is_given = tries.any(|one| one.end.is_some());
            let is_over = duty.at_ms + self.expire_ms <= now_ms + SLACK_MS
                || model.may_be_gone(duty.user, model.epoch, duty.seq)
                || duty.may_be_served
                || model.is_on_phone(duty.user, &duty.place);
            !is_given && !is_over && !self.may_have_ended(key, duty, events)
        });
        unmet.map(|unmet| format!("{unmet:?}, tried: {:?}", self.tries.get(unmet.0)))
    }

    /// True if the push may have ended because too many waited. The receiver of webhooks is told of each.
    fn may_have_ended(
        &self,
        (id, _): &(String, String),
        duty: &Duty,
        events: Option<&Events>,
    ) -> bool {
        let is_told = |events: &Events| events.has_expired(id, duty.user);
        self.tasks_max < FEW_TASKS && events.is_none_or(is_told)
    }

    /// The number of pushes that were owed, and of those that arrived.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.duties.len(), self.tries.values().flatten().count())
    }
}

/// A bound below this may be passed.
pub(super) const FEW_TASKS: usize = 100;
