//! What the first process asks of a worker, and what it is answered: one line of JSON each.

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

/// Answered with `()` unless said otherwise, and when it is done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Command {
    /// Send the crowd before away, and bring what another one needs at the door.
    Enlist { place: Place, size: Size },
    /// Start its sessions, so many a second.
    Gather { rate: f64 },
    /// Say how things are: a [`Standing`].
    Look,
    /// Sessions do so from now on.
    Obey(Orders),
    /// Sessions leave their connections and come back.
    ComeBack,
    /// Send: a [`Sent`](crate::senders::Sent).
    Send(Load),
    /// Forget the latencies.
    Reset,
    /// Say them: a [`Recorded`](crate::meter::Recorded).
    Latencies,
    /// A second is over: a [`RecordedSecond`](crate::meter::RecordedSecond).
    Tick,
    /// Close the books and send the crowd away: a [`Closed`].
    Close,
}

/// How things are.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Standing {
    /// Sessions.
    pub(crate) connected: u32,
    /// Sessions that have all that their inboxes held when they came, since they were last told to come back.
    pub(crate) caught_up: u32,
    /// Sends without an answer.
    pub(crate) open: u64,
    /// Deliveries of accepted messages to come.
    pub(crate) missing: u64,
    /// Deliveries of accepted messages that have landed.
    pub(crate) landed: u64,
}

/// The books, and what went wrong with connections and sends, by its text.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Closed {
    pub(crate) tally: Tally,
    pub(crate) incidents: BTreeMap<String, u64>,
}

impl Standing {
    /// Whether every send was answered and everything accepted has landed.
    pub(crate) fn is_settled(&self) -> bool {
        self.open == 0 && self.missing == 0
    }
}
