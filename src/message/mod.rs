//! A message in its stored form, and what follows from it for one receiver. Pure.
//!
//! A message falls in two. All receivers share its *body*, which is what the log stores. Its *address* (seq, receiver,
//! conversation) is each receiver's own.
//!
//! - `stored.rs`: the stored form, and the conversation that follows from it

mod stored;

pub use self::stored::{OfflinePush, Origin, StoredMessage};

/// Up to so many bytes of messages are read, pushed and answered together: design section 4, rule 7.
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
