//! The tasks of one vendor that are looked at now: which is sent next, again, or no more. Pure.
//!
//! Tasks are taken in the order of their numbers. One that is to be tried again waits in its place and holds up no later one, until
//! as many wait as the window takes.

use std::{collections::BTreeMap, time::Duration};

use super::{
    breaker::{Breaker, BreakerTurn, backoff_ms},
    rows::PushTask,
};

/// The tasks that are looked at together: some calls of the vendor with the largest lists. More stay on the disk.
pub(super) const WINDOW: usize = 2048;
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
    state: SlotState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SlotState {
    /// It may be tried from this time on, Unix ms.
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
    /// It is to be tried again, after this pause at the earliest.
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
    /// because each read costs a look at the disk.
    pub(super) fn wants(&self) -> Option<(u64, usize)> {
        let room = WINDOW.saturating_sub(self.slots.len());
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

    /// Takes out the tasks below a number, because there were too many. Those of a call under way end with it.
    pub(super) fn drop_below(&mut self, floor: u64) {
        self.slots
            .retain(|number, slot| *number >= floor || slot.state == SlotState::Flying);
        self.read_to = self.read_to.max(floor.saturating_sub(1));
    }

    fn ends_ms(&self, slot: &Slot) -> u64 {
        slot.task.accepted_ms.saturating_add(self.expire_after_ms)
    }

    fn take(&mut self, numbers: Vec<u64>) -> Vec<(u64, PushTask)> {
        let taken = numbers.into_iter();
        taken
            .filter_map(|number| Some((number, self.slots.remove(&number)?.task)))
            .collect()
    }

    /// The next call, which is under way from now on; `None`: none may begin now.
    pub(super) fn next(&mut self, now_ms: u64) -> Option<TaskBatch> {
        if self.calls >= CALLS_MAX || !self.breaker.may_call(now_ms) {
            return None;
        }
        let is_ready =
            |slot: &Slot| matches!(slot.state, SlotState::Ready(from_ms) if from_ms <= now_ms);
        let mut ready = self.slots.iter_mut().filter(|(_, slot)| is_ready(slot));
        let (number, first) = ready.next()?;
        first.state = SlotState::Flying;
        let first_task = first.task.clone();
        let mut tasks = vec![(*number, first_task.clone())];
        let same =
            ready.filter(|(_, slot)| first_task.goes_with(&slot.task, self.takes_many_users));
        let same = same.take(self.devices_max - 1);
        let more: Vec<_> = same
            .map(|(number, slot)| {
                slot.state = SlotState::Flying;
                (*number, slot.task.clone())
            })
            .collect();
        tasks.extend(more);
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
        for (index, (number, _)) in batch.tasks.iter().enumerate() {
            let Some(slot) = self.slots.get_mut(number) else {
                continue;
            };
            let pause = match verdict(index).unwrap_or(Verdict::Again(None)) {
                Verdict::Done => {
                    self.slots.remove(number);
                    continue;
                }
                Verdict::Again(pause) => pause,
                Verdict::Stop => None,
            };
            let wait_ms = backoff_ms(RETRY_MS, RETRY_MS_MAX, slot.attempts, random);
            let asked_ms = pause.map_or(0, |pause| pause.as_millis() as u64);
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
            self.breaker.fail(batch.is_try, now_ms, asked_ms, random)
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
        self.slots.remove(&number);
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
mod tests {
    use super::*;
    use crate::{
        config::DeviceClass,
        ids::{MessageId, Seq, UserId},
    };

    const HOUR: Duration = Duration::from_secs(3600);
    const HOUR_MS: u64 = 3_600_000;

    fn task(user: &str, message: u8, device: u8) -> PushTask {
        PushTask {
            message_id: MessageId([message; 16]),
            user: UserId::new(user).unwrap(),
            seq: Seq(message.into()),
            accepted_ms: 0,
            class: DeviceClass::Mobile,
            device: [device; 16],
        }
    }

    fn line(devices_max: usize, tasks: impl IntoIterator<Item = PushTask>) -> TaskLine {
        let mut line = TaskLine::new((devices_max, false), HOUR);
        let tasks: Vec<_> = (1..).zip(tasks).collect();
        assert!(line.wants().is_some());
        let read_to = tasks.len() as u64;
        line.add(tasks, read_to, false);
        line
    }

    fn numbers(batch: &TaskBatch) -> Vec<u64> {
        batch.tasks.iter().map(|(number, _)| *number).collect()
    }

    #[test]
    fn tasks_go_in_order_and_those_of_one_notice_together() {
        let mut line = line(
            2,
            [
                task("a", 1, 1),
                task("b", 1, 2),
                task("a", 1, 3),
                task("a", 1, 4),
                task("a", 2, 1),
            ],
        );
        let batches: Vec<_> = std::iter::from_fn(|| line.next(0)).collect();
        let expected = [vec![1, 3], vec![2], vec![4], vec![5]];
        assert_eq!(batches.iter().map(numbers).collect::<Vec<_>>(), expected);
        for batch in &batches {
            let verdicts = vec![Verdict::Done; batch.tasks.len()];
            assert_eq!(line.end(batch, &verdicts, 0, 0.0), BreakerTurn::Same);
        }
        assert_eq!(line.wakes_at_ms(), None);
    }

    #[test]
    fn one_device_of_a_call_can_be_tried_again_alone() {
        let mut line = line(9, [task("a", 1, 1), task("a", 1, 2)]);
        let batch = line.next(0).unwrap();
        line.end(&batch, &[Verdict::Done, Verdict::Again(None)], 0, 1.0);
        assert_eq!(line.wakes_at_ms(), Some(RETRY_MS));
        assert_eq!(line.next(RETRY_MS - 1), None);
        let again = line.next(RETRY_MS).unwrap();
        assert_eq!(numbers(&again), [2]);
        // The vendor asked for a longer pause.
        let pause = Duration::from_secs(90);
        line.end(&again, &[Verdict::Again(Some(pause))], RETRY_MS, 1.0);
        assert_eq!(line.retries_at_ms(2), Some(91_000));
        assert_eq!(line.next(90_999), None);
        assert!(line.next(91_000).is_some());
    }

    #[test]
    fn a_task_that_waits_for_its_next_try_holds_up_no_later_one() {
        let mut line = line(1, [task("a", 1, 1), task("b", 2, 1)]);
        let first = line.next(0).unwrap();
        line.end(&first, &[Verdict::Again(None)], 0, 0.0);
        assert_eq!(numbers(&line.next(0).unwrap()), [2]);
    }

    #[test]
    fn a_dead_vendor_gets_one_call_after_each_pause() {
        let tasks = (1..=100).map(|n| task("a", n, n));
        let mut line = line(1, tasks);
        let mut calls = 0;
        while let Some(batch) = line.next(0) {
            calls += 1;
            line.end(&batch, &[Verdict::Again(None)], 0, 1.0);
        }
        assert_eq!(calls, 5);
        assert!(line.is_open());
        let wake_ms = line.wakes_at_ms().unwrap();
        assert_eq!(line.next(wake_ms - 1), None);
        let batch = line.next(wake_ms).unwrap();
        assert_eq!(line.next(wake_ms), None, "one call tries");
        assert_eq!(line.wakes_at_ms(), Some(HOUR_MS));
        let turn = line.end(&batch, &[Verdict::Done], wake_ms, 1.0);
        assert_eq!(turn, BreakerTurn::Closed);
        assert!(line.next(wake_ms).is_some());
    }

    #[test]
    fn refused_credentials_stop_all_and_no_task_is_lost() {
        let mut line = line(1, [task("a", 1, 1), task("b", 2, 2)]);
        let batch = line.next(0).unwrap();
        assert_eq!(
            line.end(&batch, &[Verdict::Stop], 0, 1.0),
            BreakerTurn::Stopped
        );
        assert!(line.is_stopped());
        assert_eq!(line.next(599_999), None);
        assert_eq!(numbers(&line.next(600_000).unwrap()), [1]);
    }

    #[test]
    fn a_task_ends_when_it_is_too_old_but_not_while_its_call_is_under_way() {
        let mut line = line(1, [task("a", 1, 1), task("b", 2, 2)]);
        let batch = line.next(0).unwrap();
        let expired = line.expire(HOUR_MS);
        assert_eq!(expired.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [2]);
        line.end(&batch, &[Verdict::Again(None)], HOUR_MS, 0.0);
        assert_eq!(line.expire(HOUR_MS).len(), 1);
        assert_eq!(line.wakes_at_ms(), None);
    }

    #[test]
    fn no_more_calls_are_under_way_than_allowed_and_no_more_tasks_in_memory_than_the_window() {
        let tasks = (0..WINDOW).map(|n| task(&format!("u{n}"), 1, 1));
        let mut line = line(1, tasks);
        assert_eq!(line.wants(), None);
        let batches: Vec<_> = std::iter::from_fn(|| line.next(0)).collect();
        assert_eq!(batches.len(), CALLS_MAX);
        line.end(&batches[0], &[Verdict::Done], 0, 0.0);
        assert_eq!(line.wants(), None);
        line.drop_below(WINDOW as u64 / 2 + 100);
        let (after, limit) = line.wants().unwrap();
        assert_eq!(after, WINDOW as u64);
        assert!((WINDOW / 2..WINDOW).contains(&limit), "{limit}");
        line.add(Vec::new(), 0, true);
        assert_eq!(line.wants(), None, "there is no more");
        line.wake();
        assert_eq!(line.wants(), Some((after, limit)));
    }

    #[test]
    fn a_call_may_be_split_or_not_made() {
        let tasks = [task("a", 1, 1), task("b", 1, 2), task("c", 1, 3)];
        let mut line = TaskLine::new((9, true), HOUR);
        line.add((1..).zip(tasks).collect(), 3, true);
        let mut batch = line.next(0).unwrap();
        assert_eq!(numbers(&batch), [1, 2, 3], "several users in one call");
        line.finish(&mut batch, 2);
        let parts = line.split(batch, vec![vec![1], vec![0]]);
        assert_eq!(parts.iter().map(numbers).collect::<Vec<_>>(), [[3], [1]]);
        line.cancel(&parts[0], 500);
        line.end(&parts[1], &[Verdict::Done], 0, 0.0);
        assert_eq!(line.next(499), None);
        assert_eq!(numbers(&line.next(500).unwrap()), [3]);
    }

    #[test]
    fn tasks_below_the_floor_are_dropped() {
        let mut line = line(1, [task("a", 1, 1), task("b", 2, 2), task("c", 3, 3)]);
        let batch = line.next(0).unwrap();
        line.drop_below(3);
        assert_eq!(numbers(&line.next(0).unwrap()), [3]);
        line.end(&batch, &[Verdict::Done], 0, 0.0);
        assert_eq!(line.next(0), None);
    }
}
