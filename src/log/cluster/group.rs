//! A group of a lane: the appends that go to the store in one transaction, and their callers. Pure.

use std::{collections::HashMap, sync::Arc};

use tokio::{sync::oneshot, time::Instant};

use super::engine::{First, Placement};
use crate::{
    ids::{Epoch, UserId},
    log::{Append, AppendError, Commit, CommitGroup, Receipt},
    message::Numbers,
};

/// A group is closed at this many entries. More of them only make each one wait longer, and all of their users are locked
/// until the group is confirmed.
const GROUP_PLACES_MAX: usize = 1000;
/// A group is closed at this many bytes: about what a server writes in the time of a sync.
const LANE_GROUP_BYTES_MAX: usize = 1 << 20;

/// The way to answer the caller of an append.
pub(super) type LaneCaller = oneshot::Sender<Result<Receipt, AppendError>>;

/// An append that waits for a lane.
pub(super) struct LaneRequest {
    pub(super) append: Append,
    pub(super) caller: LaneCaller,
    /// The time at which it came.
    pub(super) since: Instant,
}

/// A group that is being built.
#[derive(Default)]
pub(super) struct GroupBuilder {
    appends: Vec<Append>,
    callers: Vec<LaneCaller>,
    /// Repeats of a key of this group: the index of the first one, the repeat's digest, its caller.
    repeats: Vec<(usize, [u8; 16], LaneCaller)>,
    keys: HashMap<(Box<str>, Box<str>), usize>,
    /// The users of the group; true for one whose read marks are in it.
    users: HashMap<UserId, bool>,
    places: usize,
    bytes: usize,
}

impl GroupBuilder {
    /// Adds a request, or gives it back because it needs another group. An empty group takes any request.
    ///
    /// Read marks count up to the conversation's head. So they are not in a group with a message of the same user.
    pub(super) fn put(&mut self, request: LaneRequest) -> Option<LaneRequest> {
        let append = &request.append;
        if append.is_keyed {
            let key = (append.sender.clone(), append.client_message_id.clone());
            if let Some(first) = self.keys.get(&key) {
                let repeat = (*first, append.fingerprint, request.caller);
                self.repeats.push(repeat);
                return None;
            }
        }
        let is_full = self.places + append.receivers.len() > GROUP_PLACES_MAX
            || self.bytes + append.body.len() > LANE_GROUP_BYTES_MAX;
        let meets_marks = |user| match self.users.get(user) {
            Some(has_marks) => *has_marks || append.is_marks,
            None => false,
        };
        if !self.appends.is_empty() && (is_full || append.receivers.iter().any(meets_marks)) {
            return Some(request);
        }
        if append.is_keyed {
            let key = (append.sender.clone(), append.client_message_id.clone());
            self.keys.insert(key, self.appends.len());
        }
        let users = append.receivers.iter().cloned();
        self.users.extend(users.map(|user| (user, append.is_marks)));
        self.places += append.receivers.len();
        self.bytes += append.body.len();
        self.appends.push(request.append);
        self.callers.push(request.caller);
        None
    }

    /// Closes the group.
    pub(super) fn close(self) -> LaneGroup {
        LaneGroup {
            appends: self.appends.into(),
            callers: self.callers.into_iter().map(Some).collect(),
            repeats: self.repeats,
        }
    }
}

/// A closed group, with the callers that have no answer yet.
pub(super) struct LaneGroup {
    pub(super) appends: Arc<[Append]>,
    callers: Vec<Option<LaneCaller>>,
    repeats: Vec<(usize, [u8; 16], LaneCaller)>,
}

impl LaneGroup {
    /// Answers an append, and the repeats of its key in this group. Who was answered before is not answered again.
    pub(super) fn answer(&mut self, index: usize, answer: &Result<Receipt, AppendError>) {
        // A caller may have gone. Then the answer is discarded.
        if let Some(caller) = self.callers[index].take() {
            drop(caller.send(answer.clone()));
        }
        let fingerprint = self.appends[index].fingerprint;
        let of_key = self.repeats.extract_if(.., |(first, ..)| *first == index);
        for (_, repeat, caller) in of_key {
            let is_same = repeat == fingerprint;
            let reused = || Err(AppendError::KeyReused);
            // A repeat of an append that was not stored is not stored either.
            let answer = if is_same || answer.is_err() {
                answer.clone()
            } else {
                reused()
            };
            drop(caller.send(answer));
        }
    }

    /// Answers everyone who has no answer yet.
    pub(super) fn answer_all(&mut self, answer: &Result<Receipt, AppendError>) {
        (0..self.appends.len()).for_each(|index| self.answer(index, answer));
    }

    /// The appends one by one, each with its callers.
    pub(super) fn split(self) -> Vec<Self> {
        let appends = self.appends.iter().cloned().zip(self.callers);
        let singles = appends.map(|(append, caller)| Self {
            appends: [append].into(),
            callers: vec![caller],
            repeats: Vec::new(),
        });
        let mut singles: Vec<_> = singles.collect();
        for (first, repeat, caller) in self.repeats {
            singles[first].repeats.push((0, repeat, caller));
        }
        singles
    }
}

/// The outcomes of a group.
#[derive(Debug, Default)]
pub(super) struct GroupOutcomes {
    /// The answers, by the index of the append. A repeat of an earlier group has none yet.
    pub(super) answers: Vec<(usize, Result<Receipt, AppendError>)>,
    /// The indexes of the repeats of earlier groups.
    pub(super) repeats: Vec<usize>,
    pub(super) commits: Vec<Commit>,
}

impl GroupOutcomes {
    /// The outcomes of a group that the store answered.
    pub(super) fn placed(appends: &[Append], placements: Vec<Placement>) -> Self {
        let mut outcomes = Self::default();
        for (index, placement) in placements.into_iter().enumerate() {
            match placement {
                Placement::Placed { epoch, entries } => {
                    let append = &appends[index];
                    outcomes.commit(append, epoch, entries.clone());
                    let receipt = receipt(append, entries);
                    outcomes.answers.push((index, Ok(receipt)));
                }
                Placement::Repeated => outcomes.repeats.push(index),
            }
        }
        outcomes
    }

    /// The outcomes of appends that were placed or are repeats, from what is stored.
    pub(super) fn looked_up(appends: &[Append], firsts: Vec<Option<First>>) -> Self {
        let mut outcomes = Self::default();
        for (index, first) in firsts.into_iter().enumerate() {
            let append = &appends[index];
            let answer = match first {
                None => Err(AppendError::OutcomeUnknown),
                Some(first) if first.receipt.message_id == append.message_id => {
                    outcomes.commit(append, first.epoch, first.receipt.entries.clone());
                    Ok(first.receipt)
                }
                Some(first) => of_repeat(append, first),
            };
            outcomes.answers.push((index, answer));
        }
        outcomes
    }

    fn commit(&mut self, append: &Append, epoch: Epoch, entries: Arc<[(UserId, Numbers)]>) {
        if !entries.is_empty() {
            let body = append.body.clone();
            self.commits.push(Commit {
                epoch,
                body,
                entries,
                group: CommitGroup::default(),
            });
        }
    }

    /// The commits, as those of this group.
    pub(super) fn commits_of(&self, group: CommitGroup) -> Vec<Commit> {
        let commits = self.commits.iter().cloned();
        commits.map(|commit| Commit { group, ..commit }).collect()
    }
}

/// The answer to an append whose key was used before.
pub(super) fn of_repeat(append: &Append, first: First) -> Result<Receipt, AppendError> {
    if first.fingerprint != append.fingerprint {
        return Err(AppendError::KeyReused);
    }
    if !first.is_complete {
        return Err(AppendError::OutcomeUnknown);
    }
    Ok(first.receipt)
}

/// The receipt of an append with these entries.
fn receipt(append: &Append, entries: Arc<[(UserId, Numbers)]>) -> Receipt {
    Receipt {
        message_id: append.message_id,
        sender: append.sender.clone(),
        client_message_id: append.client_message_id.clone(),
        send_time_ms: append.send_time_ms,
        receivers: entries.len() as u64,
        entries,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ids::Seq,
        log::tests::conformance::{message, user},
    };

    type Answer = oneshot::Receiver<Result<Receipt, AppendError>>;

    fn request(append: Append) -> (LaneRequest, Answer) {
        let (caller, answer) = oneshot::channel();
        let since = Instant::now();
        let request = LaneRequest {
            append,
            caller,
            since,
        };
        (request, answer)
    }

    /// True if the group took the append.
    fn takes(group: &mut GroupBuilder, append: Append) -> bool {
        group.put(request(append).0).is_none()
    }

    fn marks(name: &str) -> Append {
        Append {
            is_marks: true,
            ..message(1, &[name], None, "")
        }
    }

    #[test]
    fn a_group_has_a_bound_in_entries_and_in_bytes() {
        let mut group = GroupBuilder::default();
        let names: Vec<_> = (0..600).map(|number| format!("u{number}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        assert!(takes(&mut group, message(1, &names, None, "a")));
        assert!(!takes(&mut group, message(1, &names, None, "b")));
        assert!(takes(&mut group, message(1, &["u1"], None, "c")));
        let large = "x".repeat(LANE_GROUP_BYTES_MAX);
        assert!(!takes(&mut group, message(1, &["u1"], None, &large)));
        assert!(takes(
            &mut GroupBuilder::default(),
            message(1, &["u1"], None, &large)
        ));
    }

    #[test]
    fn read_marks_and_messages_of_a_user_are_in_different_groups() {
        let mut group = GroupBuilder::default();
        assert!(takes(&mut group, message(1, &["u1", "u2"], None, "a")));
        assert!(!takes(&mut group, marks("u1")));
        assert!(takes(&mut group, marks("u3")));
        assert!(!takes(&mut group, marks("u3")));
        assert!(!takes(&mut group, message(1, &["u4", "u3"], None, "b")));
        assert!(takes(&mut group, message(1, &["u1", "u4"], None, "c")));
    }

    fn placed(append: &Append) -> Placement {
        let numbers = Numbers {
            seq: Seq(1),
            ..Numbers::default()
        };
        let entries = append.receivers.iter().cloned();
        Placement::Placed {
            epoch: Epoch(7),
            entries: entries.map(|user| (user, numbers)).collect(),
        }
    }

    #[test]
    fn a_repeat_in_the_same_group_gets_the_first_answer() {
        let mut builder = GroupBuilder::default();
        let send = |builder: &mut GroupBuilder, body| {
            let (request, answer) = request(message(1, &["u1"], Some("key"), body));
            assert!(builder.put(request).is_none());
            answer
        };
        let mut answers = ["body", "body", "another"].map(|body| send(&mut builder, body));
        let mut group = builder.close();
        assert_eq!(group.appends.len(), 1);
        let placements = vec![placed(&group.appends[0])];
        let outcomes = GroupOutcomes::placed(&group.appends, placements);
        assert_eq!(outcomes.commits.len(), 1);
        for (index, answer) in &outcomes.answers {
            group.answer(*index, answer);
        }
        let [first, repeat, reused] = &mut answers;
        let first = first.try_recv().unwrap();
        assert_eq!(first.as_ref().unwrap().entries[0].0, user("u1"));
        assert_eq!(repeat.try_recv().unwrap(), first);
        assert_eq!(reused.try_recv().unwrap(), Err(AppendError::KeyReused));
    }

    #[test]
    fn what_was_placed_is_committed_when_its_answer_was_lost_and_a_repeat_is_not() {
        let appends = [
            message(1, &["u1"], Some("key"), "a"),
            message(1, &["u1"], Some("other"), "b"),
            message(1, &["u1"], None, "c"),
        ];
        let first = |append: &Append, message_id| {
            let Placement::Placed { epoch, entries } = placed(append) else {
                unreachable!("it is placed")
            };
            Some(First {
                fingerprint: append.fingerprint,
                epoch,
                receipt: Receipt {
                    message_id,
                    ..receipt(append, entries)
                },
                is_complete: true,
            })
        };
        let earlier = crate::ids::MessageId::new(0);
        let firsts = vec![
            first(&appends[0], appends[0].message_id),
            first(&appends[1], earlier),
            None,
        ];
        let outcomes = GroupOutcomes::looked_up(&appends, firsts);
        let bodies: Vec<_> = outcomes.commits.iter().map(|commit| &commit.body).collect();
        assert_eq!(bodies, [&appends[0].body]);
        let ids = outcomes.answers.iter().map(|(_, answer)| {
            let receipt = answer.as_ref();
            receipt.map(|receipt| receipt.message_id).ok()
        });
        let ids: Vec<_> = ids.collect();
        assert_eq!(ids, [Some(appends[0].message_id), Some(earlier), None]);
    }

    #[test]
    fn a_group_that_is_taken_apart_keeps_the_callers() {
        let mut builder = GroupBuilder::default();
        let (first, mut answer) = request(message(1, &["u1"], Some("key"), "a"));
        let (repeat, mut again) = request(message(1, &["u1"], Some("key"), "a"));
        let (other, mut apart) = request(message(1, &["u1"], None, "b"));
        for request in [first, repeat, other] {
            assert!(builder.put(request).is_none());
        }
        let mut singles = builder.close().split();
        assert_eq!(singles.len(), 2);
        let unknown = Err(AppendError::OutcomeUnknown);
        singles[0].answer_all(&unknown);
        assert_eq!(answer.try_recv().unwrap(), unknown);
        assert_eq!(again.try_recv().unwrap(), unknown);
        assert!(apart.try_recv().is_err());
    }
}
