//! Forgets a user who was erased: events that were not told yet, dead letters, and how far the receiver was told of the user's sessions.
//!
//! Events that the log's feed tells are composed without the user from the erasure on. So it remains to drop what was composed before,
//! and to clean the rows.

use std::sync::Arc;

use serde_json::{Value, value::RawValue};
use tokio::sync::{mpsc, oneshot};

use super::{
    dead_letters::{self, DeadLetters, LetterError},
    rows::{self, PushNote},
};
use crate::{
    ids::{Seq, UserId},
    log::{
        AppendError, EXPIRY_PREFIX, Erasure, Expiry, Log, RowChange, RowTable, SessionBegin,
        read_session_row_key, remove_rows, session_rows_of,
    },
};

/// The rows that are looked at, and removed, together.
const FORGOTTEN_ROWS: usize = 1024;
/// The letters that are looked at together: a letter has up to a megabyte.
const FORGOTTEN_LETTERS: usize = 16;
/// The orders to the thread that wait. More of them wait at their senders.
pub(super) const FORGET_ORDERS_MAX: usize = 16;

/// The order to the thread to forget a user.
pub(super) struct ForgetOrder {
    pub(super) user: UserId,
    /// The events of push that were removed from the rows.
    pub(super) pushes: usize,
    /// Answered once no batch has the user's name in it.
    pub(super) done: oneshot::Sender<()>,
}

/// Forgets users in the rows of webhooks, and in the batch that is under way.
#[derive(Clone)]
pub struct HookForgetter {
    log: Arc<dyn Log>,
    /// The list of letters, and the thread, where events are sent.
    running: Option<(Arc<DeadLetters>, mpsc::Sender<ForgetOrder>)>,
}

impl HookForgetter {
    /// The forgetter of a gateway that sends no events. Rows of an earlier configuration may be there.
    pub fn without_receiver(log: Arc<dyn Log>) -> Self {
        Self { log, running: None }
    }

    pub(super) fn new(
        log: Arc<dyn Log>,
        letters: Arc<DeadLetters>,
        orders: mpsc::Sender<ForgetOrder>,
    ) -> Self {
        let running = Some((letters, orders));
        Self { log, running }
    }

    /// Removes what waits to be told of the user and of before the erasure, durably. A letter that names other users too stays without
    /// this one. Looks at all events of push, expired messages and letters that wait. Not cancel safe: after a drop some of it may be
    /// there. A repeat removes it.
    pub async fn forget(&self, user: &UserId, erasure: &Erasure) -> Result<(), LetterError> {
        self.tell_thread(user, 0).await;
        self.tell_others(user).await?;
        self.forget_sessions(user, erasure).await?;
        self.forget_expiries(user, erasure).await?;
        let pushes = self.forget_pushes(user, erasure).await?;
        for prefix in [rows::DEAD_PREFIX, rows::AGAIN_PREFIX] {
            self.forget_letters(prefix, user).await?;
        }
        // A batch may have been composed of letters meanwhile.
        self.tell_thread(user, pushes).await;
        self.tell_others(user).await?;
        Ok(())
    }

    async fn tell_thread(&self, user: &UserId, pushes: usize) {
        let Some((_, orders)) = &self.running else {
            return;
        };
        let (done, is_done) = oneshot::channel();
        let order = ForgetOrder {
            user: user.clone(),
            pushes,
            done,
        };
        // A thread that has ended sends nothing.
        if orders.send(order).await.is_ok() {
            let _ = is_done.await;
        }
    }

    /// Orders the gateway that has the turn to forget the user, where it may be another one: it looks before each request.
    async fn tell_others(&self, user: &UserId) -> Result<(), LetterError> {
        if self.running.is_none() || !self.log.turn().is_shared() {
            return Ok(());
        }
        self.put(vec![rows::forget_row(fastrand::u128(..), user)])
            .await
    }

    /// Removes the rows of sessions of before.
    async fn forget_sessions(&self, user: &UserId, erasure: &Erasure) -> Result<(), LetterError> {
        for prefix in [rows::TOLD_PREFIX, SessionBegin::PREFIX] {
            let of_user = session_rows_of(prefix, user);
            let is_covered = |key: &[u8], value: &[u8]| {
                // Both kinds of rows have the same form: epoch, seq, time.
                let told = rows::ToldUpTo::read(value);
                read_session_row_key(prefix, key).is_some()
                    && told.is_none_or(|told| told.acked_at_ms <= erasure.time_ms)
            };
            self.remove(&of_user, is_covered).await?;
        }
        Ok(())
    }

    async fn forget_expiries(&self, user: &UserId, erasure: &Erasure) -> Result<(), LetterError> {
        let is_covered = |key: &[u8], value: &[u8]| {
            let expiry = Expiry::read(key, value);
            expiry.is_some_and(|expiry| {
                expiry.user.as_ref() == Some(user) && erasure.covers(Seq(expiry.range.1))
            })
        };
        self.remove(EXPIRY_PREFIX, is_covered).await.map(drop)
    }

    async fn forget_pushes(&self, user: &UserId, erasure: &Erasure) -> Result<usize, LetterError> {
        let is_covered = |key: &[u8], value: &[u8]| {
            let note = serde_json::from_slice::<PushNote>(value);
            let is_before = rows::push_time_ms(key).is_none_or(|time| time <= erasure.time_ms);
            is_before && note.is_ok_and(|note| note.user_id == user.as_str())
        };
        self.remove(rows::PUSH_PREFIX, is_covered).await
    }

    /// Removes the rows with this prefix for which `is_covered` is true. Returns their number.
    async fn remove(
        &self,
        prefix: &[u8],
        is_covered: impl Fn(&[u8], &[u8]) -> bool,
    ) -> Result<usize, LetterError> {
        let rows = (RowTable::Consumers, prefix);
        remove_rows(&*self.log, rows, FORGOTTEN_ROWS, is_covered).await
    }

    /// Removes the user from the letters of one of the two lists.
    async fn forget_letters(
        &self,
        prefix: &'static [u8],
        user: &UserId,
    ) -> Result<(), LetterError> {
        let mut after = Vec::new();
        loop {
            let letters = dead_letters::read(&*self.log, prefix, &after, FORGOTTEN_LETTERS).await?;
            let Some(last) = letters.last() else {
                return Ok(());
            };
            after = rows::letter_key(prefix, last.number, u8::MAX);
            let mut changes = Vec::new();
            let mut changed = Vec::new();
            for letter in letters {
                let Some(event) = without(&letter.event, user) else {
                    continue;
                };
                let number = letter.number;
                let (rows, bytes) = letter.changed(prefix, event);
                changes.extend(rows);
                changed.push((number, bytes));
            }
            self.put(changes).await?;
            if let Some((list, _)) = self
                .running
                .as_ref()
                .filter(|_| prefix == rows::DEAD_PREFIX)
            {
                list.changed(&changed);
            }
        }
    }

    async fn put(&self, changes: Vec<RowChange>) -> Result<(), LetterError> {
        if changes.is_empty() {
            return Ok(());
        }
        let durable = self.log.put_rows(changes)?.await;
        Ok(durable.unwrap_or(Err(AppendError::OutcomeUnknown))?)
    }
}

/// The user's name as it stands in the JSON of an event.
pub(super) fn name_in_json(user: &UserId) -> String {
    serde_json::to_string(user.as_str()).expect("a text is JSON")
}

/// The event without the user; `None`: it is not about the user. The inner `None`: it is about nobody else.
fn without(event: &RawValue, user: &UserId) -> Option<Option<Box<RawValue>>> {
    if !event.get().contains(&name_in_json(user)) {
        return None;
    }
    let Ok(mut value) = serde_json::from_str::<Value>(event.get()) else {
        return Some(None);
    };
    let is_user = |one: &Value| one["user_id"] == user.as_str();
    let data = &mut value["data"];
    if is_user(data) {
        return Some(None);
    }
    let mut is_changed = false;
    for list in ["receivers", "users"] {
        if let Some(all) = data.get_mut(list).and_then(Value::as_array_mut) {
            let before = all.len();
            all.retain(|one| !is_user(one));
            is_changed |= all.len() < before;
            if is_changed && all.is_empty() {
                return Some(None);
            }
        }
    }
    // Messages that the user sent are their receivers' as well.
    is_changed.then(|| serde_json::value::to_raw_value(&value).ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_loses_one_user_or_all_of_it() {
        let alice = UserId::new("al\"ice").unwrap();
        let of = |data: Value| {
            let event = serde_json::value::to_raw_value(&json!({"id": "e", "data": data})).unwrap();
            let left = without(&event, &alice)?;
            Some(
                left.map(|left| serde_json::from_str::<Value>(left.get()).unwrap()["data"].clone()),
            )
        };
        let (alice, bob) = (json!({"user_id": "al\"ice"}), json!({"user_id": "bob"}));
        assert_eq!(of(bob.clone()), None);
        assert_eq!(of(alice.clone()), Some(None));
        assert_eq!(of(json!({"receivers": [alice]})), Some(None));
        let both = json!({"send_id": "oa", "receivers": [alice, bob]});
        let left = json!({"send_id": "oa", "receivers": [bob]});
        assert_eq!(of(both), Some(Some(left)));
        assert_eq!(of(json!({"send_id": "al\"ice", "receivers": [bob]})), None);
        assert_eq!(
            of(json!({"users": [alice, bob]})),
            Some(Some(json!({"users": [bob]})))
        );
    }
}
