//! From the files to a log that can be served, after any crash.
//!
//! Recovery checks the order of the segments, opens the store or sets it aside, and replays the records that the store does
//! not have. Only the unfinished group at the very end is cut. Damage elsewhere is reported and passed over. Such damage
//! may hide the heads of inboxes, so no append is accepted after it.

use std::{io, sync::Arc};

use super::{
    Damage, Patience, ReadError, Refusing,
    core::Core,
    disk::Disk,
    entry::MessageLookup,
    entry_fields::MARKS,
    keeper::DIRTY_ROWS_MAX,
    record::{Position, Record},
    scan::{Scan, Tail, judge_tail},
    segment::{HEADER_BYTES, ORIGIN, Segment},
    state::{Reached, State, StateError, StoreHome},
    watermark::{Marks, Watermark},
};

/// The bytes of one step of writing again.
const WRITTEN_AT_ONCE: u64 = 1 << 20;

/// The reason for which the log does not open at all. Damage is not among the reasons: a damaged log opens and refuses
/// appends.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operating system reported an error.
    #[error("the log in {dir} cannot be opened: {error}")]
    Io {
        /// The data directory.
        dir: String,
        /// The operating system's error.
        error: io::Error,
    },
    /// Another process has the directory.
    #[error("{0} is in use by another process: stop it, or choose another log.dir")]
    InUse(String),
    /// A restore into the directory has begun and not ended.
    #[error("a restore into {0} has not come to its end: run `towncrier log restore` again")]
    Restoring(String),
    /// The file with the log's epoch is not readable.
    #[error(
        "{0} does not hold an epoch: restore it from a backup, or run `towncrier log new-epoch`"
    )]
    Epoch(String),
    /// Not even an empty state store can be made.
    #[error("the state store in {0} cannot be made; the log says why")]
    State(String),
    /// Segments cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl OpenError {
    /// True if this is an error of the state store, which can be rebuilt.
    pub(super) fn is_of_state(&self) -> bool {
        matches!(self, Self::State(_) | Self::Read(ReadError::State))
    }
}

/// Opens the state. A state that does not open is set aside, and an empty one begins. The flag tells if the contents can be
/// believed.
pub(super) fn open_state(home: &dyn StoreHome) -> Result<(State, bool), StateError> {
    State::open(home).or_else(|error| {
        set_aside(home, &error)?;
        let (state, _) = State::open(home)?;
        Ok((state, false))
    })
}

/// Moves a useless state store out of the way.
pub(super) fn set_aside(home: &dyn StoreHome, why: &dyn std::fmt::Display) -> io::Result<()> {
    tracing::warn!(%why, "the state store is set aside and rebuilt from the segments");
    home.set_aside()
}

/// The files of a log before anything is replayed.
pub(super) struct Files {
    pub(super) segments: Vec<Arc<Segment>>,
    pub(super) damages: Vec<Damage>,
    /// The beginning of the log, also when its first file cannot be opened.
    oldest: Position,
    /// A last file whose header never reached the disk: the machine stopped while the file was being made.
    pub(super) unfinished: Option<Position>,
}

/// Opens all segments. Checks that the first one exists, and that each other one begins at the end of the one before it.
pub(super) fn open_segments(disk: &dyn Disk, marks: Marks) -> Result<Files, ReadError> {
    let names = disk.list().map_err(|error| ReadError::Io(error.kind()))?;
    let mut bases: Vec<_> = names
        .iter()
        .filter_map(|name| Segment::base_of(name))
        .collect();
    bases.sort_unstable();
    let mut files = Files {
        segments: Vec::new(),
        damages: Vec::new(),
        oldest: bases.first().copied().unwrap_or(ORIGIN),
        unfinished: None,
    };
    for base in &bases {
        match Segment::open(disk, *base) {
            Ok(segment) => files.segments.push(Arc::new(segment)),
            Err(ReadError::Damaged(_))
                if Some(base) == bases.last() && *base >= marks.synced && is_bare(disk, *base)? =>
            {
                files.unfinished = Some(*base);
            }
            Err(ReadError::Damaged(damage)) => files.damages.push(damage),
            Err(error) => return Err(error),
        }
    }
    if let Some(first) = bases.first()
        && *first > marks.begin
        && marks.synced > Position::NONE
    {
        files.damages.push(Damage {
            segment: Segment::name_of(marks.begin),
            offset: 0,
            what: "the log begins here, and this segment is missing",
        });
    }
    for pair in files.segments.windows(2) {
        if pair[0].end() != pair[1].base {
            let what = if pair[0].end() < pair[1].base {
                "a part of the log is missing here"
            } else {
                "it runs into the next segment"
            };
            files.damages.push(Damage {
                segment: pair[0].name(),
                offset: pair[0].length(),
                what,
            });
        }
    }
    Ok(files)
}

/// True if a segment's file holds no record yet.
fn is_bare(disk: &dyn Disk, base: Position) -> Result<bool, ReadError> {
    let file = disk.open(&Segment::name_of(base));
    let length = file
        .and_then(|file| file.len())
        .map_err(|error| ReadError::Io(error.kind()))?;
    Ok(length <= HEADER_BYTES)
}

/// Brings `core` to the state that the files describe, and makes sure that there is a segment to append to. The store
/// contains everything before `from`; `None`: the store is empty. A log without a segment gets one of this format.
pub(super) fn replay(
    core: &Core,
    from: Option<Reached>,
    watermark: &mut Watermark,
    format: u8,
) -> Result<(), ReadError> {
    let io = |error: io::Error| ReadError::Io(error.kind());
    let marks = watermark.marks();
    let mut files = open_segments(&*core.disk, marks)?;
    if let Some(base) = files.unfinished {
        core.disk.remove(&Segment::name_of(base)).map_err(io)?;
    }
    let mut damages = std::mem::take(&mut files.damages);
    let (mut reached, records) = replay_segments(core, &files, from, marks.synced, &mut damages)?;
    if damages.is_empty() {
        damages.extend(missing_end(&files, from, marks.synced));
    }
    damages.iter().for_each(|damage| core.report(damage));
    if files.segments.is_empty() && damages.is_empty() {
        reached = begin(core, format).map_err(io)?;
    }
    if let Some(last) = core.segments.all().last() {
        write_again(last, marks.synced).map_err(io)?;
    }
    // The last segment may have been made just before a kill. Then its name may not be on disk yet.
    core.disk.sync_names().map_err(io)?;
    // They were counted when they were erased.
    core.state.take_lapsed();
    core.publish(reached);
    if let Some(damage) = damages.into_iter().next() {
        core.refuse(Refusing::Damaged(damage));
        // Rows that follow from a damaged log must not be believed after its repair.
        core.state.disown()?;
    } else {
        // The keeper writes the watermark again every second. On a full disk the earlier one stays in use.
        if let Err(error) = watermark.set_synced(reached.position) {
            tracing::warn!(%error, "the watermark could not be written");
        }
    }
    tracing::info!(
        records,
        segments = files.segments.len(),
        position = reached.position.0,
        "the log is open"
    );
    Ok(())
}

/// Applies all records that the store does not have. Returns the position behind them, and their number.
fn replay_segments(
    core: &Core,
    files: &Files,
    from: Option<Reached>,
    synced: Position,
    damages: &mut Vec<Damage>,
) -> Result<(Reached, u64), ReadError> {
    let mut reached = from.unwrap_or(Reached {
        position: Position::NONE,
        crc: 0,
    });
    let mut records: u64 = 0;
    for (index, segment) in files.segments.iter().enumerate() {
        let is_last = index + 1 == files.segments.len();
        core.segments.push(segment.clone());
        if segment.end() < reached.position || (segment.end() == reached.position && !is_last) {
            continue;
        }
        let scan = if segment.first_record() < reached.position {
            Scan::from(segment, reached.position, Some(reached.crc))
        } else {
            reached = Reached {
                position: segment.first_record(),
                crc: segment.seed,
            };
            Scan::whole(segment)
        };
        let replay = Replay {
            core,
            segment,
            scan,
            reached,
            oldest: files.oldest,
            is_last,
            synced,
        };
        records += replay.run(&mut reached, damages)?;
    }
    Ok((reached, records))
}

/// The damage of a log that ends before a position to which it was synced, or of which the store knows.
fn missing_end(files: &Files, from: Option<Reached>, synced: Position) -> Option<Damage> {
    let last = files.segments.last();
    let end = last.map_or(Position::NONE, |last| last.end());
    let is_short = from.is_some_and(|from| from.position > end) || synced > end;
    is_short.then(|| {
        let (segment, offset) = last.map_or((Segment::name_of(ORIGIN), 0), |last| {
            (last.name(), last.length())
        });
        Damage {
            segment,
            offset,
            what: "the log ends before what was synced",
        }
    })
}

/// Makes the first segment of a log. Returns the position of its first record.
fn begin(core: &Core, format: u8) -> io::Result<Reached> {
    let now_ms = core.clock.now_ms();
    let segment = Segment::create(&*core.disk, ORIGIN, 0, now_ms, format)?;
    let reached = Reached {
        position: segment.first_record(),
        crc: 0,
    };
    core.segments.push(Arc::new(segment));
    Ok(reached)
}

/// Makes sure that all of the last segment is on disk. The bytes that were read may have been in the page cache only, and a
/// delivered message must be durable. A sync alone is not enough: after a failed sync, the kernel treats the unwritten
/// bytes as written. So the bytes that are not known to be synced, about a second's worth, are written once more.
fn write_again(last: &Segment, synced: Position) -> io::Result<()> {
    let mut at = synced.0.saturating_sub(last.base.0);
    while at < last.length() {
        let mut bytes = vec![0; WRITTEN_AT_ONCE.min(last.length() - at) as usize];
        let count = last.file.read_at(&mut bytes, at, Patience::Disk)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        last.file.write_at(&bytes[..count], at)?;
        at += count as u64;
    }
    last.file.sync()
}

/// The replay of one segment.
struct Replay<'a> {
    core: &'a Core,
    segment: &'a Segment,
    scan: Scan<'a>,
    reached: Reached,
    /// The beginning of the log.
    oldest: Position,
    is_last: bool,
    synced: Position,
}

impl Replay<'_> {
    /// Applies every closed group. Returns the number of records.
    fn run(mut self, reached: &mut Reached, damages: &mut Vec<Damage>) -> Result<u64, ReadError> {
        let mut group = Vec::new();
        let mut messages = MessageLookup::default();
        let mut count = 0;
        let cut = loop {
            match self.scan.next() {
                Ok(Some(scanned)) => {
                    let is_closed = matches!(scanned.record, Record::GroupEnd { .. });
                    group.push((scanned.record, scanned.position));
                    if is_closed {
                        count += group.len() as u64;
                        for (record, at) in group.drain(..) {
                            self.apply(&record, at, &mut messages, !damages.is_empty())?;
                        }
                        if self.core.state.dirty_rows() > DIRTY_ROWS_MAX {
                            self.core.state.spill()?;
                        }
                        self.reached = Reached {
                            position: self.scan.position(),
                            crc: scanned.crc,
                        };
                    }
                }
                Ok(None) if group.is_empty() => break None,
                // The file ends within a group.
                Ok(None) => match self.unfinished_or_damaged(
                    self.segment
                        .damage_at(self.scan.position(), "a group is not closed"),
                )? {
                    Tail::Unfinished => break Some(self.reached.position),
                    Tail::Damaged(damage) => {
                        damages.push(damage);
                        break None;
                    }
                },
                Err(ReadError::Damaged(damage)) => match self.unfinished_or_damaged(damage)? {
                    Tail::Unfinished => break Some(self.reached.position),
                    Tail::Damaged(damage) => {
                        damages.push(damage.clone());
                        group.clear();
                        self.scan = Scan::from(
                            self.segment,
                            Position(self.segment.base.0 + damage.offset),
                            None,
                        );
                        if self.scan.resume_after_damage()?.is_none() {
                            break None;
                        }
                    }
                },
                Err(error) => return Err(error),
            }
        };
        if let Some(end) = cut {
            let length = end.0 - self.segment.base.0;
            let cut_bytes = self.segment.length() - length;
            tracing::info!(
                segment = self.segment.name(),
                offset = length,
                cut_bytes,
                "an unfinished group is cut off"
            );
            self.segment
                .file
                .truncate(length.max(HEADER_BYTES))
                .map_err(|error| ReadError::Io(error.kind()))?;
            self.segment.set_length(length.max(HEADER_BYTES));
        }
        *reached = self.reached;
        Ok(count)
    }

    /// Applies one record. Three records mean more here than in a running log. After damage, the earlier entries of an inbox may
    /// not have been seen. They have not expired for that reason: they should exist, and a reader of the inbox gets the error.
    /// A head is written before retention forgets the entries up to it. Their segment may still be there, because the gateway
    /// ended before the file was removed. Marks move over messages that may have expired since.
    fn apply(
        &self,
        record: &Record,
        at: Position,
        messages: &mut MessageLookup,
        is_behind_damage: bool,
    ) -> Result<(), ReadError> {
        let state = &self.core.state;
        let mut message = None;
        if self.core.has_conversations() {
            messages.note(record, at);
            if let Record::Entry {
                message: position, ..
            } = record
            {
                message = messages.get(self.core, *position);
            }
        }
        if let Record::Entry { user, previous, .. } = record
            && is_behind_damage
            && *previous >= self.oldest
        {
            let first = state.users.get(user)?.first;
            state.apply(record, at, message)?;
            state.change(user, |row| row.first = first)?;
            return Ok(());
        }
        if let Record::Head { user, head, first } = record
            && state.users.get(user)?.head == *head
        {
            state.expire(user, *first, at)?;
        }
        if let Record::Entry { user, fields, .. } = record
            && fields.kind == MARKS
            && let Some(message) = message
        {
            state.conversations.recall(user, message)?;
        }
        Ok(state.apply(record, at, message)?)
    }

    fn unfinished_or_damaged(&mut self, damage: Damage) -> Result<Tail, ReadError> {
        if !self.is_last {
            return Ok(Tail::Damaged(damage));
        }
        judge_tail(&mut self.scan, damage, self.reached.position, self.synced)
    }
}
