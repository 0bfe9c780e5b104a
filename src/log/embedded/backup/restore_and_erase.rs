//! A restore with a list of erasures. The log of the backup may have users who were erased since.

use std::{path::Path, sync::Arc};

use super::restore::{RestoreError, Restored, bring_back};
use crate::{
    clock::Clock,
    config,
    log::embedded::{
        EmbeddedLog, ErasureList,
        disk::{Disk as _, RealDisk},
        open::ERASING,
    },
    metrics::Metrics,
};

/// Restores the backup in `source` to `config.dir`, and makes the erasures of the list that it lacks. Returns their number as well.
/// A gateway does not start on the directory before all of them are durable, and the next restore into it begins anew. Blocks.
pub fn restore_and_erase(
    source: &Path,
    config: &config::Log,
    list: &ErasureList,
    clock: Arc<Clock>,
) -> Result<(Restored, usize), RestoreError> {
    let restored = bring_back(source, &config.dir, clock.now_ms(), true)?;
    let log = EmbeddedLog::open_to_erase(config, clock, Arc::new(Metrics::new()))?;
    let erased = log.erase_again(list, restored.newest_ms);
    log.close();
    let erased = erased?;
    let root = RealDisk::reading(&config.dir);
    let ended = root.remove(ERASING).and_then(|()| root.sync_names());
    ended.map_err(|error| RestoreError::Io {
        path: config.dir.join(ERASING).display().to_string(),
        error,
    })?;
    Ok((restored, erased))
}
