//! One kind of row, written behind: read from memory first and from sled else, changed in memory, brought to sled by the
//! next checkpoint.
//!
//! Memory holds every row changed since the last checkpoint, which the writer's rate times the checkpoint's interval
//! bounds, and at most [`CLEAN_ROWS_MAX`] others.

use dashmap::{DashMap, Entry};

use super::StateError;

/// Rows kept although sled has them, so that the busiest users' are not decoded again and again: about 10 MB.
const CLEAN_ROWS_MAX: usize = 65_536;

/// A value with its layout.
pub(super) trait Row: Clone + Send + Sync + 'static {
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
pub(super) struct Table<R> {
    tree: sled::Tree,
    recent: DashMap<Box<[u8]>, Recent<R>>,
}

impl<R: Row> Table<R> {
    pub(super) fn open(db: &sled::Db, name: &str) -> Result<Self, StateError> {
        Ok(Self {
            tree: db.open_tree(name)?,
            recent: DashMap::new(),
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
                entry.get_mut().is_dirty = true;
                Ok(change(&mut entry.get_mut().row))
            }
            Entry::Vacant(entry) => {
                let mut row = self.stored(entry.key())?;
                let answer = change(&mut row);
                entry.insert(Recent {
                    row,
                    is_dirty: true,
                });
                Ok(answer)
            }
        }
    }

    pub(super) fn put(&self, key: Vec<u8>, row: R) {
        self.recent.insert(
            key.into_boxed_slice(),
            Recent {
                row: Some(row),
                is_dirty: true,
            },
        );
    }

    pub(super) fn remove(&self, key: Vec<u8>) {
        self.recent.insert(
            key.into_boxed_slice(),
            Recent {
                row: None,
                is_dirty: true,
            },
        );
    }

    /// Rows that the next checkpoint has to write, at most.
    pub(super) fn recent_rows(&self) -> usize {
        self.recent.len()
    }

    /// The rows that changed since the last call, marked as written: the caller brings them to sled with
    /// [`Table::write`], or gives up on the whole store.
    pub(super) fn take_dirty(&self) -> Vec<(Box<[u8]>, Option<R>)> {
        let mut dirty = Vec::new();
        for mut entry in self.recent.iter_mut() {
            if entry.is_dirty {
                entry.is_dirty = false;
                dirty.push((entry.key().clone(), entry.row.clone()));
            }
        }
        // Unsorted keys cost sled a page look-up each.
        dirty.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
        dirty
    }

    /// Brings taken rows to sled, unflushed, and lets memory go of what it need not hold.
    pub(super) fn write(&self, dirty: Vec<(Box<[u8]>, Option<R>)>) -> Result<(), StateError> {
        /// After this many rows the writer's thread gets a chance to run: it competes for the same cores.
        const ROWS_AT_ONCE: usize = 256;
        for rows in dirty.chunks(ROWS_AT_ONCE) {
            for (key, row) in rows {
                match row {
                    Some(row) => self.tree.insert(key, row.to_bytes())?,
                    None => self.tree.remove(key)?,
                };
            }
            std::thread::yield_now();
        }
        if self.recent.len() > CLEAN_ROWS_MAX {
            self.recent.retain(|_, recent| recent.is_dirty);
        }
        Ok(())
    }

    /// Visits all rows whose key begins with `prefix`, memory's before sled's where both have one. Not a snapshot.
    pub(super) fn visit(
        &self,
        prefix: &[u8],
        mut visit: impl FnMut(&[u8], &R),
    ) -> Result<(), StateError> {
        // Copied, so that no guard is held while they are visited.
        let changed: Vec<_> = self
            .recent
            .iter()
            .filter(|entry| entry.key().starts_with(prefix))
            .map(|entry| (entry.key().clone(), entry.row.clone()))
            .collect();
        for (key, row) in &changed {
            if let Some(row) = row {
                visit(key, row);
            }
        }
        let seen: std::collections::HashSet<&[u8]> =
            changed.iter().map(|(key, _)| &**key).collect();
        for entry in self.tree.scan_prefix(prefix) {
            let (key, value) = entry?;
            if !seen.contains(&*key) {
                visit(&key, &R::from_bytes(&value).ok_or(StateError::Undecodable)?);
            }
        }
        Ok(())
    }
}
