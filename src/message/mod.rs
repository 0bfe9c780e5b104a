//! A message as the rooms hand it on: its stored form, and what the sessions online share of it. Pure.
//!
//! A message falls in two. All receivers share its *body*, which is what the log stores. Its *address* (seq, receiver,
//! conversation) is each receiver's own. A protocol writes a small head for each receiver, and shares one encoding of the body.
//!
//! - `stored.rs`: the stored form, and the conversation that follows from it
//! - `shared.rs`: a message on its way to the sessions online

mod shared;
mod stored;

pub use self::{
    shared::Message,
    stored::{OfflinePush, Origin, StoredMessage},
};

/// Up to so many bytes of messages are read, pushed and answered together: `docs/protocol.md#transport`.
pub const TOGETHER_BYTES_MAX: usize = 64 * 1024;

/// The address of a message and its framing, at most, in any protocol: ids of 64 bytes, a conversation id of 132, a seq, tags
/// and lengths of every level. `delivery.message_bytes_max` leaves room for it, so a stored message always fits a frame.
pub const ADDRESS_BYTES_MAX: usize = 256;

/// Most bytes of a message's names, avatar, `ex` and offline push together.
pub const EXTRA_BYTES_MAX: usize = 8 * 1024;

/// Ids, numbers, tags and lengths of a message's body, generously.
const FIXED_BYTES_MAX: usize = 1024;

/// Largest content whose message still fits a frame, whatever else it holds: a stored message always does.
pub const CONTENT_BYTES_MAX: usize =
    TOGETHER_BYTES_MAX - ADDRESS_BYTES_MAX - EXTRA_BYTES_MAX - FIXED_BYTES_MAX;
