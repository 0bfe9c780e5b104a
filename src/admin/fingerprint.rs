//! A digest of a send's meaning. It tells a repeated send with an idempotency key from another send that reuses the key.
//!
//! The digest does not depend on the order and spacing of the request's keys, on `operationID` or on the path. `content`
//! counts byte for byte, because it is delivered byte for byte. The receivers count as a set.

use sha2::{Digest as _, Sha256};

use crate::{
    delivery::{Receivers, Send},
    message::{OfflinePush, StoredMessage},
};

/// The first 16 bytes of SHA-256 over every field of the request, each preceded by its length. Log segments keep the digest, so
/// its order never changes. A new field goes to the end, and only where a request gives it.
///
/// Each struct is taken apart with all its fields: a send with a field that is not named here does not compile.
pub(super) fn fingerprint(send: &Send) -> [u8; 16] {
    let Send {
        message,
        receivers,
        is_online_only,
        fingerprint: _,
    } = send;
    let StoredMessage {
        send_id,
        group_id,
        sender_platform_id,
        sender_nickname,
        sender_face_url,
        session_type,
        content_type,
        content,
        offline_push,
        no_push,
        ex,
        // The key itself, under which the digest is kept.
        client_msg_id: _,
        // Delivery gives these three to each send anew.
        server_msg_id: _,
        send_time: _,
        create_time: _,
        // A send has none.
        marks: _,
    } = message;
    let mut digest = Sha256::new();
    let mut put = |bytes: &[u8]| {
        digest.update((bytes.len() as u64).to_le_bytes());
        digest.update(bytes);
    };
    put(send_id.as_bytes());
    put(group_id.as_bytes());
    put(sender_nickname.as_bytes());
    put(sender_face_url.as_bytes());
    put(ex.as_bytes());
    put(content);
    put(&sender_platform_id.to_le_bytes());
    put(&session_type.to_le_bytes());
    put(&content_type.to_le_bytes());
    put(&[u8::from(*is_online_only), u8::from(offline_push.is_some())]);
    if let Some(push) = offline_push {
        let OfflinePush {
            title,
            desc,
            ex,
            ios_push_sound,
            ios_badge_count,
        } = push;
        put(title.as_bytes());
        put(desc.as_bytes());
        put(ex.as_bytes());
        put(ios_push_sound.as_bytes());
        put(&[u8::from(*ios_badge_count)]);
    }
    // Earlier versions knew nothing of it, and their digests stay.
    if *no_push {
        put(b"no push");
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::UserId;

    fn hex(send: &Send) -> String {
        let digits = fingerprint(send).map(|byte| format!("{byte:02x}"));
        digits.concat()
    }

    /// The digests of accepted sends are in log segments. A gateway that computes another one answers 409 to their repeats.
    #[test]
    fn the_digest_of_a_send_is_the_same_in_every_version() {
        let group_send = Send {
            message: StoredMessage {
                send_id: "sender".into(),
                group_id: "group".into(),
                sender_platform_id: 5,
                sender_nickname: "nickname".into(),
                sender_face_url: "face".into(),
                session_type: 3,
                content_type: 101,
                content: r#"{"text":"hello"}"#.into(),
                offline_push: Some(OfflinePush {
                    title: "title".into(),
                    desc: "desc".into(),
                    ex: "push extra".into(),
                    ios_push_sound: "sound".into(),
                    ios_badge_count: true,
                }),
                ex: "extra".into(),
                ..StoredMessage::default()
            },
            fingerprint: [0; 16],
            receivers: Receivers::List(["u2", "u1"].map(|id| UserId::new(id).unwrap()).into()),
            is_online_only: false,
        };
        assert_eq!(hex(&group_send), "442c83e81e9e6901a0183ee9bd8ffe49");
        let to_everyone = Send {
            message: StoredMessage {
                send_id: "sender".into(),
                session_type: 1,
                content_type: 101,
                content: r#"{"text":"hello"}"#.into(),
                ..StoredMessage::default()
            },
            fingerprint: [0; 16],
            receivers: Receivers::Everyone,
            is_online_only: true,
        };
        assert_eq!(hex(&to_everyone), "bb4755ffc7353309afa82a441eb21486");
    }
}
