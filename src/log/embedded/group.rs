//! A group: the requests that the writer collects for one write and one sync, and the callers that wait for it.

use std::collections::HashMap;

use bytes::Bytes;
use foldhash::quality::RandomState;
use tokio::sync::oneshot;

use super::{
    Append, AppendError, Commit, Receipt,
    record::{Position, Record},
    table_id::TableId,
};
use crate::ids::{Seq, UserId};

/// The sender, and its id for the message.
type IdempotencyKey = (Box<str>, Box<str>);

/// The records and answers that are collected for one sync.
#[derive(Default)]
pub(super) struct Group {
    /// Heads and newest positions of the group's users, as they will be after the sync.
    pub(super) heads: HashMap<UserId, (Seq, Position), RandomState>,
    /// Keys of this group, with the answers that they will get.
    pub(super) keys: HashMap<IdempotencyKey, ([u8; 16], Receipt)>,
    /// Rows of this group that the state does not have yet.
    pub(super) rows: HashMap<(TableId, Bytes), Option<Bytes>>,
    pub(super) records: Vec<(Record, Position)>,
    pub(super) commits: Vec<Commit>,
    pub(super) callers: Vec<Caller>,
}

impl Group {
    /// The answer to an earlier append with the same key, which is still being written.
    pub(super) fn earlier(&self, append: &Append) -> Option<Result<Receipt, AppendError>> {
        if !append.is_keyed {
            return None;
        }
        let key = (append.sender.clone(), append.client_message_id.clone());
        let (fingerprint, receipt) = self.keys.get(&key)?;
        Some(if *fingerprint == append.fingerprint {
            Ok(receipt.clone())
        } else {
            Err(AppendError::KeyReused)
        })
    }
}

/// A waiting caller, and the answer for it.
pub(super) enum Caller {
    /// The answer depends on this group. If the group fails, the caller gets the failure instead.
    Append(
        oneshot::Sender<Result<Receipt, AppendError>>,
        Result<Receipt, AppendError>,
    ),
    Records(oneshot::Sender<Result<(), AppendError>>),
    /// The answer does not depend on the group's outcome.
    Decided(
        oneshot::Sender<Result<Receipt, AppendError>>,
        Result<Receipt, AppendError>,
    ),
}

/// Answers all callers of a group with this outcome.
pub(super) fn answer(callers: Vec<Caller>, outcome: &Result<(), AppendError>) {
    for caller in callers {
        // The receiver may have been dropped. Then the answer is discarded.
        match caller {
            Caller::Append(sender, answer) => drop(sender.send(outcome.clone().and(answer))),
            Caller::Records(sender) => drop(sender.send(outcome.clone())),
            Caller::Decided(sender, decided) => drop(sender.send(decided)),
        }
    }
}
