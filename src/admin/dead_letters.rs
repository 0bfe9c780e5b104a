//! `/webhook/dead_letters`, `/webhook/send_again`: the events that the receiver of webhooks refused.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    response::Response,
};

use super::{
    bodies::{
        self, DeadLettersListed, ListDeadLetters, ListedDeadLetter, SendDeadLetters,
        SentDeadLetters,
    },
    call::App,
    error::Refusal,
};
use crate::{
    delivery::SendError,
    webhooks::{DeadLetter, LetterError},
};

/// The letters of one page if the caller sets no number.
const LETTERS_DEFAULT: usize = 20;
/// The most letters of one page: an event may have 100 KB.
const LETTERS_MAX: usize = 100;
/// The most letters that one call names.
const AGAIN_MAX: usize = 1000;

/// The letters, oldest first.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Refusal> {
    let call = app.admin(request).await?;
    let body: ListDeadLetters<'_> = call.json()?;
    body.operation_id.required("operationID")?;
    let limit = body.limit.filter(|limit| *limit != 0);
    let limit = limit.unwrap_or(LETTERS_DEFAULT).min(LETTERS_MAX);
    let Some(letters) = &app.hooks.dead_letters else {
        return Ok(bodies::answer(DeadLettersListed {
            total: 0,
            list: Vec::new(),
        }));
    };
    let after = body.after.unwrap_or_default();
    app.answered(letters.follow()).await?;
    let list = app.answered(letters.list(after, limit)).await?;
    Ok(bodies::answer(DeadLettersListed {
        total: letters.count(),
        list: list.into_iter().map(listed).collect(),
    }))
}

fn listed(letter: DeadLetter) -> ListedDeadLetter {
    ListedDeadLetter {
        number: letter.number,
        event_id: letter.id,
        kind: letter.kind,
        reason: letter.reason,
        refused_time: letter.refused_ms,
        event: letter.event,
    }
}

/// Puts letters back among the events to be sent.
pub(super) async fn send_again(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Refusal> {
    let call = app.admin(request).await?;
    let body: SendDeadLetters<'_> = call.json()?;
    body.operation_id.required("operationID")?;
    let numbers = match (body.numbers, body.all.unwrap_or_default()) {
        (Some(numbers), false) if numbers.len() > AGAIN_MAX => {
            return Err(Refusal::TooMany {
                what: "numbers",
                count: numbers.len(),
                max: AGAIN_MAX,
            });
        }
        (Some(numbers), false) => Some(numbers),
        (None, true) => None,
        _ => return Err(Refusal::Rule("give numbers, or all")),
    };
    call.note.ids(numbers.iter().flatten());
    let Some(letters) = &app.hooks.dead_letters else {
        return Ok(bodies::answer(SentDeadLetters { sent: 0 }));
    };
    let sending = async {
        let sent = letters.send_again(numbers).await;
        sent.map_err(|error| match error {
            LetterError::Read(error) => SendError::Read(error),
            LetterError::Write(error) => SendError::Append(error),
        })
    };
    let sent = app.confirmed(sending).await?;
    Ok(bodies::answer(SentDeadLetters { sent }))
}
