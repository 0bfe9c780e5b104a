//! The durable log of each user's messages. Every session is a cursor on it.
//!
//! Promises: an answered append is durable (P1); a refused append is not stored (P2); a repeated idempotency key returns
//! the first result (P3); each user's sequence is dense (P4); damage is named, and never taken for data (P8). Leaves to
//! others: the meaning of a message, and presence. A body is opaque bytes here, but for its conversation and its read marks.
//!
//! - this file: [`Log`], the trait between the log and the rooms above, and its types; a distributed store could implement
//!   it as well
//! - `answer.rs`: an answer that is there at once, or comes later
//! - `backup.rs`: the state of a backup
//! - `feed.rs`: durable rows beside the messages, and the feed of commits
//! - `erasure.rs`: the erasure of a user
//! - `error.rs`: the failures of a log, and the events that end them
//! - `turn.rs`: the turn of one gateway among those that share a log
//! - `cluster/`: many gateways on one store
//! - `embedded/`: the present implementation: segments and a state store in one data directory

mod answer;
mod backup;
pub mod cluster;
pub mod embedded;
mod erasure;
mod error;
mod feed;
#[cfg(test)]
pub(crate) mod tests;
mod turn;

use std::{
    path::Path,
    sync::{Arc, RwLock},
};

pub use self::{
    answer::LogAnswer,
    backup::{BackupError, BackupReport, BackupState},
    erasure::{ERASING_PREFIX, Erasure, erasing_key, read_erasing_key},
    error::{AppendError, Cause, LogError},
    feed::{
        CursorMove, CursorPage, EXPIRIES_WANTED, EXPIRY_PREFIX, EXPIRY_SEGMENTS_MAX, Expiry,
        FeedCommit, FeedLimit, FeedLoss, FeedPage, FeedPosition, ROW_KEY_BYTES_MAX,
        ROW_VALUE_BYTES_MAX, RowChange, RowTable, SessionBegin, read_session_row_key, remove_rows,
        session_row_key, session_rows_of,
    },
    turn::{TurnNumber, Turns, WorkTurn},
};
pub use crate::message::Conversation;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use crate::{
    ids::{ConversationSeq, Epoch, Fence, MessageId, Platform, Seq, SessionKey, UserId},
    message::{Entry, Numbers, SettingsChange},
};

/// The contents of an append: one message for one or many users.
#[derive(Debug, Clone)]
pub struct Append {
    /// The server's id. `find` searches at the id's time, so the id is made just before the append.
    pub message_id: MessageId,
    /// The time at which the send was accepted, Unix ms.
    pub send_time_ms: u64,
    /// The sender. Sender and `client_message_id` together are the idempotency key.
    pub sender: Box<str>,
    /// The sender's id for the message, or the printed `message_id`.
    pub client_message_id: Box<str>,
    /// True if the caller chose `client_message_id`. Only then can a repeat be looked for.
    pub is_keyed: bool,
    /// A digest of the request. A repeat of the key with another digest is [`AppendError::KeyReused`].
    pub fingerprint: [u8; 16],
    /// The message in the form that all receivers share. Its [`Origin`](crate::message::Origin) names the conversation.
    pub body: Bytes,
    /// True if the body holds read marks of its one receiver, and no message. The marks move forward with this append.
    pub is_marks: bool,
    /// The receivers, each once. At least one, unless the append is keyed.
    pub receivers: Vec<UserId>,
}

/// The result of an append: the entries of the message. [`Log::find`] returns it too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The server's id of the message. For a repeat, the id of the first message.
    pub message_id: MessageId,
    /// The sender of the message.
    pub sender: Box<str>,
    /// The idempotency key's second half.
    pub client_message_id: Box<str>,
    /// The time at which the message was accepted, Unix ms.
    pub send_time_ms: u64,
    /// The number of receivers; 0 when only the key is still known.
    pub receivers: u64,
    /// The message's numbers at each receiver, in the order of the receivers. Empty for a message to everyone with more
    /// than [`LISTED_MAX`] receivers. An entry that retention removed is left out.
    pub entries: Arc<[(UserId, Numbers)]>,
}

/// The most receivers of a message to everyone that its receipt lists: some megabytes. [`Log::entries`] has them all.
pub const LISTED_MAX: usize = 10_000;

/// Receivers of a message that just became durable, as a [`Consumer`] takes it. A message to everyone comes in several
/// commits.
#[derive(Debug, Clone)]
pub struct Commit {
    /// The log's epoch.
    pub epoch: Epoch,
    /// The bytes of [`Append::body`].
    pub body: Bytes,
    /// The message's numbers at each receiver.
    pub entries: Arc<[(UserId, Numbers)]>,
    /// The group of the commit.
    pub group: CommitGroup,
}

/// A group of commits of a log that has several lanes. Zeros: the commit belongs to none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CommitGroup {
    /// The lane.
    pub lane: u64,
    /// The number of the group in its lane.
    pub number: u64,
}

/// Takes the commits of a log, for everything that must happen after a message became durable.
pub trait Consumer: Send + Sync + 'static {
    /// Takes the next commits, in log order, on the thread that made them. Their callers are answered already. A read that
    /// begins after this call began sees these commits. The log commits nothing more before this returns, so it must be quick
    /// and never wait: no queue grows, and no thread has to be woken. A consumer that panics ends the log's thread, and with it
    /// the gateway.
    fn take(&self, commits: &[Commit]);
}

/// The consumers of one log. Each takes all commits from its addition on.
pub type Consumers = RwLock<Vec<Arc<dyn Consumer>>>;

/// The answer to a read of an inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxRead {
    /// The bounds of the inbox at the time of the read.
    pub inbox: Inbox,
    /// The entries, ascending and contiguous.
    pub entries: Vec<Entry>,
}

/// The answer to a question for a user's conversations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConversationPage {
    /// The log's epoch.
    pub epoch: Epoch,
    /// The conversations, by their `last_seq`, descending.
    pub conversations: Vec<Conversation>,
    /// True if no other conversation has a lower `last_seq`.
    pub is_end: bool,
}

/// The answer to a read of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConversationRead {
    /// The log's epoch.
    pub epoch: Epoch,
    /// The conversation at the time of the read; `None` for an unknown one.
    pub conversation: Option<Conversation>,
    /// The entries, ascending and contiguous by conversation seq.
    pub entries: Vec<Entry>,
}

/// The bounds of a user's inbox. An empty inbox has `head` 0 and `first` 1, or `first` = `head` + 1 after expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inbox {
    /// The log's epoch. Seqs and cursors of another epoch mean nothing here.
    pub epoch: Epoch,
    /// Highest assigned seq.
    pub head: Seq,
    /// Oldest retained seq; `head` + 1 when nothing is retained.
    pub first: Seq,
}

/// The remembered state of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionRow {
    /// The highest acked seq. Everything up to it was acked.
    pub cursor: Seq,
    /// The time of the cursor's last move, Unix ms. A session that begins moves its cursor, also when it stays in its place.
    pub acked_at_ms: u64,
}

/// The point at which a session goes on, and the revocation that may forbid it: all that a login needs from the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResumePoint {
    /// Tokens of the session's user and platform issued before this Unix ms are revoked.
    pub revoked_before_ms: u64,
    /// The session's cursor; `None` for a session never seen.
    pub stored: Option<SessionRow>,
    /// The bounds of the user's inbox, with the log's epoch.
    pub inbox: Inbox,
}

/// The remembered times of the tokens of one user on one platform, in Unix ms; 0 when nothing is remembered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TokenTimes {
    /// Tokens issued before this time are revoked.
    pub revoked_before_ms: u64,
    /// The time of issue of the newest token that was issued or accepted, as the token itself states it.
    pub newest_ms: u64,
}

/// The bounds of one read.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimit {
    /// The most entries, at least 1.
    pub messages: usize,
    /// The most bytes of all bodies together. The first message is returned even if it has more.
    pub bytes: usize,
}

/// The id or key by which a message is looked up.
#[derive(Debug, Clone)]
pub enum Lookup {
    /// The server's id.
    Id(MessageId),
    /// The sender, and the sender's id for the message.
    Key {
        /// The sender of the message.
        sender: Box<str>,
        /// The sender's id for the message.
        client_message_id: Box<str>,
    },
}

/// The answer to an append. It arrives once the append is durable. A dropped sender means [`AppendError::OutcomeUnknown`]:
/// the writer ended in the middle of its work.
pub type Pending<T> = oneshot::Receiver<Result<T, AppendError>>;

/// A durable sequence for each user, with its conversations, read marks, settings, cursors, idempotency keys, revocations and
/// registrations.
///
/// Every commit, read and cursor is of one epoch. The epoch changes when the log lost something that it had announced. Then
/// a session of the older epoch has to begin anew.
///
/// No method waits for a write, a sync, or another machine. Methods that return [`Pending`] enqueue. A [`LogAnswer`] that takes
/// several reads of the disk comes later. A method that needs single rows (`enter`, `inbox`, `read`, `read_conversation`,
/// `profile`, `token_times`, `store_cursor`, `note_token`, `delete`) may look up some that are in no cache. Each row costs the calling
/// thread one short read of the disk.
pub trait Log: Send + Sync + 'static {
    /// Appends one message. Refuses at once when the queue is full or no append is possible.
    fn append(&self, append: Append) -> Result<Pending<Receipt>, AppendError>;

    /// Appends one message to every user that is known now; `append` names no receivers. The message is accepted at once, and
    /// gets its entries in pieces, so that other appends need not wait. The answer comes after the last piece. Once the
    /// message is accepted, the log spreads it to its end, also after a crash. A repeat of the key meanwhile waits as well, or
    /// is answered with [`AppendError::OutcomeUnknown`].
    fn append_to_everyone(&self, append: Append) -> Result<Pending<Receipt>, AppendError>;

    /// Up to `limit` entries of a retained message to everyone, without the first `skip` receivers. Empty for any other
    /// message.
    fn entries(
        &self,
        message: MessageId,
        skip: usize,
        limit: usize,
    ) -> LogAnswer<Vec<(UserId, Numbers)>>;

    /// The numbers of a retained message to everyone at this user, if the user has an entry of it.
    fn entry_of(&self, message: MessageId, user: &UserId) -> LogAnswer<Option<Numbers>>;

    /// The bounds of a user's inbox. An unknown user has an empty one.
    fn inbox(&self, user: &UserId) -> LogAnswer<Inbox>;

    /// Up to `limit` entries after `after`, ascending and contiguous. If `after` is older than the first retained entry,
    /// the result starts there. It is empty at the head.
    fn read(&self, user: &UserId, after: Seq, limit: ReadLimit) -> LogAnswer<InboxRead>;

    /// Up to `limit` of a user's conversations whose newest message has a seq below `before`, those with the newest messages first.
    /// Costs a look at each conversation of the user, and at none of the messages.
    fn conversations(
        &self,
        user: &UserId,
        before: Seq,
        limit: usize,
    ) -> LogAnswer<ConversationPage>;

    /// The newest entries of a conversation among the conversation seqs `from`..=`to`: as many as the limit allows, counted from the
    /// newest on, ascending and contiguous. The first one counted is returned even if it has more bytes. Empty where none of
    /// them is retained. Costs what it returns, and at most 64 entries more.
    fn read_conversation(
        &self,
        user: &UserId,
        conversation: &str,
        range: (ConversationSeq, ConversationSeq),
        limit: ReadLimit,
    ) -> LogAnswer<ConversationRead>;

    /// True if the log keeps conversations and read marks. Otherwise its present format has none: every conversation seq is 0, and
    /// an append of marks is refused.
    fn has_conversations(&self) -> bool;

    /// The message with this id or key, if the message is retained.
    fn find(&self, lookup: Lookup) -> LogAnswer<Option<Receipt>>;

    /// All that a login needs, in one answer. It includes every revocation and every message that was durable before the
    /// call.
    fn enter(&self, key: &SessionKey) -> LogAnswer<ResumePoint>;

    /// All sessions of a user that were ever seen.
    fn sessions(&self, user: &UserId) -> LogAnswer<Vec<(SessionKey, SessionRow)>>;

    /// The row of a session, where it can be had without a wait for a disk or another machine. `None`: [`sessions`](Self::sessions) knows
    /// if there is one.
    fn session_now(&self, _key: &SessionKey) -> Option<SessionRow> {
        None
    }

    /// Moves a session's cursor in this epoch. A cursor of another epoch is ignored, and so is one with a lower fence than the stored
    /// cursor: a newer session has the place. The cursor is written behind, so a crash loses the acks since the last checkpoint, usually
    /// some seconds. The session then begins at its older cursor, and its client gets messages again. A session without an
    /// older stored cursor begins as `delivery.new_session` says: with "head", a client that does not send a cursor of its
    /// own misses the messages before the head.
    fn store_cursor(
        &self,
        key: &SessionKey,
        epoch: Epoch,
        fence: Fence,
        row: SessionRow,
    ) -> Result<(), LogError>;

    /// Moves a session's cursor as `store_cursor` does, and makes it durable. Sessions that begin together share a write and a
    /// sync.
    fn begin_session(
        &self,
        key: &SessionKey,
        epoch: Epoch,
        fence: Fence,
        row: SessionRow,
    ) -> Result<Pending<()>, AppendError>;

    /// All users with an inbox, a session or a registration, but for those who were erased and got nothing since. Reads the whole
    /// user table.
    fn users(&self) -> LogAnswer<Vec<UserId>>;

    /// Makes a user known, with an opaque profile.
    fn register(&self, user: UserId, profile: Bytes) -> Result<Pending<()>, AppendError>;

    /// The profile of the user's newest registration; `None` for a user who was never registered.
    fn profile(&self, user: &UserId) -> LogAnswer<Option<Bytes>>;

    /// Invalidates the tokens of (user, platform) issued before this Unix ms.
    fn revoke(
        &self,
        user: UserId,
        platform: Platform,
        before_ms: u64,
    ) -> Result<Pending<()>, AppendError>;

    /// The remembered times of the tokens of (user, platform).
    fn token_times(&self, user: &UserId, platform: Platform) -> LogAnswer<TokenTimes>;

    /// Remembers that a token of (user, platform) was issued or accepted. Written behind, as cursors are.
    fn note_token(
        &self,
        user: &UserId,
        platform: Platform,
        issued_at_ms: u64,
    ) -> Result<(), LogError>;

    /// Removes messages from an inbox. Their entries stay, without a message.
    fn delete(&self, user: UserId, seqs: Vec<Seq>) -> Result<Pending<()>, AppendError>;

    /// Changes a user's settings of conversations, one change after the other. A change in a conversation that the log does not know is
    /// ignored, so the settings of a user are no more than the user's conversations. Cleared messages read as deleted in the
    /// inbox, and as not retained in their conversation.
    fn change_settings(
        &self,
        user: UserId,
        changes: Vec<SettingsChange>,
    ) -> Result<Pending<()>, AppendError>;

    /// Erases a user: messages, marks, settings, sessions, profile; and revokes all tokens issued before `before_ms`. The heads of the
    /// inbox and of its conversations stay, so no seq is given twice, and `first` is above the head. Appends of before and of after
    /// are told apart by their order; the idempotency keys stay. Nothing of before is read, listed or fed from the answer on. A
    /// message to everyone that was accepted before comes no more. Puts a row for the rooms above, see [`ERASING_PREFIX`]. For a user who
    /// was erased and got nothing since, the answer is that of before. Refuses while the format of the log has no erasures.
    fn erase(&self, user: UserId, before_ms: u64) -> Result<Pending<Erasure>, AppendError>;

    /// Refuses if [`Log::erase`] refuses for a reason that only a restart ends.
    fn check_erasable(&self) -> Result<(), AppendError>;

    /// The last erasure of a user, as long as the log may hold bytes of before it.
    fn erasure(&self, user: &UserId) -> LogAnswer<Option<Erasure>>;

    /// Gives every commit from now on to the consumer, once and in log order, after the callers of the appends were
    /// answered. A commit waits until every consumer took the one before.
    fn commits(&self, consumer: Arc<dyn Consumer>);

    /// Changes rows beside the messages, all of them or none. Of two changes of a row the later one counts. Refuses rows that do
    /// not [fit](RowChange::fits), and all rows while the format of the log has none.
    fn put_rows(&self, rows: Vec<RowChange>) -> Result<Pending<()>, AppendError>;

    /// The turn of this gateway among those that share the log. The only gateway of a log always has it.
    fn turn(&self) -> WorkTurn {
        WorkTurn::always()
    }

    /// Changes rows as `put_rows` does, if this turn is the present one when they become durable. Otherwise it changes nothing, and
    /// answers an error.
    fn put_rows_in(
        &self,
        _turn: TurnNumber,
        rows: Vec<RowChange>,
    ) -> Result<Pending<()>, AppendError> {
        self.put_rows(rows)
    }

    /// The rows of a table whose keys begin with `prefix` and come after the key `after`, with their keys, ascending, at most
    /// `limit`. Not a snapshot: a row that changes meanwhile comes in either form.
    fn rows(
        &self,
        table: RowTable,
        prefix: &[u8],
        after: &[u8],
        limit: usize,
    ) -> LogAnswer<Vec<(Bytes, Bytes)>>;

    /// The durable commits from `from` on, in log order. A reader that was told of a commit finds it here. A page costs a read of
    /// the part of the log that it passes.
    fn feed(&self, from: FeedPosition, limit: FeedLimit) -> LogAnswer<FeedPage>;

    /// Moves of sessions' cursors from `from` on, in log order, at most `limit`. The log writes cursors down some seconds after the
    /// acks, so these survive a crash. A page costs a read of the part of the log that it passes.
    fn cursor_feed(&self, from: FeedPosition, limit: usize) -> LogAnswer<CursorPage>;

    /// `Err` with the reason while the log refuses appends.
    fn check_writable(&self) -> Result<(), LogError>;

    /// `Err` while the log's servers do not answer, or keep a message on fewer copies than the configuration says. The text has the
    /// reason, and the line that mends the second.
    fn check_store(&self) -> Result<(), String> {
        Ok(())
    }

    /// Begins a backup of the log into a directory of this machine, and returns its state as it changes. A repeat of the call
    /// with the same `id` and destination returns the same backup, while it is being made and for a minute after its end. Two
    /// backups are never made at once. A log that is not in files of its own names another way.
    fn back_up(
        &self,
        id: &str,
        destination: &Path,
    ) -> Result<watch::Receiver<BackupState>, BackupError> {
        let _ = (id, destination);
        Err(BackupError::Elsewhere(
            "the gateway makes no backup of this log",
        ))
    }
}
