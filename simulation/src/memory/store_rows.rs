//! The rows of a store of a fleet, and the transactions on them.

use std::collections::BTreeMap;

use super::rows::Rows;
use crate::{
    ids::{Fence, MessageId, SessionKey, UserId},
    log::{
        Append, Erasure, LogError, ResumePoint, TurnNumber,
        cluster::engine::{
            EngineError, EnteredSession, First, LaneId, LaneMark, Placement, StoreChange,
            StoreMeeting, StoreMemory,
        },
    },
    message::{Numbers, SettingsChange},
};

/// The rows of the store.
#[derive(Default)]
pub(super) struct StoreRows {
    pub(super) rows: Rows,
    /// The newest group and the fence of each lane.
    pub(super) lanes: BTreeMap<LaneId, (u64, u64)>,
    /// The number of barriers of each lane.
    pub(super) barriers: BTreeMap<LaneId, u64>,
    /// The id of the first message of each key.
    keys: BTreeMap<(Box<str>, Box<str>), MessageId>,
    pub(super) placed: BTreeMap<MessageId, First>,
    /// The fence of each session's cursor.
    fences: BTreeMap<SessionKey, Fence>,
    /// The ids of messages to everyone.
    pub(super) to_everyone: Vec<MessageId>,
    /// The present turn.
    pub(super) turn: Option<TurnNumber>,
}

impl StoreRows {
    /// Places an append, unless its key was used before.
    pub(super) fn place(&mut self, append: &Append) -> Placement {
        let key = (append.sender.clone(), append.client_message_id.clone());
        if append.is_keyed {
            if self.keys.contains_key(&key) {
                return Placement::Repeated;
            }
            self.keys.insert(key, append.message_id);
        }
        let unkeyed = Append {
            is_keyed: false,
            ..append.clone()
        };
        let (receipt, commit) = self.rows.append(unkeyed).expect("it has no key");
        let epoch = commit.expect("it is no repeat").epoch;
        let entries = receipt.entries.clone();
        let first = First {
            fingerprint: append.fingerprint,
            epoch,
            receipt,
            is_complete: true,
        };
        self.placed.insert(append.message_id, first);
        Placement::Placed { epoch, entries }
    }

    /// Appends a group; `None` if the lane is behind its number.
    pub(super) fn append(
        &mut self,
        lane: LaneId,
        number: u64,
        group: &[Append],
    ) -> Option<Vec<Placement>> {
        let (newest, fenced) = self.lanes.get_mut(&lane)?;
        if *newest >= number || *fenced >= number {
            return None;
        }
        *newest = number;
        Some(group.iter().map(|append| self.place(append)).collect())
    }

    pub(super) fn fence(&mut self, lane: LaneId, number: u64) -> u64 {
        let (newest, fenced) = self.lanes.entry(lane).or_default();
        if *newest < number {
            *fenced = number.max(*fenced);
        }
        *newest
    }

    pub(super) fn pass_barrier(&mut self, lane: LaneId) -> u64 {
        let number = self.barriers.entry(lane).or_default();
        *number += 1;
        *number
    }

    /// Begins a new epoch if something known is missing.
    pub(super) fn meet(&mut self, memory: &StoreMemory) -> StoreMeeting {
        let mark = |(lane, (last_group, _)): (&LaneId, &(u64, u64))| {
            let barriers = self.barriers.get(lane).copied().unwrap_or_default();
            let mark = LaneMark {
                last_group: *last_group,
                barriers,
            };
            (*lane, mark)
        };
        let stored: Vec<_> = self.lanes.iter().map(mark).collect();
        let lost = memory.lost(&stored);
        if !lost.is_empty() && self.rows.losses() < memory.epochs {
            self.rows.begin_epoch();
        }
        for lane in &lost {
            self.lanes.entry(*lane).or_default();
        }
        StoreMeeting {
            lost,
            epochs: self.rows.losses() + 1,
            incarnation: 1,
        }
    }

    pub(super) fn first(&self, append: &Append) -> Option<First> {
        let key = (append.sender.clone(), append.client_message_id.clone());
        let id = match append.is_keyed {
            true => self.keys.get(&key)?,
            false => &append.message_id,
        };
        self.placed.get(id).cloned()
    }

    /// Makes all changes, or none.
    pub(super) fn change(&mut self, changes: &[StoreChange]) -> Result<(), EngineError> {
        let is_late = |change: &StoreChange| matches!(change, StoreChange::RowsIn(turn, _) if Some(*turn) != self.turn);
        if changes.iter().any(is_late) {
            return Err(EngineError::Refused("another gateway has the turn".into()));
        }
        changes.iter().for_each(|change| self.make(change));
        Ok(())
    }

    fn make(&mut self, change: &StoreChange) {
        let rows = &mut self.rows;
        match change {
            StoreChange::Cursor(key, epoch, fence, row) => {
                let newest = self.fences.entry(key.clone()).or_default();
                if *epoch == rows.epoch() && *fence >= *newest {
                    *newest = *fence;
                    rows.move_cursor(key, *row);
                }
            }
            StoreChange::Register(user, profile) => {
                rows.profiles.insert(user.clone(), profile.clone());
            }
            StoreChange::Tokens(user, platform, times) => {
                rows.raise_tokens(user.clone(), *platform, *times);
            }
            StoreChange::Delete(user, seqs) => rows.delete(user, seqs),
            StoreChange::Settings(user, changes) => {
                let changes: &[SettingsChange] = changes;
                let changed = rows.change_settings(user, changes);
                changed.expect("a store has conversations");
            }
            StoreChange::Rows(changes) | StoreChange::RowsIn(_, changes) => {
                let put = rows.put_rows(changes.clone());
                put.expect("a store takes rows that fit");
            }
        }
    }

    pub(super) fn erase(&mut self, user: UserId, before_ms: u64) -> Erasure {
        let erased = self.rows.erase(user, before_ms);
        for first in self.placed.values_mut() {
            let receipt = &mut first.receipt;
            let entries = self.rows.without_erased(&receipt.entries);
            if entries.len() < receipt.entries.len() {
                receipt.receivers = entries.len() as u64;
                receipt.entries = entries;
            }
        }
        erased.expect("a store has erasures")
    }

    pub(super) fn entered(&self, key: &SessionKey) -> Result<EnteredSession, LogError> {
        let times = self.rows.token_times(&key.user, key.platform);
        let point = ResumePoint {
            revoked_before_ms: times.revoked_before_ms,
            stored: self.rows.sessions.get(key).copied(),
            inbox: self.rows.inbox(&key.user)?,
        };
        Ok(EnteredSession {
            point,
            fence: self.fences.get(key).copied().unwrap_or_default(),
            erasure: self.rows.erasure(&key.user),
        })
    }

    /// The entries of a message to everyone.
    pub(super) fn entries(&self, message: MessageId) -> &[(UserId, Numbers)] {
        match self.to_everyone.contains(&message) {
            true => &self.placed[&message].receipt.entries,
            false => &[],
        }
    }
}
