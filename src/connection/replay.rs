//! Reads of the log for one session. An answer from memory is taken at once. An answer that comes later is awaited beside
//! the task, so the thread never waits.

use std::rc::Rc;

use tracing::error;

use super::{Context, login::unreadable};
use crate::{
    delivery::{Cause, InboxRead, LogAnswer, LogError, ReadLimit, Stored},
    ids::{Epoch, UserId},
    message::TOGETHER_BYTES_MAX,
    session::{Entry, Event, ReadOrder, SessionFault},
};

/// The most reads from memory in a row that one event may cause. Each brings up to 64 KiB or a window. Other connections
/// are served after that; otherwise a user with a million deleted entries would hold the thread.
pub(super) const READS_IN_A_ROW: usize = 8;

fn limit(order: ReadOrder) -> ReadLimit {
    ReadLimit {
        messages: order.messages,
        bytes: TOGETHER_BYTES_MAX,
    }
}

/// After a read of a damaged range: the next read, of half the range, until the damaged entry itself comes next. So the
/// messages before the damage still arrive.
fn before_damage(order: ReadOrder, result: &Result<InboxRead, LogError>) -> Option<ReadOrder> {
    let is_damaged = matches!(result, Err(failure) if failure.cause == Cause::Damaged);
    (is_damaged && order.messages > 1).then_some(ReadOrder {
        messages: order.messages / 2,
        ..order
    })
}

/// Reads the inbox of a user in this epoch. The event is returned if it is known now. Otherwise `answer` is called with it,
/// beside the connection's task. With `may_be_now` false, other connections are served first.
pub(super) fn read(
    context: &Rc<Context>,
    (user, epoch): (&UserId, Epoch),
    mut order: ReadOrder,
    may_be_now: bool,
    answer: impl FnOnce(Event) + 'static,
) -> Option<Event> {
    let look = |order: ReadOrder| context.delivery.replay(user, order.after, limit(order));
    let mut read = None;
    while may_be_now && read.is_none() {
        match look(order) {
            LogAnswer::Now(result) => match before_damage(order, &result) {
                Some(less) => order = less,
                None => return Some(event(user, epoch, result)),
            },
            later => read = Some(later),
        }
    }
    let (context, user) = (Rc::clone(context), user.clone());
    tokio::task::spawn_local(async move {
        let event = loop {
            let look = || context.delivery.replay(&user, order.after, limit(order));
            let result = read.take().unwrap_or_else(look).wait().await;
            match before_damage(order, &result) {
                Some(less) => order = less,
                None => break event(&user, epoch, result),
            }
        };
        answer(event);
    });
    None
}

fn event(user: &UserId, epoch: Epoch, result: Result<InboxRead, LogError>) -> Event {
    match result {
        Ok(read) if read.inbox.epoch != epoch => Event::Failed(SessionFault::EpochOver),
        Ok(InboxRead { inbox, stored }) if stored.is_empty() => Event::ReadNothing(inbox.first),
        Ok(InboxRead { stored, .. }) => {
            let entry = |Stored { seq, body }| Entry { seq, body };
            Event::Read(stored.into_iter().map(entry).collect())
        }
        Err(failure) if failure.cause == Cause::Damaged => {
            // The log has counted the damage already, once for all that meet it.
            error!(%user, damage = %failure, "an inbox is damaged: its sessions cannot go on");
            Event::Failed(SessionFault::LogDamaged)
        }
        Err(failure) => Event::Failed(unreadable(&failure)),
    }
}
