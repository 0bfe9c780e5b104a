//! A disk that forgets: what was not synced may survive a power cut in parts, in any order, or not at all.
//!
//! A kill leaves everything, the kernel has it. After a failed sync nobody knows what is on the disk, and a later sync
//! that succeeds says nothing about it. The process may also die in the middle of any operation: see [`Life`].

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use fastrand::Rng;

use super::trace::note;
use crate::log::{Disk, DiskFile, Patience};

/// A write survives in pieces of this size: what a device writes at once.
const SECTOR_BYTES: usize = 512;

/// Whether the process lives. It can be made to die at an operation to come: that one and all after it do nothing.
#[derive(Default)]
pub(super) struct Life {
    /// Operations until death; 0: no death in sight.
    left: AtomicU64,
    is_dead: std::sync::atomic::AtomicBool,
}

impl Life {
    /// Dies at the operation with this number from now on, at least 1.
    pub(super) fn end_after(&self, operations: u64) {
        self.left.store(operations, Relaxed);
    }

    /// Does something that is not the process's own, and so does not count.
    pub(super) fn beside(&self, look: impl FnOnce()) {
        let left = self.left.swap(0, Relaxed);
        look();
        self.left.store(left, Relaxed);
    }

    pub(super) fn is_dead(&self) -> bool {
        self.is_dead.load(Relaxed)
    }

    /// One operation begins. An error when the process is dead.
    pub(super) fn step(&self) -> io::Result<()> {
        let left = self.left.load(Relaxed);
        if left > 0 {
            self.left.store(left - 1, Relaxed);
            if left == 1 {
                note(format_args!("the process dies in an operation"));
                self.is_dead.store(true, Relaxed);
            }
        }
        if self.is_dead() {
            Err(io::Error::other("the process is dead"))
        } else {
            Ok(())
        }
    }
}

/// What is wrong with a disk at present.
#[derive(Clone, Copy, Default)]
pub(super) struct Faults {
    pub(super) is_full: bool,
    /// The next sync fails.
    pub(super) sync_fails: bool,
    /// One read in this many is not in memory; 0: all are.
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
    /// The names that a power cut leaves, before those that are on their way to the disk.
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
#[derive(Default)]
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

/// What a power cut does to what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// All of it is gone.
    Everything,
    /// Any part of it is gone.
    Anything,
}

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

    /// The power goes. Afterwards the disk holds what a machine finds that starts again.
    pub(super) fn cut_power(&self, loss: Loss) {
        let mut directory = lock(&self.shared);
        let Directory {
            files,
            durable,
            unsynced,
            random,
            ..
        } = &mut *directory;
        for change in unsynced.drain(..) {
            if loss == Loss::Anything && random.bool() {
                change.apply(durable);
            }
        }
        for content in durable.values() {
            let mut content = lock(content);
            let survives = |change: &Change, content: &mut Vec<u8>| match loss {
                Loss::Everything => {}
                Loss::Anything => change.tear(content, random),
            };
            content.forget(survives);
        }
        *files = durable.clone();
    }

    /// The names of all files.
    pub(super) fn names(&self) -> Vec<String> {
        lock(&self.shared).files.keys().cloned().collect()
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

    /// Puts a whole file there, synced.
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

    /// Settles what was not synced: `survives` brings of each change to the disk what gets there.
    fn forget(&mut self, mut survives: impl FnMut(&Change, &mut Vec<u8>)) {
        for change in self.unsynced.drain(..) {
            survives(&change, &mut self.durable);
        }
        self.live.clone_from(&self.durable);
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(offset, data) => put(bytes, *offset, data),
            Self::Truncate(length) => bytes.resize(*length, 0),
        }
    }

    /// Brings any part of it to the disk: sectors of a write, and one of them may be torn.
    fn tear(&self, bytes: &mut Vec<u8>, random: &mut Rng) {
        match self {
            Self::Truncate(_) if random.bool() => self.apply(bytes),
            Self::Truncate(_) => {}
            Self::Write(offset, data) => match random.u8(..4) {
                0 => {}
                1 => self.apply(bytes),
                // The beginning got there.
                2 => put(bytes, *offset, &data[..random.usize(..=data.len())]),
                _ => {
                    let mut at = 0;
                    while at < data.len() {
                        let next = (*offset + at + 1).next_multiple_of(SECTOR_BYTES) - offset;
                        let sector = &data[at..next.min(data.len())];
                        if random.bool() {
                            put(bytes, offset + at, sector);
                        }
                        at = next;
                    }
                }
            },
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
        self.life.step()?;
        Ok(self.names())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.life.step()?;
        let content = lock(&self.shared).files.get(name).cloned();
        Ok(Arc::new(SimFile {
            name: name.into(),
            content: content.ok_or(io::ErrorKind::NotFound)?,
            disk: self.clone(),
        }))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.life.step()?;
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
        self.life.step()?;
        self.change_name(NameChange::Rename(from.into(), to.into()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.life.step()?;
        note(format_args!("remove {name}"));
        self.change_name(NameChange::Remove(name.into()));
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        self.life.step()?;
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
        self.disk.life.step()?;
        Ok(lock(&self.content).live.len() as u64)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let life = self.disk.life.step();
        let directory = &mut *lock(&self.disk.shared);
        // Who dies or finds the disk full has written a part.
        let is_whole = life.is_ok() && !directory.faults.is_full;
        let taken = if is_whole {
            bytes.len()
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
        self.disk.life.step()?;
        if patience == Patience::MemoryOnly {
            let Directory { faults, random, .. } = &mut *lock(&self.disk.shared);
            if faults.cold_one_in > 0 && random.u32(..faults.cold_one_in) == 0 {
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
        self.disk.life.step()?;
        note(format_args!("truncate {} {len}", self.name));
        lock(&self.content).change(Change::Truncate(len as usize));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.life.step()?;
        let directory = &mut *lock(&self.disk.shared);
        let content = &mut *lock(&self.content);
        if std::mem::take(&mut directory.faults.sync_fails) {
            note(format_args!("sync {} fails", self.name));
            // The kernel takes the pages for clean now, wherever they are: no later sync writes them again. Lengths are the
            // journal's, and stay under way.
            for change in std::mem::take(&mut content.unsynced) {
                match change {
                    Change::Write(..) => {
                        change.tear(&mut content.durable, &mut directory.random);
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
