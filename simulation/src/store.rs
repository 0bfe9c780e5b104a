//! A state store that keeps the promises of sled in a synchronous directory: flushed changes are there, and unflushed ones
//! may be lost from any point on. The store may also be lost as a whole, or not open.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{disk::Choice, process::Life};
use towncrier::log::embedded::{Opened, Pace, StateError, StateStore, StoreHome, Tree, Visit};

type Rows = BTreeMap<(&'static str, Vec<u8>), Vec<u8>>;

/// A tree, a key, and its new value.
type Change = (&'static str, Vec<u8>, Option<Vec<u8>>);

/// The storage of the store. Cheap to clone; clones are the same store.
#[derive(Clone)]
pub(super) struct SimHome {
    shared: Arc<Mutex<Shared>>,
    life: Arc<Life>,
}

#[derive(Clone, Default)]
struct Shared {
    live: Rows,
    durable: Rows,
    /// The changes in order. A value of `None` removes the key.
    unflushed: Vec<Change>,
    opens_not: bool,
    is_unbelievable: bool,
}

/// The fate of the store while the process is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The flushed changes are there, and any prefix of the others.
    Kept,
    /// An operator deleted it.
    Lost,
    /// It does not open.
    Broken,
    /// Its file system makes no promise.
    Unbelievable,
}

impl SimHome {
    pub(super) fn new() -> Self {
        Self {
            shared: Arc::default(),
            life: Arc::default(),
        }
    }

    /// The same store as another process sees it.
    pub(super) fn for_process(&self, life: Arc<Life>) -> Self {
        Self {
            shared: self.shared.clone(),
            life,
        }
    }

    /// Another store in the same state.
    pub(super) fn copy(&self) -> Self {
        Self {
            shared: Arc::new(Mutex::new(self.lock().clone())),
            life: Arc::default(),
        }
    }

    /// The process ends, in any way. `choose` decides how many of the unflushed changes survive.
    pub(super) fn crash(&self, fate: Fate, choose: Choice<'_>) {
        let shared = &mut *self.lock();
        let survivors = choose(shared.unflushed.len() + 1);
        for (tree, key, value) in shared.unflushed.drain(..).take(survivors) {
            write(&mut shared.durable, tree, key, value);
        }
        shared.live.clone_from(&shared.durable);
        match fate {
            Fate::Kept => {}
            Fate::Lost => *shared = Shared::default(),
            Fate::Broken => shared.opens_not = true,
            Fate::Unbelievable => shared.is_unbelievable = true,
        }
    }

    /// Puts another row in the place of the first row of a tree.
    pub(super) fn change_first(
        &self,
        tree: &'static str,
        change: impl FnOnce(&[u8], &[u8]) -> (Vec<u8>, Vec<u8>),
    ) {
        let shared = &mut *self.lock();
        let first = shared.live.range((tree, Vec::new())..).next();
        let first = first.filter(|((of, _), _)| *of == tree);
        let old = first.map(|((_, key), value)| (key.clone(), value.clone()));
        let (old_key, old_value) = old.unwrap_or_default();
        let (key, value) = change(&old_key, &old_value);
        write(&mut shared.live, tree, old_key, None);
        write(&mut shared.live, tree, key, Some(value));
        shared.durable.clone_from(&shared.live);
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write(rows: &mut Rows, tree: &'static str, key: Vec<u8>, value: Option<Vec<u8>>) {
    match value {
        Some(value) => rows.insert((tree, key), value),
        None => rows.remove(&(tree, key)),
    };
}

impl StoreHome for SimHome {
    fn open(&self) -> Result<Opened, StateError> {
        self.life.look()?;
        let shared = &mut *self.lock();
        if shared.opens_not {
            return Err(StateError::Panicked);
        }
        let is_believed = !std::mem::take(&mut shared.is_unbelievable);
        if !is_believed {
            *shared = Shared::default();
        }
        Ok(Opened {
            store: Arc::new(self.clone()),
            is_believed,
        })
    }

    fn set_aside(&self) -> io::Result<()> {
        self.life.look()?;
        *self.lock() = Shared::default();
        Ok(())
    }
}

impl StateStore for SimHome {
    /// A run has few rows. Its checkpoints have several parts as well, and take as long as those of many rows. A message to everyone has a
    /// piece for each user.
    fn pace(&self) -> Pace {
        Pace {
            rows: 1,
            pause: Duration::from_millis(20),
            users: 1,
        }
    }

    fn tree(&self, name: &'static str) -> Result<Arc<dyn Tree>, StateError> {
        Ok(Arc::new(SimTree {
            home: self.clone(),
            name,
        }))
    }

    fn flush(&self) -> Result<(), StateError> {
        self.life.change()?;
        let shared = &mut *self.lock();
        for (tree, key, value) in shared.unflushed.drain(..) {
            write(&mut shared.durable, tree, key, value);
        }
        Ok(())
    }
}

struct SimTree {
    home: SimHome,
    name: &'static str,
}

impl SimTree {
    fn change(&self, key: &[u8], value: Option<&[u8]>) -> Result<(), StateError> {
        self.home.life.look()?;
        let shared = &mut *self.home.lock();
        let (key, value) = (key.to_vec(), value.map(<[u8]>::to_vec));
        write(&mut shared.live, self.name, key.clone(), value.clone());
        shared.unflushed.push((self.name, key, value));
        Ok(())
    }
}

impl Tree for SimTree {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.home.life.look()?;
        Ok(self
            .home
            .lock()
            .live
            .get(&(self.name, key.to_vec()))
            .cloned())
    }

    fn insert(&self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        self.change(key, Some(value))
    }

    fn remove(&self, key: &[u8]) -> Result<(), StateError> {
        self.change(key, None)
    }

    fn scan(&self, prefix: &[u8], after: &[u8], visit: &mut Visit<'_>) -> Result<(), StateError> {
        self.home.life.look()?;
        let shared = self.home.lock();
        let from = (self.name, prefix.max(after).to_vec());
        for ((tree, key), value) in shared.live.range(from..) {
            let is_there = *tree == self.name && key.starts_with(prefix);
            if !is_there || &**key > after && !visit(key, value)? {
                break;
            }
        }
        Ok(())
    }
}
