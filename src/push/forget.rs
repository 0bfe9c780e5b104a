//! Forgets a user who was erased: decisions that are due, tasks, and the calls that are under way.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use bytes::Bytes;

use super::{
    lane::VendorLane,
    rows::{self, Due, PushTask},
    underway::CallsUnderway,
};
use crate::{
    delivery::SendError,
    ids::{Seq, UserId},
    log::{
        AppendError, Erasure, Log, LogError, RowTable, SessionBegin, remove_rows, session_rows_of,
    },
    message::Provider,
};

/// The rows that are looked at, and removed, together.
const FORGOTTEN_TOGETHER: usize = 2048;

/// Forgets users in the rows of vendor push, and in the vendors' workers, where there are any.
#[derive(Clone)]
pub struct PushForgetter {
    log: Arc<dyn Log>,
    lanes: Vec<Arc<VendorLane>>,
    underway: Arc<CallsUnderway>,
    /// The removed decisions that the decider still counts.
    undue: Arc<AtomicUsize>,
}

impl PushForgetter {
    /// The forgetter of a gateway without a vendor. Rows of an earlier configuration may be there.
    pub fn without_vendor(log: Arc<dyn Log>) -> Self {
        Self::new(log, Vec::new(), Arc::default(), Arc::default())
    }

    pub(super) fn new(
        log: Arc<dyn Log>,
        lanes: Vec<Arc<VendorLane>>,
        underway: Arc<CallsUnderway>,
        undue: Arc<AtomicUsize>,
    ) -> Self {
        Self {
            log,
            lanes,
            underway,
            undue,
        }
    }

    /// Removes the rows of pushes that the erasure covers, durably, and waits for the end of the calls that are under way: no push
    /// of before begins after it returns. Looks at all rows of vendor push. Not cancel safe: after a drop some rows may be there. A
    /// repeat removes them.
    pub async fn forget(&self, user: &UserId, erasure: &Erasure) -> Result<(), SendError> {
        self.forget_begins(user, erasure).await?;
        let mut after = Bytes::new();
        loop {
            let page = self
                .log
                .rows(RowTable::PushTasks, &[], &after, FORGOTTEN_TOGETHER);
            let page = page.wait().await?;
            let Some((last, _)) = page.last() else {
                break;
            };
            after = last.clone();
            let is_covered = |of: &UserId, seq| of == user && erasure.covers(seq);
            let (mut removed, mut tasks, mut undue) = (Vec::new(), Vec::new(), 0);
            for (key, value) in page {
                if let Some((number, task)) = PushTask::read(&key, &value) {
                    if is_covered(&task.user, task.seq) {
                        tasks.push((rows::provider_of(&key), number));
                        removed.push(rows::remove(key));
                    }
                } else if let Some(due) = Due::read(&key, &value)
                    && is_covered(&due.user, due.seq)
                {
                    undue += 1;
                    removed.push(rows::remove(key));
                }
            }
            if removed.is_empty() {
                continue;
            }
            let durable = self.log.put_rows(removed)?.await;
            durable.unwrap_or(Err(AppendError::OutcomeUnknown))?;
            self.undue.fetch_add(undue, Relaxed);
            for (provider, number) in tasks {
                self.end(provider, number);
            }
        }
        self.underway.none_for(user).await;
        Ok(())
    }

    /// Removes the rows of sessions that began before.
    async fn forget_begins(&self, user: &UserId, erasure: &Erasure) -> Result<(), SendError> {
        let of_user = session_rows_of(SessionBegin::PUSH_PREFIX, user);
        let is_covered = |_: &[u8], value: &[u8]| {
            SessionBegin::read(value).is_none_or(|begun| begun.time_ms <= erasure.time_ms)
        };
        let rows = (RowTable::Consumers, &*of_user);
        let removed = remove_rows(&*self.log, rows, FORGOTTEN_TOGETHER, is_covered);
        removed.await.map(drop)
    }

    fn end(&self, provider: Option<Provider>, number: u64) {
        let mut lanes = self.lanes.iter();
        if let Some(lane) = lanes.find(|lane| Some(lane.provider) == provider) {
            lane.end(number);
        }
    }
}

/// True if the user was erased after the message with this seq came. Cancel safe: it only reads.
pub(super) async fn is_erased(log: &dyn Log, user: &UserId, seq: Seq) -> Result<bool, LogError> {
    let erasure = log.erasure(user).wait().await?;
    Ok(erasure.is_some_and(|erasure| erasure.covers(seq)))
}
