//! Messages of an inbox as pushes: a frame holds messages of several conversations, of each an unbroken run. Pure.

use bytes::Bytes;
use prost::Message as _;

use super::{
    envelope::Form,
    message::{marks, message},
    proto::PushMessages,
};
use crate::{
    ids::UserId,
    message::{Numbers, Origin, TOGETHER_BYTES_MAX},
};

/// The pushes of these messages, in their order.
pub(super) fn parts(user: &UserId, messages: &[(Numbers, Bytes)], form: Form) -> Vec<PushMessages> {
    let mut parts = Vec::new();
    let mut part = PushMessages::default();
    let mut bytes = 0;
    for (numbers, body) in messages {
        let origin = Origin::of(body);
        if !origin.marks.is_empty() {
            // The JavaScript SDK takes no notice of what its own user has read.
            if form == Form::Gob {
                parts.extend(taken(&mut part, &mut bytes));
                parts.push(marks(user, &origin.marks, 0));
            }
            continue;
        }
        let message = message(user, *numbers, body, form);
        let id = origin.conversation_id(user.as_str());
        let before = part.msgs.get(&id).and_then(|run| run.messages.last());
        let is_run = before.is_none_or(|before| before.seq + 1 == message.seq);
        if !is_run || bytes + body.len() > TOGETHER_BYTES_MAX {
            parts.extend(taken(&mut part, &mut bytes));
        }
        bytes += message.encoded_len();
        part.msgs.entry(id).or_default().messages.push(message);
    }
    parts.extend(taken(&mut part, &mut bytes));
    parts
}

/// The part, if it holds something. An empty one takes its place.
fn taken(part: &mut PushMessages, bytes: &mut usize) -> Option<PushMessages> {
    *bytes = 0;
    let part = std::mem::take(part);
    (!part.msgs.is_empty()).then_some(part)
}
