//! The turn: of the gateways that share a log, one does the work that only one may do at a time.

use std::{future::pending, sync::Arc};

use tokio::sync::watch;

/// The number of a turn. Each turn has a higher one than those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TurnNumber(pub u64);

impl TurnNumber {
    /// The turn of the only gateway of its log. It never ends.
    pub const ALWAYS: Self = Self(0);
}

/// The present turn of this gateway, as its fleet tells it; `None` while another gateway has the turn.
pub type Turns = Arc<watch::Sender<Option<TurnNumber>>>;

/// The present turn, as the work sees it. While one of these is there, the gateway tries to get the turn.
#[derive(Debug, Clone)]
pub struct WorkTurn(Option<watch::Receiver<Option<TurnNumber>>>);

impl WorkTurn {
    /// The turn of the only gateway of its log.
    pub fn always() -> Self {
        Self(None)
    }

    /// The turn among several gateways.
    pub fn of(turns: &Turns) -> Self {
        Self(Some(turns.subscribe()))
    }

    /// True if other gateways may have the turn.
    pub fn is_shared(&self) -> bool {
        self.0.is_some()
    }

    /// The turn, if this gateway has it now.
    pub fn now(&self) -> Option<TurnNumber> {
        match &self.0 {
            Some(turns) => *turns.borrow(),
            None => Some(TurnNumber::ALWAYS),
        }
    }

    /// Waits until [`now`](Self::now) is another one than `known`. Cancel safe.
    pub async fn other_than(&self, known: Option<TurnNumber>) {
        if let Some(turns) = &self.0 {
            let mut turns = turns.clone();
            if turns.wait_for(|turn| *turn != known).await.is_ok() {
                return;
            }
        }
        // The only gateway keeps its turn. A fleet that is gone gives none.
        pending().await
    }
}
