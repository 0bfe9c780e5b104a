//! Reads of the log for one session. A read from memory is answered at once. A read from disk runs beside the task, so the
//! thread never waits.

use std::rc::Rc;

use tracing::error;

use super::{Context, login::unreadable};
use crate::{
    delivery::{Cause, LogError, ReadLimit, Stored},
    ids::UserId,
    message::TOGETHER_BYTES_MAX,
    session::{Entry, Event, ReadOrder, Reason},
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
fn before_damage(order: ReadOrder, result: &Result<Vec<Stored>, LogError>) -> Option<ReadOrder> {
    let is_damaged = matches!(result, Err(failure) if failure.cause == Cause::Damaged);
    (is_damaged && order.messages > 1).then_some(ReadOrder {
        messages: order.messages / 2,
        ..order
    })
}

/// Reads from memory; `None` if the disk is needed.
pub(super) fn read_now(context: &Context, user: &UserId, mut order: ReadOrder) -> Option<Event> {
    loop {
        let result = context.delivery.replay_now(user, order.after, limit(order));
        let result = result.transpose()?;
        match before_damage(order, &result) {
            Some(less) => order = less,
            None => return Some(event(context, user, result)),
        }
    }
}

/// Reads from the disk, beside the connection's task. `answer` is called with the answer.
pub(super) fn read_later(
    context: Rc<Context>,
    user: UserId,
    mut order: ReadOrder,
    answer: impl FnOnce(Event) + 'static,
) {
    tokio::task::spawn_local(async move {
        let event = loop {
            let result = context
                .delivery
                .replay(user.clone(), order.after, limit(order))
                .await;
            match before_damage(order, &result) {
                Some(less) => order = less,
                None => break event(&context, &user, result),
            }
        };
        answer(event);
    });
}

fn event(context: &Context, user: &UserId, result: Result<Vec<Stored>, LogError>) -> Event {
    match result {
        Ok(stored) if stored.is_empty() => match context.delivery.inbox(user) {
            Ok(inbox) => Event::ReadNothing(inbox.first),
            Err(failure) => Event::ReadFailed(unreadable(&failure)),
        },
        Ok(stored) => {
            let entry = |Stored { seq, body }| Entry { seq, body };
            Event::Read(stored.into_iter().map(entry).collect())
        }
        Err(failure) if failure.cause == Cause::Damaged => {
            // The log has counted the damage already, once for all that meet it.
            error!(%user, damage = %failure, "an inbox is damaged: its sessions cannot go on");
            Event::ReadFailed(Reason::Internal("log damaged, the operator knows where"))
        }
        Err(failure) => Event::ReadFailed(unreadable(&failure)),
    }
}
