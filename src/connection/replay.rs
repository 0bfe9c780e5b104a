//! Reads of the log for one session. An answer from memory is taken at once. An answer that comes later is awaited beside
//! the task, so the thread never waits.

use std::{rc::Rc, time::Duration};

use tokio::time::{error::Elapsed, timeout};
use tracing::error;

use super::{Context, login::unreadable};
use crate::{
    delivery::{AskError, Cause, InboxRead, LogAnswer, LogError, ReadLimit},
    ids::{Epoch, UserId},
    message::{Content, Entry, TOGETHER_BYTES_MAX},
    session::{Event, Manner, ReadOrder, SessionFault},
};

/// The most reads from memory in a row that one event may cause. Each brings up to 64 KiB or a window. Other connections
/// are served after that; otherwise a user with a million deleted entries would hold the thread.
pub(super) const READS_IN_A_ROW: usize = 8;

/// A read that takes longer ends the session, and its client comes back. A disk that is slow for all sessions of a process answers
/// each within this time.
pub(super) const READ_MAX: Duration = Duration::from_secs(60);

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

/// Reads the inbox of a user in this epoch, for a client that takes pushes in this manner. The event is returned if it is known now.
/// Otherwise `answer` is called with it, beside the connection's task. With `may_be_now` false, other connections are served first.
pub(super) fn read(
    context: &Rc<Context>,
    (user, epoch): (&UserId, Epoch),
    mut order: ReadOrder,
    manner: Manner,
    may_be_now: bool,
    answer: impl FnOnce(Event) + 'static,
) -> Option<Event> {
    let look = |order: ReadOrder| context.delivery.replay(user, order.after, limit(order));
    let mut read = None;
    while may_be_now && read.is_none() {
        match look(order) {
            LogAnswer::Now(result) => match before_damage(order, &result) {
                Some(less) => order = less,
                None if needs_sifting(manner, &result) => read = Some(LogAnswer::Now(result)),
                None => return Some(event(user, epoch, result)),
            },
            later => read = Some(later),
        }
    }
    let (context, user) = (Rc::clone(context), user.clone());
    tokio::task::spawn_local(async move {
        let event = loop {
            let look = || context.delivery.replay(&user, order.after, limit(order));
            let answer = read.take().unwrap_or_else(look).wait();
            let Ok(result) = timeout(READ_MAX, answer).await else {
                break Event::Failed(SessionFault::LogSilent);
            };
            match before_damage(order, &result) {
                Some(less) => order = less,
                None => break event(&user, epoch, result),
            }
        };
        answer(match event {
            Event::Read(entries) if manner == Manner::Sifts => {
                let sifted = context.delivery.whole_marks((&user, epoch), entries);
                let sifted = timeout(READ_MAX, sifted).await;
                told(&user, sifted.map(|found| found.map(Event::Read)))
            }
            event => event,
        });
    });
    None
}

/// True if the entries have marks of which some may be none for this client: a Go core takes each mark for all of its conversation.
fn needs_sifting(manner: Manner, result: &Result<InboxRead, LogError>) -> bool {
    let is_marks = |entry: &Entry| matches!(entry.content, Content::Marks(_));
    let has_marks = |read: &InboxRead| read.entries.iter().any(is_marks);
    manner == Manner::Sifts && result.as_ref().is_ok_and(has_marks)
}

fn event(user: &UserId, epoch: Epoch, result: Result<InboxRead, LogError>) -> Event {
    match result {
        Ok(read) if read.inbox.epoch != epoch => Event::Failed(SessionFault::EpochOver),
        Ok(InboxRead { inbox, entries }) if entries.is_empty() => Event::ReadNothing(inbox.first),
        Ok(InboxRead { entries, .. }) => Event::Read(entries),
        Err(failure) => failed(user, &failure),
    }
}

/// The event of an answer that was awaited.
pub(super) fn told(user: &UserId, answer: Result<Result<Event, AskError>, Elapsed>) -> Event {
    match answer {
        Ok(Ok(event)) => event,
        Ok(Err(AskError::EpochOver)) => Event::Failed(SessionFault::EpochOver),
        Ok(Err(AskError::Read(failure))) => failed(user, &failure),
        Err(_) => Event::Failed(SessionFault::LogSilent),
    }
}

/// The event for a session whose user's part of the log cannot be read.
pub(super) fn failed(user: &UserId, failure: &LogError) -> Event {
    if failure.cause == Cause::Damaged {
        // The log has counted the damage already, once for all that meet it.
        error!(%user, damage = %failure, "an inbox is damaged: its sessions cannot go on");
        return Event::Failed(SessionFault::LogDamaged);
    }
    Event::Failed(unreadable(failure))
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, sync::Arc};

    use tokio::task::LocalSet;

    use super::*;
    use crate::{
        config,
        connection::{OutboxLimits, tests::fixture::World},
        ids::{ConnectionId, Seq},
        log::tests::memory::Answering,
        registry::{Item, Mailbox},
    };

    struct NoMailbox;

    impl Mailbox for NoMailbox {
        fn post(&self, _: ConnectionId, _: Item) {}
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_the_disk_does_not_answer_ends_in_time() {
        let world = World::new(&config::Sessions::default());
        let outbox = OutboxLimits {
            frames_max: 8,
            bytes_max: 1 << 20,
        };
        let context = world.context(Arc::new(NoMailbox), outbox);
        let epoch = world.log.rows().epoch();
        world.log.rows().answering = Answering::Held;
        let order = ReadOrder {
            after: Seq::ZERO,
            messages: 1,
        };
        let user = UserId::new("alice").unwrap();
        let failure = Rc::new(Cell::new(None));
        let answered = Rc::clone(&failure);
        let tasks = LocalSet::new();
        tasks
            .run_until(async {
                let answer = move |event| answered.set(Some(event));
                assert!(
                    read(&context, (&user, epoch), order, Manner::Acks, true, answer).is_none()
                );
            })
            .await;
        tasks.await;
        let failure = failure.take();
        let is_told = matches!(failure, Some(Event::Failed(SessionFault::LogSilent)));
        assert!(is_told, "{failure:?}");
    }
}
