//! The questions of the first process to a worker, and the answers: one line of JSON each.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    crowd::{Orders, Size},
    ledger::Tally,
    protocol::Place,
    senders::Load,
};

/// One question.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Question {
    pub(super) number: u64,
    pub(super) command: Command,
}

/// The answer to it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) number: u64,
    pub(super) result: Result<Box<RawValue>, String>,
}

/// A command. The answer is `()` unless the variant says otherwise, and comes when the command is done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Command {
    /// Dismiss the crowd before, and fetch the tokens that the next one needs.
    Enlist { place: Place, size: Size },
    /// Start its sessions, this many a second.
    Gather { rate: f64 },
    /// Return the present state: a [`Standing`].
    Look,
    /// Sessions follow these orders from now on.
    Obey(Orders),
    /// Sessions leave their connections and reconnect.
    ComeBack,
    /// Send. The answer is a [`Sent`](crate::senders::Sent).
    Send(Load),
    /// Forget the latencies.
    Reset,
    /// Return the latencies: a [`Recorded`](crate::meter::Recorded).
    Latencies,
    /// End a second. The answer is a [`RecordedSecond`](crate::meter::RecordedSecond).
    Tick,
    /// Close the books and dismiss the crowd. The answer is a [`Closed`].
    Close,
}

/// The present state of a crowd.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Standing {
    /// Connected sessions.
    pub(crate) connected: u32,
    /// Sessions that have caught up with their inboxes since the last order to reconnect.
    pub(crate) caught_up: u32,
    /// Sends without an answer.
    pub(crate) open: u64,
    /// Deliveries of accepted messages that are still missing.
    pub(crate) missing: u64,
    /// Deliveries of accepted messages that have landed.
    pub(crate) landed: u64,
}

/// The books, and the faults of connections and sends by their text.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Closed {
    pub(crate) tally: Tally,
    pub(crate) incidents: BTreeMap<String, u64>,
}

impl Standing {
    /// True if every send was answered and every accepted message has landed.
    pub(crate) fn is_settled(&self) -> bool {
        self.open == 0 && self.missing == 0
    }
}
