//! A state store in memory, for a start on a full disk. It is used until the next start.
//!
//! sled writes as it opens, so it cannot open on a full disk. All its rows follow from the segments, so they are rebuilt
//! from the segments in a bounded part of memory instead. Leaves to others: the store on the disk.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use super::{
    StateError,
    store::{Opened, StateStore, StoreHome, Tree, Visit},
};

/// Enough for some four million rows. A gateway with more rows waits for space on its disk.
const BYTES_MAX: usize = 1 << 30;
/// The memory of a row besides its key and value.
const ROW_BYTES: usize = 128;

/// The home of stores in memory. Each opening gives an empty store.
pub(in crate::log::embedded) struct MemoryHome {
    /// The most memory for the rows of all trees.
    bytes_max: usize,
}

impl Default for MemoryHome {
    fn default() -> Self {
        Self {
            bytes_max: BYTES_MAX,
        }
    }
}

struct MemoryStateStore(Arc<Room>);

/// The memory that all trees share.
struct Room {
    bytes_max: usize,
    taken: AtomicUsize,
}

struct MemoryTree {
    room: Arc<Room>,
    rows: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl StoreHome for MemoryHome {
    fn open(&self) -> Result<Opened, StateError> {
        let room = Room {
            bytes_max: self.bytes_max,
            taken: AtomicUsize::new(0),
        };
        Ok(Opened {
            store: Arc::new(MemoryStateStore(Arc::new(room))),
            is_believed: false,
        })
    }

    fn set_aside(&self) -> io::Result<()> {
        Ok(())
    }
}

impl StateStore for MemoryStateStore {
    /// Each tree is opened once.
    fn tree(&self, _: &'static str) -> Result<Arc<dyn Tree>, StateError> {
        Ok(Arc::new(MemoryTree {
            room: Arc::clone(&self.0),
            rows: Mutex::default(),
        }))
    }

    fn flush(&self) -> Result<(), StateError> {
        Ok(())
    }
}

impl MemoryTree {
    fn rows(&self) -> MutexGuard<'_, BTreeMap<Vec<u8>, Vec<u8>>> {
        // No panic leaves a change half made.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(&self, key: &[u8], value: Option<Vec<u8>>) {
        if let Some(value) = value {
            let bytes = ROW_BYTES + key.len() + value.len();
            self.room.taken.fetch_sub(bytes, Relaxed);
        }
    }
}

impl Tree for MemoryTree {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.rows().get(key).cloned())
    }

    fn insert(&self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        let bytes = ROW_BYTES + key.len() + value.len();
        if self.room.taken.fetch_add(bytes, Relaxed) + bytes > self.room.bytes_max {
            self.room.taken.fetch_sub(bytes, Relaxed);
            return Err(StateError::NoRoom);
        }
        let before = self.rows().insert(key.into(), value.into());
        self.give_back(key, before);
        Ok(())
    }

    fn remove(&self, key: &[u8]) -> Result<(), StateError> {
        let before = self.rows().remove(key);
        self.give_back(key, before);
        Ok(())
    }

    fn scan(&self, prefix: &[u8], after: &[u8], visit: &mut Visit<'_>) -> Result<(), StateError> {
        for (key, value) in self.rows().range(prefix.max(after).to_vec()..) {
            if !key.starts_with(prefix) || &**key > after && !visit(key, value)? {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_take_no_more_than_their_room_and_give_it_back() {
        let home = MemoryHome {
            bytes_max: 2 * (ROW_BYTES + 2),
        };
        let store = home.open().unwrap().store;
        let trees = ["a", "b"].map(|name| store.tree(name).unwrap());
        for _ in 0..3 {
            trees[0].insert(b"k", b"1").unwrap();
            trees[1].insert(b"k", b"2").unwrap();
            assert!(matches!(
                trees[1].insert(b"l", b"3"),
                Err(StateError::NoRoom)
            ));
            assert_eq!(trees[1].get(b"l").unwrap(), None);
            trees[0].remove(b"k").unwrap();
            trees[0].insert(b"l", b"4").unwrap();
            trees[0].remove(b"l").unwrap();
            trees[1].remove(b"k").unwrap();
        }
    }
}
