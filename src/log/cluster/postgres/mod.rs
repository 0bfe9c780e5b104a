//! PostgreSQL as the store of a fleet. No other folder has SQL.
//!
//! - this file: [`PostgresEngine`], the store as an [`Engine`]
//! - `link.rs`: connections, and what their errors and warnings mean for an outcome
//! - `meeting.rs`: the first words with another primary
//! - `schema.rs`: the tables of `schema.sql`, epochs, partitions
//! - `append.rs`: a group as the one statement of `append.sql` (with read marks: `marks.sql`); what is stored of earlier appends
//! - `reads.rs`: the questions, each one statement
//! - `route.rs`: the address of this host in the direction of the store
//! - `heads.rs`: the looks at many users at once
//! - `writes.rs`: all other changes
//! - `spread.rs`: messages to everyone; `erase.rs`: the erasure of a user
//! - `feed.rs`: the feed of commits and that of moved cursors
//! - `secrets.rs`: the secrets that all gateways share
//! - `expiries.rs`: the rows that tell which unacked messages retention removed
//! - `presence.rs`: the gateways, and the places of sessions; `turn.rs`: which of them has the turn
//! - `tls.rs`: encrypted connections
//! - `inspect.rs`: a look at the servers' settings
//!
//! A gateway has a connection for each lane, one for reads, one for barriers, one for all other writes, one for heartbeats, one for
//! places, and one for feeds where somebody reads them. No timeout of the server
//! ever ends a statement of a lane: a cancelled wait for a standby would leave the transaction visible and not replicated, with a
//! warning. A connection that was warned, or whose last outcome is unknown, is not used again.
//!
//! Everyone locks rows in one order: the lane, keys by their digest, users by their id. A user's other rows are locked only by who
//! has the user's own.

mod append;
mod erase;
mod expiries;
mod feed;
mod heads;
mod inspect;
mod link;
mod meeting;
mod presence;
mod reads;
mod route;
mod schema;
mod secrets;
mod spread;
#[cfg(test)]
pub(crate) mod tests;
mod tls;
mod turn;
mod writes;

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use bytes::Bytes;
use uuid::Uuid;

pub use self::{
    inspect::{Finding, StoreReport, inspect},
    route::own_address,
    schema::{Migration, StoreRetention, migrate, new_epoch},
};
use self::{
    link::{ServerLink, Servers},
    reads::Dated,
};
use super::{
    engine::{
        BarrierPass, Durability, Engine, EngineError, EngineFuture, EnteredSession, First, Horizon,
        LaneId, Observed, Placement, SpreadPiece, StoreChange, StoreMeeting, StoreMemory,
        StoredSessions, Unfinished,
    },
    lock,
};
use crate::{
    ids::{ConversationSeq, Epoch, MessageId, Platform, Seq, SessionKey, UserId},
    log::{
        Append, ConversationPage, ConversationRead, CursorPage, Erasure, FeedLimit, FeedPage,
        FeedPosition, Inbox, InboxRead, Lookup, ReadLimit, Receipt, RowTable, TokenTimes,
    },
    message::Numbers,
};

/// The slot of a user: a CRC-32C of the id spreads ids evenly, and every version computes the same.
fn slot_of(user: &UserId) -> i16 {
    (crc32c::crc32c(user.as_str().as_bytes()) % schema::SLOTS) as i16
}

/// A group of PostgreSQL servers.
pub struct PostgresEngine {
    servers: Arc<Servers>,
    lanes: Mutex<HashMap<LaneId, Arc<ServerLink>>>,
    reads: Arc<ServerLink>,
    barriers: Arc<ServerLink>,
    writes: Arc<ServerLink>,
    feeds: Arc<ServerLink>,
    heartbeats: ServerLink,
    /// Its transactions do not wait for a standby.
    places: ServerLink,
    /// The number of connections when the newest barrier began.
    confirmed: AtomicU64,
}

impl PostgresEngine {
    /// Connects to the servers of a `postgres://` URL, and checks their tables. Cancel safe.
    pub async fn connect(url: &str) -> Result<Arc<Self>, EngineError> {
        let servers = Servers::new(url)?;
        let link = || Arc::new(ServerLink::new(Arc::clone(&servers)));
        let engine = Self {
            lanes: Mutex::default(),
            reads: link(),
            barriers: link(),
            writes: link(),
            feeds: link(),
            heartbeats: ServerLink::new(Arc::clone(&servers)),
            places: ServerLink::written_behind(Arc::clone(&servers)),
            confirmed: AtomicU64::new(0),
            servers,
        };
        schema::check(&engine.reads).await?;
        Ok(Arc::new(engine))
    }

    /// Lets time pass: moves the day, makes partitions ahead, and drops those that are too old. `today`: the day of the gateway's
    /// clock since 1970; `None` while the clock is doubted. Not cancel safe: a drop leaves open whether it was done.
    pub async fn keep(
        &self,
        today: Option<u32>,
        retention: StoreRetention,
    ) -> Result<(), EngineError> {
        // A day of expiries takes time, and nobody waits for this connection.
        let link = Arc::new(ServerLink::new(Arc::clone(&self.servers)));
        schema::keep(&link, today, retention).await
    }

    fn lane(&self, id: LaneId) -> Arc<ServerLink> {
        let mut lanes = lock(&self.lanes);
        let servers = || Arc::new(ServerLink::new(Arc::clone(&self.servers)));
        Arc::clone(lanes.entry(id).or_insert_with(servers))
    }

    /// A read's answer, and whether it has to be confirmed.
    fn seen<T>(&self, (value, transaction): Dated<T>, horizon: Horizon) -> Observed<T> {
        // Transactions are numbered in a circle. One that is half a circle old looks young, and costs a barrier.
        let is_young = |number: u32| number.wrapping_sub(horizon.0 as u32) < u32::MAX / 2;
        let is_new = self.confirmed.load(SeqCst) < self.servers.connections.load(SeqCst);
        Observed {
            value,
            is_young: is_new || horizon.0 == 0 || transaction.is_some_and(is_young),
        }
    }

    async fn find_stored(&self, lookup: Lookup) -> Result<Option<Receipt>, EngineError> {
        let (id, key) = match lookup {
            Lookup::Id(id) => (Uuid::from_bytes(id.0), None),
            Lookup::Key {
                sender,
                client_message_id,
            } => {
                let digest = append::digest_of_key(&sender, &client_message_id);
                let keys = append::keys(&self.reads, &[digest]).await?;
                // A message without a key has its printed id for one.
                let id = match keys.get(&digest) {
                    Some((_, id)) => *id,
                    None => match client_message_id.parse::<MessageId>() {
                        Ok(id) => Uuid::from_bytes(id.0),
                        Err(_) => return Ok(None),
                    },
                };
                (id, Some((sender, client_message_id)))
            }
        };
        let stored = append::stored(&self.reads, &[id]).await?.remove(&id);
        let stored = stored.filter(|stored| !stored.is_nobodys());
        let header = stored.as_ref().and_then(|stored| stored.header.clone());
        let Some(header) = header.filter(|header| !header.is_marks) else {
            return Ok(None);
        };
        let is_other = key.is_some_and(|(sender, client_message_id)| {
            *sender != *header.sender || *client_message_id != *header.client_message_id
        });
        let key = (&*header.sender, &*header.client_message_id);
        Ok((!is_other).then(|| append::receipt_of(id, key, stored).0))
    }
}

const NEW_LANES: &str = "WITH l AS (INSERT INTO lane (lane) SELECT unnest($1::bigint[]) RETURNING lane), \
    t AS (INSERT INTO tally (lane) SELECT lane FROM l), b AS (INSERT INTO barrier (lane) SELECT lane FROM l) \
    SELECT lane FROM l ORDER BY lane";
/// A lane whose groups are behind the fence already keeps its row as it is.
const FENCE: &str =
    "UPDATE lane SET fenced = greatest(fenced, $2) WHERE lane = $1 AND last_group < $2";
const NEWEST: &str = "SELECT last_group FROM lane WHERE lane = $1";
const BARRIER: &str = "WITH b AS (UPDATE barrier SET n = n + 1 WHERE lane = $1 RETURNING n) \
    SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint, n FROM b";

impl Engine for PostgresEngine {
    fn meet(&self, memory: StoreMemory) -> EngineFuture<'_, StoreMeeting> {
        Box::pin(async move { meeting::meet(&self.servers, &memory).await })
    }

    fn another(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.servers.another.notified())
    }

    fn lanes(&self, count: usize) -> EngineFuture<'_, Vec<LaneId>> {
        Box::pin(async move {
            // A primary that lost the newest lanes must not give their numbers again, so they are random.
            let number = |_| (Uuid::new_v4().as_u64_pair().1 >> 2) as i64;
            let numbers: Vec<i64> = (0..count).map(number).collect();
            let taken = self.writes.take().await?;
            let rows = taken.session.query(NEW_LANES, &[&numbers]).await;
            taken.give_back(&rows);
            let lane = |row: &tokio_postgres::Row| LaneId(row.get::<_, i64>(0) as u64);
            Ok(rows?.iter().map(lane).collect())
        })
    }

    fn append(
        &self,
        lane: LaneId,
        number: u64,
        group: Arc<[Append]>,
    ) -> EngineFuture<'_, Vec<Placement>> {
        let link = self.lane(lane);
        Box::pin(async move {
            let arrays = append::arrays_of(&group);
            let taken = link.take().await?;
            let rows = arrays.append(&taken.session, lane.0, number).await;
            taken.give_back(&rows);
            let placements = append::placements_of(&group, &rows?);
            placements.ok_or_else(|| EngineError::Unknown("the lane is fenced".into()))
        })
    }

    fn fence(&self, lane: LaneId, number: u64) -> EngineFuture<'_, u64> {
        let link = self.lane(lane);
        Box::pin(async move {
            let (id, number) = (lane.0 as i64, number as i64);
            let taken = link.take().await?;
            let fenced = taken.session.query(FENCE, &[&id, &number]).await;
            let newest = match fenced {
                // A statement after it sees what it waited for.
                Ok(_) => taken.session.query(NEWEST, &[&id]).await,
                Err(error) => Err(error),
            };
            taken.give_back(&newest);
            let newest = newest?;
            let missing = || EngineError::Damaged("the row of a lane is missing".into());
            let row = newest.first().ok_or_else(missing)?;
            Ok(row.get::<_, i64>(0) as u64)
        })
    }

    fn firsts(&self, appends: Arc<[Append]>) -> EngineFuture<'_, Vec<Option<First>>> {
        Box::pin(append::firsts(&self.reads, appends))
    }

    fn barrier(&self, lane: LaneId) -> EngineFuture<'_, BarrierPass> {
        Box::pin(async move {
            let connections = self.servers.connections.load(SeqCst);
            let taken = self.barriers.take().await?;
            let rows = taken.session.query(BARRIER, &[&(lane.0 as i64)]).await;
            taken.give_back(&rows);
            let rows = rows?;
            self.confirmed.fetch_max(connections, SeqCst);
            let missing = || EngineError::Damaged("the row of a barrier is missing".into());
            let row = rows.first().ok_or_else(missing)?;
            Ok(BarrierPass {
                horizon: Horizon(row.get::<_, i64>(0) as u64),
                number: row.get::<_, i64>(1) as u64,
            })
        })
    }

    fn write(&self, changes: Vec<StoreChange>, durability: Durability) -> EngineFuture<'_, ()> {
        Box::pin(async move { writes::write(&self.writes, &changes, durability).await })
    }

    fn accept_to_everyone(&self, append: Append) -> EngineFuture<'_, Placement> {
        Box::pin(async move { spread::accept(&self.writes, &append).await })
    }

    fn spread(
        &self,
        message: MessageId,
        after: u64,
        limit: usize,
    ) -> EngineFuture<'_, SpreadPiece> {
        Box::pin(spread::spread(&self.writes, message, after, limit))
    }

    fn unfinished(&self) -> EngineFuture<'_, Vec<Unfinished>> {
        Box::pin(spread::unfinished(&self.reads))
    }

    fn entries(
        &self,
        message: MessageId,
        skip: usize,
        limit: usize,
    ) -> EngineFuture<'_, Vec<(UserId, Numbers)>> {
        Box::pin(reads::entries(&self.reads, message, skip, limit))
    }

    fn entry_of(&self, message: MessageId, user: UserId) -> EngineFuture<'_, Option<Numbers>> {
        Box::pin(async move { reads::entry_of_everyone(&self.reads, message, &user).await })
    }

    fn inbox(&self, user: UserId, horizon: Horizon) -> EngineFuture<'_, Observed<Inbox>> {
        Box::pin(async move { Ok(self.seen(reads::inbox(&self.reads, &user).await?, horizon)) })
    }

    fn heads(
        &self,
        users: Vec<UserId>,
        horizon: Horizon,
    ) -> EngineFuture<'_, Observed<Vec<(Epoch, Seq)>>> {
        Box::pin(async move {
            let heads = heads::heads(&self.reads, &users).await?;
            let seen = heads.into_iter().map(|head| self.seen(head, horizon));
            let is_young = |heads: &[Observed<_>]| heads.iter().any(|head| head.is_young);
            let seen: Vec<_> = seen.collect();
            Ok(Observed {
                is_young: is_young(&seen),
                value: seen.into_iter().map(|head| head.value).collect(),
            })
        })
    }

    fn logged_out(&self, users: Vec<UserId>) -> EngineFuture<'_, Vec<(UserId, Platform, u64)>> {
        Box::pin(async move { heads::logged_out(&self.reads, &users).await })
    }

    fn read(
        &self,
        user: UserId,
        after: Seq,
        limit: ReadLimit,
        horizon: Horizon,
    ) -> EngineFuture<'_, Observed<InboxRead>> {
        Box::pin(async move {
            let read = reads::read(&self.reads, &user, after, limit).await?;
            Ok(self.seen(read, horizon))
        })
    }

    fn conversations(
        &self,
        user: UserId,
        before: Seq,
        limit: usize,
        horizon: Horizon,
    ) -> EngineFuture<'_, Observed<ConversationPage>> {
        Box::pin(async move {
            let page = reads::conversations(&self.reads, &user, before, limit).await?;
            Ok(self.seen(page, horizon))
        })
    }

    fn read_conversation(
        &self,
        user: UserId,
        conversation: String,
        range: (ConversationSeq, ConversationSeq),
        limit: ReadLimit,
        horizon: Horizon,
    ) -> EngineFuture<'_, Observed<ConversationRead>> {
        Box::pin(async move {
            let link = &self.reads;
            let read = reads::read_conversation(link, &user, &conversation, range, limit).await?;
            Ok(self.seen(read, horizon))
        })
    }

    fn find(&self, lookup: Lookup) -> EngineFuture<'_, Option<Receipt>> {
        Box::pin(self.find_stored(lookup))
    }

    fn enter(
        &self,
        key: SessionKey,
        horizon: Horizon,
    ) -> EngineFuture<'_, Observed<EnteredSession>> {
        Box::pin(async move { Ok(self.seen(reads::enter(&self.reads, &key).await?, horizon)) })
    }

    fn rows(
        &self,
        table: RowTable,
        prefix: Vec<u8>,
        after: Vec<u8>,
        limit: usize,
        horizon: Horizon,
    ) -> EngineFuture<'_, Observed<Vec<(Bytes, Bytes)>>> {
        Box::pin(async move {
            let rows = reads::facts(&self.reads, table, &prefix, &after, limit).await?;
            Ok(self.seen(rows, horizon))
        })
    }

    fn feed(
        &self,
        lane: LaneId,
        from: FeedPosition,
        limit: FeedLimit,
    ) -> EngineFuture<'_, FeedPage> {
        Box::pin(feed::feed(&self.feeds, lane, from, limit))
    }

    fn cursor_feed(
        &self,
        lane: LaneId,
        from: FeedPosition,
        limit: usize,
    ) -> EngineFuture<'_, CursorPage> {
        Box::pin(feed::cursor_feed(&self.feeds, lane, from, limit))
    }

    fn sessions(&self, user: UserId) -> EngineFuture<'_, StoredSessions> {
        Box::pin(async move { reads::sessions(&self.reads, &user).await })
    }

    fn erase(&self, user: UserId, before_ms: u64) -> EngineFuture<'_, Erasure> {
        Box::pin(async move { erase::erase(&self.writes, &user, before_ms).await })
    }

    fn erasure(&self, user: UserId) -> EngineFuture<'_, Option<Erasure>> {
        Box::pin(async move { erase::erasure(&self.reads, &user).await })
    }

    fn users(&self) -> EngineFuture<'_, Vec<UserId>> {
        Box::pin(reads::users(&self.reads))
    }

    fn profile(&self, user: UserId) -> EngineFuture<'_, Option<Bytes>> {
        Box::pin(async move { reads::profile(&self.reads, &user).await })
    }

    fn token_times(&self, user: UserId, platform: Platform) -> EngineFuture<'_, TokenTimes> {
        Box::pin(async move { reads::token_times(&self.reads, &user, platform).await })
    }
}
