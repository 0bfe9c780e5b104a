//! The tasks of one vendor that are looked at now: which is sent next, again, or no more. Pure.
//!
//! Tasks of users without a failure go first, then those that failed less often, then the older ones. So those that fail again and
//! again, because of a user's device, hold up no other: neither the calls, nor the reading of further tasks, nor the one call that tries
//! a vendor that failed.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use super::{
    breaker::{Breaker, BreakerTurn, FailedCall, backoff_ms},
    rows::PushTask,
};
use crate::ids::UserId;

/// The tasks without a failure that are looked at together: some calls of the vendor with the largest lists. More stay on the disk.
pub(super) const WINDOW: usize = 2048;
/// The tasks that are to be tried again: 4 MB. A vendor that is down has few of them, because the breaker lets few calls through. Of more,
/// those end that failed most often.
pub(super) const AGAIN_TASKS_MAX: usize = 16_384;
/// The calls of one vendor under way at once: with 50 ms each they do some 300 a second.
pub(super) const CALLS_MAX: usize = 16;
/// The first pause before a task is tried again, in ms. It doubles up to [`RETRY_MS_MAX`].
const RETRY_MS: u64 = 1000;
/// The longest pause between two tries of a task, in ms.
const RETRY_MS_MAX: u64 = 600_000;

/// The tasks of one vendor.
#[derive(Debug)]
pub(super) struct TaskLine {
    /// The most devices of one call.
    devices_max: usize,
    /// True if one call may have several users.
    takes_many_users: bool,
    /// `push.expire_after`, in ms.
    expire_after_ms: u64,
    slots: BTreeMap<u64, Slot>,
    /// The slots of them whose tasks failed before.
    again: usize,
    /// The users with tasks that failed in calls for nobody else, and the number of those.
    suspects: HashMap<UserId, usize>,
    /// All tasks up to this number were read.
    read_to: u64,
    /// False: there may be more tasks to read.
    is_at_end: bool,
    /// Calls under way.
    calls: usize,
    breaker: Breaker,
}

#[derive(Debug)]
struct Slot {
    task: PushTask,
    /// Tries that failed.
    attempts: u32,
    /// True if one of these calls had no other user.
    is_suspect: bool,
    state: SlotState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SlotState {
    /// The task may be tried from this time on, Unix ms.
    Ready(u64),
    /// A call with it is under way.
    Flying,
}

/// A call that is to be made: tasks of one message to one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TaskBatch {
    /// The tasks with their numbers, ascending. At least one.
    pub(super) tasks: Vec<(u64, PushTask)>,
    /// True if the call tries whether the vendor works again.
    is_try: bool,
}

/// The answer about one device, as far as it decides about the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The task is done, one way or the other.
    Done,
    /// The task is to be tried again, after this pause at the earliest.
    Again(Option<Duration>),
    /// The vendor refuses our credentials.
    Stop,
}

impl TaskLine {
    pub(super) fn new(
        (devices_max, takes_many_users): (usize, bool),
        expire_after: Duration,
    ) -> Self {
        Self {
            devices_max: devices_max.max(1),
            takes_many_users,
            expire_after_ms: expire_after.as_millis() as u64,
            slots: BTreeMap::new(),
            again: 0,
            suspects: HashMap::new(),
            read_to: 0,
            is_at_end: false,
            calls: 0,
            breaker: Breaker::default(),
        }
    }

    /// There may be new tasks.
    pub(super) fn wake(&mut self) {
        self.is_at_end = false;
    }

    /// The number after which to read on, and the most tasks to read; `None`: nothing is to be read. Half a window is read at once,
    /// because each read costs a look at the disk. Tasks that failed before take no room.
    pub(super) fn wants(&self) -> Option<(u64, usize)> {
        let room = WINDOW.saturating_sub(self.slots.len() - self.again);
        (!self.is_at_end && room >= WINDOW / 2).then_some((self.read_to, room))
    }

    /// Takes the tasks that were read up to this number, at most as many as wanted. `is_end`: there are no more.
    pub(super) fn add(&mut self, tasks: Vec<(u64, PushTask)>, read_to: u64, is_end: bool) {
        self.is_at_end = is_end;
        self.read_to = self.read_to.max(read_to);
        for (number, task) in tasks {
            let slot = Slot {
                task,
                attempts: 0,
                is_suspect: false,
                state: SlotState::Ready(0),
            };
            self.slots.insert(number, slot);
        }
    }

    /// Takes out the tasks that are too old now.
    pub(super) fn expire(&mut self, now_ms: u64) -> Vec<(u64, PushTask)> {
        let is_over = |slot: &Slot| slot.state != SlotState::Flying && self.ends_ms(slot) <= now_ms;
        let over: Vec<_> = self
            .slots
            .iter()
            .filter(|(_, slot)| is_over(slot))
            .map(|(number, _)| *number)
            .collect();
        self.take(over)
    }

    /// Takes out the tasks that failed most often, if too many are to be tried again.
    pub(super) fn surplus(&mut self) -> Vec<(u64, PushTask)> {
        let over = self.again.saturating_sub(AGAIN_TASKS_MAX);
        if over == 0 {
            return Vec::new();
        }
        let failed = self.slots.iter().filter(|(_, slot)| slot.attempts > 0);
        let waiting = failed.filter(|(_, slot)| slot.state != SlotState::Flying);
        let mut waiting: Vec<_> = waiting
            .map(|(number, slot)| (Reverse(slot.attempts), *number))
            .collect();
        waiting.sort_unstable();
        let over = waiting.into_iter().take(over);
        self.take(over.map(|(_, number)| number).collect())
    }

    /// Takes out the tasks below a number, because there were too many. Those of a call under way end with it.
    pub(super) fn drop_below(&mut self, floor: u64) {
        let below = self.slots.range(..floor);
        let below = below.filter(|(_, slot)| slot.state != SlotState::Flying);
        let below: Vec<_> = below.map(|(number, _)| *number).collect();
        self.take(below);
        self.read_to = self.read_to.max(floor.saturating_sub(1));
    }

    fn ends_ms(&self, slot: &Slot) -> u64 {
        slot.task.accepted_ms.saturating_add(self.expire_after_ms)
    }

    fn take(&mut self, numbers: Vec<u64>) -> Vec<(u64, PushTask)> {
        let taken = numbers.into_iter();
        taken
            .filter_map(|number| Some((number, self.remove(number)?)))
            .collect()
    }

    fn remove(&mut self, number: u64) -> Option<PushTask> {
        let slot = self.slots.remove(&number)?;
        if slot.attempts > 0 {
            self.again -= 1;
        }
        if slot.is_suspect
            && let Some(count) = self.suspects.get_mut(&slot.task.user)
        {
            *count -= 1;
            if *count == 0 {
                self.suspects.remove(&slot.task.user);
            }
        }
        Some(slot.task)
    }

    /// The next call, which is under way from now on; `None`: none may begin now.
    pub(super) fn next(&mut self, now_ms: u64) -> Option<TaskBatch> {
        if self.calls >= CALLS_MAX || !self.breaker.may_call(now_ms) {
            return None;
        }
        let is_ready =
            |slot: &Slot| matches!(slot.state, SlotState::Ready(from_ms) if from_ms <= now_ms);
        let ready = self.slots.iter().filter(|(_, slot)| is_ready(slot));
        let (_, _, first) = ready
            .map(|(number, slot)| {
                let is_suspect = self.suspects.contains_key(&slot.task.user);
                (is_suspect, slot.attempts, *number)
            })
            .min()?;
        let first_task = self.slots.get(&first)?.task.clone();
        let same = self.slots.iter().filter(|(number, slot)| {
            **number != first
                && is_ready(slot)
                && first_task.goes_with(&slot.task, self.takes_many_users)
        });
        let same = same.take(self.devices_max - 1);
        let mut tasks: Vec<_> = same
            .map(|(number, slot)| (*number, slot.task.clone()))
            .collect();
        tasks.push((first, first_task));
        tasks.sort_unstable_by_key(|(number, _)| *number);
        for (number, _) in &tasks {
            if let Some(slot) = self.slots.get_mut(number) {
                slot.state = SlotState::Flying;
            }
        }
        self.calls += 1;
        let is_try = self.breaker.begin();
        Some(TaskBatch { tasks, is_try })
    }

    /// The call has ended with these verdicts, one for each of its tasks. A task without one is tried again. Returns the change of
    /// the breaker. A task that is tried again has its next time in [`retries_at_ms`](Self::retries_at_ms).
    pub(super) fn end(
        &mut self,
        batch: &TaskBatch,
        verdicts: &[Verdict],
        now_ms: u64,
        random: f64,
    ) -> BreakerTurn {
        self.calls -= 1;
        let verdict = |index: usize| verdicts.get(index).copied();
        // Failures of users who had others, and of tasks that failed before, may be about their devices and not about the vendor.
        let mut failed = Vec::new();
        let mut users = batch.tasks.iter().map(|(_, task)| &task.user);
        let is_of_one = users
            .next()
            .is_some_and(|first| users.all(|user| user == first));
        let was_suspect = is_of_one && self.suspects.contains_key(&batch.tasks[0].1.user);
        for (index, (number, task)) in batch.tasks.iter().enumerate() {
            let Some(slot) = self.slots.get_mut(number) else {
                continue;
            };
            let verdict = verdict(index).unwrap_or(Verdict::Again(None));
            let pause = match verdict {
                Verdict::Done => {
                    self.remove(*number);
                    continue;
                }
                Verdict::Again(pause) => pause,
                Verdict::Stop => None,
            };
            let wait_ms = backoff_ms(RETRY_MS, RETRY_MS_MAX, slot.attempts, random);
            let asked_ms = pause.map_or(0, |pause| pause.as_millis() as u64);
            if slot.attempts == 0 {
                self.again += 1;
                if !was_suspect {
                    failed.push(&task.user);
                }
            }
            if is_of_one && !slot.is_suspect && verdict != Verdict::Stop {
                slot.is_suspect = true;
                *self.suspects.entry(task.user.clone()).or_default() += 1;
            }
            slot.attempts += 1;
            slot.state = SlotState::Ready(now_ms.saturating_add(wait_ms.max(asked_ms)));
        }
        let pause = verdicts.iter().filter_map(|verdict| match verdict {
            Verdict::Again(pause) => *pause,
            Verdict::Done | Verdict::Stop => None,
        });
        let asked_ms = pause.max().map(|pause| pause.as_millis() as u64);
        if verdicts.contains(&Verdict::Stop) {
            self.breaker.stop(now_ms)
        } else if verdicts.contains(&Verdict::Done) {
            self.breaker.succeed(batch.is_try)
        } else {
            let call = FailedCall {
                is_try: batch.is_try,
                asked_ms,
                users: &failed,
            };
            self.breaker.fail(&call, now_ms, random)
        }
    }

    /// Makes several calls of one: the tasks at these places of the batch go together. Each place stands in one part.
    pub(super) fn split(&mut self, batch: TaskBatch, parts: Vec<Vec<usize>>) -> Vec<TaskBatch> {
        self.calls += parts.len().saturating_sub(1);
        let mut is_try = batch.is_try;
        parts
            .into_iter()
            .map(|places| TaskBatch {
                tasks: places
                    .into_iter()
                    .map(|place| batch.tasks[place].clone())
                    .collect(),
                is_try: std::mem::take(&mut is_try),
            })
            .collect()
    }

    /// A task of a call is done before the call is made.
    pub(super) fn finish(&mut self, batch: &mut TaskBatch, number: u64) {
        self.remove(number);
        batch.tasks.retain(|(other, _)| *other != number);
    }

    /// The call was not made. Its tasks wait for this time, Unix ms.
    pub(super) fn cancel(&mut self, batch: &TaskBatch, until_ms: u64) {
        self.calls -= 1;
        for (number, _) in &batch.tasks {
            if let Some(slot) = self.slots.get_mut(number) {
                slot.state = SlotState::Ready(until_ms);
            }
        }
        self.breaker.give_back(batch.is_try);
    }

    /// The time at which a task is tried again, Unix ms.
    pub(super) fn retries_at_ms(&self, number: u64) -> Option<u64> {
        match self.slots.get(&number)?.state {
            SlotState::Ready(from_ms) => Some(from_ms.max(self.breaker.opens_at_ms().unwrap_or(0))),
            SlotState::Flying => None,
        }
    }

    /// The time at which there is something to do again without a call's end or a new task, Unix ms; `None`: never.
    pub(super) fn wakes_at_ms(&self) -> Option<u64> {
        let ready = self.slots.values().filter_map(|slot| match slot.state {
            SlotState::Ready(from_ms) => Some((from_ms, self.ends_ms(slot))),
            SlotState::Flying => None,
        });
        let opens_ms = self.breaker.opens_at_ms().unwrap_or(0);
        // While all calls are under way, or the one of an open breaker, only the end of a call or of a task changes anything.
        let may_call = self.calls < CALLS_MAX && !(self.breaker.is_open() && opens_ms == 0);
        ready
            .map(|(from_ms, ends_ms)| {
                if may_call {
                    from_ms.max(opens_ms).min(ends_ms)
                } else {
                    ends_ms
                }
            })
            .min()
    }

    /// True while the vendor gets nothing because of failures before.
    pub(super) fn is_open(&self) -> bool {
        self.breaker.is_open()
    }

    /// True while the vendor refuses our credentials.
    pub(super) fn is_stopped(&self) -> bool {
        self.breaker.is_stopped()
    }
}

#[cfg(test)]
mod tests;
