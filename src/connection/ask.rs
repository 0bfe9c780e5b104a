//! The questions of OpenIM's v3 protocol, for one session. All of it is done beside the task, so the thread never waits.

use std::rc::Rc;

use tokio::{task::spawn_local, time::timeout};

use super::{
    Context,
    replay::{READ_MAX, told},
};
use crate::{
    delivery::{AskError, Delivery, Passage},
    ids::{Epoch, Seq, SessionKey, UserId},
    message::Counting,
    session::{Answer, Event, Manner, Question, RangeAnswer, Standing},
};

/// Answers a question of a session in this epoch, whose client takes pushes in this manner, and was sent everything up to the seq.
/// `answer` is called with the event, beside the connection's task.
pub(super) fn ask(
    context: &Rc<Context>,
    (key, epoch): (&SessionKey, Epoch),
    manner: Manner,
    (question, sent): (Question, Seq),
    answer: impl FnOnce(Event) + 'static,
) {
    let (context, key) = (Rc::clone(context), key.clone());
    spawn_local(async move {
        let looked = look(&context.delivery, (&key, epoch), manner, question, sent);
        let answered = |(answer, shown)| Event::Answered { answer, shown };
        let looked = timeout(READ_MAX, looked).await;
        answer(told(&key.user, looked.map(|found| found.map(answered))));
    });
}

/// Reads the newest message of each conversation of a user in this epoch of which everything was sent. `answer` is called with the
/// event, beside the connection's task.
pub(super) fn read_newest(
    context: &Rc<Context>,
    (user, epoch): (&UserId, Epoch),
    sent: Seq,
    answer: impl FnOnce(Event) + 'static,
) {
    let (context, user) = (Rc::clone(context), user.clone());
    spawn_local(async move {
        let newest = context.delivery.newest_messages((&user, epoch), sent);
        let newest = timeout(READ_MAX, newest).await;
        answer(told(&user, newest.map(|found| found.map(Event::Newest))));
    });
}

/// The answer; with an overview of all conversations, the newest message that it shows.
async fn look(
    delivery: &Delivery,
    (key, epoch): (&SessionKey, Epoch),
    manner: Manner,
    question: Question,
    sent: Seq,
) -> Result<(Answer, Option<Seq>), AskError> {
    let inbox = (&key.user, epoch);
    let counting = match manner {
        Manner::Acks | Manner::Sifts => Counting::Kept,
        Manner::Forgets => Counting::Dense,
    };
    let overview = |conversations: Vec<_>| {
        let conversations = conversations.into_iter();
        Answer::Overview(conversations.map(|one| counting.tell(one)).collect())
    };
    Ok(match question {
        Question::Reached => {
            let reached = delivery.reached(inbox, sent).await?;
            let standings = reached.into_iter().map(|(conversation, seq)| Standing {
                reached: conversation.wire_of(seq),
                conversation,
            });
            (Answer::Reached(standings.collect()), None)
        }
        Question::Overview(named) if named.is_empty() => {
            let (conversations, shown) = delivery.overview(inbox).await?;
            (overview(conversations), Some(shown))
        }
        Question::Overview(named) => {
            let conversations = delivery.describe(inbox, &named).await?;
            (overview(conversations), None)
        }
        Question::Ranges {
            ranges,
            bytes,
            is_pull,
        } => {
            let passages = ranges.iter().map(|range| Passage {
                conversation_id: &range.conversation_id,
                from: range.from,
                to: range.to,
                is_pull,
            });
            let found = delivery.passages(inbox, passages, counting, bytes).await?;
            if is_pull {
                for (range, (conversation, _)) in ranges.iter().zip(&found) {
                    // A client pulls behind what it has.
                    if let Some(conversation) = conversation {
                        let had = counting.seq_before(conversation, range.from.previous(), true);
                        delivery.prove(key, &range.conversation_id, had);
                    }
                }
            }
            let answers = found
                .into_iter()
                .map(|(conversation, messages)| RangeAnswer {
                    conversation,
                    messages,
                });
            (Answer::Ranges(answers.collect()), None)
        }
    })
}
