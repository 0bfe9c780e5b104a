//! The part of the log that a backup holds: every segment up to a synced position.
//!
//! The segments stay open until the backup is done, so retention may remove their files meanwhile. Their bytes up to the cut never
//! change.

use std::sync::Arc;

use crate::{
    ids::Epoch,
    log::embedded::{record::Position, segment::Segment},
};

/// The part of a log.
pub(in crate::log::embedded) struct Cut {
    /// The log's epoch.
    pub(in crate::log::embedded) epoch: Epoch,
    /// The base of the epoch.
    pub(in crate::log::embedded) base: u32,
    /// The end of the part, between two groups.
    pub(in crate::log::embedded) position: Position,
    /// The time at which it was taken, Unix ms.
    pub(in crate::log::embedded) taken_ms: u64,
    /// The segments with the bytes of each that belong to the part. Ascending, without a hole.
    pub(in crate::log::embedded) segments: Vec<(Arc<Segment>, u64)>,
}

impl Cut {
    /// The bytes of the part.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|(_, length)| length).sum()
    }
}
