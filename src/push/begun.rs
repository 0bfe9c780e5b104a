//! The rows of sessions that began behind messages: taken up at a start, and removed once no decision can ask for them.

use bytes::Bytes;

use super::rows::remove_begun;
use crate::{
    delivery::Delivery,
    ids::Epoch,
    log::{Log, LogError, RowTable, SessionBegin, TurnNumber, read_session_row_key},
};

/// The interval between two steps of the removal.
const BEGUN_SWEEP_MS: u64 = 60_000;
/// The rows that one step looks at: a million new sessions take a day.
const BEGUN_TOGETHER: usize = 1024;

/// A walk through the rows, round and round. A row stays for `push.expire_after`: no message before its begin is decided later.
#[derive(Default)]
pub(super) struct BegunRows {
    after: Bytes,
    next_ms: u64,
}

/// Remembers the begins of sessions in this epoch, as the rows keep them. Cancel safe: a repeat does no harm.
pub(super) async fn take_up(
    log: &dyn Log,
    delivery: &Delivery,
    epoch: Epoch,
) -> Result<(), LogError> {
    let mut after = Bytes::new();
    loop {
        let page = page(log, &after).await?;
        let Some((last, _)) = page.last() else {
            return Ok(());
        };
        after = last.clone();
        for (key, value) in &page {
            let session = read_session_row_key(SessionBegin::PUSH_PREFIX, key);
            if let Some((session, begun)) = session.zip(SessionBegin::read(value))
                && begun.epoch == epoch
            {
                delivery.remember_begin(&session, begun.cursor);
            }
        }
    }
}

async fn page(log: &dyn Log, after: &[u8]) -> Result<Vec<(Bytes, Bytes)>, LogError> {
    let prefix = SessionBegin::PUSH_PREFIX;
    let page = log.rows(RowTable::Consumers, prefix, after, BEGUN_TOGETHER);
    page.wait().await
}

impl BegunRows {
    /// Looks at some rows, if it is time, and removes those from before `since_ms`. Cancel safe: the next round repeats it.
    pub(super) async fn sweep(
        &mut self,
        (log, turn): (&dyn Log, TurnNumber),
        since_ms: u64,
        now_ms: u64,
    ) -> Result<(), LogError> {
        if now_ms < self.next_ms {
            return Ok(());
        }
        self.next_ms = now_ms.saturating_add(BEGUN_SWEEP_MS);
        let page = page(log, &self.after).await?;
        let last = page.last().filter(|_| page.len() == BEGUN_TOGETHER);
        self.after = last.map(|(last, _)| last.clone()).unwrap_or_default();
        let is_old =
            |value: &[u8]| SessionBegin::read(value).is_none_or(|one| one.time_ms < since_ms);
        let old = page.into_iter().filter(|(_, value)| is_old(value));
        let removed: Vec<_> = old.map(|(key, _)| remove_begun(key)).collect();
        if !removed.is_empty() {
            // Nobody waits for it. The next round repairs a failure.
            let _ = log.put_rows_in(turn, removed);
        }
        Ok(())
    }
}
