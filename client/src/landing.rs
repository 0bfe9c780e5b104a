//! Which messages to accept, and what to say about them: `docs/protocol.md#landing` and `docs/protocol.md#epochs`. Pure.
//!
//! A message is accepted only as the successor of the cursor. A lower one is a duplicate and acked again, a higher one
//! is a hole and asked for again, an online-only one is shown and forgotten. What is accepted counts as landed at once,
//! so whoever drives this commits each [`Batch`] before the next reply leaves, or throws the machine away.

use crate::proto::{Connect, Connected, Gap, Message, Push, gap::Reason};

/// How far a store has come in which log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// The log; 0: none yet.
    pub epoch: u64,
    /// Highest seq landed of it, all below landed or announced as gone.
    pub cursor: u64,
}

/// The server said something that the protocol rules out. Drop the connection and come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Misled {
    /// Something else came where `Connected` must.
    #[error("the server sent something before Connected")]
    NotConnected,
    /// A second `Connected`.
    #[error("the server sent a second Connected")]
    ConnectedTwice,
    /// An epoch of 0, or another one without the `Gap` that must announce it.
    #[error("the server changed the epoch without announcing it")]
    Epoch,
    /// A `Gap` that goes nowhere.
    #[error("the server sent a gap from {from_seq} to {to_seq}")]
    Gap {
        /// As sent.
        from_seq: u64,
        /// As sent.
        to_seq: u64,
    },
}

/// What to do after one or more pushes: commit `land` with its cursor, show `online_only`, then send the replies.
#[derive(Debug, Default, PartialEq)]
pub struct Batch {
    /// To store, ascending and contiguous, in one transaction with the cursor at the last one's seq.
    pub land: Vec<Message>,
    /// To show and forget.
    pub online_only: Vec<Message>,
    /// To send as `Ack` once the above is durable.
    pub ack: Option<u64>,
    /// To send as `Resend`, after the `Ack`.
    pub resend: Option<u64>,
}

/// The landing of one session, over any number of connections.
#[derive(Debug)]
pub struct Landing {
    position: Position,
    connection: Connecting,
}

/// What is known about the present connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Connecting {
    /// `Connected` has not come.
    Waiting,
    /// The log is another one, or shorter than our cursor: the `Gap` that says so comes next.
    Moving { epoch: u64 },
    /// Messages may come.
    Landing {
        /// The cursor at which a hole was last asked for, so that one hole asks once, however many messages already
        /// on their way lie beyond it.
        asked_after: Option<u64>,
        /// An empty store begins where the server says, which is behind the gap that the server may announce next.
        is_beginning: bool,
    },
}

impl Landing {
    /// Goes on where the store stands.
    pub fn new(position: Position) -> Self {
        Self {
            position,
            connection: Connecting::Waiting,
        }
    }

    /// Where landing stands, all batches included.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Begins a new connection; the frame to send first.
    pub fn connect(&mut self, token: &str, device_id: &str, client: &str) -> Connect {
        self.connection = Connecting::Waiting;
        Connect {
            token: token.to_owned(),
            epoch: self.position.epoch,
            cursor: (self.position.epoch != 0).then_some(self.position.cursor),
            device_id: device_id.to_owned(),
            client: client.to_owned(),
        }
    }

    /// Takes the answer to `Connect`. `Some`: the store was empty and begins here; make it so before going on.
    pub fn connected(&mut self, connected: &Connected) -> Result<Option<Position>, Misled> {
        if self.connection != Connecting::Waiting {
            return Err(Misled::ConnectedTwice);
        }
        if connected.epoch == 0 {
            return Err(Misled::Epoch);
        }
        let is_first = self.position.epoch == 0;
        let is_known =
            connected.epoch == self.position.epoch && self.position.cursor <= connected.head;
        self.connection = if is_first || is_known {
            Connecting::Landing {
                asked_after: None,
                is_beginning: is_first,
            }
        } else {
            Connecting::Moving {
                epoch: connected.epoch,
            }
        };
        if is_first {
            self.position = Position {
                epoch: connected.epoch,
                cursor: connected.cursor,
            };
        }
        Ok(is_first.then_some(self.position))
    }

    /// Sorts the messages of a push into `batch`.
    pub fn push(&mut self, push: Push, batch: &mut Batch) -> Result<(), Misled> {
        let Connecting::Landing { asked_after, .. } = &mut self.connection else {
            return Err(match self.connection {
                Connecting::Waiting => Misled::NotConnected,
                _ => Misled::Epoch,
            });
        };
        let cursor = &mut self.position.cursor;
        for message in push.messages {
            match message.seq {
                0 => batch.online_only.push(message),
                seq if seq <= *cursor => batch.ack = Some(*cursor),
                seq if seq == *cursor + 1 => {
                    *cursor = seq;
                    batch.ack = Some(seq);
                    batch.resend = None;
                    batch.land.push(message);
                }
                _ if *asked_after == Some(*cursor) => {}
                _ => {
                    *asked_after = Some(*cursor);
                    batch.resend = Some(*cursor);
                }
            }
        }
        Ok(())
    }

    /// Takes a `Gap`. `Some`: where the cursor moved; make it durable, tell the user, then ack.
    /// `None`: nothing that is not known already. Batches from before it must have been committed.
    pub fn gap(&mut self, gap: &Gap) -> Result<Option<Position>, Misled> {
        let misled = Misled::Gap {
            from_seq: gap.from_seq,
            to_seq: gap.to_seq,
        };
        match (self.connection, gap.reason()) {
            (Connecting::Waiting, _) => Err(Misled::NotConnected),
            (Connecting::Moving { epoch }, Reason::EpochChanged) => {
                self.connection = Connecting::Landing {
                    asked_after: None,
                    is_beginning: false,
                };
                self.position = Position {
                    epoch,
                    cursor: gap.to_seq,
                };
                Ok(Some(self.position))
            }
            (Connecting::Moving { .. }, _) => Err(Misled::Epoch),
            // Neither our epoch nor our cursor gives reason for it, and it alone could move the cursor backwards.
            (Connecting::Landing { .. }, Reason::EpochChanged) => Err(Misled::Epoch),
            (
                Connecting::Landing {
                    asked_after,
                    is_beginning,
                },
                _,
            ) => {
                let cursor = self.position.cursor;
                let is_behind_beginning = is_beginning && gap.to_seq == cursor;
                if gap.to_seq <= cursor && !is_behind_beginning {
                    return Ok(None);
                }
                if gap.from_seq > cursor + 1 {
                    return Err(misled);
                }
                self.position.cursor = gap.to_seq;
                self.connection = Connecting::Landing {
                    asked_after,
                    is_beginning: false,
                };
                Ok(Some(self.position))
            }
        }
    }
}

#[cfg(test)]
mod tests;
