//! A backup that breaks off at any step leaves the one before it.

use std::sync::atomic::AtomicI64;

use super::*;
use crate::log::embedded::{
    backup::{destination::Destination, fault::BackupFault, take::take},
    disk::{Disk, DiskFile},
};

/// A disk whose process is killed after so many changes.
struct Dying {
    disk: Arc<TestDisk>,
    left: Arc<AtomicI64>,
}

struct DyingFile(Arc<dyn DiskFile>, Arc<AtomicI64>);

/// Fails once the process is dead.
fn live(left: &AtomicI64) -> std::io::Result<()> {
    if left.fetch_sub(1, Relaxed) > 0 {
        return Ok(());
    }
    Err(std::io::ErrorKind::Other.into())
}

impl Disk for Dying {
    fn list(&self) -> std::io::Result<Vec<String>> {
        self.disk.list()
    }

    fn open(&self, name: &str) -> std::io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(DyingFile(
            self.disk.open(name)?,
            self.left.clone(),
        )))
    }

    fn create(&self, name: &str) -> std::io::Result<Arc<dyn DiskFile>> {
        live(&self.left)?;
        Ok(Arc::new(DyingFile(
            self.disk.create(name)?,
            self.left.clone(),
        )))
    }

    fn rename(&self, from: &str, to: &str) -> std::io::Result<()> {
        live(&self.left)?;
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> std::io::Result<()> {
        live(&self.left)?;
        self.disk.remove(name)
    }

    fn sync_names(&self) -> std::io::Result<()> {
        live(&self.left)
    }

    fn free_bytes(&self) -> std::io::Result<u64> {
        self.disk.free_bytes()
    }
}

impl DiskFile for DyingFile {
    fn len(&self) -> std::io::Result<u64> {
        self.0.len()
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> std::io::Result<()> {
        if live(&self.1).is_err() {
            // A part of the last write arrives.
            self.0.write_at(&bytes[..bytes.len() / 2], offset)?;
            return Err(std::io::ErrorKind::Other.into());
        }
        self.0.write_at(bytes, offset)
    }

    fn read_at(
        &self,
        buffer: &mut [u8],
        offset: u64,
        patience: Patience,
    ) -> std::io::Result<usize> {
        self.0.read_at(buffer, offset, patience)
    }

    fn truncate(&self, len: u64) -> std::io::Result<()> {
        live(&self.1)?;
        self.0.truncate(len)
    }

    fn sync(&self) -> std::io::Result<()> {
        live(&self.1)?;
        self.0.sync()
    }
}

/// The disks of a backup.
#[derive(Default)]
struct Disks {
    root: Arc<TestDisk>,
    segments: Arc<TestDisk>,
}

impl Disks {
    /// Makes a backup, whose process is killed after so many changes.
    fn take(&self, bench: &Bench, changes: i64) -> Result<BackupReport, BackupFault> {
        let left = Arc::new(AtomicI64::new(changes));
        let dying = |disk: &Arc<TestDisk>| {
            Arc::new(Dying {
                disk: disk.clone(),
                left: left.clone(),
            })
        };
        let destination = Destination {
            root: dying(&self.root),
            segments: dying(&self.segments),
        };
        let cut = bench.log.core.cut().unwrap();
        take(&cut, &destination, &mut |_| Ok(()))
    }

    fn crashed(&self, is_power_cut: bool) -> Self {
        let crashed = |disk: &TestDisk| match is_power_cut {
            true => disk.after_power_cut(),
            false => disk.after_kill(),
        };
        Self {
            root: crashed(&self.root),
            segments: crashed(&self.segments),
        }
    }

    /// Puts the files into the directory of a backup.
    fn put_down(&self, dir: &Path) {
        let _ = std::fs::remove_dir_all(dir);
        std::fs::create_dir_all(dir.join("segments")).unwrap();
        for (disk, dir) in [
            (&self.root, dir.to_owned()),
            (&self.segments, dir.join("segments")),
        ] {
            for name in disk.list().unwrap() {
                std::fs::write(dir.join(&name), disk.get(&name)).unwrap();
            }
        }
    }
}

#[test]
fn a_backup_that_is_killed_at_any_step_leaves_the_one_before_it() {
    let bench = Bench::with(|limits| {
        limits.segment_bytes = 4096;
        limits.retention = Duration::from_secs(3600);
    });
    let send = |from: u64, to: u64| {
        (from..to)
            .for_each(|number| drop(bench.send(&["u1"], &format!("{number}{}", "x".repeat(300)))));
    };
    // The second backup adds to a file, adds files, and removes files.
    send(0, 30);
    bench.machine.advance(2 * 3600 * 1000);
    send(30, 35);
    let first = Disks::default();
    first.take(&bench, i64::MAX).unwrap();
    bench.machine.advance(3601 * 1000);
    eventually("old segments are removed", || bench.bounds("u1").0 > 20);
    send(35, 60);
    let mut shelf = Shelf::new();
    let mut ends = BTreeSet::new();
    for changes in 0.. {
        let mut is_done = false;
        for is_power_cut in [true, false] {
            let disks = first.crashed(false);
            is_done = disks.take(&bench, changes).is_ok();
            let left = disks.crashed(is_power_cut);
            left.put_down(&shelf.backup());
            let bodies = bodies_of(&shelf.open());
            let seqs = (*bodies.first_key_value().unwrap().0, bodies.len());
            ends.insert(seqs);
            // The next backup completes what this one began.
            let next = left.take(&bench, i64::MAX).expect("a backup after a crash");
            assert_eq!(next.segments, left.segments.segments().len());
            if changes % 7 == 0 {
                left.put_down(&shelf.backup());
                assert_eq!(bodies_of(&shelf.open()).last_key_value().unwrap().0, &60);
            }
        }
        // The removal of old files may fail. The backup is made all the same.
        if is_done && first_removed(&first, &bench, changes) {
            break;
        }
    }
    assert_eq!(ends.len(), 2, "the one before, or this one: {ends:?}");
}

/// True if a backup that may make so many changes also removes the files that it does not need.
fn first_removed(first: &Disks, bench: &Bench, changes: i64) -> bool {
    let disks = first.crashed(false);
    let report = disks.take(bench, changes).unwrap();
    report.segments == disks.segments.segments().len()
}

#[test]
fn a_first_backup_that_is_killed_is_none_and_is_made_anew() {
    let bench = Bench::new();
    bench.send(&["u1"], "one");
    let mut shelf = Shelf::new();
    for changes in 0.. {
        let disks = Disks::default();
        if disks.take(&bench, changes).is_ok() {
            break;
        }
        let left = disks.crashed(true);
        left.put_down(&shelf.backup());
        let place = shelf.place();
        match restore(&shelf.backup(), &place, START_MS) {
            Ok(_) => {}
            Err(error) => assert!(error.to_string().contains("holds no backup"), "{error}"),
        }
        left.take(&bench, i64::MAX).unwrap();
        left.put_down(&shelf.backup());
        assert_eq!(bodies_of(&shelf.open()).len(), 1);
    }
}

#[test]
fn a_restore_that_is_killed_lets_no_gateway_start_and_is_made_again() {
    let bench = Bench::new();
    bench.send(&["u1"], "one");
    let mut shelf = Shelf::new();
    bench.backed_up("one", &shelf.backup());
    let place = shelf.place();
    std::fs::create_dir_all(place.join("log.restoring")).unwrap();
    std::fs::write(place.join("log.restoring/half"), "half").unwrap();
    // The epoch is written before the folder gets its name.
    std::fs::write(place.join("epoch"), "half").unwrap();
    let refused = open_directory(&place).err().expect("it is not restored");
    assert!(matches!(refused, OpenError::Restoring(_)), "{refused}");
    restore(&shelf.backup(), &place, START_MS).unwrap();
    assert_eq!(bodies_of(&open_directory(&place).unwrap()).len(), 1);
}
