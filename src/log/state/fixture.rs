//! A state store in memory, for fuzzing: sled takes a thousand times as long to open.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
};

use super::{
    StateError,
    store::{Opened, Store, StoreHome, Tree, Visit},
};

/// An empty store each time.
pub(in crate::log) struct MemoryHome;

struct MemoryStore;

#[derive(Default)]
struct MemoryTree(Mutex<BTreeMap<Vec<u8>, Vec<u8>>>);

impl StoreHome for MemoryHome {
    fn open(&self) -> Result<Opened, StateError> {
        Ok(Opened {
            store: Arc::new(MemoryStore),
            is_believed: true,
        })
    }

    fn set_aside(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Store for MemoryStore {
    /// Each is opened once.
    fn tree(&self, _: &'static str) -> Result<Arc<dyn Tree>, StateError> {
        Ok(Arc::new(MemoryTree::default()))
    }

    fn flush(&self) -> Result<(), StateError> {
        Ok(())
    }
}

impl Tree for MemoryTree {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.0.lock().unwrap().get(key).cloned())
    }

    fn insert(&self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        self.0.lock().unwrap().insert(key.into(), value.into());
        Ok(())
    }

    fn remove(&self, key: &[u8]) -> Result<(), StateError> {
        self.0.lock().unwrap().remove(key);
        Ok(())
    }

    fn scan(&self, prefix: &[u8], visit: &mut Visit<'_>) -> Result<(), StateError> {
        let rows = self.0.lock().unwrap();
        let from = rows.range(prefix.to_vec()..);
        let mut these = from.take_while(|(key, _)| key.starts_with(prefix));
        these.try_for_each(|(key, value)| visit(key, value))
    }
}
