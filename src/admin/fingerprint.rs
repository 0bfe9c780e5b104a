//! A digest of a send's meaning. It tells a repeated send with an idempotency key from another send that reuses the key.
//!
//! The digest does not depend on the order and spacing of the request's keys, on `operationID` or on the path. `content`
//! counts byte for byte, because it is delivered byte for byte. The receivers count as a set.

use sha2::{Digest as _, Sha256};

use crate::{delivery::Receivers, message::StoredMessage};

/// The first 16 bytes of SHA-256 over every field, each preceded by its length.
pub(super) fn fingerprint(
    message: &StoredMessage,
    receivers: &Receivers,
    is_online_only: bool,
) -> [u8; 16] {
    let mut digest = Sha256::new();
    let mut put = |bytes: &[u8]| {
        digest.update((bytes.len() as u64).to_le_bytes());
        digest.update(bytes);
    };
    put(message.send_id.as_bytes());
    put(message.group_id.as_bytes());
    put(message.sender_nickname.as_bytes());
    put(message.sender_face_url.as_bytes());
    put(message.ex.as_bytes());
    put(&message.content);
    put(&message.sender_platform_id.to_le_bytes());
    put(&message.session_type.to_le_bytes());
    put(&message.content_type.to_le_bytes());
    put(&[
        u8::from(is_online_only),
        u8::from(message.offline_push.is_some()),
    ]);
    if let Some(push) = &message.offline_push {
        put(push.title.as_bytes());
        put(push.desc.as_bytes());
        put(push.ex.as_bytes());
        put(push.ios_push_sound.as_bytes());
        put(&[u8::from(push.ios_badge_count)]);
    }
    match receivers {
        // A mark of its own, because no id is empty.
        Receivers::Everyone => put(b""),
        Receivers::List(list) => {
            let mut sorted: Vec<_> = list.iter().map(|user| user.as_str()).collect();
            sorted.sort_unstable();
            sorted.iter().for_each(|user| put(user.as_bytes()));
        }
    }
    let whole: [u8; 32] = digest.finalize().into();
    *whole.first_chunk().expect("32 bytes begin with 16")
}
