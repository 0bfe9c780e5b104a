//! The message that the benches send: a notice, as an OA system writes it.

use std::iter::repeat_with;

use towncrier::message::StoredMessage;

/// The bytes of a content, JSON included.
pub(crate) const CONTENT_BYTES: usize = 400;

/// The part that all receivers share, with a content of this many bytes.
pub(crate) fn message(random: &mut fastrand::Rng, content_bytes: usize) -> StoredMessage {
    const FRONT: &str = r#"{"notificationName":"notices","notificationType":1,"text":""#;
    const BACK: &str = r#"","mixType":0}"#;
    let letters = content_bytes - FRONT.len() - BACK.len();
    let text: String = repeat_with(|| random.alphanumeric())
        .take(letters)
        .collect();
    let id = format!("{:032x}", random.u128(..));
    StoredMessage {
        server_msg_id: id.clone(),
        client_msg_id: id,
        send_id: "openIM123456".into(),
        sender_nickname: "OA".into(),
        session_type: 4,
        content_type: 1400,
        content: [FRONT, &text, BACK].concat().into(),
        send_time: 1_700_000_000_000,
        create_time: 1_700_000_000_000,
        ..StoredMessage::default()
    }
}
