//! A disk in memory, for tests. It loses unsynced bytes, fails on demand, and lets a test tear its files and
//! flip their bits.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use super::super::{
    Patience,
    disk::{Disk, DiskFile},
    watermark::{Marks, Watermark},
};

/// A disk in memory that knows the synced bytes.
#[derive(Default)]
pub(super) struct TestDisk {
    pub(super) files: Mutex<BTreeMap<String, Arc<TestFile>>>,
    pub(super) faults: Arc<Faults>,
}

#[derive(Default)]
pub(super) struct Faults {
    pub(super) sync_fails: AtomicBool,
    pub(super) is_full: AtomicBool,
    /// The disk has less space than must stay free, and writes still succeed.
    pub(super) is_nearly_full: AtomicBool,
    /// The largest length of a file, as with `ulimit -f`; 0: any.
    pub(super) file_bytes_max: AtomicU64,
    /// While a test holds this lock, no sync returns.
    pub(super) frozen: Mutex<()>,
}

pub(super) struct TestFile {
    pub(super) live: Mutex<Vec<u8>>,
    pub(super) synced: Mutex<Vec<u8>>,
    faults: Arc<Faults>,
}

impl TestDisk {
    /// The disk as a machine finds it after a power cut: without all unsynced bytes.
    pub(super) fn after_power_cut(&self) -> Arc<Self> {
        self.copy(|file| file.synced.lock().unwrap().clone())
    }

    /// The disk as a process finds it after a kill: with the unsynced bytes, because the page cache is the kernel's.
    pub(super) fn after_kill(&self) -> Arc<Self> {
        self.copy(|file| file.live.lock().unwrap().clone())
    }

    fn copy(&self, content: impl Fn(&TestFile) -> Vec<u8>) -> Arc<Self> {
        let copy = Self::default();
        for (name, file) in &*self.files.lock().unwrap() {
            copy.put(name, content(file));
        }
        Arc::new(copy)
    }

    pub(super) fn put(&self, name: &str, bytes: Vec<u8>) {
        let file = TestFile {
            live: Mutex::new(bytes.clone()),
            synced: Mutex::new(bytes),
            faults: self.faults.clone(),
        };
        self.files
            .lock()
            .unwrap()
            .insert(name.into(), Arc::new(file));
    }

    pub(super) fn get(&self, name: &str) -> Vec<u8> {
        self.files.lock().unwrap()[name]
            .live
            .lock()
            .unwrap()
            .clone()
    }

    pub(super) fn segments(&self) -> Vec<String> {
        let files = self.files.lock().unwrap();
        files
            .keys()
            .filter(|name| name.ends_with(".log"))
            .cloned()
            .collect()
    }

    pub(super) fn segment_bytes(&self) -> usize {
        let files = self.files.lock().unwrap();
        let segments = files.iter().filter(|(name, _)| name.ends_with(".log"));
        segments
            .map(|(_, file)| file.live.lock().unwrap().len())
            .sum()
    }

    pub(super) fn last_segment(&self) -> String {
        self.segments().pop().unwrap()
    }

    pub(super) fn marks(&self) -> Marks {
        Watermark::open(self).unwrap().marks()
    }
}

impl Disk for TestDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files.lock().unwrap().keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.files.lock().unwrap().get(name).cloned();
        Ok(file.ok_or(io::ErrorKind::NotFound)?)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.put(name, Vec::new());
        self.open(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files.lock().unwrap();
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.into(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files
            .lock()
            .unwrap()
            .remove(name)
            .map(drop)
            .ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let is_nearly_full = self.faults.is_nearly_full.load(Relaxed);
        Ok(if is_nearly_full { 1 } else { u64::MAX })
    }
}

impl DiskFile for TestFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.live.lock().unwrap().len() as u64)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut live = self.live.lock().unwrap();
        let end = offset as usize + bytes.len();
        let file_bytes_max = self.faults.file_bytes_max.load(Relaxed);
        if file_bytes_max > 0 && end as u64 > file_bytes_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if live.len() < end {
            live.resize(end, 0);
        }
        // A full disk takes a part of the bytes.
        let is_full = self.faults.is_full.load(Relaxed);
        let taken = if is_full {
            bytes.len() / 2
        } else {
            bytes.len()
        };
        live[offset as usize..offset as usize + taken].copy_from_slice(&bytes[..taken]);
        if is_full {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            Ok(())
        }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64, _: Patience) -> io::Result<usize> {
        let live = self.live.lock().unwrap();
        let rest = live.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.live.lock().unwrap().resize(len as usize, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let _thawed = self.faults.frozen.lock().unwrap();
        if self.faults.sync_fails.load(Relaxed) {
            return Err(io::ErrorKind::Other.into());
        }
        *self.synced.lock().unwrap() = self.live.lock().unwrap().clone();
        Ok(())
    }
}
