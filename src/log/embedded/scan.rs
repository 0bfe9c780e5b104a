//! Reads a segment from one end to the other, and checks every checksum and the chain: for recovery, retention,
//! verification and look-ups by time. Reads ahead in large pieces, and holds one of them at a time.

use bytes::Bytes;

use super::{
    Damage, Patience, ReadError,
    record::{self, GROUP_END_MAGIC, Header, Position, Record},
    segment::Segment,
};

/// The bytes of one read: many enough for the device, few enough to hold.
const CHUNK_BYTES: u64 = 1 << 20;

/// A walk over a segment's records.
pub(super) struct Scan<'a> {
    segment: &'a Segment,
    next: Position,
    /// The CRC that the next record must name as the one before; `None`: not known, any is accepted.
    previous: Option<u32>,
    chunk: Bytes,
    chunk_start: Position,
}

/// A record with its position.
pub(super) struct Scanned {
    pub(super) position: Position,
    pub(super) record: Record,
    pub(super) crc: u32,
}

impl<'a> Scan<'a> {
    /// A scan from the segment's first record.
    pub(super) fn whole(segment: &'a Segment) -> Self {
        Self::from(segment, segment.first_record(), Some(segment.seed))
    }

    /// A scan from the record at `next`.
    pub(super) fn from(segment: &'a Segment, next: Position, previous: Option<u32>) -> Self {
        Self {
            segment,
            next,
            previous,
            chunk: Bytes::new(),
            chunk_start: next,
        }
    }

    /// The position of the next record.
    pub(super) fn position(&self) -> Position {
        self.next
    }

    /// The next record; `None` exactly at the segment's end; an error for anything else.
    pub(super) fn next(&mut self) -> Result<Option<Scanned>, ReadError> {
        if self.next >= self.segment.end() {
            return Ok(None);
        }
        let (segment, position) = (self.segment, self.next);
        let damage = |what| ReadError::from(segment.damage_at(position, what));
        let head = self.bytes(record::HEADER_BYTES)?;
        let header = Header::read(&head).ok_or_else(|| damage("no record begins here"))?;
        let bytes = self.bytes(header.record_bytes())?;
        if bytes.len() < header.record_bytes() {
            return Err(damage("the record is cut short"));
        }
        if self
            .previous
            .is_some_and(|previous| previous != header.previous)
        {
            return Err(damage("the record does not follow the one before it"));
        }
        let record = record::decode(&header, &bytes.slice(record::HEADER_BYTES..))
            .map_err(|why| segment.no_record(position, why))?;
        if matches!(record, Record::GroupEnd { position: own, .. } if own != position) {
            return Err(damage("the record belongs elsewhere"));
        }
        self.next = Position(position.0 + header.record_bytes() as u64);
        self.previous = Some(header.crc);
        Ok(Some(Scanned {
            position,
            record,
            crc: header.crc,
        }))
    }

    /// Looks for the next closed group after damage: finds its `GroupEnd` by the magic and by its own position.
    /// Moves the scan behind it. Returns the beginning of that group; `None` when there is none up to the end.
    pub(super) fn resume_after_damage(&mut self) -> Result<Option<Position>, ReadError> {
        let magic_offset = record::HEADER_BYTES as u64;
        while self.next < self.segment.end() {
            let window = self.bytes(CHUNK_BYTES as usize)?;
            let Some(found) = window
                .windows(GROUP_END_MAGIC.len())
                .position(|bytes| bytes == GROUP_END_MAGIC)
            else {
                // The magic may lie across the border of two windows.
                let step = window
                    .len()
                    .saturating_sub(GROUP_END_MAGIC.len() - 1)
                    .max(1);
                self.next = Position(self.next.0 + step as u64);
                continue;
            };
            let magic_at = self.next.0 + found as u64;
            let candidate = Position(magic_at.saturating_sub(magic_offset));
            self.next = Position(magic_at + 1);
            if candidate < self.segment.first_record() {
                continue;
            }
            let mut probe = Self::from(self.segment, candidate, None);
            if let Ok(Some(Scanned {
                record: Record::GroupEnd { start, .. },
                ..
            })) = probe.next()
            {
                (self.next, self.previous) = (probe.next, probe.previous);
                return Ok(Some(start));
            }
        }
        Ok(None)
    }

    /// Up to `count` bytes from the scan's position.
    fn bytes(&mut self, count: usize) -> Result<Bytes, ReadError> {
        let room = self.segment.end().0 - self.next.0;
        let count = room.min(count as u64) as usize;
        let have =
            (self.chunk_start.0 + self.chunk.len() as u64).saturating_sub(self.next.0) as usize;
        if self.next < self.chunk_start || have < count {
            let mut chunk = vec![0; room.min(CHUNK_BYTES.max(count as u64)) as usize];
            let offset = self.next.0 - self.segment.base.0;
            let read = self
                .segment
                .file
                .read_at(&mut chunk, offset, Patience::Disk);
            chunk.truncate(read.map_err(|error| ReadError::Io(error.kind()))?);
            (self.chunk, self.chunk_start) = (chunk.into(), self.next);
        }
        let start = (self.next.0 - self.chunk_start.0) as usize;
        Ok(self
            .chunk
            .slice(start..(start + count).min(self.chunk.len())))
    }
}

/// The kind of end that a walk reached. A later group proves that the bytes before it had been synced.
pub(super) enum Tail {
    /// The last group was being written when the machine stopped. No caller was told that it was accepted, so it may be
    /// cut.
    Unfinished,
    /// The bytes here had been synced, and differ from the bytes that were written.
    Damaged(Damage),
}

/// Judges the damage that a scan of the *last* segment met. `group` is the beginning of the damaged group. The log is known
/// to have been on disk up to `synced`.
pub(super) fn judge_tail(
    scan: &mut Scan<'_>,
    damage: Damage,
    group: Position,
    synced: Position,
) -> Result<Tail, ReadError> {
    if group < synced {
        return Ok(Tail::Damaged(damage));
    }
    while let Some(start) = scan.resume_after_damage()? {
        // A group is written only after the one before it was synced.
        if start > group {
            return Ok(Tail::Damaged(damage));
        }
    }
    Ok(Tail::Unfinished)
}
