//! Which messages to accept, and what to answer: `docs/protocol.md#landing` and `docs/protocol.md#epochs`. Pure.
//!
//! A message is accepted only as the successor of the cursor. A lower seq is a duplicate, and is acked again. A higher seq
//! means a hole; the messages are asked for again. An entry of read marks is accepted by the same rule and is no message. An
//! online-only message is shown and not stored. Accepted entries count as landed at once. So the caller has to commit each
//! [`Batch`] before the next reply leaves, or drop the machine.

use crate::proto::{Connect, Connected, Gap, Message, Push, ReadMark, gap::Reason};

/// The position of a store: a log, and the cursor in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StorePosition {
    /// The epoch of the log; 0: none yet.
    pub epoch: u64,
    /// The highest landed seq of it. All seqs below have landed or were announced as gone.
    pub cursor: u64,
}

/// The server said something that the protocol forbids. Drop the connection and reconnect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Misled {
    /// Another frame came before `Connected`.
    #[error("the server sent something before Connected")]
    NotConnected,
    /// A second `Connected`.
    #[error("the server sent a second Connected")]
    ConnectedTwice,
    /// An epoch of 0, or another epoch without the `Gap` that must announce it.
    #[error("the server changed the epoch without announcing it")]
    Epoch,
    /// A `Gap` that does not move the cursor.
    #[error("the server sent a gap from {from_seq} to {to_seq}")]
    Gap {
        /// The `from_seq` that was sent.
        from_seq: u64,
        /// The `to_seq` that was sent.
        to_seq: u64,
    },
}

/// The work after one or more pushes: commit `land` and `marks` with the cursor, show `online_only`, then send the replies.
#[derive(Debug, Default, PartialEq)]
pub struct Batch {
    /// Messages to store, ascending, in one transaction with the machine's position.
    pub land: Vec<Message>,
    /// Read marks to take over in the same transaction.
    pub marks: Vec<ReadMark>,
    /// Messages to show and not to store.
    pub online_only: Vec<Message>,
    /// The seq to send as `Ack` once the messages above are durable.
    pub ack: Option<u64>,
    /// The seq to send as `Resend`, after the `Ack`.
    pub resend: Option<u64>,
}

/// The landing of one session, over any number of connections.
#[derive(Debug)]
pub struct Landing {
    position: StorePosition,
    connection: Connecting,
}

/// The state of the present connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Connecting {
    /// `Connected` has not come.
    Waiting,
    /// The log is another one, or shorter than our cursor. The `Gap` that announces it comes next.
    Moving { epoch: u64 },
    /// Messages may come.
    Landing {
        /// The cursor at which the last `Resend` was asked for. With it one hole asks once, although many messages on their
        /// way lie beyond it.
        asked_after: Option<u64>,
        /// The store is empty and begins at the server's cursor, which is after the gap that the server may announce next.
        is_beginning: bool,
    },
}

impl Landing {
    /// Continues from the position of the store.
    pub fn new(position: StorePosition) -> Self {
        Self {
            position,
            connection: Connecting::Waiting,
        }
    }

    /// The position of landing, all batches included.
    pub fn position(&self) -> StorePosition {
        self.position
    }

    /// True if messages may come on the present connection. Otherwise `Connected` has not come, or the `Gap` that announces
    /// another log.
    pub fn is_landing(&self) -> bool {
        matches!(self.connection, Connecting::Landing { .. })
    }

    /// Begins a new connection. Returns the frame to send first.
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

    /// Handles the answer to `Connect`. `Some`: the store was empty and begins at this position; store it before the next
    /// step.
    pub fn connected(&mut self, connected: &Connected) -> Result<Option<StorePosition>, Misled> {
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
            self.position = StorePosition {
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
                    if message.marks.is_empty() {
                        batch.land.push(message);
                    } else {
                        batch.marks.extend(message.marks);
                    }
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

    /// Handles a `Gap`. `Some`: the new position; make it durable, tell the user, then ack. `None`: the gap tells nothing
    /// new. Batches from before it must have been committed.
    pub fn gap(&mut self, gap: &Gap) -> Result<Option<StorePosition>, Misled> {
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
                self.position = StorePosition {
                    epoch,
                    cursor: gap.to_seq,
                };
                Ok(Some(self.position))
            }
            (Connecting::Moving { .. }, _) => Err(Misled::Epoch),
            // Neither our epoch nor our cursor is a reason for it, and only this gap could move the cursor backwards.
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
