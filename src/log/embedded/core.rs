//! The state that the log's threads share: the segments, the rows, the end of the durable part, and the reason for which
//! appends are refused, if they are.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{
    Damage, Refusing,
    backup::{cut::Cut, slot::Backups},
    disk::{Disk, is_short_of_space},
    lock::lock,
    message_facts::MessageFacts,
    record::{MessageRecord, Position},
    segment::Segments,
    state::{Reached, State},
};
use crate::{clock::Clock, config, ids::Epoch, log::Consumers, metrics::Metrics};

/// The most damaged positions that are remembered and counted. More of them are one disaster.
const DAMAGES_MAX: usize = 100;

/// The lifetimes of what is stored, in ms.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lifetimes {
    /// `log.retention`.
    pub(super) retention_ms: u64,
    /// The age at which a segment ends. Its age then tells the age of its messages to within an eighth.
    pub(super) segment_age_ms: u64,
}

impl Lifetimes {
    pub(super) fn of(config: &config::Log) -> Self {
        let retention_ms = config.retention.as_millis() as u64;
        Self {
            retention_ms,
            segment_age_ms: (retention_ms / 8).max(1000),
        }
    }
}

/// The log without its threads.
pub(super) struct Core {
    pub(super) epoch: Epoch,
    /// The base of the messages that are stored now.
    pub(super) base: u32,
    pub(super) lifetimes: Lifetimes,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) segments: Segments,
    pub(super) state: State,
    pub(super) clock: Arc<Clock>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) consumers: Consumers,
    reached: Mutex<Reached>,
    refusing: Mutex<Option<Refusing>>,
    damages: Mutex<Vec<Damage>>,
    /// The backup that is being made.
    pub(super) backups: Backups,
}

impl Core {
    pub(super) fn new(
        (epoch, base): (Epoch, u32),
        lifetimes: Lifetimes,
        disk: Arc<dyn Disk>,
        state: State,
        clock: Arc<Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let nothing = Reached {
            position: Position::NONE,
            crc: 0,
        };
        metrics.log_writable.set(1.0);
        Self {
            epoch,
            base,
            lifetimes,
            disk,
            segments: Segments::default(),
            state,
            clock,
            metrics,
            consumers: Consumers::default(),
            reached: Mutex::new(nothing),
            refusing: Mutex::new(None),
            damages: Mutex::new(Vec::new()),
            backups: Backups::default(),
        }
    }

    /// True if entries get places in conversations; false while the format is held back to one without them.
    pub(super) fn has_conversations(&self) -> bool {
        self.state.has_conversations
    }

    /// The facts of a message that its entries need; `None` while entries are in no conversation.
    pub(super) fn facts_of(&self, message: &MessageRecord) -> Option<MessageFacts> {
        self.has_conversations().then(|| MessageFacts::of(message))
    }

    /// The Unix ms before which everything that is kept for `age` has expired. 0 while the clock does not allow expiry by
    /// age.
    pub(super) fn kept_since_ms(&self, age: Duration) -> u64 {
        if self.clock.may_expire() {
            self.clock.now_ms().saturating_sub(age.as_millis() as u64)
        } else {
            0
        }
    }

    /// The position up to which the log is durable and its rows are applied.
    pub(super) fn reached(&self) -> Reached {
        *lock(&self.reached)
    }

    /// Records that a group is durable and its rows are applied. If the disk was full, it no longer is.
    pub(super) fn publish(&self, reached: Reached) {
        *lock(&self.reached) = reached;
        let mut refusing = lock(&self.refusing);
        if *refusing == Some(Refusing::DiskFull) {
            *refusing = None;
            self.metrics.log_writable.set(1.0);
            tracing::info!("there is space on the disk again: sends are accepted");
        }
        drop(refusing);
        // Erased entries count as expired, so that the books are even.
        self.metrics.expired.increment(self.state.take_lapsed());
        self.metrics.pending.set(self.state.pending());
    }

    /// Refuses appends from now on. The gravest reason stays: a full disk may get space again, the other reasons last.
    pub(super) fn refuse(&self, reason: Refusing) -> Refusing {
        let mut refusing = lock(&self.refusing);
        if refusing.is_none() || *refusing == Some(Refusing::DiskFull) {
            if *refusing != Some(reason.clone()) {
                tracing::error!(%reason, "sends are refused");
            }
            *refusing = Some(reason);
        }
        self.metrics.log_writable.set(0.0);
        refusing.clone().expect("set above")
    }

    /// `Err` while appends are refused for any reason.
    pub(super) fn check_writable(&self) -> Result<(), Refusing> {
        lock(&self.refusing).clone().map_or(Ok(()), Err)
    }

    /// `Err` when no append will succeed before a restart. A full disk is no such reason: an append is worth another try.
    pub(super) fn check_writable_for_good(&self) -> Result<(), Refusing> {
        self.check_writable().or_else(|reason| {
            if reason == Refusing::DiskFull {
                Ok(())
            } else {
                Err(reason)
            }
        })
    }

    /// Refuses appends while the disk has less space than the state store needs to stop cleanly. Asks the operating system.
    pub(super) fn check_space(&self) -> Result<(), Refusing> {
        if is_short_of_space(&*self.disk) {
            return Err(self.refuse(Refusing::DiskFull));
        }
        Ok(())
    }

    pub(super) fn is_disk_full(&self) -> bool {
        *lock(&self.refusing) == Some(Refusing::DiskFull)
    }

    /// Cuts the log at its synced end, for a backup. Only while no segment is being removed. Refuses a log that only a restart can
    /// judge.
    pub(super) fn cut(&self) -> Result<Cut, Refusing> {
        self.check_writable_for_good()?;
        // The writer may go on and begin another segment meanwhile. So the list is taken first, and the part ends with it.
        let segments = self.segments.all();
        let end = segments.last().map_or(Position::NONE, |last| last.end());
        let position = self.reached().position.min(end);
        let segments = segments
            .into_iter()
            .filter(|segment| segment.base < position);
        let segments = segments.map(|segment| {
            let length = segment.length().min(position.0 - segment.base.0);
            (segment, length)
        });
        Ok(Cut {
            epoch: self.epoch,
            base: self.base,
            position,
            taken_ms: self.clock.now_ms(),
            segments: segments.collect(),
        })
    }

    /// Remembers damage that was found, and logs it, once for each position.
    pub(super) fn report(&self, damage: &Damage) {
        let mut damages = lock(&self.damages);
        if !damages.contains(damage) && damages.len() < DAMAGES_MAX {
            tracing::error!(
                segment = damage.segment,
                offset = damage.offset,
                what = damage.what,
                "the log is damaged"
            );
            self.metrics.damage_met.increment(1);
            damages.push(damage.clone());
        }
    }

    /// The damaged positions found so far.
    pub(super) fn damages(&self) -> Vec<Damage> {
        lock(&self.damages).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::log::tests::quiet_log, *};

    #[test]
    fn the_first_damages_are_remembered_each_once() {
        let (log, ..) = quiet_log(|job| job());
        let damage = |offset| Damage {
            segment: "1.log".into(),
            offset,
            what: "a test damaged it",
        };
        for offset in (0..2 * DAMAGES_MAX as u64).chain(0..10) {
            log.core.report(&damage(offset));
        }
        let expected: Vec<_> = (0..DAMAGES_MAX as u64).map(damage).collect();
        assert_eq!(log.core.damages(), expected);
    }
}
