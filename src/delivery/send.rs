//! Sending: append, and answer once the message is durable; then fan out to the sessions online. An online-only message skips
//! the log.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use tokio::{task::yield_now, time::timeout};

use super::Delivery;
use crate::{
    ids::{MessageId, Platform, Seq, UserId},
    log::{Append, AppendError, Commit, Consumer, LogError, Lookup, Pending, Receipt},
    message::{Message, Numbers, StoredMessage},
    registry::Registry,
};

/// The longest time that the caller of a message to everyone waits for its last entry.
pub(super) const EVERYONE_WAIT: Duration = Duration::from_secs(5);

/// The receivers of an online-only message to whom it is handed before other requests of the admin port have their turn.
pub(super) const RECEIVERS_IN_A_ROW: usize = 512;

/// A message with its receivers.
#[derive(Debug)]
pub struct Send {
    /// The message. Its `client_msg_id` is the sender's own id for the message, which makes a repeat safe; if it is empty, the
    /// server makes one. The server's id, `send_time` and, where 0, `create_time` are filled in here.
    pub message: StoredMessage,
    /// A digest of the request. It tells a repeat from a reuse of the sender's id.
    pub fingerprint: [u8; 16],
    /// The receivers.
    pub receivers: Receivers,
    /// True: push to the sessions that are online now, and store nothing.
    pub is_online_only: bool,
}

/// The receivers of a message.
#[derive(Debug)]
pub enum Receivers {
    /// These users, each once.
    List(Vec<UserId>),
    /// All users who ever connected, were registered or have an inbox.
    Everyone,
}

/// The reason for which a send was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The gateway is going down.
    #[error("the gateway is draining: send again in a moment")]
    Draining,
    /// The log refused the append.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The log could not be read.
    #[error(transparent)]
    Read(#[from] LogError),
}

impl Delivery {
    /// Accepts a message. `Ok` means that it is on disk (P1). For an online-only message, `Ok` means that it was handed to
    /// the sessions online. For a message to everyone, `Ok` means that every user has it;
    /// [`OutcomeUnknown`](AppendError::OutcomeUnknown) after some seconds can mean that it is accepted and on its way.
    ///
    /// Not cancel safe in one respect: if the future is dropped after its first poll, the caller does not know the outcome.
    pub async fn send(&self, send: Send) -> Result<Receipt, SendError> {
        if self.is_draining.load(Relaxed) {
            return Err(SendError::Draining);
        }
        let is_to_everyone = matches!(send.receivers, Receivers::Everyone);
        let receivers = match send.receivers {
            Receivers::List(receivers) => receivers,
            Receivers::Everyone if send.is_online_only => self.log.users().wait().await?,
            // The log knows who they are.
            Receivers::Everyone => Vec::new(),
        };
        let send_time_ms = self.clock.now_ms();
        let message_id = MessageId::new(send_time_ms);
        let mut message = send.message;
        let is_keyed = !message.client_msg_id.is_empty();
        message.server_msg_id = message_id.to_string();
        if !is_keyed {
            message.client_msg_id.clone_from(&message.server_msg_id);
        }
        let sender: Box<str> = message.send_id.as_str().into();
        let client_message_id: Box<str> = message.client_msg_id.as_str().into();
        message.send_time = send_time_ms as i64;
        if message.create_time == 0 {
            message.create_time = send_time_ms as i64;
        }
        let body = message.to_bytes();
        if send.is_online_only {
            let message = Arc::new(Message::new(body.clone()));
            for (handed, user) in (1..).zip(&receivers) {
                self.registry
                    .deliver(user.as_str(), Numbers::default(), &message);
                if handed % RECEIVERS_IN_A_ROW == 0 {
                    yield_now().await;
                }
            }
            self.push_elsewhere(&body, &receivers).await;
            let entries: Arc<[_]> = receivers
                .into_iter()
                .map(|user| (user, Numbers::default()))
                .collect();
            return Ok(Receipt {
                message_id,
                sender,
                client_message_id,
                send_time_ms,
                receivers: entries.len() as u64,
                entries,
            });
        }
        let append = Append {
            message_id,
            send_time_ms,
            sender,
            client_message_id,
            is_keyed,
            fingerprint: send.fingerprint,
            body,
            is_marks: false,
            receivers,
        };
        if is_to_everyone {
            let spread = durable(self.log.append_to_everyone(append)?);
            // The log goes on with a message that was accepted.
            let spread = timeout(EVERYONE_WAIT, spread).await;
            return Ok(spread.unwrap_or(Err(AppendError::OutcomeUnknown))?);
        }
        Ok(durable(self.log.append(append)?).await?)
    }

    /// True if a send with this key was accepted, and the key is remembered. Cancel safe.
    pub async fn is_known(&self, sender: &str, client_message_id: &str) -> Result<bool, LogError> {
        let key = Lookup::Key {
            sender: sender.into(),
            client_message_id: client_message_id.into(),
        };
        Ok(self.log.find(key).wait().await?.is_some())
    }

    /// Makes a user known, durably. Not cancel safe: after a drop the user may be known or not. A repeat does no harm.
    pub async fn register(&self, user: UserId, profile: Bytes) -> Result<(), SendError> {
        Ok(durable(self.log.register(user, profile)?).await?)
    }

    /// The profile of the user's last registration; `None` for a user who was never registered. Cancel safe.
    pub async fn profile(&self, user: &UserId) -> Result<Option<Bytes>, LogError> {
        self.log.profile(user).wait().await
    }

    /// All known users. Cancel safe.
    pub async fn users(&self) -> Result<Vec<UserId>, LogError> {
        self.log.users().wait().await
    }

    /// Removes messages from an inbox, durably. Their entries stay, without a message. Not cancel safe: after a drop the messages
    /// may be removed or not. A repeat does no harm.
    pub async fn delete(&self, user: UserId, seqs: Vec<Seq>) -> Result<(), SendError> {
        Ok(durable(self.log.delete(user, seqs)?).await?)
    }

    /// Revokes all tokens of (user, platform) issued until now, by this clock or a later one, durably. Then closes the
    /// sessions that came with such a token, and removes the devices on the platform. Returns the number of closed connections.
    /// Not cancel safe: after a drop the tokens may be revoked and the sessions still open. A repeat closes them.
    pub async fn log_out(&self, user: UserId, platform: Platform) -> Result<usize, SendError> {
        let times = self.log.token_times(&user, platform).wait().await?;
        let before_ms = self.clock.now_ms().max(times.newest_ms.saturating_add(1));
        durable(self.log.revoke(user.clone(), platform, before_ms)?).await?;
        let closed = self.registry.log_out(&user, platform);
        self.remove_devices_on(&user, platform).await?;
        Ok(closed)
    }
}

/// The fan-out: takes each durable message to the sessions online, in log order, on the log's thread.
pub(super) struct FanOut {
    pub(super) registry: Arc<Registry>,
}

impl Consumer for FanOut {
    fn take(&self, commits: &[Commit]) {
        for commit in commits {
            let message = Arc::new(Message::of(commit.epoch, commit.body.clone()));
            for (user, numbers) in &*commit.entries {
                self.registry.deliver(user.as_str(), *numbers, &message);
            }
        }
    }
}

/// Waits until an append is on disk. The writer answers every append that it takes. A writer that panicked may have written
/// it.
pub(super) async fn durable<T>(pending: Pending<T>) -> Result<T, AppendError> {
    pending.await.unwrap_or(Err(AppendError::OutcomeUnknown))
}
