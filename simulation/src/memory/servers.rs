//! The servers of a store in memory: the primary, and how far its standby follows.

use std::{collections::VecDeque, sync::Arc};

use super::{fleet_rows::FleetRows, store_rows::StoreRows};

/// The fate of the next append of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreFault {
    /// The request is lost.
    LoseRequest,
    /// The transaction is confirmed, and its answer is lost.
    LoseAnswer,
    /// The answer is lost, and the transaction begins only when [`let_late_go`](super::SimEngine::let_late_go) is called.
    Late,
    /// The wait for the standby was cut off. The transaction is visible, and the standby gets it with the next one.
    Warn,
    /// The store refuses the transaction.
    Refuse,
}

/// A transaction: what it does to the rows.
pub(super) type Transaction = Arc<dyn Fn(&mut StoreRows) + Send + Sync>;

/// The primary, and how far its standby follows.
#[derive(Default)]
pub(super) struct Servers {
    pub(super) primary: StoreRows,
    /// All transactions of the primary.
    pub(super) history: Vec<Transaction>,
    /// The number of transactions that the standby has.
    pub(super) replicated: usize,
    /// The standby gets nothing.
    pub(super) is_cut: bool,
    pub(super) is_away: bool,
    /// The number of promotions.
    pub(super) timeline: u64,
    pub(super) faults: VecDeque<StoreFault>,
    pub(super) late: Vec<Transaction>,
    /// The standby has them at once.
    pub(super) fleet: FleetRows,
}

impl Servers {
    pub(super) fn commit(&mut self, transaction: Transaction) -> usize {
        transaction(&mut self.primary);
        self.history.push(transaction);
        if !self.is_cut {
            self.replicated = self.history.len();
        }
        self.history.len()
    }
}
