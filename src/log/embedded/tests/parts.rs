//! A work on very many rows or records is done in parts, so that others have their turn and the memory has a bound.

use std::{io, sync::atomic::AtomicBool};

use super::{
    keeper::{CARRIED_AT_ONCE, DIRTY_ROWS_MAX},
    scrub::{PAUSE, RECORDS_AT_ONCE},
    state::{MemoryHome, Opened, StateError, StateStore, StoreHome, Tree, Visit},
    *,
};

/// The records of a segment for which this is true.
fn count(disk: &TestDisk, name: &str, is_counted: fn(&Record) -> bool) -> usize {
    let segment = Segment::open(disk, Segment::base_of(name).unwrap()).unwrap();
    let mut scan = scan::Scan::whole(&segment);
    let mut count = 0;
    while let Some(scanned) = scan.next().unwrap() {
        count += usize::from(is_counted(&scanned.record));
    }
    count
}

#[test]
fn a_piece_of_a_message_to_everyone_has_a_bounded_number_of_users() {
    let bench = Bench::new();
    // By default `PIECE_USERS`.
    let piece = bench.log.core.state.pace().users;
    let names: Vec<_> = (0..=piece).map(|n| format!("u{n}")).collect();
    let users: Vec<_> = names.iter().map(String::as_str).collect();
    bench.send(&users, "to each");
    let before = bench.log_end();
    bench.everyone(None, "to everyone").unwrap();
    let segment = Segment::open(&*bench.disk, ORIGIN).unwrap();
    let mut scan = scan::Scan::from(&segment, before, None);
    let mut sizes = vec![0];
    while let Some(scanned) = scan.next().unwrap() {
        match scanned.record {
            Record::Entry { .. } => *sizes.last_mut().expect("a group") += 1,
            Record::GroupEnd { .. } => sizes.push(0),
            _ => {}
        }
    }
    sizes.retain(|size| *size > 0);
    assert_eq!(sizes, [piece, 1]);
}

#[test]
fn facts_that_outlive_a_segment_are_carried_over_in_requests_of_bounded_size() {
    let (disk, dir) = (Arc::<TestDisk>::default(), tempfile::tempdir().unwrap());
    by_hand(&disk, dir.path(), async |log, mut writer| {
        let registered = (0..=CARRIED_AT_ONCE).map(|number| {
            let profile = Bytes::from_static(b"{}");
            log.register(user(&format!("u{number}")), profile).unwrap()
        });
        let _pending: Vec<_> = registered.collect();
        writer.write().await;
        let first = disk.last_segment();
        let _pending = log.append(message(START_MS, &["u1"], None, "in another segment"));
        writer.write().await;
        // Each group has a segment of its own.
        let carried = Mutex::new(BTreeMap::new());
        let is_gone = || {
            let name = disk.last_segment();
            let profiles = count(&disk, &name, |record| {
                matches!(record, Record::Register { .. })
            });
            carried.lock().unwrap().insert(name, profiles);
            !disk.segments().contains(&first)
        };
        writer.write_until(is_gone).await;
        let carried = carried.into_inner().unwrap();
        let sizes: Vec<_> = carried.into_values().filter(|size| *size > 0).collect();
        assert_eq!(sizes, [CARRIED_AT_ONCE, 1]);
    });
}

#[test]
fn a_scrub_pauses_after_so_many_records() {
    let bench = Bench::new();
    let names: Vec<_> = (0..RECORDS_AT_ONCE * 2).map(|n| format!("u{n}")).collect();
    let users: Vec<_> = names.iter().map(String::as_str).collect();
    bench.send(&users, "to each");
    let records = count(&bench.disk, &bench.disk.last_segment(), |_| true);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    let core = &bench.log.core;
    let paused = runtime.unwrap().block_on(async {
        let begun = tokio::time::Instant::now();
        scrub::run(Arc::downgrade(core), Some(core.reached().position)).await;
        begun.elapsed()
    });
    let pauses = paused.as_millis() / PAUSE.as_millis();
    assert_eq!(pauses as usize, records / RECORDS_AT_ONCE);
}

/// A state store that notes if a user's row is looked up after one was written.
#[derive(Clone, Default)]
struct Noting {
    has_written: Arc<AtomicBool>,
    has_looked_up_later: Arc<AtomicBool>,
}

struct NotingTree(Noting, Arc<dyn Tree>);

impl StoreHome for Noting {
    fn open(&self) -> Result<Opened, StateError> {
        let opened = MemoryHome::default().open()?;
        let store = Arc::new(NotingStore(self.clone(), opened.store));
        Ok(Opened { store, ..opened })
    }

    fn set_aside(&self) -> io::Result<()> {
        Ok(())
    }
}

struct NotingStore(Noting, Arc<dyn StateStore>);

impl StateStore for NotingStore {
    fn tree(&self, name: &'static str) -> Result<Arc<dyn Tree>, StateError> {
        let tree = self.1.tree(name)?;
        Ok(match name {
            "users" => Arc::new(NotingTree(self.0.clone(), tree)),
            _ => tree,
        })
    }

    fn flush(&self) -> Result<(), StateError> {
        self.1.flush()
    }
}

impl Tree for NotingTree {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        let has_written = self.0.has_written.load(Relaxed);
        self.0.has_looked_up_later.fetch_or(has_written, Relaxed);
        self.1.get(key)
    }

    fn insert(&self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        self.0.has_written.store(true, Relaxed);
        self.1.insert(key, value)
    }

    fn remove(&self, key: &[u8]) -> Result<(), StateError> {
        self.1.remove(key)
    }

    fn scan(&self, prefix: &[u8], after: &[u8], visit: &mut Visit<'_>) -> Result<(), StateError> {
        self.1.scan(prefix, after, visit)
    }
}

/// True if a replay of a message to so many users, and of one to another user, writes rows before it has read the second one.
fn writes_within_a_replay(users: usize) -> bool {
    let disk = Arc::<TestDisk>::default();
    let dir = tempfile::tempdir().unwrap();
    let open = |state: Noting| {
        let directories = Directories {
            state: Box::new(state),
            ..place(&disk, dir.path())
        };
        let (limits, clock) = (config::Log::default(), Manual::new().clock());
        let metrics = Arc::new(Metrics::new());
        let opened = EmbeddedLog::open_in(&directories, &limits, clock, metrics, |job| job());
        opened.expect("opens")
    };
    let (log, workers) = open(Noting::default());
    let many = (0..users).map(|n| user(&format!("u{n}"))).collect();
    let (writer, keeper) = workers.into_futures();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    runtime.unwrap().block_on(async {
        let mut writer = ByHand(Box::pin(writer.expect("nothing is damaged")));
        for receivers in [many, vec![user("another")]] {
            let append = Append {
                receivers,
                ..message(START_MS, &[], None, "to each")
            };
            let mut pending = log.append(append).unwrap();
            writer.write().await;
            assert!(pending.try_recv().unwrap().is_ok());
        }
    });
    drop((log, keeper));
    let replayed = Noting::default();
    drop(open(replayed.clone()));
    replayed.has_looked_up_later.load(Relaxed)
}

#[test]
fn a_replay_gives_its_rows_to_the_state_store_when_there_are_too_many() {
    assert!(!writes_within_a_replay(1));
    assert!(writes_within_a_replay(DIRTY_ROWS_MAX + 1));
}
