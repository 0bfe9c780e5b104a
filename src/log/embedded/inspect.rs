//! An operator's look at a stopped log: its size, its damage, its records. Changes no record.

use std::{io, path::Path};

use super::{
    Damage, OpenError, ReadError,
    disk::{Disk, RealDisk},
    entry_fields::EntryFields,
    epoch,
    open::{SEGMENTS, lock_directory},
    record::{Position, Record},
    recovery::open_segments,
    scan::{Scan, Tail, judge_tail},
    segment::Segment,
    state::newest_base,
    table_id::TableId,
    watermark::Watermark,
};

/// The result of a walk over a whole log.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LogReport {
    /// The log's epoch.
    pub epoch: u64,
    /// The segments that could be opened.
    pub segments: usize,
    /// The size of the segments in bytes.
    pub bytes: u64,
    /// The highest base in use: the epoch's, or one of a record.
    pub base: u32,
    /// Records of all kinds.
    pub records: u64,
    /// Messages, each counted once.
    pub messages: u64,
    /// Entries of inboxes: one for each message and receiver.
    pub entries: u64,
    /// The time at which the oldest segment was made, Unix ms.
    pub oldest_ms: u64,
    /// The time of the newest group, Unix ms.
    pub newest_ms: u64,
    /// Positions at which the bytes differ from the bytes that were written.
    pub damages: Vec<Damage>,
    /// The log is known to have been on disk up to this position; 0 when nothing is known.
    pub synced: u64,
    /// Segment and offset of an unfinished group, which the next start will cut. It is no damage.
    pub unfinished: Option<(String, u64)>,
}

/// The number of segments. A gateway keeps each of them open. Works beside a running gateway too: it only looks at the
/// files' names.
pub fn count_segments(dir: &Path) -> usize {
    std::fs::read_dir(dir.join(SEGMENTS)).map_or(0, |entries| {
        entries
            .flatten()
            .filter(|entry| Segment::base_of(&entry.file_name().to_string_lossy()).is_some())
            .count()
    })
}

/// Walks over the whole log in the data directory `dir`. `visit` gets each record as one line of text.
///
/// Fails when the directory is in use or cannot be read. Damage is no failure: the report contains it.
pub fn inspect(dir: &Path, visit: Option<&mut dyn FnMut(&str)>) -> Result<LogReport, OpenError> {
    let report = inspect_records(dir, visit)?;
    let root = RealDisk::open(dir).map_err(|error| io_failed(dir, error))?;
    let epoch = epoch::read_or_create(&root, dir)?;
    Ok(LogReport {
        epoch: epoch.number.0,
        base: report.base.max(epoch.base),
        ..report
    })
}

fn io_failed(dir: &Path, error: io::Error) -> OpenError {
    OpenError::Io {
        dir: dir.display().to_string(),
        error,
    }
}

/// True if there are segments in the data directory, or a place for them.
pub(super) fn has_log(dir: &Path) -> bool {
    dir.join(SEGMENTS).is_dir()
}

/// The same as [`inspect`], without a look at the epoch.
pub(super) fn inspect_records(
    dir: &Path,
    mut visit: Option<&mut dyn FnMut(&str)>,
) -> Result<LogReport, OpenError> {
    let io = |error| io_failed(dir, error);
    if !has_log(dir) {
        return Err(io(io::Error::new(
            io::ErrorKind::NotFound,
            "there is no log in it",
        )));
    }
    let _lock = lock_directory(dir)?;
    let disk = RealDisk::open(&dir.join(SEGMENTS)).map_err(io)?;
    Ok(inspect_segments(&disk, &mut visit)?)
}

/// Walks over the segments alone, in a directory that no other process writes to.
pub fn inspect_segments(
    disk: &dyn Disk,
    visit: &mut Option<&mut dyn FnMut(&str)>,
) -> Result<LogReport, ReadError> {
    let marks = Watermark::open(disk)
        .map_err(|error| ReadError::Io(error.kind()))?
        .marks();
    let synced = marks.synced;
    let files = open_segments(disk, marks)?;
    let mut report = LogReport {
        damages: files.damages,
        synced: synced.0,
        ..LogReport::default()
    };
    report.oldest_ms = files
        .segments
        .first()
        .map_or(0, |segment| segment.created_ms);
    report.unfinished = files.unfinished.map(|base| (Segment::name_of(base), 0));
    for (index, segment) in files.segments.iter().enumerate() {
        report.segments += 1;
        report.bytes += segment.length();
        let is_last = index + 1 == files.segments.len();
        let end = walk(segment, is_last, synced, &mut report, visit)?;
        if is_last && end < synced && report.damages.is_empty() {
            report
                .damages
                .push(segment.damage_at(end, "the log ends before what was synced"));
        }
    }
    if files.segments.is_empty() && synced > Position::NONE && report.damages.is_empty() {
        let segment = Segment::name_of(super::segment::ORIGIN);
        report.damages.push(Damage {
            segment,
            offset: 0,
            what: "all segments are missing",
        });
    }
    Ok(report)
}

/// Walks over one segment. Returns the end of its last closed group.
fn walk(
    segment: &Segment,
    is_last: bool,
    synced: Position,
    report: &mut LogReport,
    visit: &mut Option<&mut dyn FnMut(&str)>,
) -> Result<Position, ReadError> {
    let mut scan = Scan::whole(segment);
    let mut closed = scan.position();
    loop {
        let damage = match scan.next() {
            Ok(Some(scanned)) => {
                count(report, &scanned.record);
                if let Record::GroupEnd { .. } = scanned.record {
                    closed = scan.position();
                }
                if let Some(visit) = visit {
                    visit(&line(segment, scanned.position, &scanned.record));
                }
                continue;
            }
            Ok(None) if closed == scan.position() => return Ok(closed),
            Ok(None) => segment.damage_at(scan.position(), "a group is not closed"),
            Err(ReadError::Damaged(damage)) => damage,
            Err(error) => return Err(error),
        };
        let tail = if is_last {
            judge_tail(&mut scan, damage, closed, synced)?
        } else {
            Tail::Damaged(damage)
        };
        let Tail::Damaged(damage) = tail else {
            report.unfinished = Some((segment.name(), closed.0 - segment.base.0));
            return Ok(closed);
        };
        scan = Scan::from(
            segment,
            Position(segment.base.0 + damage.offset.max(1)),
            None,
        );
        report.damages.push(damage);
        if scan.resume_after_damage()?.is_none() {
            return Ok(segment.end());
        }
        closed = scan.position();
    }
}

fn count(report: &mut LogReport, record: &Record) {
    report.records += 1;
    match record {
        Record::Message(_) => report.messages += 1,
        Record::Entry { fields, .. } => {
            report.entries += 1;
            report.base = report.base.max(fields.base);
        }
        Record::Row {
            table: TableId::Conversations,
            value: Some(value),
            ..
        } => report.base = report.base.max(newest_base(value)),
        Record::GroupEnd { time_ms, .. } => report.newest_ms = report.newest_ms.max(*time_ms),
        _ => {}
    }
}

/// One record as a line for a reader. The line leaves out bodies: they belong to the users.
fn line(segment: &Segment, at: Position, record: &Record) -> String {
    let at = format!("{}+{}", segment.name(), at.0 - segment.base.0);
    match record {
        Record::GroupEnd { time_ms, .. } => format!("{at} group-end time_ms={time_ms}"),
        Record::Message(message) => format!(
            "{at} message id={} sender={:?} client_message_id={:?} body_bytes={}",
            message.key.message_id,
            message.key.sender,
            message.key.client_message_id,
            message.body.len()
        ),
        Record::Entry {
            user,
            seq,
            message,
            fields,
            ..
        } => {
            let mut line = format!("{at} entry user={user:?} seq={seq} message={}", message.0);
            if *fields != EntryFields::default() {
                line.push_str(&format!(" {fields:?}"));
            }
            line
        }
        Record::Cursor {
            session, cursor, ..
        } => format!(
            "{at} cursor user={:?} platform={} device={:?} cursor={cursor}",
            session.user, session.platform, session.device
        ),
        Record::Register { user, .. } => format!("{at} register user={user:?}"),
        Record::Revoke {
            user,
            platform,
            before_ms,
        } => {
            format!("{at} revoke user={user:?} platform={platform} before_ms={before_ms}")
        }
        Record::Token {
            user,
            platform,
            issued_at_ms,
        } => {
            format!("{at} token user={user:?} platform={platform} issued_at_ms={issued_at_ms}")
        }
        Record::Delete { user, seq, .. } => format!("{at} delete user={user:?} seq={seq}"),
        Record::Head { user, head, first } => {
            format!("{at} head user={user:?} head={head} first={first}")
        }
        Record::Key(key) => {
            format!(
                "{at} key sender={:?} client_message_id={:?}",
                key.sender, key.client_message_id
            )
        }
        Record::Erase {
            user,
            head,
            time_ms,
            ..
        } => format!("{at} erase user={user:?} head={head} time_ms={time_ms}"),
        Record::Row { table, key, value } => {
            let key = key.escape_ascii();
            match value {
                Some(value) => format!(
                    "{at} row table={table:?} key=\"{key}\" value_bytes={}",
                    value.len()
                ),
                None => format!("{at} row table={table:?} key=\"{key}\" removed"),
            }
        }
    }
}
