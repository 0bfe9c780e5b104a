//! Segments: the files of the log, each named by the position of its beginning, and the list of them.
//!
//! A segment's file begins with a header of [`HEADER_BYTES`]: magic, its format, its own position, the time at which it
//! was made, the CRC of the last record before it, and a CRC-32C over those. Its records follow. Position of a record =
//! base + offset in the file. Leaves to others: the meaning of the records, and the writing.

use std::{
    io,
    sync::{
        Arc, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::{Bytes, BytesMut};

use super::{
    Damage, Patience, ReadError,
    disk::{Disk, DiskFile},
    error::Later,
    record::{self, Header, NoRecord, Position, Record},
};
use crate::config::LOG_FORMAT;

/// The first bytes of a segment. The digit of its format follows.
const MAGIC: [u8; 7] = *b"TOWNLOG";
/// Bytes before the first record.
pub(super) const HEADER_BYTES: u64 = 32;
/// The bytes of one read when the record's length is not known. Most records fit.
const READ_AHEAD_BYTES: usize = 1024;

/// The beginning of the log. It is not 0, so that no record's position is [`Position::NONE`].
pub(super) const ORIGIN: Position = Position(1 << 20);

/// One file of the log.
pub(super) struct Segment {
    pub(super) base: Position,
    /// The CRC of the last record of the segment before. This segment's chain begins with it.
    pub(super) seed: u32,
    /// The format of its records, see [`LOG_FORMAT`].
    pub(super) format: u8,
    /// The time at which the segment was made, Unix ms. Nothing in it is older.
    pub(super) created_ms: u64,
    pub(super) file: Arc<dyn DiskFile>,
    /// Bytes of header and closed groups. Only the writer changes it.
    length: AtomicU64,
}

impl Segment {
    /// The name of the file that begins at `base`.
    pub(super) fn name_of(base: Position) -> String {
        format!("{:020}.log", base.0)
    }

    /// The position in a file's name; `None` for other files.
    pub(super) fn base_of(name: &str) -> Option<Position> {
        let base = name
            .strip_suffix(".log")
            .filter(|digits| digits.len() == 20)?;
        base.parse().ok().map(Position)
    }

    /// Makes a new, empty segment. The file and its name are durable before this returns.
    pub(super) fn create(
        disk: &dyn Disk,
        base: Position,
        seed: u32,
        created_ms: u64,
        format: u8,
    ) -> io::Result<Self> {
        let mut header = Vec::with_capacity(HEADER_BYTES as usize);
        header.extend(MAGIC);
        header.push(b'0' + format);
        header.extend(base.0.to_le_bytes());
        header.extend(created_ms.to_le_bytes());
        header.extend(seed.to_le_bytes());
        header.extend(crc32c::crc32c(&header).to_le_bytes());
        let file = disk.create(&Self::name_of(base))?;
        file.write_at(&header, 0)?;
        file.sync()?;
        disk.sync_names()?;
        Ok(Self {
            base,
            seed,
            format,
            created_ms,
            file,
            length: AtomicU64::new(HEADER_BYTES),
        })
    }

    /// Opens a segment and checks its header. Its length is the file's length until recovery has cut it.
    pub(super) fn open(disk: &dyn Disk, base: Position) -> Result<Self, ReadError> {
        let name = Self::name_of(base);
        let damage = |what| Damage {
            segment: name.clone(),
            offset: 0,
            what,
        };
        let file = disk
            .open(&name)
            .map_err(|error| ReadError::Io(error.kind()))?;
        let mut header = [0; HEADER_BYTES as usize];
        let read = file
            .read_at(&mut header, 0, Patience::Disk)
            .map_err(|error| ReadError::Io(error.kind()))?;
        let word = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("8 bytes"));
        let half = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("4 bytes"));
        if read < header.len() {
            return Err(damage("the header is cut short").into());
        }
        if header[..7] != MAGIC || half(28) != crc32c::crc32c(&header[..28]) || word(8) != base.0 {
            return Err(damage("the header does not match its checksum or its name").into());
        }
        let format = header[7].saturating_sub(b'0');
        if format > LOG_FORMAT {
            return Err(ReadError::Newer {
                segment: name,
                what: Later::Format(format),
            });
        }
        let length = file.len().map_err(|error| ReadError::Io(error.kind()))?;
        Ok(Self {
            base,
            seed: half(24),
            format,
            created_ms: word(16),
            file,
            length: AtomicU64::new(length),
        })
    }

    pub(super) fn name(&self) -> String {
        Self::name_of(self.base)
    }

    /// The bytes of the file that count.
    pub(super) fn length(&self) -> u64 {
        self.length.load(Relaxed)
    }

    /// Sets the bytes that count: after a commit, or after recovery cut a tail.
    pub(super) fn set_length(&self, length: u64) {
        self.length.store(length, Relaxed);
    }

    /// The position after the last record.
    pub(super) fn end(&self) -> Position {
        Position(self.base.0 + self.length())
    }

    /// The position of the first record.
    pub(super) fn first_record(&self) -> Position {
        Position(self.base.0 + HEADER_BYTES)
    }

    pub(super) fn damage_at(&self, at: Position, what: &'static str) -> Damage {
        Damage {
            segment: self.name(),
            offset: at.0.saturating_sub(self.base.0),
            what,
        }
    }

    /// Reads and checks the record at `at`.
    pub(super) fn record_at(
        &self,
        at: Position,
        patience: Patience,
    ) -> Result<(Header, Record), ReadError> {
        let offset = at.0 - self.base.0;
        let room = self.length().saturating_sub(offset) as usize;
        let damage = |what| ReadError::from(self.damage_at(at, what));
        let mut bytes = self.bytes_at(offset, room.min(READ_AHEAD_BYTES), patience)?;
        let header = Header::read(&bytes).ok_or_else(|| damage("no record begins here"))?;
        if header.record_bytes() > room {
            return Err(damage("the record is longer than the segment"));
        }
        if header.record_bytes() > bytes.len() {
            bytes = self.bytes_at(offset, header.record_bytes(), patience)?;
        }
        let body = bytes
            .slice(record::HEADER_BYTES.min(bytes.len())..header.record_bytes().min(bytes.len()));
        match record::decode(&header, &body) {
            Ok(record) => Ok((header, record)),
            Err(why) => Err(self.no_record(at, why)),
        }
    }

    /// The error of a reader that found no record at `at`.
    pub(super) fn no_record(&self, at: Position, why: NoRecord) -> ReadError {
        match why {
            NoRecord::Damaged(what) => self.damage_at(at, what).into(),
            NoRecord::Later(what) => ReadError::Newer {
                segment: self.name(),
                what,
            },
        }
    }

    fn bytes_at(&self, offset: u64, count: usize, patience: Patience) -> Result<Bytes, ReadError> {
        let mut bytes = BytesMut::zeroed(count);
        match self.file.read_at(&mut bytes, offset, patience) {
            Ok(read) => bytes.truncate(read),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(ReadError::NotInMemory);
            }
            Err(error) => return Err(ReadError::Io(error.kind())),
        }
        Ok(bytes.freeze())
    }
}

/// All segments, ascending. The writer appends to the last one. Readers take a segment out and keep it open while they need
/// it.
#[derive(Default)]
pub(super) struct Segments {
    list: RwLock<Vec<Arc<Segment>>>,
}

impl Segments {
    /// The segment that holds `at`; `None` when retention removed it or it does not exist yet.
    pub(super) fn holding(&self, at: Position) -> Option<Arc<Segment>> {
        let list = self.list.read().expect("no panic while the list is held");
        let after = list.partition_point(|segment| segment.base <= at);
        let segment = list.get(after.checked_sub(1)?)?;
        (at < segment.end()).then(|| segment.clone())
    }

    /// All present segments, ascending.
    pub(super) fn all(&self) -> Vec<Arc<Segment>> {
        self.list
            .read()
            .expect("no panic while the list is held")
            .clone()
    }

    /// The bytes of all segments.
    pub(super) fn bytes(&self) -> u64 {
        self.all().iter().map(|segment| segment.length()).sum()
    }

    /// Adds a segment behind all others.
    pub(super) fn push(&self, segment: Arc<Segment>) {
        let mut list = self.list.write().expect("no panic while the list is held");
        assert!(
            list.last().is_none_or(|last| last.base < segment.base),
            "segments ascend"
        );
        list.push(segment);
    }

    /// Takes the oldest segment off the list.
    pub(super) fn remove_oldest(&self) -> Option<Arc<Segment>> {
        let mut list = self.list.write().expect("no panic while the list is held");
        (list.len() > 1).then(|| list.remove(0))
    }
}
