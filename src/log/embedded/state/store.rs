//! The state store behind a trait, so that tests can lose unflushed rows, or all rows.
//!
//! A store has trees of bytes, in the order of their keys. [`SledHome`] is the real one. Leaves to others: the meaning of
//! the rows, the times of flushes, and the use of a store that does not open.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use rustix::fs::IFlags;

use super::StateError;

/// The rows of one part of a checkpoint. A small part needs little memory, so the allocator also keeps little.
pub(super) const CHECKPOINT_ROWS: usize = 1024;
/// The pause after each part. The writer's thread needs the same cores as the checkpoint, and is more urgent.
const CHECKPOINT_PAUSE: Duration = Duration::from_millis(1);
/// The users of one piece. Their rows take some milliseconds if they are not in memory.
const PIECE_USERS: usize = 512;

/// The home of a store.
pub trait StoreHome: Send + Sync + 'static {
    /// Opens the store, or begins an empty one when there is none. sled may also panic.
    fn open(&self) -> Result<Opened, StateError>;
    /// Moves a useless store out of the way. It replaces the store that was set aside before.
    fn set_aside(&self) -> io::Result<()>;
}

/// A store after its opening.
pub struct Opened {
    /// The store.
    pub store: Arc<dyn StateStore>,
    /// True if the store's claim can be believed: a flush reached the disk, and nothing written after it reached the disk
    /// before it.
    pub is_believed: bool,
}

/// All trees.
pub trait StateStore: Send + Sync + 'static {
    /// Opens a tree, or makes it.
    fn tree(&self, name: &'static str) -> Result<Arc<dyn Tree>, StateError>;
    /// Returns once all written rows are on the device.
    fn flush(&self) -> Result<(), StateError>;
    /// The pace of work on its rows beside the sends.
    fn pace(&self) -> Pace {
        Pace::default()
    }
}

/// The pace of work on many rows: a checkpoint, or a message to everyone.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The rows of one part of a checkpoint; at least 1.
    pub rows: usize,
    /// The pause after each part.
    pub pause: Duration,
    /// The users whose rows one group of the writer changes beside other sends: the receivers of one piece of a message to
    /// everyone; at least 1.
    pub users: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            rows: CHECKPOINT_ROWS,
            pause: CHECKPOINT_PAUSE,
            users: PIECE_USERS,
        }
    }
}

/// Rows sorted by their keys.
pub trait Tree: Send + Sync + 'static {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError>;
    /// Writes a row, unflushed.
    fn insert(&self, key: &[u8], value: &[u8]) -> Result<(), StateError>;
    /// Removes a row, unflushed.
    fn remove(&self, key: &[u8]) -> Result<(), StateError>;
    /// Visits the rows whose keys begin with `prefix` and are greater than `after`, ascending, until `visit` fails or has enough.
    fn scan(&self, prefix: &[u8], after: &[u8], visit: &mut Visit<'_>) -> Result<(), StateError>;
}

/// The function that a scan calls for each row. It returns false when it has enough.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<bool, StateError> + 'a;

/// sled in a directory of the machine.
pub(crate) struct SledHome {
    pub(crate) dir: PathBuf,
    /// The memory of sled's cache.
    pub(crate) cache_bytes: u64,
}

impl SledHome {
    fn open_sled(&self) -> Result<Arc<dyn StateStore>, StateError> {
        let config = sled::Config::new()
            .path(&self.dir)
            .cache_capacity(self.cache_bytes)
            .mode(sled::Mode::LowSpace)
            // We flush at checkpoints. sled's own timer would write between them.
            .flush_every_ms(None);
        Ok(Arc::new(config.open()?))
    }

    /// Gives the directory `FS_SYNC_FL`, which its files inherit, because sled's own flush does not reach the disk. Returns
    /// false if the file system does not know the attribute.
    fn make_synchronous(&self) -> io::Result<bool> {
        std::fs::create_dir_all(&self.dir)?;
        let handle = std::fs::File::open(&self.dir)?;
        let Ok(flags) = rustix::fs::ioctl_getflags(&handle) else {
            return Ok(false);
        };
        let set = rustix::fs::ioctl_setflags(&handle, flags | IFlags::SYNC);
        let is_set =
            || rustix::fs::ioctl_getflags(&handle).is_ok_and(|now| now.contains(IFlags::SYNC));
        Ok(set.is_ok() && is_set())
    }
}

impl StoreHome for SledHome {
    fn open(&self) -> Result<Opened, StateError> {
        let is_synchronous = self.make_synchronous()?;
        let mut store = self.open_sled()?;
        if !is_synchronous {
            // Without the attribute, sled may claim rows after a power cut that were lost.
            tracing::warn!(
                "the file system has no synchronous attribute: the state is rebuilt at every start"
            );
            drop(store);
            std::fs::remove_dir_all(&self.dir)?;
            store = self.open_sled()?;
        }
        Ok(Opened {
            store,
            is_believed: is_synchronous,
        })
    }

    fn set_aside(&self) -> io::Result<()> {
        if !self.dir.exists() {
            return Ok(());
        }
        let aside = self.dir.with_extension("set-aside");
        if aside.exists() {
            std::fs::remove_dir_all(&aside)?;
        }
        std::fs::rename(&self.dir, aside)
    }
}

impl StateStore for sled::Db {
    fn tree(&self, name: &'static str) -> Result<Arc<dyn Tree>, StateError> {
        Ok(Arc::new(self.open_tree(name)?))
    }

    fn flush(&self) -> Result<(), StateError> {
        sled::Tree::flush(self)?;
        Ok(())
    }
}

impl Tree for sled::Tree {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        Ok(sled::Tree::get(self, key)?.map(|value| value.to_vec()))
    }

    fn insert(&self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        sled::Tree::insert(self, key, value)?;
        Ok(())
    }

    fn remove(&self, key: &[u8]) -> Result<(), StateError> {
        sled::Tree::remove(self, key)?;
        Ok(())
    }

    fn scan(&self, prefix: &[u8], after: &[u8], visit: &mut Visit<'_>) -> Result<(), StateError> {
        for row in self.range(prefix.max(after)..) {
            let (key, value) = row?;
            if !key.starts_with(prefix) || &*key > after && !visit(&key, &value)? {
                break;
            }
        }
        Ok(())
    }
}
