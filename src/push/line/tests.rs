//! Sequences of calls and their ends.

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
    let tasks = (1..=100).map(|n| task(&format!("u{n}"), n, n));
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
    assert_eq!(numbers(&line.next(600_000).unwrap()), [2]);
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

/// Makes all calls that can be made until a time; the tasks of the users that begin with `bad` fail. Returns the other tasks that
/// were done, each with its time.
fn run(line: &mut TaskLine, from_ms: u64, until_ms: u64) -> Vec<(u64, u64)> {
    let (mut now_ms, mut done) = (from_ms, Vec::new());
    while now_ms <= until_ms {
        while let Some(batch) = line.next(now_ms) {
            let is_bad = batch.tasks[0].1.user.as_str().starts_with("bad");
            let verdict = if is_bad {
                Verdict::Again(None)
            } else {
                done.extend(numbers(&batch).into_iter().map(|number| (number, now_ms)));
                Verdict::Done
            };
            line.end(&batch, &vec![verdict; batch.tasks.len()], now_ms, 1.0);
        }
        now_ms += 100;
    }
    done
}

#[test]
fn users_whose_calls_always_fail_stop_the_vendor_for_nobody_else() {
    // Twenty messages to each of five users whose devices fail, and then one to each of twenty others.
    let bad = (0..100).map(|n| task(&format!("bad{}", n % 5), n, 1));
    let good = (0..20).map(|n| task(&format!("good{n}"), 200, 1));
    let mut line = line(1, bad.chain(good));
    let done = run(&mut line, 0, 30_000);
    assert_eq!(done.len(), 20);
    assert!(done.iter().all(|(_, at_ms)| *at_ms <= 5000), "{done:?}");
    // While nobody else gets a message, a new one finds the vendor tried soon.
    run(&mut line, 30_000, 600_000);
    line.add(vec![(500, task("good", 201, 1))], 500, false);
    let done = run(&mut line, 600_000, 610_000);
    assert_eq!(done.len(), 1);
}

#[test]
fn the_failures_of_one_user_stop_no_vendor() {
    let tasks = (0..100).map(|n| task("bad", n, 1));
    let mut line = line(1, tasks);
    run(&mut line, 0, 10_000);
    assert!(!line.is_open());
}

#[test]
fn tasks_that_are_to_be_tried_again_take_no_room_of_new_ones_and_the_worst_of_too_many_end() {
    let mut line = TaskLine::new((1024, false), HOUR);
    let mut count = 0;
    while count <= AGAIN_TASKS_MAX {
        let numbers = count as u64 + 1..=count as u64 + 1024;
        let tasks = numbers.clone().map(|number| (number, task("bad", 1, 1)));
        line.add(tasks.collect(), *numbers.end(), false);
        let batch = line.next(0).unwrap();
        line.end(&batch, &[Verdict::Again(None); 1024], 0, 1.0);
        count += batch.tasks.len();
        assert_eq!(line.wants(), Some((*numbers.end(), WINDOW)));
    }
    let batch = line.next(1000).unwrap();
    line.end(&batch, &[Verdict::Again(None); 1024], 1000, 1.0);
    let over: Vec<_> = line.surplus().into_iter().map(|(n, _)| n).collect();
    assert_eq!(over, numbers(&batch), "they failed twice");
    assert_eq!(line.surplus(), []);
}

#[test]
fn a_dead_vendor_is_known_by_calls_for_the_same_many_users_too() {
    let mut line = TaskLine::new((9, true), HOUR);
    let users = (0..9).map(|n| format!("u{n}"));
    let users: Vec<_> = users.collect();
    let tasks = (1..=9).flat_map(|message| users.iter().map(move |user| task(user, message, 1)));
    line.add((1..).zip(tasks).collect(), 81, true);
    let mut calls = 0;
    while let Some(batch) = line.next(0) {
        calls += 1;
        line.end(&batch, &[Verdict::Again(None); 9], 0, 1.0);
    }
    assert_eq!((calls, line.is_open()), (5, true));
}
