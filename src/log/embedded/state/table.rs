//! One kind of row, written behind: read from memory first and from sled else, changed in memory, brought to sled by the
//! next checkpoint.
//!
//! Memory holds every row changed since the last checkpoint, which the writer's rate times the checkpoint's interval
//! bounds, and at most [`CLEAN_ROWS_MAX`] others.

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
use crate::sabotage::{self, Bug};

/// Rows kept although sled has them, so that the busiest users' are not decoded again and again.
const CLEAN_ROWS_MAX: usize = 4096;

/// Rows that a checkpoint holds at a time: what it takes and gives back stays small, and so does what the allocator keeps.
/// Tests have few rows, and their checkpoints are to have parts as well.
const ROWS_AT_ONCE: usize = if cfg!(test) { 1 } else { 1024 };

/// Rows on their way to sled; `None`: to be removed from it.
pub(in crate::log::embedded) type Dirty<R> = Vec<(Box<[u8]>, Option<R>)>;

/// A value with its layout.
pub(in crate::log::embedded) trait Row:
    Clone + Send + Sync + 'static
{
    /// The value's bytes.
    fn to_bytes(&self) -> Vec<u8>;
    /// Reads them; `None` when they are not a value.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

/// A row in memory.
#[derive(Clone)]
struct Recent<R> {
    /// `None`: removed, or known not to be there.
    row: Option<R>,
    /// Whether sled is yet to learn it.
    is_dirty: bool,
}

/// A tree with the rows not yet in it.
pub(in crate::log::embedded) struct Table<R> {
    tree: Arc<dyn Tree>,
    recent: DashMap<Box<[u8]>, Recent<R>, RandomState>,
    /// Keys of the rows that sled is yet to learn, each once, by when that began: a checkpoint takes those that were there
    /// when it began, however many come while it works.
    dirty: Mutex<VecDeque<Box<[u8]>>>,
}

impl<R: Row> Table<R> {
    pub(super) fn open(store: &dyn Store, name: &'static str) -> Result<Self, StateError> {
        Ok(Self {
            tree: store.tree(name)?,
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

    /// Changes a row under its lock; `change` sees `None` where there is none, and returns what to answer.
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
        // A list of keys is whole whatever happened to who held it.
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rows that sled is yet to learn.
    pub(in crate::log::embedded) fn dirty_rows(&self) -> usize {
        self.dirty().len()
    }

    /// The first of the rows that sled is yet to learn, at most [`ROWS_AT_ONCE`], marked as written: the caller brings them to
    /// sled with [`Table::write`], or gives up on the whole store.
    pub(in crate::log::embedded) fn take_dirty(&self) -> Dirty<R> {
        let keys = {
            let mut dirty = self.dirty();
            let taken = dirty.len().min(ROWS_AT_ONCE);
            let is_newest_first = sabotage::is(Bug::CheckpointTakesNewest);
            let begin = if is_newest_first {
                dirty.len() - taken
            } else {
                0
            };
            let keys: Vec<_> = dirty.drain(begin..begin + taken).collect();
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
        // Unsorted keys cost sled a page look-up each.
        rows.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
        rows
    }

    /// Keeps taken rows for the next time.
    pub(in crate::log::embedded) fn put_back(&self, rows: Dirty<R>) -> Result<(), StateError> {
        rows.into_iter().try_for_each(|(key, row)| {
            self.update(key.into_vec(), |current| {
                *current = current.take().or(row);
            })
        })
    }

    /// Brings taken rows to sled, unflushed.
    pub(in crate::log::embedded) fn write(&self, rows: Dirty<R>) -> Result<(), StateError> {
        for (key, row) in rows {
            match row {
                Some(row) => self.tree.insert(&key, &row.to_bytes())?,
                None => self.tree.remove(&key)?,
            };
        }
        Ok(())
    }

    /// Brings everything that is dirty now to sled, a part with each step, unflushed; then lets memory go of what it need not
    /// hold. Each step tells the number of rows.
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

    /// Lets memory go of rows that sled has, when there are many.
    pub(in crate::log::embedded) fn shrink(&self) {
        if self.recent.len() > CLEAN_ROWS_MAX {
            self.recent.retain(|_, recent| recent.is_dirty);
            self.recent.shrink_to_fit();
        }
    }

    /// Visits all rows whose key begins with `prefix`, memory's before sled's where both have one. Not a snapshot.
    pub(super) fn visit(
        &self,
        prefix: &[u8],
        mut visit: impl FnMut(&[u8], &R),
    ) -> Result<(), StateError> {
        // Copied, so that no guard is held while they are visited; sorted, so that the order says nothing of hashes.
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

    /// A tree under load: with each row that it learns, another one changes.
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

    /// Those that came while it worked were taken in their place: what sled claimed to have, it had not, and a crash before
    /// the next checkpoint made a user's inbox begin behind its messages.
    #[test]
    fn a_checkpoint_writes_what_was_there_when_it_began_whatever_comes_meanwhile() {
        let tree = Arc::new(Busy::default());
        let table = Arc::new(Table {
            tree: tree.clone(),
            recent: DashMap::default(),
            dirty: Mutex::default(),
        });
        tree.table.set(Arc::downgrade(&table)).unwrap();
        let keys = (0..3 * ROWS_AT_ONCE).map(|row| format!("row {row}").into_bytes());
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
