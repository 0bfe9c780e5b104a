//! A store of a fleet in memory: one primary, and one standby that follows it.
//!
//! A transaction is visible on the primary at once, and is answered when the standby has it. It may hang, lose its request or its
//! answer, or come late. When the standby takes over, everything that it does not have is lost.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use bytes::Bytes;
use tokio::sync::Notify;

use super::{
    fleet_rows::FleetRows,
    servers::{Servers, StoreFault, Transaction},
    store_rows::StoreRows,
};
use crate::{
    ids::{ConversationSeq, Epoch, MessageId, Platform, Seq, SessionKey, UserId},
    log::{
        Append, ConversationPage, ConversationRead, CursorPage, Erasure, FeedLimit, FeedPage,
        FeedPosition, Inbox, InboxRead, LogError, Lookup, ReadLimit, Receipt, RowTable, TokenTimes,
        TurnNumber,
        cluster::engine::{
            BarrierPass, Durability, Engine, EngineError, EngineFuture, EnteredSession, First,
            Horizon, LaneId, Observed, Placement, SpreadPiece, StoreChange, StoreMeeting,
            StoreMemory, StoredSessions, Unfinished,
        },
    },
    message::Numbers,
};

/// The store, as one gateway sees it.
#[derive(Default)]
pub struct SimEngine {
    servers: Arc<Mutex<Servers>>,
    pub(super) changed: Arc<Notify>,
    /// The timeline that was met last.
    met: AtomicU64,
    another: Notify,
}

fn unknown(text: &'static str) -> EngineError {
    EngineError::Unknown(text.into())
}

impl SimEngine {
    /// The same store, as another gateway sees it.
    pub fn of_another_gateway(&self) -> Self {
        Self {
            servers: Arc::clone(&self.servers),
            changed: Arc::clone(&self.changed),
            met: AtomicU64::new(self.servers().timeline),
            another: Notify::new(),
        }
    }

    /// Refuses requests while nobody reaches the store, and to a primary that was not met.
    fn admit(&self, servers: &Servers) -> Result<(), EngineError> {
        if servers.is_away {
            return Err(EngineError::Away("the store is away".into()));
        }
        if servers.timeline != self.met.load(SeqCst) {
            self.another.notify_one();
            return Err(EngineError::Away("another primary was not met".into()));
        }
        Ok(())
    }

    pub(super) fn servers(&self) -> MutexGuard<'_, Servers> {
        self.servers.lock().expect("no holder panics")
    }

    /// Looks at the rows of the fleet, or changes them.
    pub(super) fn on_fleet<T: Send + 'static>(
        &self,
        make: impl FnOnce(&mut FleetRows) -> T,
    ) -> EngineFuture<'_, T> {
        let mut servers = self.servers();
        let made = match servers.is_away {
            true => Err(EngineError::Away("the store is away".into())),
            false => Ok(make(&mut servers.fleet)),
        };
        Box::pin(async { made })
    }

    /// The same for the turn, which transactions compare.
    pub(super) fn on_turn(
        &self,
        take: impl FnOnce(&mut FleetRows) -> Option<TurnNumber>,
    ) -> EngineFuture<'_, Option<TurnNumber>> {
        let mut servers = self.servers();
        if servers.is_away {
            return Box::pin(async { Err(EngineError::Away("the store is away".into())) });
        }
        let taken = take(&mut servers.fleet);
        if taken.is_some() {
            servers.commit(Arc::new(move |store| store.turn = taken));
        }
        Box::pin(async move { Ok(taken) })
    }

    /// Makes a transaction, and waits until the standby has it.
    async fn commit<T: Send + 'static>(
        &self,
        fault: Option<StoreFault>,
        make: impl Fn(&mut StoreRows) -> T + Send + Sync + 'static,
    ) -> Result<T, EngineError> {
        let make = Arc::new(make);
        let again = Arc::clone(&make);
        let transaction: Transaction = Arc::new(move |store| drop(again(store)));
        let (made, number, timeline) = {
            let mut servers = self.servers();
            self.admit(&servers)?;
            match fault {
                Some(StoreFault::LoseRequest) => return Err(unknown("the request was lost")),
                Some(StoreFault::Refuse) => {
                    return Err(EngineError::Refused("a test asked for it".into()));
                }
                Some(StoreFault::Late) => {
                    servers.late.push(transaction);
                    return Err(unknown("the connection was lost"));
                }
                _ => {}
            }
            let made = make(&mut servers.primary);
            servers.history.push(transaction);
            if !servers.is_cut {
                servers.replicated = servers.history.len();
            }
            (made, servers.history.len(), servers.timeline)
        };
        match fault {
            Some(StoreFault::Warn) => return Err(unknown("a warning")),
            Some(StoreFault::LoseAnswer) => return Err(unknown("the answer was lost")),
            _ => {}
        }
        self.replicated(number, timeline).await?;
        Ok(made)
    }

    /// Waits until the standby has so many transactions of this timeline.
    async fn replicated(&self, number: usize, timeline: u64) -> Result<(), EngineError> {
        loop {
            let changed = self.changed.notified();
            {
                let servers = self.servers();
                if servers.timeline != timeline {
                    return Err(unknown("the primary was lost"));
                }
                if servers.replicated >= number {
                    return Ok(());
                }
            }
            changed.await;
        }
    }

    /// Reads the primary. A read of what the standby does not have is young.
    fn look<T>(
        &self,
        horizon: Horizon,
        look: impl FnOnce(&StoreRows) -> Result<T, LogError>,
    ) -> Result<Observed<T>, EngineError> {
        let servers = self.servers();
        self.admit(&servers)?;
        let value = look(&servers.primary);
        let value = value.map_err(|error| EngineError::Damaged(error.text))?;
        let is_young = servers.history.len() as u64 > horizon.0;
        Ok(Observed { value, is_young })
    }

    /// Reads in a transaction of its own, so that all that it saw is confirmed with it.
    async fn look_confirmed<T: Send + 'static>(
        &self,
        look: impl Fn(&StoreRows) -> Result<T, LogError> + Send + Sync + 'static,
    ) -> Result<T, EngineError> {
        let looked = self.commit(None, move |store| look(store)).await?;
        looked.map_err(|error| EngineError::Damaged(error.text))
    }

    fn answer<T: Send + 'static>(
        &self,
        look: impl FnOnce(&StoreRows) -> Result<T, LogError>,
    ) -> EngineFuture<'_, T> {
        let seen = self.look(Horizon::default(), look);
        Box::pin(async { seen.map(|seen| seen.value) })
    }

    fn seen<T: Send + 'static>(
        &self,
        horizon: Horizon,
        look: impl FnOnce(&StoreRows) -> Result<T, LogError>,
    ) -> EngineFuture<'_, Observed<T>> {
        let seen = self.look(horizon, look);
        Box::pin(async { seen })
    }
}

impl Engine for SimEngine {
    fn meet(&self, memory: StoreMemory) -> EngineFuture<'_, StoreMeeting> {
        Box::pin(async move {
            let (met, number, timeline) = {
                let mut servers = self.servers();
                if servers.is_away {
                    return Err(EngineError::Away("the store is away".into()));
                }
                let met = servers.primary.meet(&memory);
                let meeting = memory.clone();
                let again: Transaction = Arc::new(move |store| drop(store.meet(&meeting)));
                servers.history.push(again);
                if !servers.is_cut {
                    servers.replicated = servers.history.len();
                }
                (met, servers.history.len(), servers.timeline)
            };
            self.replicated(number, timeline).await?;
            self.met.store(timeline, SeqCst);
            Ok(met)
        })
    }

    fn another(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.another.notified())
    }

    fn lanes(&self, count: usize) -> EngineFuture<'_, Vec<LaneId>> {
        let make = move |store: &mut StoreRows| {
            let first = store.lanes.len() as u64 + 1;
            let ids = (first..first + count as u64).map(LaneId);
            let ids: Vec<_> = ids.collect();
            store.lanes.extend(ids.iter().map(|id| (*id, (0, 0))));
            ids
        };
        Box::pin(self.commit(None, make))
    }

    fn append(
        &self,
        lane: LaneId,
        number: u64,
        group: Arc<[Append]>,
    ) -> EngineFuture<'_, Vec<Placement>> {
        let fault = self.servers().faults.pop_front();
        let make = move |store: &mut StoreRows| store.append(lane, number, &group);
        Box::pin(async move {
            let placements = self.commit(fault, make).await?;
            placements.ok_or_else(|| unknown("the lane is fenced"))
        })
    }

    fn fence(&self, lane: LaneId, number: u64) -> EngineFuture<'_, u64> {
        let make = move |store: &mut StoreRows| store.fence(lane, number);
        Box::pin(self.commit(None, make))
    }

    fn firsts(&self, appends: Arc<[Append]>) -> EngineFuture<'_, Vec<Option<First>>> {
        self.answer(|store| Ok(appends.iter().map(|append| store.first(append)).collect()))
    }

    fn barrier(&self, lane: LaneId) -> EngineFuture<'_, BarrierPass> {
        Box::pin(async move {
            let before = self.servers().history.len() as u64;
            let number = self.commit(None, move |store| store.pass_barrier(lane));
            Ok(BarrierPass {
                number: number.await?,
                horizon: Horizon(before),
            })
        })
    }

    fn write(&self, changes: Vec<StoreChange>, durability: Durability) -> EngineFuture<'_, ()> {
        let make = move |store: &mut StoreRows| store.change(&changes);
        if durability == Durability::Confirmed {
            return Box::pin(async { self.commit(None, make).await? });
        }
        self.servers()
            .commit(Arc::new(move |store| drop(make(store))));
        Box::pin(async { Ok(()) })
    }

    fn accept_to_everyone(&self, append: Append) -> EngineFuture<'_, Placement> {
        let make = move |store: &mut StoreRows| {
            let append = Append {
                receivers: store.rows.users(),
                ..append.clone()
            };
            let placement = store.place(&append);
            if placement != Placement::Repeated {
                store.to_everyone.push(append.message_id);
            }
            placement
        };
        Box::pin(self.commit(None, make))
    }

    fn spread(&self, id: MessageId, after: u64, limit: usize) -> EngineFuture<'_, SpreadPiece> {
        self.answer(|store| {
            let all = store.entries(id);
            let begin = all.len().min(after as usize);
            let end = all.len().min(begin + limit);
            Ok(SpreadPiece {
                epoch: store.rows.epoch(),
                entries: all[begin..end].into(),
                upto: end as u64,
                is_last: end == all.len(),
            })
        })
    }

    fn unfinished(&self) -> EngineFuture<'_, Vec<Unfinished>> {
        self.answer(|_| Ok(Vec::new()))
    }

    fn entries(
        &self,
        message: MessageId,
        skip: usize,
        limit: usize,
    ) -> EngineFuture<'_, Vec<(UserId, Numbers)>> {
        self.answer(|store| {
            let entries = store.entries(message).iter().skip(skip).take(limit);
            Ok(entries.cloned().collect())
        })
    }

    fn entry_of(&self, message: MessageId, user: UserId) -> EngineFuture<'_, Option<Numbers>> {
        self.answer(|store| {
            let mut entries = store.entries(message).iter();
            let of_user = entries.find(|(owner, _)| *owner == user);
            Ok(of_user.map(|(_, numbers)| *numbers))
        })
    }

    fn inbox(&self, user: UserId, horizon: Horizon) -> EngineFuture<'_, Observed<Inbox>> {
        self.seen(horizon, |store| store.rows.inbox(&user))
    }

    fn heads(
        &self,
        users: Vec<UserId>,
        horizon: Horizon,
    ) -> EngineFuture<'_, Observed<Vec<(Epoch, Seq)>>> {
        self.seen(horizon, move |store| {
            let inboxes = users.iter().map(|user| store.rows.inbox(user));
            inboxes
                .map(|inbox| inbox.map(|inbox| (inbox.epoch, inbox.head)))
                .collect()
        })
    }

    fn logged_out(&self, users: Vec<UserId>) -> EngineFuture<'_, Vec<(UserId, Platform, u64)>> {
        self.answer(move |store| {
            let of_user = |user: &UserId| {
                Platform::ALL.map(|platform| {
                    let times = store.rows.token_times(user, platform);
                    let is_out = times.revoked_before_ms > times.newest_ms;
                    is_out.then(|| (user.clone(), platform, times.revoked_before_ms))
                })
            };
            Ok(users.iter().flat_map(of_user).flatten().collect())
        })
    }

    fn read(
        &self,
        user: UserId,
        after: Seq,
        limit: ReadLimit,
        horizon: Horizon,
    ) -> EngineFuture<'_, Observed<InboxRead>> {
        self.seen(horizon, |store| store.rows.read(&user, after, limit))
    }

    fn conversations(
        &self,
        user: UserId,
        before: Seq,
        limit: usize,
        horizon: Horizon,
    ) -> EngineFuture<'_, Observed<ConversationPage>> {
        self.seen(horizon, |store| {
            store.rows.conversations(&user, before, limit)
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
        self.seen(horizon, |store| {
            let rows = &store.rows;
            rows.read_conversation(&user, &conversation, range, limit)
        })
    }

    fn find(&self, lookup: Lookup) -> EngineFuture<'_, Option<Receipt>> {
        self.answer(|store| store.rows.find(&lookup))
    }

    fn enter(
        &self,
        key: SessionKey,
        horizon: Horizon,
    ) -> EngineFuture<'_, Observed<EnteredSession>> {
        self.seen(horizon, |store| store.entered(&key))
    }

    fn rows(
        &self,
        table: RowTable,
        prefix: Vec<u8>,
        after: Vec<u8>,
        limit: usize,
        horizon: Horizon,
    ) -> EngineFuture<'_, Observed<Vec<(Bytes, Bytes)>>> {
        self.seen(horizon, |store| {
            store.rows.page(table, &prefix, &after, limit)
        })
    }

    fn feed(&self, _: LaneId, from: FeedPosition, limit: FeedLimit) -> EngineFuture<'_, FeedPage> {
        Box::pin(self.look_confirmed(move |store| store.rows.feed(from, limit)))
    }

    fn cursor_feed(
        &self,
        _: LaneId,
        from: FeedPosition,
        limit: usize,
    ) -> EngineFuture<'_, CursorPage> {
        Box::pin(self.look_confirmed(move |store| store.rows.cursor_feed(from, limit)))
    }

    fn sessions(&self, user: UserId) -> EngineFuture<'_, StoredSessions> {
        self.answer(|store| {
            let sessions = store.rows.sessions.iter();
            let of_user = sessions.filter(|(key, _)| key.user == user);
            let of_user = of_user.map(|(key, row)| (key.clone(), *row));
            Ok(StoredSessions {
                epoch: store.rows.epoch(),
                erasure: store.rows.erasure(&user),
                rows: of_user.collect(),
            })
        })
    }

    fn erase(&self, user: UserId, before_ms: u64) -> EngineFuture<'_, Erasure> {
        let make = move |store: &mut StoreRows| store.erase(user.clone(), before_ms);
        Box::pin(self.commit(None, make))
    }

    fn erasure(&self, user: UserId) -> EngineFuture<'_, Option<Erasure>> {
        self.answer(|store| Ok(store.rows.erasure(&user)))
    }

    fn users(&self) -> EngineFuture<'_, Vec<UserId>> {
        self.answer(|store| Ok(store.rows.users()))
    }

    fn profile(&self, user: UserId) -> EngineFuture<'_, Option<Bytes>> {
        self.answer(|store| Ok(store.rows.profiles.get(&user).cloned()))
    }

    fn token_times(&self, user: UserId, platform: Platform) -> EngineFuture<'_, TokenTimes> {
        self.answer(|store| Ok(store.rows.token_times(&user, platform)))
    }
}
