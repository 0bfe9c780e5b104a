//! The narrow trait between the cluster log and its store. Each method takes and returns plain batches.
//!
//! A transaction that is answered without an error is *confirmed*: it is on as many copies as the store was told to keep. A
//! read may see a transaction that is not confirmed. Such a read says so, and a barrier confirms what it saw.

use std::{collections::HashMap, fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::timeout;

use crate::{
    ids::{ConversationSeq, Epoch, Fence, MessageId, Platform, Seq, SessionKey, UserId},
    log::{
        Append, ConversationPage, ConversationRead, CursorPage, Erasure, FeedLimit, FeedPage,
        FeedPosition, Inbox, InboxRead, Lookup, ReadLimit, Receipt, ResumePoint, RowChange,
        RowTable, SessionRow, TokenTimes, TurnNumber,
    },
    message::{Numbers, SettingsChange},
};

/// The answer of a store, which comes later. The request may be done although the future was dropped.
pub type EngineFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, EngineError>> + Send + 'a>>;

/// The reason for which a store gave no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineError {
    /// The request may have been done, and it may be done later: the connection was lost, or the store gave a warning.
    Unknown(Arc<str>),
    /// Nothing was done, and nothing will be: the store cannot be reached or is not ready.
    Away(Arc<str>),
    /// Nothing was done, and nothing will be: the store refuses this request.
    Refused(Arc<str>),
    /// Nothing was done: stored bytes differ from the bytes that were written.
    Damaged(Arc<str>),
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Unknown(text) | Self::Away(text) | Self::Refused(text) | Self::Damaged(text)) =
            self;
        f.write_str(text)
    }
}

impl std::error::Error for EngineError {}

/// The answer of the store; unknown when there is none in this time. Cancel safe, if the answer is.
pub async fn answer_of<T>(
    answer: impl Future<Output = Result<T, EngineError>>,
    within: Duration,
) -> Result<T, EngineError> {
    let late = || Err(EngineError::Unknown("the store has no answer".into()));
    timeout(within, answer).await.unwrap_or_else(|_| late())
}

/// A lane of a gateway. Its groups are numbered from 1 on, and each commits before the next one begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub u64);

/// A point in the order of transactions. Every transaction before it is confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Horizon(pub u64);

/// The answer to a barrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BarrierPass {
    /// The horizon from now on.
    pub horizon: Horizon,
    /// The number of the barrier among those of its lane.
    pub number: u64,
}

/// The numbers of a lane that a primary has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LaneMark {
    /// The newest group.
    pub last_group: u64,
    /// The number of barriers.
    pub barriers: u64,
}

/// The facts about a store that a gateway knows to be confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreMemory {
    /// The numbers of the known lanes.
    pub marks: Vec<(LaneId, LaneMark)>,
    /// The number of epochs so far; 0 at the first meeting.
    pub epochs: u64,
    /// The incarnation of the store; 0 at the first meeting.
    pub incarnation: u64,
}

impl StoreMemory {
    /// The lanes whose known numbers are above the stored ones. A lane without stored numbers was lost as a whole.
    pub fn lost(&self, stored: &[(LaneId, LaneMark)]) -> Vec<LaneId> {
        let stored: HashMap<_, _> = stored.iter().copied().collect();
        let is_lost = |lane: &LaneId, known: &LaneMark| {
            stored.get(lane).is_none_or(|stored| {
                stored.last_group < known.last_group || stored.barriers < known.barriers
            })
        };
        let lost = self.marks.iter().filter(|(lane, mark)| is_lost(lane, mark));
        lost.map(|(lane, _)| *lane).collect()
    }
}

/// The outcome of a meeting with a primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreMeeting {
    /// The lanes of which the primary lacked something confirmed. If there are any, the epoch is another one than before.
    pub lost: Vec<LaneId>,
    /// See [`StoreMemory::epochs`].
    pub epochs: u64,
    /// See [`StoreMemory::incarnation`]. It is higher than before if the primary is another one.
    pub incarnation: u64,
}

/// The answer to a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed<T> {
    /// The answer.
    pub value: T,
    /// True if the answer holds a transaction that is not before the horizon. A barrier that begins after the read confirms it.
    pub is_young: bool,
}

/// The point of a session in the store, and what may have made it void.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnteredSession {
    /// The point.
    pub point: ResumePoint,
    /// The fence of the stored cursor.
    pub fence: Fence,
    /// The last erasure of the user.
    pub erasure: Option<Erasure>,
}

/// The sessions of a user in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSessions {
    /// The epoch of the user's inbox.
    pub epoch: Epoch,
    /// The last erasure of the user.
    pub erasure: Option<Erasure>,
    /// The sessions of this epoch.
    pub rows: Vec<(SessionKey, SessionRow)>,
}

/// The outcome of one append of a group that committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// The append has its entries, in the order of its receivers.
    Placed {
        /// The epoch of the entries.
        epoch: Epoch,
        /// The numbers at each receiver.
        entries: Arc<[(UserId, Numbers)]>,
    },
    /// The append has no entries, because its key was used before.
    Repeated,
}

/// The first append of a key, or the stored append of an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct First {
    /// The digest of its request.
    pub fingerprint: [u8; 16],
    /// The epoch of its entries.
    pub epoch: Epoch,
    /// Its entries that are retained.
    pub receipt: Receipt,
    /// False while a message to everyone has users to reach.
    pub is_complete: bool,
}

/// A change of rows besides messages. Each may be done twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreChange {
    /// A session has this cursor, if the epoch is the present one, and the cursor that it has is of no higher fence.
    Cursor(SessionKey, Epoch, Fence, SessionRow),
    /// A user is known, with this profile.
    Register(UserId, Bytes),
    /// The times of the tokens of (user, platform) are at least these.
    Tokens(UserId, Platform, TokenTimes),
    /// These messages of an inbox are removed. Their entries stay.
    Delete(UserId, Vec<Seq>),
    /// The settings of the user's conversations change.
    Settings(UserId, Vec<SettingsChange>),
    /// These rows beside the messages change.
    Rows(Vec<RowChange>),
    /// The same, if this turn is the present one. Otherwise the whole transaction is [`EngineError::Refused`].
    RowsIn(TurnNumber, Vec<RowChange>),
}

/// The moment at which a write is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Once it is confirmed.
    Confirmed,
    /// Once it is visible. A crash of the store loses it, and nothing that was written before it.
    WrittenBehind,
}

/// A piece of a message to everyone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpreadPiece {
    /// The epoch of the entries.
    pub epoch: Epoch,
    /// The numbers at each user of the piece.
    pub entries: Arc<[(UserId, Numbers)]>,
    /// The point after this piece.
    pub upto: u64,
    /// True if every user has an entry now.
    pub is_last: bool,
}

/// A message to everyone that was accepted and has users to reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// The message.
    pub message_id: MessageId,
    /// The bytes of [`Append::body`].
    pub body: Bytes,
    /// The point after its last piece.
    pub upto: u64,
}

/// A store that many gateways share.
pub trait Engine: Send + Sync + 'static {
    /// Meets the present primary. If the primary lacks something that is known to be confirmed, it gets a new epoch, unless another
    /// gateway began one already. Missing lanes are made again. Once this is answered, all of it is durable, and requests go to
    /// this primary. Before it, each request to another primary than the one that was met last is [`EngineError::Away`].
    fn meet(&self, memory: StoreMemory) -> EngineFuture<'_, StoreMeeting>;

    /// Waits until a request came to a primary that was not met. Cancel safe.
    fn another(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

    /// Makes this many lanes that no gateway had before.
    fn lanes(&self, count: usize) -> EngineFuture<'_, Vec<LaneId>>;

    /// Appends a group in one transaction, unless the lane has a group with this number or a fence at it. A group that was not
    /// appended for that reason is [`EngineError::Unknown`]. In a group, a user has either messages or one append of read marks, and
    /// a key stands once.
    fn append(
        &self,
        lane: LaneId,
        number: u64,
        group: Arc<[Append]>,
    ) -> EngineFuture<'_, Vec<Placement>>;

    /// Forbids the lane's groups up to this number that have not committed. Returns the number of the lane's newest group.
    fn fence(&self, lane: LaneId, number: u64) -> EngineFuture<'_, u64>;

    /// The first append of each key, and the stored append of each id without a key; `None` where there is none.
    fn firsts(&self, appends: Arc<[Append]>) -> EngineFuture<'_, Vec<Option<First>>>;

    /// Commits an empty transaction of the lane's gateway. Once it is answered, all that was visible before is confirmed.
    fn barrier(&self, lane: LaneId) -> EngineFuture<'_, BarrierPass>;

    /// Makes all changes in their order, in one transaction.
    fn write(&self, changes: Vec<StoreChange>, durability: Durability) -> EngineFuture<'_, ()>;

    /// Accepts a message to every user that is known now.
    fn accept_to_everyone(&self, append: Append) -> EngineFuture<'_, Placement>;

    /// Gives up to `limit` more users their entry of a message to everyone, and returns these entries. If the users after `after` have
    /// theirs already, it returns those.
    fn spread(&self, message: MessageId, after: u64, limit: usize)
    -> EngineFuture<'_, SpreadPiece>;

    /// The messages to everyone that are not complete, oldest first.
    fn unfinished(&self) -> EngineFuture<'_, Vec<Unfinished>>;

    /// See [`Log::entries`](crate::log::Log::entries).
    fn entries(
        &self,
        message: MessageId,
        skip: usize,
        limit: usize,
    ) -> EngineFuture<'_, Vec<(UserId, Numbers)>>;

    /// See [`Log::entry_of`](crate::log::Log::entry_of).
    fn entry_of(&self, message: MessageId, user: UserId) -> EngineFuture<'_, Option<Numbers>>;

    /// See [`Log::inbox`](crate::log::Log::inbox).
    fn inbox(&self, user: UserId, horizon: Horizon) -> EngineFuture<'_, Observed<Inbox>>;

    /// The epoch and the head of each user's inbox.
    fn heads(
        &self,
        users: Vec<UserId>,
        horizon: Horizon,
    ) -> EngineFuture<'_, Observed<Vec<(Epoch, Seq)>>>;

    /// The platforms of these users on which all known tokens are revoked.
    fn logged_out(&self, users: Vec<UserId>) -> EngineFuture<'_, Vec<(UserId, Platform, u64)>>;

    /// See [`Log::read`](crate::log::Log::read).
    fn read(
        &self,
        user: UserId,
        after: Seq,
        limit: ReadLimit,
        horizon: Horizon,
    ) -> EngineFuture<'_, Observed<InboxRead>>;

    /// See [`Log::conversations`](crate::log::Log::conversations).
    fn conversations(
        &self,
        user: UserId,
        before: Seq,
        limit: usize,
        horizon: Horizon,
    ) -> EngineFuture<'_, Observed<ConversationPage>>;

    /// See [`Log::read_conversation`](crate::log::Log::read_conversation).
    fn read_conversation(
        &self,
        user: UserId,
        conversation: String,
        range: (ConversationSeq, ConversationSeq),
        limit: ReadLimit,
        horizon: Horizon,
    ) -> EngineFuture<'_, Observed<ConversationRead>>;

    /// See [`Log::find`](crate::log::Log::find).
    fn find(&self, lookup: Lookup) -> EngineFuture<'_, Option<Receipt>>;

    /// See [`Log::enter`](crate::log::Log::enter).
    fn enter(
        &self,
        key: SessionKey,
        horizon: Horizon,
    ) -> EngineFuture<'_, Observed<EnteredSession>>;

    /// See [`Log::rows`](crate::log::Log::rows).
    fn rows(
        &self,
        table: RowTable,
        prefix: Vec<u8>,
        after: Vec<u8>,
        limit: usize,
        horizon: Horizon,
    ) -> EngineFuture<'_, Observed<Vec<(Bytes, Bytes)>>>;

    /// See [`Log::feed`](crate::log::Log::feed). Everything in the page is confirmed. The page waits for transactions that began
    /// before the newest commit and are still open.
    fn feed(
        &self,
        lane: LaneId,
        from: FeedPosition,
        limit: FeedLimit,
    ) -> EngineFuture<'_, FeedPage>;

    /// See [`Log::cursor_feed`](crate::log::Log::cursor_feed). It waits in the same way.
    fn cursor_feed(
        &self,
        lane: LaneId,
        from: FeedPosition,
        limit: usize,
    ) -> EngineFuture<'_, CursorPage>;

    /// The sessions of a user.
    fn sessions(&self, user: UserId) -> EngineFuture<'_, StoredSessions>;

    /// See [`Log::erase`](crate::log::Log::erase). A repeat of an erasure that was done does no harm.
    fn erase(&self, user: UserId, before_ms: u64) -> EngineFuture<'_, Erasure>;

    /// See [`Log::erasure`](crate::log::Log::erasure).
    fn erasure(&self, user: UserId) -> EngineFuture<'_, Option<Erasure>>;

    /// See [`Log::users`](crate::log::Log::users).
    fn users(&self) -> EngineFuture<'_, Vec<UserId>>;

    /// See [`Log::profile`](crate::log::Log::profile).
    fn profile(&self, user: UserId) -> EngineFuture<'_, Option<Bytes>>;

    /// See [`Log::token_times`](crate::log::Log::token_times).
    fn token_times(&self, user: UserId, platform: Platform) -> EngineFuture<'_, TokenTimes>;
}
