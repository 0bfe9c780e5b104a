//! The promise of the decisions: no push for a message that was acked when the decision fell, none that nobody wants, no more of them than
//! may wait. And of the vendors: one that is well has its pushes soon, whatever the others do.

use std::{collections::BTreeMap, time::Duration};

use prost::Message as _;
use tokio::time::Instant;

use super::{look::LookAtGateway, pushes::Pushes};
use crate::{letter::is_unpushed, model::at_once, trace::violated};
use towncrier::{
    config::DeviceClass,
    log::{Log as _, RowTable},
};

/// The prefix of the keys of tasks; see `src/push/rows.rs`. A provider and a number follow.
const TASKS: &[u8] = &[2];
/// The bits below the time in a number.
const COUNT_BITS: u32 = 20;
/// A vendor that is well has a push after this time: reads of a slow disk, and a row that stays for a second.
const SENT_WITHIN: Duration = Duration::from_secs(20);
/// More tasks than may wait end within this time.
const BOUNDED_WITHIN: Duration = Duration::from_secs(20);

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

/// The rows of tasks at a look.
#[derive(Default)]
pub(super) struct SeenTasks {
    /// The keys, and the look that saw each for the first time.
    keys: BTreeMap<Vec<u8>, Instant>,
    /// The look since which there are more than may be.
    too_many: Option<Instant>,
}

/// The vendor and the time in a key, Unix ms.
fn key_parts(key: &[u8]) -> Option<(u8, u64)> {
    let (vendor, number) = key.strip_prefix(TASKS)?.split_first()?;
    let number = u64::from_be_bytes(number.try_into().ok()?);
    Some((*vendor, number >> COUNT_BITS))
}

impl Pushes {
    /// Judges the rows of tasks.
    pub(super) fn judge_tasks(&mut self, look: &LookAtGateway<'_>) {
        let rows = look
            .gateway
            .log
            .rows(RowTable::PushTasks, TASKS, b"", usize::MAX);
        let Ok(rows) = at_once(rows) else {
            self.tasks = None;
            return;
        };
        let before = self.tasks.take();
        let is_first = before.is_none();
        let before = before.unwrap_or_default();
        let mut seen = SeenTasks::default();
        for (key, value) in rows {
            let Ok(task) = TaskRow::decode(&value[..]) else {
                violated("push", format_args!("a task does not decode: {value:?}"));
                continue;
            };
            let since = before.keys.get(&key[..]).copied();
            if since.is_none() && !is_first && task.accepted_ms > look.excused_ms {
                self.judge_task(look, &key, &task);
            }
            let since = since.unwrap_or(look.now);
            let vendor = key_parts(&key).map(|(vendor, _)| vendor);
            let is_well = vendor.is_some_and(|vendor| !self.troubled.contains(&vendor));
            if is_well && (look.now - since).min(look.settled) > SENT_WITHIN {
                violated(
                    "push",
                    format_args!("a vendor that is well does not get {task:?}"),
                );
            }
            seen.keys.insert(key.to_vec(), since);
        }
        if seen.keys.len() > self.tasks_max {
            let since = before.too_many.unwrap_or(look.now);
            if (look.now - since).min(look.settled) > BOUNDED_WITHIN {
                let count = seen.keys.len();
                violated(
                    "push",
                    format_args!("{count} tasks wait, of {} at most", self.tasks_max),
                );
            }
            seen.too_many = Some(since);
        }
        self.tasks = Some(seen);
    }

    /// A new task is for a class that was not served, and for a message that its user wants to hear of.
    fn judge_task(&self, look: &LookAtGateway<'_>, key: &[u8], task: &TaskRow) {
        let user = task.user.strip_prefix('u');
        let user = user.and_then(|user| user.parse().ok());
        let mut classes = DeviceClass::ALL.into_iter();
        let class = classes.find(|class| *class as u32 == task.class);
        let (Some(user), Some(class), Some((_, at_ms))) = (user, class, key_parts(key)) else {
            return violated("push", format_args!("a task of nobody: {task:?}"));
        };
        let place = look.model.place_of(user, task.seq);
        if place
            .as_ref()
            .is_some_and(|place| is_unpushed(place.letter))
        {
            violated("push", format_args!("nobody wants a push of {task:?}"));
        }
        if at_ms > look.now_ms {
            // The number is ahead of a clock that went back.
            return;
        }
        let place = place.map(|place| (place.conversation, place.number));
        if let Some((conversation, _)) = &place
            && self.wishes.forbid(user, conversation, at_ms)
        {
            violated(
                "push",
                format_args!("do-not-disturb in {conversation}: {task:?}"),
            );
        }
        let of_others = self.unless_acked_on.iter().copied();
        for serving in of_others.chain([class]) {
            let since_ms = self
                .proofs
                .since_ms(user, serving, task.seq, place.as_ref());
            let is_served = since_ms.is_some_and(|since_ms| since_ms < at_ms);
            let is_by_pong = self.proofs.was_awake(user, serving, task.seq)
                && self.proofs.is_awake(user, serving, task.seq);
            if is_served || is_by_pong {
                violated(
                    "push",
                    format_args!(
                        "a push is decided at {at_ms}, although {serving:?} is served since {since_ms:?}: {task:?}"
                    ),
                );
            }
        }
    }
}
