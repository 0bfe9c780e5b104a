//! A copy of a running log in a directory of its own, and the way back from it.
//!
//! A backup holds the segments up to a position that was synced, and a manifest with a checksum of each. All durable facts are in
//! the segments, so the state store is not copied. A later backup into the same directory copies only what was added since.
//! Segments only grow, so a file of the directory grows in place and its first bytes never change. The manifest is written last:
//! until then the directory holds the backup before. Keys and secrets are in no backup.
//!
//! - `cut.rs`: the part of the log that a backup holds
//! - `destination.rs`: the directory, and the ones that are refused
//! - `manifest.rs`: the list of the files that count, to the byte
//! - `pieces.rs`: bytes in pieces, with checksums
//! - `take.rs`: one backup from begin to end
//! - `slot.rs`: the one that is being made, as its callers, its thread and the keeper share it
//! - `running.rs`: its thread and its pace
//! - `restore.rs`: from a backup to a data directory with a new epoch; `restore_and_erase.rs`: the same, and the erasures of a later list
//! - `fault.rs`: the failures

pub(super) mod cut;
pub(super) mod destination;
pub(super) mod fault;
mod manifest;
mod pieces;
mod restore;
mod restore_and_erase;
mod running;
pub(super) mod slot;
pub(super) mod take;

pub use self::{
    restore::{RestoreError, Restored, restore},
    restore_and_erase::restore_and_erase,
};
