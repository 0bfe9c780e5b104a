//! Messages to everyone. The writer first accepts such a message: the message and its row go into a group. The entries of the
//! users follow in pieces of bounded size. Each piece is in a group with other sends, so those need not wait.
//!
//! *Everyone* is every user who has a number when the message is accepted. The row of the message keeps the highest of
//! these numbers, and the number up to which users have their entry. A piece and the changed row are in one group, so each
//! user gets exactly one entry, also over a crash. A segment that has entries of the message has a copy of the message too.
//!
//! Messages are spread one after the other, in the order of their acceptance. The callers of a message are answered after its
//! last piece. A message whose callers have gone is spread to its end all the same.

use std::{collections::VecDeque, time::Duration};

use tokio::{sync::oneshot, time::Instant};

use super::{
    Append, AppendError, Commit, CommitGroup, ReadError, Receipt,
    core::Core,
    entry_fields::MESSAGE,
    group::Group,
    record::{Key, MessageRecord, Position, Record},
    spread_row::{SpreadRow, piece_record},
    state::StateError,
    table_id::{TableId, number_key},
};
use crate::ids::{MessageId, UserId};

/// The most messages to everyone that wait or are being spread. Each has its body in memory, at
/// most a frame.
const SPREADS_MAX: usize = 64;
/// The time between two pieces when nothing else is sent.
const SPACING: Duration = Duration::from_millis(1);
/// The time to the next attempt after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// The way to answer a caller that waits for the last piece.
type Reply = oneshot::Sender<Result<Receipt, AppendError>>;

/// A message that is not accepted yet, because users wait for their numbers.
struct Unaccepted {
    append: Append,
    callers: Vec<Reply>,
}

/// A message that was accepted and is being spread.
struct Running {
    id: MessageId,
    message: MessageRecord,
    row: SpreadRow,
    callers: Vec<Reply>,
}

/// All messages to everyone that are not spread to their end.
pub(super) struct Spreads {
    /// False while `log.format` is held back to a format without rows.
    is_on: bool,
    waiting: VecDeque<Unaccepted>,
    running: VecDeque<Running>,
    /// The messages that the present group accepts.
    accepted: Vec<Running>,
    /// The row of the first running message after the present group's piece.
    piece: Option<SpreadRow>,
    /// The present group could not get its piece.
    has_failed: bool,
    /// The next piece is due at this time.
    pub(super) resume_at: Instant,
}

impl Spreads {
    /// Goes on with the messages that were accepted and not spread to their end when the log was closed.
    pub(super) fn resume(core: &Core, is_on: bool) -> Result<Self, StateError> {
        let mut running = VecDeque::new();
        for (key, value) in core.state.rows_of(TableId::Spreads, &[])? {
            let id = (&*key).try_into().map(MessageId);
            let (Ok(row), Ok(id)) = (SpreadRow::read(value), id) else {
                tracing::error!(key = %key.escape_ascii(), "a row of a message to everyone does not read");
                continue;
            };
            if row.is_done() {
                continue;
            }
            if !is_on {
                tracing::warn!(%id, "a message to everyone is not spread to its end while log.format is held back");
                continue;
            }
            match core.message_of(&row) {
                Ok(message) => running.push_back(Running {
                    id,
                    message,
                    row,
                    callers: Vec::new(),
                }),
                // Such a log refuses appends, or retention removed the message while the format was held back.
                Err(error) => {
                    tracing::error!(%id, %error, "a message to everyone cannot be spread to its end");
                }
            }
        }
        Ok(Self {
            is_on,
            waiting: VecDeque::new(),
            running,
            accepted: Vec::new(),
            piece: None,
            has_failed: false,
            resume_at: Instant::now(),
        })
    }

    /// True if this log accepts messages to everyone in pieces.
    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }

    /// True if there is something to spread.
    pub(super) fn is_busy(&self) -> bool {
        !self.waiting.is_empty() || !self.running.is_empty()
    }

    /// The number of messages to everyone that wait or are being spread.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.running.len()
    }

    /// Takes a message to everyone. A repeat waits with the first one.
    pub(super) fn take(&mut self, core: &Core, append: Append, caller: Reply) {
        if append.is_keyed {
            if let Some((fingerprint, callers)) = self.of_key(&append) {
                if fingerprint == append.fingerprint {
                    // A caller whose time is over has gone.
                    callers.retain(|caller| !caller.is_closed());
                    callers.push(caller);
                } else {
                    drop(caller.send(Err(AppendError::KeyReused)));
                }
                return;
            }
            match core.earlier(&append) {
                Ok(None) => {}
                Ok(Some(receipt)) => return drop(caller.send(Ok(receipt))),
                Err(error) => return drop(caller.send(Err(error))),
            }
        }
        if self.len() >= SPREADS_MAX {
            return drop(caller.send(Err(AppendError::QueueFull)));
        }
        if let Err(error) = core.state.start_numbering() {
            return drop(caller.send(Err(ReadError::from(error).into())));
        }
        self.waiting.push_back(Unaccepted {
            append,
            callers: vec![caller],
        });
    }

    /// The message with the key of `append` that is not spread to its end: its fingerprint and its callers.
    fn of_key(&mut self, append: &Append) -> Option<([u8; 16], &mut Vec<Reply>)> {
        let waiting = self.waiting.iter_mut().find(|waiting| {
            let other = &waiting.append;
            other.is_keyed
                && other.sender == append.sender
                && other.client_message_id == append.client_message_id
        });
        if let Some(waiting) = waiting {
            return Some((waiting.append.fingerprint, &mut waiting.callers));
        }
        let running = self.running.iter_mut().find(|running| {
            let key = &running.message.key;
            running.message.is_keyed
                && key.sender == append.sender
                && key.client_message_id == append.client_message_id
        })?;
        Some((running.message.key.fingerprint, &mut running.callers))
    }

    /// Adds to a group: numbers for users who have none, then the messages that wait, then a piece of the first running
    /// message. `segment` is the beginning of the segment that the group is for.
    pub(super) fn add(&mut self, core: &Core, group: &mut Group, segment: Position) {
        if !self.is_on {
            return;
        }
        let added = self.add_piece(core, group, segment);
        self.has_failed = added.is_err();
        if let Err(error) = added {
            tracing::error!(%error, "a message to everyone could not be spread");
        }
        let (newcomers, is_all) = core.state.users.unnumbered(core.state.pace().users);
        let mut highest = core.state.users.highest();
        for user in newcomers {
            highest += 1;
            group.put(Record::Row {
                table: TableId::Numbers,
                key: number_key(highest),
                value: Some(user.as_str().to_owned().into()),
            });
        }
        if is_all {
            for waiting in std::mem::take(&mut self.waiting) {
                self.accept(core, group, waiting, highest);
            }
        }
    }

    /// Accepts a message: the group holds it with its row, and no entry yet.
    fn accept(&mut self, core: &Core, group: &mut Group, waiting: Unaccepted, highest: u64) {
        let Unaccepted { append, callers } = waiting;
        // A send to a list may have used the key meanwhile.
        let earlier = group
            .earlier(&append)
            .or_else(|| core.earlier(&append).transpose());
        if let Some(earlier) = earlier {
            callers
                .into_iter()
                .for_each(|caller| drop(caller.send(earlier.clone())));
            return;
        }
        let id = append.message_id;
        let message = MessageRecord {
            key: Key::of(&append),
            is_keyed: append.is_keyed,
            body: append.body,
        };
        let at = group.put(Record::Message(message.clone()));
        let row = SpreadRow::new(highest, at, core.state.pace().users as u64);
        group.put(row.record(id));
        group.messages += 1;
        self.accepted.push(Running {
            id,
            message,
            row,
            callers,
        });
    }

    /// Adds the next entries of the first running message.
    fn add_piece(
        &mut self,
        core: &Core,
        group: &mut Group,
        segment: Position,
    ) -> Result<(), StateError> {
        self.piece = None;
        let Some(running) = self
            .running
            .front()
            .filter(|running| !running.row.is_done())
        else {
            return Ok(());
        };
        let row = &running.row;
        let (begin, end) = (row.done, row.highest.min(row.done + row.piece));
        // All rows are looked up before the first record is put into the group.
        let facts = core.facts_of(&running.message);
        let mut receivers = Vec::with_capacity((end - begin) as usize);
        for number in begin + 1..=end {
            let user = core.state.user_of(number)?;
            let send_time_ms = running.message.key.send_time_ms;
            if let Some(user) = user.filter(|user| is_reached(core, user, send_time_ms)) {
                let conversation = group.look_up(&core.state, &user, facts.as_ref())?;
                receivers.push((user, conversation));
            }
        }
        let message = if row.message() < segment {
            group.put(copy(&running.message))
        } else {
            row.message()
        };
        if let Some(facts) = facts {
            group.add_facts(message, facts);
        }
        let first = group.end();
        let entries = receivers.into_iter().map(|(user, conversation)| {
            let numbers = group.add_entry(&user, conversation, message, MESSAGE);
            (user, numbers)
        });
        let entries: Vec<_> = entries.collect();
        group.put(piece_record(running.id, begin / row.piece, first));
        let moved = row.moved(end, message, entries.len());
        group.put(moved.record(running.id));
        group.commits.push(Commit {
            epoch: core.epoch,
            body: running.message.body.clone(),
            entries: entries.into(),
            group: CommitGroup::default(),
        });
        self.piece = Some(moved);
        Ok(())
    }

    /// Takes the outcome of the group: the rows are as the group has them, or as before it.
    pub(super) fn settle(&mut self, core: &Core, outcome: &Result<(), AppendError>) {
        let (accepted, piece) = (std::mem::take(&mut self.accepted), self.piece.take());
        if let Err(error) = outcome {
            self.resume_at = Instant::now() + RETRY;
            for caller in accepted.into_iter().flat_map(|refused| refused.callers) {
                drop(caller.send(Err(error.clone())));
            }
            return;
        }
        let pause = if self.has_failed { RETRY } else { SPACING };
        self.resume_at = Instant::now() + pause;
        if let (Some(running), Some(row)) = (self.running.front_mut(), piece) {
            running.row = row;
        }
        self.running.extend(accepted);
        while let Some(done) = self.running.pop_front_if(|running| running.row.is_done()) {
            if done.callers.iter().all(Reply::is_closed) {
                continue;
            }
            let receipt = core.receipt_of_spread(done.id, &done.row);
            let receipt = receipt.map_err(|error: ReadError| {
                tracing::error!(%error, "the receipt of a message to everyone cannot be read");
                // The message is spread to its end. Only the caller does not get its receipt.
                AppendError::OutcomeUnknown
            });
            for caller in done.callers {
                drop(caller.send(receipt.clone()));
            }
        }
    }

    /// No group can be written now. Messages that were not accepted are refused.
    pub(super) fn refuse(&mut self, error: &AppendError) {
        self.resume_at = Instant::now() + RETRY;
        for caller in self.waiting.drain(..).flat_map(|refused| refused.callers) {
            drop(caller.send(Err(error.clone())));
        }
    }
}

/// True unless the user was erased after the message was sent, or is unknown since. What cannot be looked up fails later.
fn is_reached(core: &Core, user: &UserId, send_time_ms: u64) -> bool {
    let erased = core.state.erasures.get(user);
    let is_before =
        erased.is_ok_and(|erased| erased.is_some_and(|one| send_time_ms <= one.time_ms));
    let is_unknown = core.state.users.get(user).is_ok_and(|row| row.is_erased);
    !is_before && !is_unknown
}

/// A copy of a message for another segment. Only the first one says that its key was used.
pub(super) fn copy(message: &MessageRecord) -> Record {
    Record::Message(MessageRecord {
        is_keyed: false,
        ..message.clone()
    })
}

/// The records that write the row of a message to everyone again. A message that is not spread to its end gets a copy in
/// this group, if the present copy is before `segment`.
pub(super) fn carry(
    core: &Core,
    group: &mut Group,
    id: &[u8],
    row: SpreadRow,
    segment: Position,
) -> Result<(), ReadError> {
    let id = MessageId(id.try_into().map_err(|_| StateError::Undecodable)?);
    let row = if row.is_done() || row.message() >= segment {
        row
    } else {
        let at = group.put(copy(&core.message_of(&row)?));
        row.moved(row.done, at, 0)
    };
    group.put(row.record(id));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{super::log::tests::quiet_log, *};
    use crate::log::tests::conformance::message;

    #[test]
    fn a_message_to_everyone_too_many_is_refused() {
        let (log, ..) = quiet_log(|job| job());
        let mut spreads = Spreads::resume(&log.core, true).unwrap();
        let mut take = |key: &str| {
            let (caller, answer) = oneshot::channel();
            spreads.take(&log.core, message(1, &[], Some(key), "to everyone"), caller);
            answer
        };
        let waiting: Vec<_> = (0..SPREADS_MAX).map(|key| take(&key.to_string())).collect();
        let refused = take("one too many").blocking_recv();
        assert!(matches!(refused, Ok(Err(AppendError::QueueFull))));
        // A repeat waits with the first one and takes no room.
        let repeat = take("0");
        for mut answer in waiting.into_iter().chain([repeat]) {
            assert!(answer.try_recv().is_err(), "it waits");
        }
        assert_eq!(spreads.len(), SPREADS_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_the_next_attempt_comes_after_a_pause_and_the_message_stays() {
        let (log, ..) = quiet_log(|job| job());
        let mut spreads = Spreads::resume(&log.core, true).unwrap();
        let (caller, mut answer) = oneshot::channel();
        spreads.take(&log.core, message(1, &[], None, "to everyone"), caller);
        let failed = Err(AppendError::OutcomeUnknown);
        for (outcome, pause) in [(failed, RETRY), (Ok(()), SPACING)] {
            spreads.settle(&log.core, &outcome);
            assert_eq!(spreads.resume_at, Instant::now() + pause, "{outcome:?}");
            assert!(spreads.is_busy() && answer.try_recv().is_err());
        }
    }
}
