//! The durable per-user sequence log: the truth that every session is a cursor on.
//!
//! Promises: an append that was answered is durable (P1); one that was refused is nowhere (P2); a repeated idempotency key
//! returns the first result (P3); each user's sequence is dense (P4); damage is named, never skipped (P8).
//! Leaves to others: what a message means. Bodies are opaque bytes here, and nobody online is known here.
//!
//! - this file: [`Log`], the seam, and its words; a distributed store could stand behind it as well
//! - `error.rs`: how a log fails, and what ends that
//! - `embedded/`: the implementation there is: segments and a state store in one data directory
//! - `memory.rs`: a log for the tests of the rooms above; `conformance.rs`: the suite that every log passes

#[cfg(test)]
mod conformance;
pub mod embedded;
mod error;
#[cfg(any(test, fuzzing))]
#[cfg_attr(fuzzing, allow(dead_code, reason = "much of it is for tests"))]
#[expect(clippy::unwrap_used, reason = "a failure here is the test's")]
pub(crate) mod memory;

use std::sync::Arc;

pub use self::error::{AppendError, Cause, LogError};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::ids::{Epoch, MessageId, Platform, Seq, SessionKey, UserId};

/// What an append puts into the log: one message for one or many users.
#[derive(Debug, Clone)]
pub struct Append {
    /// The server's id; its time decides where `find` looks, so it is made just before the append.
    pub message_id: MessageId,
    /// When the send was accepted, Unix ms.
    pub send_time_ms: u64,
    /// Who sends; with `client_message_id` the idempotency key.
    pub sender: Box<str>,
    /// The sender's id for the message, or the printed `message_id`.
    pub client_message_id: Box<str>,
    /// Whether the caller chose `client_message_id`: only then a repeat can be looked for.
    pub is_keyed: bool,
    /// A digest of the request. A repeat of the key with another digest is [`AppendError::KeyReused`].
    pub fingerprint: [u8; 16],
    /// The message as all receivers share it; opaque here.
    pub body: Bytes,
    /// Who gets it, each once; at least one, unless it is keyed.
    pub receivers: Vec<UserId>,
}

/// What became of an append: where the message stands. Also what [`Log::find`] returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The server's id of the message; of the first one where this is a repeat.
    pub message_id: MessageId,
    /// Who sent it.
    pub sender: Box<str>,
    /// The idempotency key's second half.
    pub client_message_id: Box<str>,
    /// When it was accepted, Unix ms.
    pub send_time_ms: u64,
    /// Its place in each receiver's inbox, in the order given.
    pub placed: Arc<[(UserId, Seq)]>,
}

/// A message that just became durable, as the observer of commits sees it.
#[derive(Debug, Clone)]
pub struct Commit {
    /// The bytes of [`Append::body`].
    pub body: Bytes,
    /// Its place in each receiver's inbox.
    pub placed: Arc<[(UserId, Seq)]>,
}

/// Sees every new message once, after it is durable and in log order, on the writer's thread: be quick, never block.
pub trait CommitObserver: Send + Sync + 'static {
    /// These messages are durable now.
    fn committed(&self, commits: &[Commit]);
}

/// One place of an inbox as read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Where it stands.
    pub seq: Seq,
    /// The body as appended; `None` when `delete` removed the message.
    pub body: Option<Bytes>,
}

/// The bounds of a user's inbox. Empty: `head` 0 and `first` 1, or `first` = `head` + 1 after expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inbox {
    /// Highest assigned seq.
    pub head: Seq,
    /// Oldest retained seq; `head` + 1 when none is.
    pub first: Seq,
}

/// What the log remembers of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionRow {
    /// Everything up to here was acked.
    pub cursor: Seq,
    /// When the cursor last moved, Unix ms.
    pub acked_at_ms: u64,
}

/// Where a session goes on, and whether it may: all that a login needs of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResumePoint {
    /// Which log this is. Seqs and cursors of another one mean nothing here.
    pub epoch: Epoch,
    /// Tokens of the session's user and platform issued before this Unix ms are revoked.
    pub revoked_before_ms: u64,
    /// The session's cursor; `None` for a session never seen.
    pub stored: Option<SessionRow>,
    /// Bounds of the user's inbox.
    pub inbox: Inbox,
}

/// What the log remembers of the tokens of one user on one platform, in Unix ms; 0 where there is nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TokenTimes {
    /// Tokens issued before this are revoked.
    pub revoked_before_ms: u64,
    /// When the newest token that was issued or accepted says it was issued.
    pub newest_ms: u64,
}

/// How much one read may return.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimit {
    /// Places, at least 1.
    pub messages: usize,
    /// Sum of the bodies' bytes; the first message is returned even above it.
    pub bytes: usize,
}

/// By what a message is looked up.
#[derive(Debug, Clone, Copy)]
pub enum Lookup<'a> {
    /// The server's id.
    Id(MessageId),
    /// The sender's id and its own id for the message.
    Key {
        /// Who sent it.
        sender: &'a str,
        /// The sender's id for it.
        client_message_id: &'a str,
    },
}

/// The answer to something appended: resolves once it is durable. A dropped sender means [`AppendError::OutcomeUnknown`]: the
/// writer ended in the middle of its work.
pub type Pending<T> = oneshot::Receiver<Result<T, AppendError>>;

/// A durable sequence for each user, with what belongs to it: cursors, idempotency keys, revocations, registrations.
///
/// Methods that return [`Pending`] enqueue and never block. `read`, `find` and `users` may wait; the others may take a lock or
/// look up a row.
pub trait Log: Send + Sync + 'static {
    /// Appends one message; refuses at once when the queue is full or no append is possible.
    fn append(&self, append: Append) -> Result<Pending<Receipt>, AppendError>;

    /// Bounds of a user's inbox; an unknown user's is empty.
    fn inbox(&self, user: &UserId) -> Result<Inbox, LogError>;

    /// Up to `limit` places after `after`, ascending and contiguous; starts at the first retained where `after` is older.
    /// Empty at the head. May wait: for threads that may block.
    fn read(&self, user: &UserId, after: Seq, limit: ReadLimit) -> Result<Vec<Stored>, LogError>;

    /// The same if it can be had without waiting, else `None`: for threads that others depend on.
    fn read_now(
        &self,
        user: &UserId,
        after: Seq,
        limit: ReadLimit,
    ) -> Result<Option<Vec<Stored>>, LogError>;

    /// The message with this id or key, if it is retained. May wait.
    fn find(&self, lookup: Lookup<'_>) -> Result<Option<Receipt>, LogError>;

    /// A login in one answer. It holds every revocation and every message that was durable before the call.
    fn enter(&self, key: &SessionKey) -> Result<ResumePoint, LogError>;

    /// Every session of a user that was ever seen.
    fn sessions(&self, user: &UserId) -> Result<Vec<(SessionKey, SessionRow)>, LogError>;

    /// Moves a session's cursor, written behind: a crash may lose the last seconds, which costs duplicates on the wire only.
    fn store_cursor(&self, key: &SessionKey, row: SessionRow) -> Result<(), LogError>;

    /// Every user with an inbox, a session or a registration. Reads the whole user table.
    fn users(&self) -> Result<Vec<UserId>, LogError>;

    /// Makes a user known, with an opaque profile.
    fn register(&self, user: UserId, profile: Bytes) -> Result<Pending<()>, AppendError>;

    /// Invalidates the tokens of (user, platform) issued before this Unix ms.
    fn revoke(
        &self,
        user: UserId,
        platform: Platform,
        before_ms: u64,
    ) -> Result<Pending<()>, AppendError>;

    /// What is remembered of the tokens of (user, platform).
    fn token_times(&self, user: &UserId, platform: Platform) -> Result<TokenTimes, LogError>;

    /// A token of (user, platform) was issued or accepted. Written behind, as cursors are.
    fn note_token(
        &self,
        user: &UserId,
        platform: Platform,
        issued_at_ms: u64,
    ) -> Result<(), LogError>;

    /// Removes messages from an inbox; their places stay, empty.
    fn delete(&self, user: UserId, seqs: Vec<Seq>) -> Result<Pending<()>, AppendError>;

    /// `Err` with the reason while appends are refused.
    fn check_writable(&self) -> Result<(), LogError>;
}
