//! One kind of row, written behind. A row is read from memory first, and else from sled. It is changed in memory, and a
//! checkpoint writes it to sled. Some tables go into the segments as well, and sooner: [`Table::take_unlogged`].
//!
//! Memory holds every row changed since the last checkpoint, and at most [`CLEAN_ROWS_MAX`] others. The keeper bounds the
//! changed rows: it writes faster when there are many.

use std::{
    collections::{BTreeSet, VecDeque},
    ops::Bound,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{
            AtomicBool,
            Ordering::{Acquire, Release},
        },
    },
};

use dashmap::{DashMap, Entry};
use foldhash::quality::RandomState;

use super::{
    super::lock::lock,
    StateError,
    store::{StateStore, Tree},
};

/// The rows that stay in memory although sled has them, so that the busiest users' rows are not decoded again and again.
const CLEAN_ROWS_MAX: usize = 4096;

/// Rows on their way to the segments or to sled; `None`: the row is removed.
pub(in crate::log::embedded) type ChangedRows<R> = Vec<(Box<[u8]>, Option<R>)>;

/// A value with its stored form.
pub(in crate::log::embedded) trait Row:
    Clone + Send + Sync + 'static
{
    /// The value as bytes.
    fn to_bytes(&self) -> Vec<u8>;
    /// Reads a value from bytes; `None` when they are not a value.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

/// A row in memory.
#[derive(Clone)]
pub(super) struct Recent<R> {
    /// `None`: the row was removed, or is known not to exist.
    pub(super) row: Option<R>,
    /// True if sled does not have this version of the row yet.
    is_dirty: bool,
    /// True if the table is logged, and the segments do not have this version of the row yet.
    is_unlogged: bool,
}

/// A queue of keys.
type KeyQueue = Mutex<VecDeque<Box<[u8]>>>;

/// A tree, and the rows that are not in it yet.
pub(in crate::log::embedded) struct Table<R> {
    pub(super) tree: Arc<dyn Tree>,
    /// The rows that a checkpoint holds at a time.
    rows_at_once: usize,
    pub(super) recent: DashMap<Box<[u8]>, Recent<R>, RandomState>,
    /// Keys of the rows that are not in sled yet, each once, in the order of their first change. A checkpoint takes the
    /// keys that were there when it began, however many are added while it works.
    dirty: KeyQueue,
    /// Keys of the rows that are not in the segments yet; `None` for a table that is not logged.
    unlogged: Option<KeyQueue>,
    /// The keys in `recent`, sorted, for a table whose rows are often visited by prefix.
    pub(super) sorted: OnceLock<SortedKeys>,
}

/// The sorted keys of a table's rows in memory. A key may come a moment after its row.
#[derive(Default)]
pub(super) struct SortedKeys {
    pub(super) keys: Mutex<BTreeSet<Box<[u8]>>>,
    /// False while keys from before the begin of sorting may be missing.
    is_whole: AtomicBool,
}

/// A table without the type of its rows, as a checkpoint sees it.
pub(super) trait WriteBehind {
    /// The number of rows not yet in sled.
    fn dirty_rows(&self) -> usize;
    /// Writes the first rows that are not in sled yet, as many as fit a part, unflushed. Returns their number.
    fn write_part(&self) -> Result<usize, StateError>;
    /// Removes rows that sled has from memory, when there are many.
    fn shrink(&self);
}

impl<R: Row> Table<R> {
    pub(super) fn open(store: &dyn StateStore, name: &'static str) -> Result<Self, StateError> {
        Ok(Self {
            tree: store.tree(name)?,
            rows_at_once: store.pace().rows,
            recent: DashMap::default(),
            dirty: Mutex::default(),
            unlogged: None,
            sorted: OnceLock::new(),
        })
    }

    /// Opens a table whose rows are often visited by prefix: a visit looks at no other row.
    pub(super) fn open_sorted(
        store: &dyn StateStore,
        name: &'static str,
    ) -> Result<Self, StateError> {
        let table = Self::open(store, name)?;
        table.sort_keys();
        Ok(table)
    }

    /// Sorts the keys in memory from now on, because rows are visited by prefix. Costs a look at each row the first time, and
    /// nothing later.
    pub(super) fn sort_keys(&self) {
        let sorted = self.sorted.get_or_init(SortedKeys::default);
        if sorted.is_whole.load(Acquire) {
            return;
        }
        // Whoever adds a row from now on adds its key.
        let keys: Vec<_> = self.recent.iter().map(|row| row.key().clone()).collect();
        lock(&sorted.keys).extend(keys);
        sorted.is_whole.store(true, Release);
    }

    /// Opens a table whose rows go into the segments too, by [`Table::take_unlogged`].
    pub(super) fn open_logged(
        store: &dyn StateStore,
        name: &'static str,
    ) -> Result<Self, StateError> {
        let mut table = Self::open(store, name)?;
        table.unlogged = Some(Mutex::default());
        Ok(table)
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<R>, StateError> {
        if let Some(recent) = self.recent.get(key) {
            return Ok(recent.row.clone());
        }
        self.stored(key)
    }

    /// The row, if it is in memory.
    pub(super) fn recent(&self, key: &[u8]) -> Option<R> {
        self.recent.get(key)?.row.clone()
    }

    fn stored(&self, key: &[u8]) -> Result<Option<R>, StateError> {
        self.tree
            .get(key)?
            .map(|bytes| R::from_bytes(&bytes).ok_or(StateError::Undecodable))
            .transpose()
    }

    /// Changes a row under its lock. `change` gets `None` when there is no row. Returns the result of `change`.
    pub(super) fn update<T>(
        &self,
        key: Vec<u8>,
        change: impl FnOnce(&mut Option<R>) -> T,
    ) -> Result<T, StateError> {
        match self.recent.entry(key.into_boxed_slice()) {
            Entry::Occupied(mut entry) => {
                self.queue(entry.key(), Some(entry.get()));
                let recent = entry.get_mut();
                recent.is_dirty = true;
                recent.is_unlogged = self.unlogged.is_some();
                Ok(change(&mut recent.row))
            }
            Entry::Vacant(entry) => {
                let mut row = self.stored(entry.key())?;
                let answer = change(&mut row);
                self.queue(entry.key(), None);
                let key = self.sorted.get().map(|_| entry.key().clone());
                drop(entry.insert(self.changed(row)));
                self.sort(key);
                Ok(answer)
            }
        }
    }

    pub(super) fn put(&self, key: Vec<u8>, row: R) {
        self.replace(key.into_boxed_slice(), Some(row));
    }

    pub(super) fn remove(&self, key: Vec<u8>) {
        self.replace(key.into_boxed_slice(), None);
    }

    /// Adds the key of a row that came into memory to the sorted ones. No row is locked meanwhile: whoever removes rows from memory
    /// holds the sorted keys first.
    fn sort(&self, key: Option<Box<[u8]>>) {
        if let (Some(sorted), Some(key)) = (self.sorted.get(), key) {
            lock(&sorted.keys).insert(key);
        }
    }

    fn replace(&self, key: Box<[u8]>, row: Option<R>) {
        let before = self.recent.insert(key.clone(), self.changed(row));
        self.queue(&key, before.as_ref());
        if before.is_none() {
            self.sort(Some(key));
        }
    }

    /// A row that neither sled nor the segments have.
    fn changed(&self, row: Option<R>) -> Recent<R> {
        Recent {
            row,
            is_dirty: true,
            is_unlogged: self.unlogged.is_some(),
        }
    }

    /// Queues the key of a row that changes. `before` is the row in memory before the change.
    fn queue(&self, key: &[u8], before: Option<&Recent<R>>) {
        if before.is_none_or(|before| !before.is_dirty) {
            lock(&self.dirty).push_back(key.into());
        }
        if let Some(unlogged) = &self.unlogged
            && before.is_none_or(|before| !before.is_unlogged)
        {
            lock(unlogged).push_back(key.into());
        }
    }

    /// Takes the first rows that are not in sled yet, as many as fit a part, and marks them as written.
    fn take_dirty(&self) -> ChangedRows<R> {
        let mut rows = self.take(&self.dirty, |recent| recent.is_dirty = false);
        // With unsorted keys, sled looks up a page for each key.
        rows.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
        rows
    }

    /// The number of rows not yet in the segments.
    pub(in crate::log::embedded) fn unlogged_rows(&self) -> usize {
        self.unlogged.as_ref().map_or(0, |keys| lock(keys).len())
    }

    /// Takes the first rows that are not in the segments yet, as many as fit a part, and marks them as logged. The caller
    /// writes them into the segments, or returns them with [`Table::put_back`].
    pub(in crate::log::embedded) fn take_unlogged(&self) -> ChangedRows<R> {
        self.unlogged.as_ref().map_or_else(Vec::new, |keys| {
            self.take(keys, |recent| recent.is_unlogged = false)
        })
    }

    /// Takes the rows of the first keys, as many as fit a part, and marks each.
    fn take(&self, keys: &KeyQueue, mark: impl Fn(&mut Recent<R>)) -> ChangedRows<R> {
        let taken = first_keys(keys, self.rows_at_once).into_iter();
        taken
            .filter_map(|key| {
                let mut recent = self.recent.get_mut(&key)?;
                mark(&mut recent);
                Some((key, recent.row.clone()))
            })
            .collect()
    }

    /// The rows so far came from the segments.
    pub(super) fn are_logged(&self) {
        while !self.take_unlogged().is_empty() {}
    }

    /// Returns rows from [`Table::take_unlogged`] that did not get into the segments.
    pub(in crate::log::embedded) fn put_back(&self, rows: ChangedRows<R>) {
        for (key, row) in rows {
            match self.recent.entry(key) {
                Entry::Occupied(mut entry) => {
                    if !entry.get().is_unlogged {
                        self.requeue(entry.key());
                        entry.get_mut().is_unlogged = true;
                    }
                }
                Entry::Vacant(entry) => {
                    self.requeue(entry.key());
                    let key = self.sorted.get().map(|_| entry.key().clone());
                    drop(entry.insert(Recent {
                        row,
                        is_dirty: false,
                        is_unlogged: true,
                    }));
                    self.sort(key);
                }
            }
        }
    }

    fn requeue(&self, key: &[u8]) {
        if let Some(unlogged) = &self.unlogged {
            lock(unlogged).push_back(key.into());
        }
    }

    /// Visits all rows whose key begins with `prefix`. If memory and sled both have a row, memory's row counts. Not a
    /// snapshot.
    pub(super) fn visit(
        &self,
        prefix: &[u8],
        mut visit: impl FnMut(&[u8], &R),
    ) -> Result<(), StateError> {
        // The rows are copied, so that no guard is held during the visits. They are sorted, so that their order does not
        // depend on hashes.
        let changed = self.recent_rows(prefix);
        for (key, row) in &changed {
            if let Some(row) = row {
                visit(key, row);
            }
        }
        let is_seen = |key: &[u8]| {
            changed
                .binary_search_by(|(seen, _)| (**seen).cmp(key))
                .is_ok()
        };
        self.tree.scan(prefix, &[], &mut |key, value| {
            if !is_seen(key) {
                visit(key, &R::from_bytes(value).ok_or(StateError::Undecodable)?);
            }
            Ok(true)
        })
    }
}

impl<R: Row> Table<R> {
    /// The rows in memory whose keys begin with `prefix`, sorted.
    fn recent_rows(&self, prefix: &[u8]) -> ChangedRows<R> {
        let sorted = self.sorted.get();
        if let Some(sorted) = sorted.filter(|sorted| sorted.is_whole.load(Acquire)) {
            let sorted = lock(&sorted.keys);
            let keys = sorted.range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded));
            let of_prefix = keys.take_while(|key| key.starts_with(prefix));
            let keys: Vec<_> = of_prefix.cloned().collect();
            drop(sorted);
            let row = |key: Box<[u8]>| {
                let row = self.recent.get(&key)?.row.clone();
                Some((key, row))
            };
            return keys.into_iter().filter_map(row).collect();
        }
        let rows = self.recent.iter();
        let of_prefix = rows.filter(|entry| entry.key().starts_with(prefix));
        let mut rows: Vec<_> = of_prefix
            .map(|entry| (entry.key().clone(), entry.row.clone()))
            .collect();
        rows.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
        rows
    }
}

impl<R: Row> WriteBehind for Table<R> {
    fn dirty_rows(&self) -> usize {
        lock(&self.dirty).len()
    }

    fn write_part(&self) -> Result<usize, StateError> {
        let rows = self.take_dirty();
        for (key, row) in &rows {
            match row {
                Some(row) => self.tree.insert(key, &row.to_bytes())?,
                None => self.tree.remove(key)?,
            };
        }
        Ok(rows.len())
    }

    fn shrink(&self) {
        if self.recent.len() > CLEAN_ROWS_MAX {
            // A key that is added meanwhile waits, so that it is not taken out again.
            let sorted = self.sorted.get().map(|sorted| lock(&sorted.keys));
            self.recent
                .retain(|_, recent| recent.is_dirty || recent.is_unlogged);
            self.recent.shrink_to_fit();
            if let Some(mut sorted) = sorted {
                sorted.retain(|key| self.recent.contains_key(key));
            }
        }
    }
}

/// Takes the first keys, at most `max`.
fn first_keys(keys: &KeyQueue, max: usize) -> Vec<Box<[u8]>> {
    let mut keys = lock(keys);
    let taken = keys.len().min(max);
    let first = keys.drain(..taken).collect();
    if keys.is_empty() {
        *keys = VecDeque::new();
    }
    first
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Weak};

    use super::{
        super::{
            MemoryHome,
            store::{CHECKPOINT_ROWS, StoreHome as _, Visit},
        },
        *,
    };

    /// A tree under load: with each row that is written, another row changes.
    #[derive(Default)]
    struct Busy {
        rows: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
        table: OnceLock<Weak<Table<u64>>>,
    }

    impl Tree for Busy {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
            Ok(self.rows.lock().unwrap().get(key).cloned())
        }

        fn insert(&self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
            let mut rows = self.rows.lock().unwrap();
            rows.insert(key.into(), value.into());
            let other = format!("other {}", rows.len());
            drop(rows);
            let table = self.table.get().and_then(Weak::upgrade).unwrap();
            table.put(other.into(), 2);
            Ok(())
        }

        fn remove(&self, _: &[u8]) -> Result<(), StateError> {
            Ok(())
        }

        fn scan(&self, _: &[u8], _: &[u8], _: &mut Visit<'_>) -> Result<(), StateError> {
            Ok(())
        }
    }

    /// A checkpoint once took the rows that changed while it worked instead of the older ones. Then sled did not have the
    /// rows that it claimed, and after a crash before the next checkpoint a user's inbox began after its messages.
    #[test]
    fn a_checkpoint_writes_what_was_there_when_it_began_whatever_comes_meanwhile() {
        let tree = Arc::new(Busy::default());
        let table = Arc::new(Table {
            tree: tree.clone(),
            rows_at_once: 1,
            recent: DashMap::default(),
            dirty: Mutex::default(),
            unlogged: None,
            sorted: OnceLock::new(),
        });
        tree.table.set(Arc::downgrade(&table)).unwrap();
        let keys = (0..3).map(|row| format!("row {row}").into_bytes());
        let keys: Vec<_> = keys.collect();
        for key in &keys {
            table.put(key.clone(), 1);
        }
        let mut left = table.dirty_rows();
        while left > 0 {
            left -= table.write_part().unwrap();
        }
        for key in &keys {
            assert!(tree.get(key).unwrap().is_some());
        }
        assert_eq!(table.dirty_rows(), keys.len());
    }

    #[test]
    fn a_part_of_a_checkpoint_has_a_bounded_number_of_rows() {
        let store = MemoryHome::default().open().unwrap().store;
        let table = Table::open(&*store, "rows").unwrap();
        for row in 0..=CHECKPOINT_ROWS as u64 {
            table.put(row.to_be_bytes().into(), row);
        }
        for rows in [CHECKPOINT_ROWS, 1] {
            assert_eq!(table.write_part().unwrap(), rows);
        }
    }

    #[test]
    fn rows_that_the_store_has_leave_memory_when_there_are_many() {
        let store = MemoryHome::default().open().unwrap().store;
        let table = Table::open(&*store, "rows").unwrap();
        for row in 0..=CLEAN_ROWS_MAX as u64 {
            table.put(row.to_be_bytes().into(), row);
        }
        table.shrink();
        assert_eq!(
            table.recent.len(),
            CLEAN_ROWS_MAX + 1,
            "rows that wait stay"
        );
        while table.write_part().unwrap() > 0 {}
        table.shrink();
        assert_eq!(table.recent.len(), 0);
        assert_eq!(table.get(&7_u64.to_be_bytes()).unwrap(), Some(7));
    }
}
