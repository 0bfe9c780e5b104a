//! Lists of conversations and read marks for one session. All of it is done beside the task, so the thread never waits. An answer
//! that the log has at once is taken at once.

use std::rc::Rc;

use tokio::{task::spawn_local, time::timeout};
use tracing::debug;

use super::{
    Context,
    replay::{READ_MAX, failed},
};
use crate::{
    delivery::{ConversationPage, LogAnswer, LogError},
    ids::{Epoch, UserId},
    message::ReadMark,
    session::{Event, ListRequest, SessionFault},
};

/// Looks up conversations of a user in this epoch. The event is returned if it is known now. Otherwise `answer` is called with
/// it, beside the connection's task.
pub(super) fn list(
    context: &Rc<Context>,
    (user, epoch): (&UserId, Epoch),
    request: ListRequest,
    answer: impl FnOnce(Event) + 'static,
) -> Option<Event> {
    let limit = request.limit as usize;
    match context.delivery.conversations(user, request.before, limit) {
        LogAnswer::Now(result) => Some(event(user, epoch, result)),
        later => {
            let user = user.clone();
            spawn_local(async move {
                let event = match timeout(READ_MAX, later.wait()).await {
                    Ok(result) => event(&user, epoch, result),
                    Err(_) => Event::Failed(SessionFault::LogSilent),
                };
                answer(event);
            });
            None
        }
    }
}

fn event(user: &UserId, epoch: Epoch, result: Result<ConversationPage, LogError>) -> Event {
    match result {
        Ok(page) if page.epoch != epoch => Event::Failed(SessionFault::EpochOver),
        Ok(page) => Event::Listed {
            conversations: page.conversations,
            is_end: page.is_end,
        },
        Err(failure) => failed(user, &failure),
    }
}

/// Moves read marks of a user in this epoch forward. `answer` is called with [`Event::Marked`] when that is done, or cannot be
/// done now. A client repeats a mark that does not come back to it.
pub(super) fn mark(
    context: &Rc<Context>,
    (user, epoch): (&UserId, Epoch),
    marks: Vec<ReadMark>,
    answer: impl FnOnce(Event) + 'static,
) {
    let (context, user) = (Rc::clone(context), user.clone());
    spawn_local(async move {
        let marked = context.delivery.mark_read(&user, Some(epoch), marks);
        match timeout(READ_MAX, marked).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(%user, %error, "read marks were not taken"),
            Err(_) => debug!(%user, "the log does not take read marks in time"),
        }
        answer(Event::Marked);
    });
}
