//! A message as the rooms pass it on: its stored form, and the parts that online sessions share. Pure.
//!
//! A message has two parts. All receivers share its *body*, which the log stores. Its *address* (seq, receiver,
//! conversation) belongs to each receiver. A protocol writes a small head for each receiver, and shares one encoding of the
//! body.
//!
//! - `stored.rs`: the stored form, and the conversation that follows from it
//! - `entry.rs`: one entry of an inbox
//! - `conversation.rs`: a conversation of a user
//! - `bases.rs`: its numbers as clients without epochs know them
//! - `counting.rs`: how a client without epochs counts
//! - `settings.rs`: a user's settings of a conversation
//! - `device.rs`: a device that gets pushes; `subscription.rs`: a browser's subscription
//! - `shared.rs`: a message on its way to the sessions online

mod bases;
mod conversation;
mod counting;
mod device;
mod entry;
mod settings;
mod shared;
mod stored;
mod subscription;

pub use self::{
    bases::{Bases, EpochBase},
    conversation::{CONVERSATION_ID_BYTES_MAX, Conversation, OVERVIEW_MAX},
    counting::Counting,
    device::{
        DEVICE_APP_BYTES_MAX, DEVICE_LANG_BYTES_MAX, DEVICE_TOKEN_BYTES_MAX, Device, Provider,
    },
    entry::{Content, Entry, Numbers},
    settings::{ConversationSettings, ReceiveOption, SettingsChange},
    shared::{Live, Message},
    stored::{OfflinePush, Origin, ReadMark, StoredMessage},
    subscription::{PUSH_SERVICES, PushSubscription},
};

/// Messages up to this many bytes are read, pushed and answered together: `docs/protocol.md#transport`.
pub const TOGETHER_BYTES_MAX: usize = 64 * 1024;

/// The most bytes of a message's address and its framing in any protocol: ids of 64 bytes, a conversation id of 132, two seqs,
/// tags and lengths of every level. `delivery.message_bytes_max` leaves room for it, so a stored message always fits a
/// frame.
pub const ADDRESS_BYTES_MAX: usize = 256;

/// The most bytes of a message's names, avatar, `ex` and offline push together.
pub const EXTRA_BYTES_MAX: usize = 8 * 1024;

/// A generous bound on the ids, numbers, tags and lengths of a message's body.
const FIXED_BYTES_MAX: usize = 1024;

/// The largest content whose message always fits a frame, for all values of its other fields.
pub const CONTENT_BYTES_MAX: usize =
    TOGETHER_BYTES_MAX - ADDRESS_BYTES_MAX - EXTRA_BYTES_MAX - FIXED_BYTES_MAX;
