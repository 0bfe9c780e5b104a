//! The work of the thread `webhooks`: composes a batch, has it sent, writes down that it was told, and begins anew.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, mpsc, watch},
    time::sleep,
};

use super::{
    courier::{HookReceiver, HookReply},
    dead_letters::DeadLetters,
    dispatch::{Dispatch, DispatchStep, EndedBatch, Settled},
    forget::{ForgetOrder, name_in_json},
    gather::Gatherer,
    push_events::PushEvents,
    rows,
    sweep::Sweep,
};
use crate::{
    clock::Clock,
    ids::UserId,
    log::{Log, LogError, RowChange, RowTable, TurnNumber, WorkTurn},
    metrics::Metrics,
    threads::Pulse,
};

/// The log is looked at this often without news: cursors and expired messages come without.
const WEBHOOK_LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The time from the first news to the batch. More events then share a request.
const LINGER_FOR_MORE: Duration = Duration::from_millis(10);
/// The pause before the log is asked again that failed, or refused the rows of a batch.
const LOG_RETRY: Duration = Duration::from_secs(1);

/// The orders of other gateways that are looked at together.
const ORDERS_TOGETHER: usize = 64;

/// All that the thread works with.
pub(super) struct HookWorker {
    pub(super) log: Arc<dyn Log>,
    pub(super) clock: Arc<Clock>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) gatherer: Gatherer,
    pub(super) letters: Arc<DeadLetters>,
    pub(super) receiver: Arc<dyn HookReceiver>,
    pub(super) sweep: Sweep,
    /// Says that there may be events.
    pub(super) news: Arc<Notify>,
    pub(super) dispatch: Dispatch,
    /// Orders to forget users who were erased.
    pub(super) forgets: mpsc::Receiver<ForgetOrder>,
    /// True while the receiver takes nothing, so that this is said once.
    pub(super) is_away: bool,
    pub(super) push_events: PushEvents,
    pub(super) turn: WorkTurn,
    /// The turn in which the thread works; `None` while another gateway has it.
    pub(super) present: Option<TurnNumber>,
}

impl HookWorker {
    /// Works until `halt` is true, and finishes the request under way.
    pub(super) async fn run(&mut self, pulse: &Pulse, mut halt: watch::Receiver<bool>) {
        while !*halt.borrow() {
            pulse.beat();
            while let Ok(order) = self.forgets.try_recv() {
                self.forget(order);
            }
            if self.turn.now() != self.present {
                self.change_turn(pulse).await;
            }
            let Some(turn) = self.present else {
                pulse.rest();
                tokio::select! {
                    biased;
                    _ = halt.changed() => {}
                    Some(order) = self.forgets.recv() => self.forget(order),
                    () = self.turn.other_than(None) => {}
                }
                continue;
            };
            if let Err(error) = self.take_orders(turn).await {
                tracing::warn!(%error, "webhooks cannot read the log, and try again");
                pulse.rest();
                sleep(LOG_RETRY).await;
                continue;
            }
            let now_ms = self.clock.now_ms();
            match self.dispatch.step(now_ms) {
                DispatchStep::Send => self.send(pulse, now_ms).await,
                DispatchStep::Wait(until_ms) => {
                    if let Err(error) = self.gatherer.pushes.trim(&*self.log, turn).await {
                        tracing::warn!(%error, "the events of push could not be counted");
                    }
                    let wait = Duration::from_millis(until_ms - now_ms);
                    pulse.rest();
                    tokio::select! {
                        biased;
                        _ = halt.changed() => {}
                        Some(order) = self.forgets.recv() => self.forget(order),
                        () = sleep(wait.min(WEBHOOK_LOOK_INTERVAL)) => {}
                    }
                }
                DispatchStep::Compose => match self.gatherer.gather(now_ms).await {
                    Ok((Some(batch), _)) => self.dispatch.take(batch),
                    Ok((None, true)) => tokio::task::yield_now().await,
                    Ok((None, false)) => {
                        self.metrics.webhook_lag.set(0.0);
                        self.sweep.step((&*self.log, turn), now_ms).await;
                        pulse.rest();
                        tokio::select! {
                            biased;
                            _ = halt.changed() => {}
                            Some(order) = self.forgets.recv() => self.forget(order),
                            () = self.news.notified() => sleep(LINGER_FOR_MORE).await,
                            () = sleep(WEBHOOK_LOOK_INTERVAL) => {}
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "webhooks cannot read the log, and try again");
                        pulse.rest();
                        tokio::select! {
                            biased;
                            _ = halt.changed() => {}
                            Some(order) = self.forgets.recv() => self.forget(order),
                            () = sleep(LOG_RETRY) => {}
                        }
                    }
                },
            }
        }
    }

    /// Ends the work of a turn that is over, or begins that of a new one as after a start.
    async fn change_turn(&mut self, pulse: &Pulse) {
        self.dispatch = Dispatch::default();
        self.metrics.webhook_lag.set(0.0);
        let Some(turn) = self.turn.now() else {
            tracing::info!("webhooks end at this gateway: another one has the turn");
            self.present = None;
            return;
        };
        if let Err(error) = self.take_up().await {
            tracing::warn!(%error, "webhooks cannot read the log, and try again");
            self.present = None;
            pulse.rest();
            sleep(LOG_RETRY).await;
            return;
        }
        tracing::info!("webhooks run at this gateway now");
        self.gatherer.begin(turn);
        self.present = Some(turn);
    }

    /// Reads what other gateways left in the rows.
    async fn take_up(&mut self) -> Result<(), LogError> {
        self.letters.reload().await?;
        self.gatherer.pushes.recount(&*self.log).await?;
        self.push_events.come_after(self.gatherer.pushes.newest_ms);
        Ok(())
    }

    /// Forgets the users whom other gateways erased.
    async fn take_orders(&mut self, turn: TurnNumber) -> Result<(), LogError> {
        if !self.turn.is_shared() {
            return Ok(());
        }
        loop {
            let orders = self.log.rows(
                RowTable::Consumers,
                rows::FORGET_PREFIX,
                &[],
                ORDERS_TOGETHER,
            );
            let orders = orders.wait().await?;
            if orders.is_empty() {
                return Ok(());
            }
            for user in orders
                .iter()
                .filter_map(|(key, _)| rows::read_forget_key(key))
            {
                self.forget_user(&user, 0);
            }
            // The other gateway may have removed any row that was counted.
            self.gatherer.drop_batch();
            let done = orders.into_iter().map(|(key, _)| rows::remove(key));
            let Ok(pending) = self.log.put_rows_in(turn, done.collect()) else {
                return Ok(());
            };
            if !matches!(pending.await, Ok(Ok(()))) {
                // The orders are taken once more with the next step.
                return Ok(());
            }
        }
    }

    async fn send(&mut self, pulse: &Pulse, now_ms: u64) {
        let Some(batch) = self.dispatch.batch() else {
            return;
        };
        let oldest_ms = batch.events.iter().map(|event| event.time_ms).min();
        let lag_ms = now_ms.saturating_sub(oldest_ms.unwrap_or(now_ms));
        self.metrics.webhook_lag.set(lag_ms as f64 / 1000.0);
        pulse.rest();
        let (id, body) = (batch.id.clone(), batch.body.clone());
        let receiver = Arc::clone(&self.receiver);
        let taking = receiver.take(&id, now_ms, &body);
        tokio::pin!(taking);
        let reply = loop {
            tokio::select! {
                biased;
                reply = &mut taking => break reply,
                // Another gateway tells these events.
                () = self.turn.other_than(self.present) => {
                    pulse.beat();
                    return;
                }
                Some(order) = self.forgets.recv() => {
                    self.forget(order);
                    if self.dispatch.batch().is_none() {
                        // The request is given up. The receiver may have got it a moment before the erasure.
                        pulse.beat();
                        return;
                    }
                }
            }
        };
        pulse.beat();
        let now_ms = self.clock.now_ms();
        let settled = self.dispatch.answered(now_ms, fastrand::f64(), &reply);
        self.note(&settled, &reply);
        let Settled::Ended(EndedBatch {
            refused, mut done, ..
        }) = settled
        else {
            return;
        };
        for (event, reason) in refused {
            done.extend(self.letters.add(vec![event], &reason, now_ms));
        }
        self.record(pulse, done).await;
    }

    /// Forgets a user who was erased. A batch with the user in it is dropped: it is composed anew, without the user.
    fn forget(&mut self, order: ForgetOrder) {
        let ForgetOrder { user, pushes, done } = order;
        self.forget_user(&user, pushes);
        // The eraser may have gone.
        let _ = done.send(());
    }

    fn forget_user(&mut self, user: &UserId, pushes: usize) {
        self.gatherer.forget(user, pushes);
        if self.dispatch.names(&name_in_json(user)) {
            self.dispatch.drop_batch();
            self.gatherer.drop_batch();
        }
    }

    /// Counts an answer, and says when the receiver goes and when it is back.
    fn note(&mut self, settled: &Settled, reply: &HookReply) {
        if !reply.is_success() {
            self.metrics.webhook_failed.increment(1);
        } else if std::mem::take(&mut self.is_away) {
            tracing::info!("the receiver of webhooks takes events again");
        }
        match settled {
            Settled::Ended(EndedBatch { told, refused, .. }) => {
                self.metrics.webhook_delivered.increment(*told as u64);
                if let Some((_, reason)) = refused.first() {
                    tracing::warn!(
                        reply = reason,
                        events = refused.len(),
                        "the receiver of webhooks refused events: they are dead letters now"
                    );
                }
            }
            Settled::Next => {}
            Settled::Held => {
                if !std::mem::replace(&mut self.is_away, true) {
                    tracing::warn!(
                        reply = reply.in_words(),
                        "the receiver of webhooks takes no events: they wait in the log"
                    );
                }
            }
        }
    }

    /// Writes down that a batch was told. Until it is durable nothing more is sent: a later batch is composed from these rows. In a turn
    /// that is over nothing is written, and the events are told again.
    async fn record(&self, pulse: &Pulse, changes: Vec<RowChange>) {
        while let Some(turn) = self.present.filter(|_| self.turn.now() == self.present) {
            pulse.beat();
            let failure = match self.log.put_rows_in(turn, changes.clone()) {
                Ok(pending) => match pending.await {
                    Ok(Ok(())) => return self.letters.taken(&changes),
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => "the log ended".into(),
                },
                Err(error) => error.to_string(),
            };
            tracing::warn!(
                error = failure,
                "webhooks cannot write what was told, and try again"
            );
            pulse.rest();
            sleep(LOG_RETRY).await;
        }
    }
}
