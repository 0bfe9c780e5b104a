//! A disk that forgets: after a power cut, unsynced writes may survive in parts, in any order, or not at all.
//!
//! A kill leaves everything, because the kernel has it. After a failed sync the content of the disk is unknown, and a later
//! sync that succeeds proves nothing about it. The process may also die in the middle of any operation: see [`Life`].

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use fastrand::Rng;

use super::{
    process::{Life, is_beside},
    trace::note,
};
use towncrier::log::embedded::{Disk, DiskFile, Patience};

/// A write survives in pieces of this size, which a device writes at once.
const SECTOR_BYTES: usize = 512;

/// The present faults of a disk.
#[derive(Clone, Copy, Default)]
pub(super) struct Faults {
    pub(super) is_full: bool,
    /// The disk has space for a part of the next write, but reports more.
    pub(super) is_half_full: bool,
    /// The next sync fails.
    pub(super) sync_fails: bool,
    /// Every sync lies: it reports success and does nothing.
    pub(super) sync_lies: bool,
    /// One read in this many is not in memory; 0: all reads are.
    pub(super) cold_one_in: u32,
}

/// A directory on the disk. Cheap to clone; clones are the same directory.
#[derive(Clone)]
pub(super) struct SimDisk {
    shared: Arc<Mutex<Directory>>,
    life: Arc<Life>,
}

struct Directory {
    files: BTreeMap<String, Arc<Mutex<Content>>>,
    /// The names that survive a power cut, without those on their way to the disk.
    durable: BTreeMap<String, Arc<Mutex<Content>>>,
    unsynced: Vec<NameChange>,
    faults: Faults,
    random: Rng,
}

#[derive(Clone)]
enum NameChange {
    Create(String, Arc<Mutex<Content>>),
    Rename(String, String),
    Remove(String),
}

/// One file's bytes.
#[derive(Clone, Default)]
struct Content {
    live: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

/// Decides each open question of a power cut: returns one of this many ways, by number. 0 always means that the write is
/// lost.
pub(super) type Choice<'a> = &'a mut dyn FnMut(usize) -> usize;

impl SimDisk {
    pub(super) fn new(random: Rng) -> Self {
        Self {
            shared: Arc::new(Mutex::new(Directory {
                files: BTreeMap::new(),
                durable: BTreeMap::new(),
                unsynced: Vec::new(),
                faults: Faults::default(),
                random,
            })),
            life: Arc::default(),
        }
    }

    /// The same directory as another process sees it.
    pub(super) fn for_process(&self, life: Arc<Life>) -> Self {
        Self {
            shared: self.shared.clone(),
            life,
        }
    }

    pub(super) fn set_faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut lock(&self.shared).faults);
    }

    pub(super) fn faults(&self) -> Faults {
        lock(&self.shared).faults
    }

    /// Cuts the power. Afterwards the disk holds what a restarted machine finds: `choose` decides which unsynced writes
    /// survive. With `has_torn_bytes` a write may end at any byte, and not only at a sector.
    pub(super) fn cut_power(&self, choose: Choice<'_>, has_torn_bytes: bool) {
        let mut directory = lock(&self.shared);
        let Directory {
            files,
            durable,
            unsynced,
            ..
        } = &mut *directory;
        for change in unsynced.drain(..) {
            if choose(2) == 1 {
                change.apply(durable);
            }
        }
        for content in durable.values() {
            let content = &mut *lock(content);
            for change in content.unsynced.drain(..) {
                change.tear(&mut content.durable, choose, has_torn_bytes);
            }
            content.live.clone_from(&content.durable);
        }
        *files = durable.clone();
    }

    /// Another disk in the same state.
    pub(super) fn copy(&self) -> Self {
        let directory = lock(&self.shared);
        let mut copies: BTreeMap<*const Mutex<Content>, Arc<Mutex<Content>>> = BTreeMap::new();
        let mut copy = |content: &Arc<Mutex<Content>>| {
            let made = copies.entry(Arc::as_ptr(content));
            made.or_insert_with(|| Arc::new(Mutex::new(lock(content).clone())))
                .clone()
        };
        let mut names = |names: &BTreeMap<String, Arc<Mutex<Content>>>| {
            let copied = names
                .iter()
                .map(|(name, content)| (name.clone(), copy(content)));
            copied.collect::<BTreeMap<_, _>>()
        };
        let (files, durable) = (names(&directory.files), names(&directory.durable));
        let unsynced = directory.unsynced.iter().map(|change| match change {
            NameChange::Create(name, content) => NameChange::Create(name.clone(), copy(content)),
            other => other.clone(),
        });
        let shared = Directory {
            files,
            durable,
            unsynced: unsynced.collect(),
            faults: directory.faults,
            random: directory.random.clone(),
        };
        Self {
            shared: Arc::new(Mutex::new(shared)),
            life: Arc::default(),
        }
    }

    /// The names of all files.
    pub(super) fn names(&self) -> Vec<String> {
        lock(&self.shared).files.keys().cloned().collect()
    }

    /// The content of a file.
    pub(super) fn bytes(&self, name: &str) -> Vec<u8> {
        let directory = lock(&self.shared);
        let content = directory.files.get(name);
        content.map_or_else(Vec::new, |content| lock(content).live.clone())
    }

    pub(super) fn file_bytes(&self, name: &str) -> usize {
        let directory = lock(&self.shared);
        directory
            .files
            .get(name)
            .map_or(0, |content| lock(content).live.len())
    }

    /// Flips a bit, on the disk and in memory.
    pub(super) fn flip(&self, name: &str, bit: usize) {
        let directory = lock(&self.shared);
        let Some(content) = directory.files.get(name) else {
            return;
        };
        let Content { live, durable, .. } = &mut *lock(content);
        for bytes in [live, durable] {
            if let Some(byte) = bytes.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }

    /// Puts a whole, synced file on the disk.
    pub(super) fn put(&self, name: &str, bytes: &[u8]) {
        let content = Arc::new(Mutex::new(Content {
            live: bytes.to_vec(),
            durable: bytes.to_vec(),
            unsynced: Vec::new(),
        }));
        let mut directory = lock(&self.shared);
        directory.files.insert(name.into(), content.clone());
        directory.durable.insert(name.into(), content);
    }

    /// Removes every file.
    pub(super) fn wipe(&self) {
        let mut directory = lock(&self.shared);
        directory.files.clear();
        directory.durable.clear();
        directory.unsynced.clear();
    }

    fn change_name(&self, change: NameChange) {
        let directory = &mut *lock(&self.shared);
        change.clone().apply(&mut directory.files);
        directory.unsynced.push(change);
    }
}

impl NameChange {
    fn apply(self, names: &mut BTreeMap<String, Arc<Mutex<Content>>>) {
        match self {
            Self::Create(name, content) => {
                names.insert(name, content);
            }
            Self::Rename(from, to) => {
                if let Some(content) = names.remove(&from) {
                    names.insert(to, content);
                }
            }
            Self::Remove(name) => {
                names.remove(&name);
            }
        }
    }
}

impl Content {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.live);
        self.unsynced.push(change);
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(offset, data) => put(bytes, *offset, data),
            Self::Truncate(length) => bytes.resize(*length, 0),
        }
    }

    /// Writes the chosen part of the change to the disk: any sectors, or the bytes up to any byte.
    fn tear(&self, bytes: &mut Vec<u8>, choose: Choice<'_>, has_torn_bytes: bool) {
        match self {
            Self::Truncate(_) => {
                if choose(2) == 1 {
                    self.apply(bytes);
                }
            }
            Self::Write(offset, data) if has_torn_bytes && choose(2) == 1 => {
                put(bytes, *offset, &data[..choose(data.len() + 1)]);
            }
            Self::Write(offset, data) => {
                let mut at = 0;
                while at < data.len() {
                    let next = (*offset + at + 1).next_multiple_of(SECTOR_BYTES) - offset;
                    let sector = &data[at..next.min(data.len())];
                    if choose(2) == 1 {
                        put(bytes, offset + at, sector);
                    }
                    at = next;
                }
            }
        }
    }
}

fn put(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    let end = offset + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(data);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Disk for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        self.life.look()?;
        Ok(self.names())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.life.look()?;
        let content = lock(&self.shared).files.get(name).cloned();
        Ok(Arc::new(SimFile {
            name: name.into(),
            content: content.ok_or(io::ErrorKind::NotFound)?,
            disk: self.clone(),
        }))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.life.change()?;
        if lock(&self.shared).faults.is_full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        note(format_args!("create {name}"));
        let content = Arc::default();
        self.change_name(NameChange::Create(name.into(), Arc::clone(&content)));
        Ok(Arc::new(SimFile {
            name: name.into(),
            content,
            disk: self.clone(),
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.life.change()?;
        self.change_name(NameChange::Rename(from.into(), to.into()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.life.change()?;
        note(format_args!("remove {name}"));
        self.change_name(NameChange::Remove(name.into()));
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        self.life.change()?;
        let directory = &mut *lock(&self.shared);
        for change in directory.unsynced.drain(..) {
            change.apply(&mut directory.durable);
        }
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let is_full = lock(&self.shared).faults.is_full;
        Ok(if is_full { 0 } else { u64::MAX })
    }
}

struct SimFile {
    name: String,
    content: Arc<Mutex<Content>>,
    disk: SimDisk,
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        self.disk.life.look()?;
        Ok(lock(&self.content).live.len() as u64)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let life = self.disk.life.change();
        let directory = &mut *lock(&self.disk.shared);
        // A process that dies, or that finds the disk full, has written a part.
        let Faults {
            is_full,
            is_half_full,
            ..
        } = directory.faults;
        let is_whole = life.is_ok() && !is_full && !is_half_full;
        let taken = if is_whole {
            bytes.len()
        } else if is_half_full {
            bytes.len() / 2
        } else if self.disk.life.is_exact() {
            0
        } else {
            directory.random.usize(..=bytes.len())
        };
        note(format_args!(
            "write {} {offset} {taken} of {}",
            self.name,
            bytes.len()
        ));
        lock(&self.content).change(Change::Write(offset as usize, bytes[..taken].to_vec()));
        life?;
        if is_whole {
            Ok(())
        } else {
            Err(io::ErrorKind::StorageFull.into())
        }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64, patience: Patience) -> io::Result<usize> {
        self.disk.life.look()?;
        if patience == Patience::MemoryOnly {
            let Directory { faults, random, .. } = &mut *lock(&self.disk.shared);
            if faults.cold_one_in > 0 && !is_beside() && random.u32(..faults.cold_one_in) == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
        let content = lock(&self.content);
        let rest = content.live.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.disk.life.change()?;
        note(format_args!("truncate {} {len}", self.name));
        lock(&self.content).change(Change::Truncate(len as usize));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.life.change()?;
        let directory = &mut *lock(&self.disk.shared);
        if directory.faults.sync_lies {
            return Ok(());
        }
        let content = &mut *lock(&self.content);
        if std::mem::take(&mut directory.faults.sync_fails) {
            note(format_args!("sync {} fails", self.name));
            // The kernel now takes the pages for clean, whether they are on the disk or not, so no later sync writes them
            // again. The journal holds the lengths, so these stay under way.
            for change in std::mem::take(&mut content.unsynced) {
                match change {
                    Change::Write(..) => {
                        let random = &mut directory.random;
                        let choose = &mut |ways| random.usize(..ways);
                        change.tear(&mut content.durable, choose, true);
                    }
                    Change::Truncate(_) => content.unsynced.push(change),
                }
            }
            return Err(io::ErrorKind::Other.into());
        }
        for change in content.unsynced.drain(..) {
            change.apply(&mut content.durable);
        }
        Ok(())
    }
}
