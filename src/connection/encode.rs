//! From what a session says to frames. A message's bytes are copied here only on the replay path.

use bytes::Bytes;
use towncrier_websocket::Frame;

use crate::{
    ids::{Seq, UserId},
    message::{ADDRESS_BYTES_MAX, TOGETHER_BYTES_MAX},
    wire::{
        frame,
        proto::{Fetched, ServerFrame, server_frame::Body},
    },
};

/// Any frame that carries no stored message.
pub(super) fn frame(body: Body) -> Frame {
    frame::encode(&ServerFrame { body: Some(body) })
}

/// The answer to a `Fetch`.
pub(super) fn fetched(
    user: &UserId,
    request_id: u32,
    messages: &[(Seq, Bytes)],
    end: bool,
) -> Frame {
    let messages = messages
        .iter()
        .map(|(seq, body)| frame::message(*seq, user.as_str(), body))
        .collect();
    frame(Body::Fetched(Fetched {
        request_id,
        messages,
        end,
    }))
}

/// Contiguous messages in as few pushes as the size of a frame allows.
pub(super) fn pushes(user: &UserId, messages: &[(Seq, Bytes)]) -> impl Iterator<Item = Frame> {
    let encode = |part: &[(Seq, Bytes)]| {
        let messages = part.iter().map(|(seq, body)| (*seq, body));
        frame::push_replay(user.as_str(), messages)
    };
    parts(messages).map(encode)
}

/// Splits `messages` into parts of which each fits a frame, or is a single message.
fn parts(mut messages: &[(Seq, Bytes)]) -> impl Iterator<Item = &[(Seq, Bytes)]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |(_, body): &&(Seq, Bytes)| {
            bytes += body.len() + ADDRESS_BYTES_MAX;
            bytes <= TOGETHER_BYTES_MAX
        };
        let count = messages.iter().take_while(fits).count().max(1);
        let (part, rest) = messages.split_at_checked(count)?;
        messages = rest;
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_in_one_part_and_every_part_fits_a_frame() {
        let sizes = [
            0, 100, 30_000, 35_000, 48_000, 17_000, 64_000, 1, 65_280, 70_000,
        ];
        let messages: Vec<(Seq, Bytes)> = (1..)
            .map(Seq)
            .zip(sizes.map(|size| Bytes::from(vec![0; size])))
            .collect();
        let parts: Vec<_> = parts(&messages).collect();
        assert_eq!(parts.concat(), messages);
        for part in parts {
            let bytes: usize = part.iter().map(|(_, b)| b.len() + ADDRESS_BYTES_MAX).sum();
            assert!(bytes <= TOGETHER_BYTES_MAX || part.len() == 1);
        }
        assert_eq!(super::parts(&[]).count(), 0);
    }
}
