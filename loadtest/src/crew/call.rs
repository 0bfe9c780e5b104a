//! The questions of the first process to a worker, and the answers: one line of JSON each.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    crowd::{Orders, Size},
    ledger::LedgerTally,
    protocol::ServerAddress,
    senders::Load,
};

/// One question.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CrewQuestion {
    pub(super) number: u64,
    pub(super) command: CrewCommand,
}

/// The answer to it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CrewAnswer {
    pub(super) number: u64,
    pub(super) result: Result<Box<RawValue>, String>,
}

/// A command. The answer is `()` unless the variant says otherwise, and comes when the command is done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum CrewCommand {
    /// Dismiss the crowd before, and fetch the tokens that the next one needs.
    Enlist { address: ServerAddress, size: Size },
    /// Register a device for the user of each session, before they start.
    Register,
    /// Start its sessions, this many a second.
    Gather { rate: f64 },
    /// Return the present state: a [`Counts`](crate::crowd::Counts).
    Look,
    /// Sessions follow these orders from now on.
    Obey(Orders),
    /// Sessions leave their connections and reconnect.
    ComeBack,
    /// Send. The answer is a [`LoadResult`](crate::senders::LoadResult).
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

/// The books, and the faults of connections and sends by their text.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Closed {
    pub(crate) tally: LedgerTally,
    pub(crate) incidents: BTreeMap<String, u64>,
}
