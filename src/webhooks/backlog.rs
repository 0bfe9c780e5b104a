//! The events of push that wait in rows, bounded: the oldest ones end when there are too many, and their loss is told.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use bytes::Bytes;

use super::rows;
use crate::log::{Log, LogError, RowTable, TurnNumber};

/// The events of push that wait for a receiver that is away: as many as there may be tasks of push.
pub(super) const PUSH_EVENTS_MAX: u64 = 1_000_000;
/// The rows that one step removes.
const TRIMMED_AT_ONCE: usize = 1024;
/// The announcements of losses in one batch.
const LOSSES_AT_ONCE: usize = 4;

/// The number of events of push that wait.
pub(super) struct PushBacklog {
    /// Events that were made since the start.
    made: Arc<AtomicU64>,
    /// Rows that were there at the start, less those told or removed since. The number may be negative.
    balance: i64,
    max: u64,
    /// The time of the newest row at the start, Unix ms.
    pub(super) newest_ms: u64,
}

/// Events of push that are gone.
pub(super) struct PushLoss {
    pub(super) key: Bytes,
    /// The times of the first and the last one, Unix ms.
    pub(super) times_ms: (u64, u64),
}

impl PushBacklog {
    /// Counts what waits. `made` counts the rows that are made from now on.
    pub(super) async fn open(
        log: &dyn Log,
        made: Arc<AtomicU64>,
        max: u64,
    ) -> Result<Self, LogError> {
        let (mut balance, mut newest_ms) = (0, 0);
        let mut after = Vec::new();
        loop {
            let page = log.rows(
                RowTable::Consumers,
                rows::PUSH_PREFIX,
                &after,
                TRIMMED_AT_ONCE,
            );
            let page = page.wait().await?;
            let Some((last, _)) = page.last() else { break };
            newest_ms = rows::push_time_ms(last).unwrap_or(newest_ms);
            after = last.to_vec();
            balance += page.len() as i64;
        }
        Ok(Self {
            made,
            balance,
            max,
            newest_ms,
        })
    }

    /// This many events were removed from the rows.
    pub(super) fn removed(&mut self, count: usize) {
        self.balance -= count as i64;
    }

    /// Counts anew what waits.
    pub(super) async fn recount(&mut self, log: &dyn Log) -> Result<(), LogError> {
        let made = self.made.load(Relaxed);
        let counted = Self::open(log, Arc::clone(&self.made), self.max).await?;
        self.newest_ms = counted.newest_ms;
        // The rows that were made are among those that were counted.
        self.balance = counted
            .balance
            .saturating_sub(i64::try_from(made).unwrap_or(i64::MAX));
        Ok(())
    }

    /// An event is on its way.
    pub(super) fn took_one(&mut self) {
        self.balance -= 1;
    }

    fn waiting(&self) -> u64 {
        let made = i64::try_from(self.made.load(Relaxed)).unwrap_or(i64::MAX);
        u64::try_from(self.balance.saturating_add(made)).unwrap_or(0)
    }

    /// Removes the oldest events if there are too many. A row keeps their loss until it is told.
    pub(super) async fn trim(&mut self, log: &dyn Log, turn: TurnNumber) -> Result<(), LogError> {
        if self.waiting() <= self.max {
            return Ok(());
        }
        let oldest = log.rows(RowTable::Consumers, rows::PUSH_PREFIX, &[], TRIMMED_AT_ONCE);
        let oldest = oldest.wait().await?;
        let time_ms =
            |row: Option<&(Bytes, Bytes)>| row.and_then(|(key, _)| rows::push_time_ms(key));
        let times_ms = (time_ms(oldest.first()), time_ms(oldest.last()));
        let (Some(from_ms), Some(to_ms)) = times_ms else {
            return Ok(());
        };
        let count = oldest.len();
        let mut changes: Vec<_> = oldest
            .into_iter()
            .map(|(key, _)| rows::remove(key))
            .collect();
        changes.push(rows::push_loss((from_ms, to_ms)));
        let Ok(pending) = log.put_rows_in(turn, changes) else {
            return Ok(());
        };
        if matches!(pending.await, Ok(Ok(()))) {
            self.balance -= count as i64;
            tracing::warn!(
                count,
                "too many events of push wait: the oldest ones are lost"
            );
        }
        Ok(())
    }

    /// The losses that are to be told.
    pub(super) async fn losses(&self, log: &dyn Log) -> Result<Vec<PushLoss>, LogError> {
        let waiting = log.rows(
            RowTable::Consumers,
            rows::PUSH_LOSS_PREFIX,
            &[],
            LOSSES_AT_ONCE,
        );
        let waiting = waiting.wait().await?.into_iter();
        let loss = waiting.filter_map(|(key, _)| {
            let times_ms = rows::read_push_loss(&key)?;
            Some(PushLoss { key, times_ms })
        });
        Ok(loss.collect())
    }
}
