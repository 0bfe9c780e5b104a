//! Checkpoints: rows go to sled, then sled claims the part of the log that it has.

use tokio::time::sleep;

use super::{
    Reached, State, StateError, TABLES,
    keys::{position_at, u64_at},
    table::WriteBehind,
};
use crate::{ids::Epoch, log::embedded::record::Position, threads::Pulse};

/// The claim of a store about its log and its contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::log::embedded) enum Claim {
    /// No claim: the store is new.
    None,
    /// The store belongs to this log, and contains this part of it.
    Reached(Reached),
    /// The store does not belong to this log.
    OfAnotherLog,
}

/// A checkpoint under way: rows that changed before it began go to sled, then sled claims the log's end of that time. An
/// abandoned checkpoint has written rows without a claim.
pub(in crate::log::embedded) struct Checkpoint {
    reached: Reached,
    /// The rows of each table that changed before the checkpoint began, and are not in sled yet.
    left: [usize; TABLES],
    /// The number of rows written.
    pub(in crate::log::embedded) rows: usize,
}

impl State {
    /// The store's claim at its last checkpoint.
    pub(in crate::log::embedded) fn reached(&self, epoch: Epoch) -> Result<Claim, StateError> {
        let Some(value) = self.meta.get(b"reached")? else {
            return Ok(Claim::None);
        };
        let crc = value
            .get(16..20)
            .and_then(|bytes| Some(u32::from_le_bytes(bytes.try_into().ok()?)));
        let reached = position_at(&value, 8)
            .zip(crc)
            .map(|(position, crc)| Reached { position, crc })
            .filter(|_| u64_at(&value, 0) == Some(epoch.0));
        Ok(reached.map_or(Claim::OfAnotherLog, Claim::Reached))
    }

    /// Writes all rows that a replay changed to sled, unflushed and without a claim, so that memory stays bounded. sled may
    /// contain more than it claims.
    pub(in crate::log::embedded) fn spill(&self) -> Result<(), StateError> {
        self.are_logged();
        for table in self.tables() {
            while table.write_part()? > 0 {}
            table.shrink();
        }
        Ok(())
    }

    /// Writes into an empty store to which log it belongs, before any row is written.
    pub(in crate::log::embedded) fn begin(&self, epoch: Epoch) -> Result<(), StateError> {
        let nothing = Reached {
            position: Position::NONE,
            crc: 0,
        };
        self.claim(epoch, nothing)
    }

    /// Writes that the store belongs to no log. The next start sets it aside.
    pub(in crate::log::embedded) fn disown(&self) -> Result<(), StateError> {
        self.begin(Epoch(0))
    }

    fn claim(&self, epoch: Epoch, reached: Reached) -> Result<(), StateError> {
        let mut value = [epoch.0.to_le_bytes(), reached.position.0.to_le_bytes()].concat();
        value.extend(reached.crc.to_le_bytes());
        self.meta.insert(b"reached", &value)?;
        if self.has_conversations && self.conversations.are_recorded() {
            let position = reached.position.0.to_le_bytes();
            self.meta.insert(b"complete", &position)?;
        }
        self.store.flush()
    }

    /// True if the store has the conversations and the rows of marks of this part of the log. A version without either claims
    /// more of the log and does not say so here.
    pub(in crate::log::embedded) fn is_complete(
        &self,
        reached: Reached,
    ) -> Result<bool, StateError> {
        let position = self.meta.get(b"complete")?;
        let position = position.and_then(|bytes| position_at(&bytes, 0));
        Ok(position == Some(reached.position))
    }

    /// Ends a replay: writes all rows to sled, and claims them.
    pub(in crate::log::embedded) fn conclude(
        &self,
        epoch: Epoch,
        reached: Reached,
    ) -> Result<(), StateError> {
        self.spill()?;
        self.store.flush()?;
        self.claim(epoch, reached)
    }

    /// Begins a checkpoint. `reached` is the end of the durable log before this call. All durable records have been applied
    /// by then.
    pub(in crate::log::embedded) fn begin_checkpoint(&self, reached: Reached) -> Checkpoint {
        Checkpoint {
            reached,
            left: self.tables().map(WriteBehind::dirty_rows),
            rows: 0,
        }
    }

    /// Writes at least `rows` of the checkpoint's rows to sled, or all that are left. Beats `pulse` with each part. Returns
    /// true once sled contains and claims what the log had when the checkpoint began.
    pub(in crate::log::embedded) async fn go_on(
        &self,
        checkpoint: &mut Checkpoint,
        rows: usize,
        epoch: Epoch,
        pulse: &Pulse,
    ) -> Result<bool, StateError> {
        let enough = checkpoint.rows.saturating_add(rows);
        for (table, left) in self.tables().into_iter().zip(&mut checkpoint.left) {
            while *left > 0 {
                if checkpoint.rows >= enough {
                    return Ok(false);
                }
                let written = table.write_part()?;
                *left = if written == 0 {
                    0
                } else {
                    left.saturating_sub(written)
                };
                checkpoint.rows += written;
                if *left == 0 {
                    table.shrink();
                }
                pulse.beat();
                sleep(self.store.pace().pause).await;
            }
        }
        // The rows are flushed first. Then follows the claim that they are there.
        self.store.flush()?;
        self.claim(epoch, checkpoint.reached)?;
        Ok(true)
    }
}
