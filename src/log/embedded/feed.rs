//! The feed: the commits of the log in its order, from any position. It reads the segments beside the writer, up to the end of
//! the last group whose rows are applied.
//!
//! A commit is a message with the entries that follow one another in the log. Nothing writes an entry twice: retention and
//! messages to everyone copy messages, and never entries. So a message without entries is no commit.

use std::sync::Arc;

use super::{
    FeedCommit, FeedLimit, FeedLoss, FeedPage, FeedPosition, Patience, ReadError,
    core::Core,
    entry_fields::{EntryFields, MARKS, MESSAGE},
    record::{MessageRecord, Position, Record},
    scan::{Scan, Scanned},
    segment::Segment,
};
use crate::{
    ids::{Seq, UserId},
    message::Numbers,
};

/// A page ends after this many bytes of the log, so that a part of the log without commits does not hold a thread for long.
const FEED_SCAN_BYTES_MAX: u64 = 16 << 20;

impl Core {
    /// See [`super::Log::feed`].
    pub(super) fn feed(&self, from: FeedPosition, limit: FeedLimit) -> Result<FeedPage, ReadError> {
        let end = self.reached().position;
        let mut feed = Feed {
            core: self,
            limit,
            end,
            page: FeedPage {
                epoch: self.epoch,
                commits: Vec::new(),
                next: from,
                is_end: false,
                lost: None,
            },
            bytes: 0,
            scanned: 0,
            last_ms: 0,
            is_gap: false,
            message: None,
            run: None,
        };
        if from != FeedPosition::NEWEST {
            feed.read()?;
        } else {
            feed.finish();
        }
        if feed.is_gap {
            feed.time(self.clock.now_ms());
        }
        Ok(feed.page)
    }
}

/// A page that is being made.
struct Feed<'a> {
    core: &'a Core,
    limit: FeedLimit,
    /// The end of the readable part of the log.
    end: Position,
    page: FeedPage,
    /// The bytes of the page's commits.
    bytes: usize,
    /// The bytes of the log that the page passed, in the segments before the present one.
    scanned: u64,
    /// The newest time that was read; 0: none.
    last_ms: u64,
    /// True from a loss to the next time that is read.
    is_gap: bool,
    /// The last message that was read.
    message: Option<(Position, Arc<MessageRecord>)>,
    run: Option<Run>,
}

/// Entries of one message, one behind the other.
struct Run {
    /// The position of the first entry.
    position: Position,
    at: Position,
    message: Arc<MessageRecord>,
    is_marks: bool,
    entries: Vec<(UserId, Numbers)>,
}

impl Feed<'_> {
    fn read(&mut self) -> Result<(), ReadError> {
        let mut at = Position(self.page.next.0);
        if at > self.end {
            self.lose();
            self.finish();
            return Ok(());
        }
        for segment in self.core.segments.all() {
            if segment.end() <= at {
                continue;
            }
            if at < segment.base {
                // A reader that begins at the oldest commit misses none.
                if at.0 > 0 {
                    self.lose();
                }
                self.time(segment.created_ms);
            }
            if !self.read_segment(&segment, at.max(segment.first_record()))? {
                return Ok(());
            }
            self.scanned += segment.end().0 - at.max(segment.base).0;
            at = segment.end();
        }
        self.finish();
        Ok(())
    }

    /// Reads a segment from a record on. Returns false if the page is full.
    fn read_segment(&mut self, segment: &Segment, from: Position) -> Result<bool, ReadError> {
        let mut scan = Scan::from(segment, from, None);
        self.last_ms = self.last_ms.max(segment.created_ms);
        while scan.position() < self.end {
            match scan.next() {
                Ok(Some(scanned)) => {
                    let at = scanned.position;
                    let is_more = self.take(segment, scanned);
                    if let Err(ReadError::Damaged(damage)) = &is_more {
                        // The message of an entry cannot be read.
                        self.core.report(damage);
                        self.lose();
                    } else if !is_more? {
                        return Ok(false);
                    }
                    let passed = self.scanned + (scan.position().0 - from.0);
                    if passed > FEED_SCAN_BYTES_MAX && self.run.is_none() {
                        self.page.next = FeedPosition(scan.position().0);
                        return Ok(false);
                    }
                    debug_assert!(at < self.end, "a group is published whole");
                }
                Ok(None) => break,
                Err(ReadError::Damaged(damage)) => {
                    self.close_run();
                    self.core.report(&damage);
                    self.lose();
                    let damaged = Position(segment.base.0 + damage.offset);
                    scan = Scan::from(segment, damaged, None);
                    if scan.resume_after_damage()?.is_none() {
                        break;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        self.close_run();
        Ok(true)
    }

    /// Takes a record. Returns false if the page is full without it.
    fn take(&mut self, segment: &Segment, scanned: Scanned) -> Result<bool, ReadError> {
        let at = scanned.position;
        let message = match &scanned.record {
            Record::Entry { message, .. } => Some(*message),
            _ => None,
        };
        if self.run.as_ref().map(|run| run.at) != message {
            self.close_run();
            if self.is_full() {
                self.page.next = FeedPosition(at.0);
                return Ok(false);
            }
        }
        match scanned.record {
            Record::GroupEnd { time_ms, .. } => self.time(time_ms),
            Record::Message(message) => self.message = Some((at, Arc::new(message))),
            Record::Entry {
                user,
                seq,
                message,
                fields,
                ..
            } => self.add_entry(segment, at, message, user, seq, &fields)?,
            _ => {}
        }
        Ok(true)
    }

    fn add_entry(
        &mut self,
        segment: &Segment,
        at: Position,
        message: Position,
        user: UserId,
        seq: Seq,
        fields: &EntryFields,
    ) -> Result<(), ReadError> {
        // An entry of a later version's kind reads as one without a message.
        if fields.kind != MESSAGE && fields.kind != MARKS {
            return Ok(());
        }
        let run = match &mut self.run {
            Some(run) => run,
            none => none.insert(Run {
                position: at,
                at: message,
                message: message_in(segment, message, &mut self.message)?,
                is_marks: fields.kind == MARKS,
                entries: Vec::new(),
            }),
        };
        let numbers = fields.numbers(seq, run.message.key.send_time_ms);
        if !self.core.is_erased(&user, seq)? {
            run.entries.push((user, numbers));
        }
        Ok(())
    }

    /// Makes a commit of the entries so far.
    fn close_run(&mut self) {
        let Some(run) = self.run.take() else {
            return;
        };
        if run.entries.is_empty() {
            return;
        }
        let key = &run.message.key;
        let commit = FeedCommit {
            position: FeedPosition(run.position.0),
            message_id: key.message_id,
            send_time_ms: key.send_time_ms,
            sender: key.sender.clone(),
            client_message_id: key.client_message_id.clone(),
            body: run.message.body.clone(),
            is_marks: run.is_marks,
            entries: run.entries.into(),
        };
        self.bytes += commit.bytes();
        self.page.commits.push(commit);
    }

    fn is_full(&self) -> bool {
        let commits = self.page.commits.len();
        commits > 0 && (commits >= self.limit.commits || self.bytes >= self.limit.bytes)
    }

    /// Notes that commits are missing here.
    fn lose(&mut self) {
        let lost = FeedLoss {
            from_time_ms: self.last_ms,
            to_time_ms: self.last_ms,
        };
        self.page.lost.get_or_insert(lost);
        self.is_gap = true;
    }

    /// Notes a time of the log.
    fn time(&mut self, time_ms: u64) {
        if std::mem::take(&mut self.is_gap)
            && let Some(lost) = &mut self.page.lost
        {
            lost.to_time_ms = time_ms;
        }
        self.last_ms = self.last_ms.max(time_ms);
    }

    /// Notes that the page reaches the end of the log.
    fn finish(&mut self) {
        self.page.next = FeedPosition(self.end.0);
        self.page.is_end = true;
    }
}

/// The message at a position. It is read if it is not the last one. A segment with entries of a message has a copy of the message.
fn message_in(
    segment: &Segment,
    at: Position,
    last: &mut Option<(Position, Arc<MessageRecord>)>,
) -> Result<Arc<MessageRecord>, ReadError> {
    if let Some((position, message)) = last
        && *position == at
    {
        return Ok(Arc::clone(message));
    }
    let record = if (segment.first_record()..segment.end()).contains(&at) {
        segment.record_at(at, Patience::Disk)?.1
    } else {
        return Err(segment
            .damage_at(at, "an entry points at a message in another segment")
            .into());
    };
    let Record::Message(message) = record else {
        let what = "no message stands where an entry points";
        return Err(segment.damage_at(at, what).into());
    };
    let message = Arc::new(message);
    *last = Some((at, Arc::clone(&message)));
    Ok(message)
}
