//! The faults of a store in memory, as a test orders them, and looks past its gateways.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{engine::SimEngine, servers::StoreFault, store_rows::StoreRows};
use crate::{
    ids::{Seq, UserId},
    log::ReadLimit,
};

impl SimEngine {
    /// The next append of a group has this fate.
    pub fn fail(&self, fault: StoreFault) {
        self.servers().faults.push_back(fault);
    }

    /// The standby gets nothing until [`SimEngine::join`] or [`SimEngine::promote`].
    pub fn cut(&self) {
        self.servers().is_cut = true;
    }

    /// The standby follows again, and gets all that it missed.
    pub fn join(&self) {
        let mut servers = self.servers();
        servers.is_cut = false;
        servers.replicated = servers.history.len();
        self.changed.notify_waiters();
    }

    /// The number of transactions so far.
    pub fn transactions(&self) -> usize {
        self.servers().history.len()
    }

    /// The wrong standby takes over: it has only the first `kept` transactions, whatever was confirmed.
    pub fn promote_wrong(&self, kept: usize) {
        self.servers().replicated = kept;
        self.promote();
    }

    /// The standby takes over. What it does not have is lost.
    pub fn promote(&self) {
        let mut servers = self.servers();
        let replicated = servers.replicated;
        servers.history.truncate(replicated);
        servers.primary = StoreRows::default();
        for transaction in servers.history.clone() {
            transaction(&mut servers.primary);
        }
        servers.is_cut = false;
        servers.fleet.empty_places();
        servers.timeline += 1;
        self.changed.notify_waiters();
    }

    /// Nobody reaches the store, or everyone does again.
    pub fn set_away(&self, is_away: bool) {
        self.servers().is_away = is_away;
    }

    /// Time passes by the store's clock.
    pub fn pass(&self, time: Duration) {
        self.servers().fleet.pass(time);
    }

    /// A crash of the primary, which comes back: the places are empty.
    pub fn crash(&self) {
        self.servers().fleet.empty_places();
    }

    /// The transactions that are late begin now.
    pub fn let_late_go(&self) {
        let mut servers = self.servers();
        for transaction in std::mem::take(&mut servers.late) {
            servers.commit(transaction);
        }
        self.changed.notify_waiters();
    }

    /// Makes retention remove every message. Keys are still remembered.
    pub fn expire_all(&self) {
        self.servers().commit(Arc::new(|store| {
            store.rows.expire_all();
            for first in store.placed.values_mut() {
                first.receipt.receivers = 0;
                first.receipt.entries = [].into();
            }
            store.to_everyone.clear();
        }));
    }

    /// The bodies of a user's messages on the primary.
    pub fn bodies(&self, user: &UserId) -> Vec<Bytes> {
        let limit = ReadLimit {
            messages: usize::MAX,
            bytes: usize::MAX,
        };
        let read = self.servers().primary.rows.read(user, Seq::ZERO, limit);
        let entries = read.expect("a store has no faults of this kind").entries;
        let bodies = entries.iter().filter_map(|entry| entry.content.body());
        bodies.cloned().collect()
    }
}
