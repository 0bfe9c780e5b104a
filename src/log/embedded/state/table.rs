//! One kind of row, written behind. A row is read from memory first, and else from sled. It is changed in memory, and the
//! next checkpoint writes it to sled.
//!
//! Memory holds every row changed since the last checkpoint, and at most [`CLEAN_ROWS_MAX`] others. The writer's rate and
//! the checkpoint's interval bound the changed rows.

use std::{
    collections::VecDeque,
    iter,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use dashmap::{DashMap, Entry};
use foldhash::quality::RandomState;

use super::{
    StateError,
    store::{Store, Tree},
};

/// The rows that stay in memory although sled has them, so that the busiest users' rows are not decoded again and again.
const CLEAN_ROWS_MAX: usize = 4096;

/// Rows on their way to sled; `None`: the row is removed from sled.
pub(in crate::log::embedded) type Dirty<R> = Vec<(Box<[u8]>, Option<R>)>;

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
struct Recent<R> {
    /// `None`: the row was removed, or is known not to exist.
    row: Option<R>,
    /// True if sled does not have this version of the row yet.
    is_dirty: bool,
}

/// A tree, and the rows that are not in it yet.
pub(in crate::log::embedded) struct Table<R> {
    tree: Arc<dyn Tree>,
    /// The rows that a checkpoint holds at a time.
    rows_at_once: usize,
    recent: DashMap<Box<[u8]>, Recent<R>, RandomState>,
    /// Keys of the rows that are not in sled yet, each once, in the order of their first change. A checkpoint takes the
    /// keys that were there when it began, however many are added while it works.
    dirty: Mutex<VecDeque<Box<[u8]>>>,
}

impl<R: Row> Table<R> {
    pub(super) fn open(store: &dyn Store, name: &'static str) -> Result<Self, StateError> {
        Ok(Self {
            tree: store.tree(name)?,
            rows_at_once: store.pace().rows,
            recent: DashMap::default(),
            dirty: Mutex::default(),
        })
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<R>, StateError> {
        if let Some(recent) = self.recent.get(key) {
            return Ok(recent.row.clone());
        }
        self.stored(key)
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
                if !entry.get().is_dirty {
                    self.dirty().push_back(entry.key().clone());
                }
                let recent = entry.get_mut();
                recent.is_dirty = true;
                Ok(change(&mut recent.row))
            }
            Entry::Vacant(entry) => {
                let mut row = self.stored(entry.key())?;
                let answer = change(&mut row);
                self.dirty().push_back(entry.key().clone());
                entry.insert(Recent {
                    row,
                    is_dirty: true,
                });
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

    fn replace(&self, key: Box<[u8]>, row: Option<R>) {
        let recent = Recent {
            row,
            is_dirty: true,
        };
        let before = self.recent.insert(key.clone(), recent);
        if before.is_none_or(|before| !before.is_dirty) {
            self.dirty().push_back(key);
        }
    }

    fn dirty(&self) -> MutexGuard<'_, VecDeque<Box<[u8]>>> {
        // A panic of the lock's holder leaves the list of keys whole.
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of rows not yet in sled.
    pub(in crate::log::embedded) fn dirty_rows(&self) -> usize {
        self.dirty().len()
    }

    /// Takes the first rows that are not in sled yet, as many as fit a part, and marks them as written. The caller
    /// writes them to sled with [`Table::write`], or gives up on the whole store.
    pub(in crate::log::embedded) fn take_dirty(&self) -> Dirty<R> {
        let keys = {
            let mut dirty = self.dirty();
            let taken = dirty.len().min(self.rows_at_once);
            let keys: Vec<_> = dirty.drain(..taken).collect();
            if dirty.is_empty() {
                *dirty = VecDeque::new();
            }
            keys
        };
        let take = |key: Box<[u8]>| {
            let mut recent = self.recent.get_mut(&key)?;
            recent.is_dirty = false;
            Some((key, recent.row.clone()))
        };
        let mut rows: Dirty<R> = keys.into_iter().filter_map(take).collect();
        // With unsorted keys, sled looks up a page for each key.
        rows.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
        rows
    }

    /// Returns taken rows, so that the next checkpoint writes them.
    pub(in crate::log::embedded) fn put_back(&self, rows: Dirty<R>) -> Result<(), StateError> {
        rows.into_iter().try_for_each(|(key, row)| {
            self.update(key.into_vec(), |current| {
                *current = current.take().or(row);
            })
        })
    }

    /// Writes taken rows to sled, unflushed.
    pub(in crate::log::embedded) fn write(&self, rows: Dirty<R>) -> Result<(), StateError> {
        for (key, row) in rows {
            match row {
                Some(row) => self.tree.insert(&key, &row.to_bytes())?,
                None => self.tree.remove(&key)?,
            };
        }
        Ok(())
    }

    /// Writes all rows that are dirty now to sled, unflushed, one part with each step. Then removes the rows from memory
    /// that need not be there. Each step returns its number of rows.
    pub(super) fn parts(&self) -> impl Iterator<Item = Result<usize, StateError>> {
        let mut left = self.dirty_rows();
        iter::from_fn(move || {
            let part = if left == 0 {
                Vec::new()
            } else {
                self.take_dirty()
            };
            if part.is_empty() {
                self.shrink();
                return None;
            }
            left = left.saturating_sub(part.len());
            let rows = part.len();
            Some(self.write(part).map(|()| rows))
        })
        .fuse()
    }

    /// Removes rows that sled has from memory, when there are many.
    pub(in crate::log::embedded) fn shrink(&self) {
        if self.recent.len() > CLEAN_ROWS_MAX {
            self.recent.retain(|_, recent| recent.is_dirty);
            self.recent.shrink_to_fit();
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
        let mut changed: Vec<_> = self
            .recent
            .iter()
            .filter(|entry| entry.key().starts_with(prefix))
            .map(|entry| (entry.key().clone(), entry.row.clone()))
            .collect();
        changed.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
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
        self.tree.scan(prefix, &mut |key, value| {
            if !is_seen(key) {
                visit(key, &R::from_bytes(value).ok_or(StateError::Undecodable)?);
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        sync::{OnceLock, Weak},
    };

    use super::{super::store::Visit, *};

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

        fn scan(&self, _: &[u8], _: &mut Visit<'_>) -> Result<(), StateError> {
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
        });
        tree.table.set(Arc::downgrade(&table)).unwrap();
        let keys = (0..3).map(|row| format!("row {row}").into_bytes());
        let keys: Vec<_> = keys.collect();
        for key in &keys {
            table.put(key.clone(), 1);
        }
        assert_eq!(table.parts().sum::<Result<usize, _>>().unwrap(), keys.len());
        for key in &keys {
            assert!(tree.get(key).unwrap().is_some());
        }
        assert_eq!(table.dirty_rows(), keys.len());
    }
}
