//! Size limits and slow callers.

use axum::body::Body;
use serde_json::json;

use super::{ADMIN, Gateway, SEED, text_send, with};
use crate::message::{ADDRESS_BYTES_MAX, EXTRA_BYTES_MAX, TOGETHER_BYTES_MAX};

#[tokio::test]
async fn what_is_too_large_is_413() {
    let gateway = Gateway::new();
    let of_size = |bytes: usize| {
        let text = "x".repeat(bytes - r#"{"text":""}"#.len());
        with(text_send(), "content", json!({ "text": text }))
    };
    gateway.send(&of_size(48 * 1024)).await.data();
    gateway.send(&of_size(48 * 1024 + 1)).await.assert_refused(
        413,
        413,
        "content may have at most 49152 bytes",
    );
    gateway.send(&of_size(127 * 1024)).await.assert_refused(
        413,
        413,
        "content may have at most 49152 bytes",
    );
    gateway.send(&of_size(128 * 1024)).await.assert_refused(
        413,
        413,
        "the body may have at most 131072 bytes",
    );

    let extras = |bytes| with(text_send(), "senderNickname", json!("n".repeat(bytes)));
    gateway.send(&extras(EXTRA_BYTES_MAX)).await.data();
    assert_eq!(
        gateway.send(&extras(EXTRA_BYTES_MAX + 1)).await.verdict(),
        (413, 413)
    );
    let push = json!({ "title": "t".repeat(EXTRA_BYTES_MAX), "desc": "d" });
    assert_eq!(
        gateway
            .send(&with(text_send(), "offlinePushInfo", push))
            .await
            .verdict(),
        (413, 413)
    );
}

#[tokio::test]
async fn the_largest_send_fits_a_frame() {
    let gateway = Gateway::new();
    let id = "z".repeat(64);
    let mut body = json!({
        "operationID": "op", "sendID": id, "recvID": id, "groupID": id, "clientMsgID": id,
        "senderPlatformID": 11, "contentType": 101, "sessionType": 4,
        "content": { "text": "x".repeat(48 * 1024 - r#"{"text":""}"#.len()) },
    });
    let part = EXTRA_BYTES_MAX / 7;
    for field in ["senderNickname", "senderFaceURL", "ex"] {
        body[field] = json!("y".repeat(part));
    }
    body["offlinePushInfo"] = json!({
        "title": "y".repeat(part), "desc": "y".repeat(part), "ex": "y".repeat(part),
        "iOSPushSound": "y".repeat(EXTRA_BYTES_MAX - 6 * part), "iOSBadgeCount": true,
    });
    gateway.send(&body).await.data();
    let stored = gateway.log.rows().appends[0].body.len();
    assert!(stored + ADDRESS_BYTES_MAX <= TOGETHER_BYTES_MAX, "{stored}");
}

#[tokio::test]
async fn a_body_in_pieces_is_put_together() {
    let gateway = Gateway::new();
    let pieces: Vec<_> = SEED
        .as_bytes()
        .chunks(7)
        .map(|piece| Ok::<_, std::io::Error>(piece.to_vec()))
        .collect();
    let body = Body::from_stream(futures_util::stream::iter(pieces));
    gateway
        .post_text("/manager/send_msg", ADMIN, body)
        .await
        .data();
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_408() {
    let gateway = Gateway::new();
    let body = Body::from_stream(futures_util::stream::pending::<
        Result<Vec<u8>, std::io::Error>,
    >());
    let reply = gateway.post_text("/manager/send_msg", ADMIN, body).await;
    reply.assert_refused(408, 408, "the body did not arrive in time");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_400() {
    let gateway = Gateway::new();
    let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    let body = Body::from_stream(futures_util::stream::iter([
        Ok(b"{\"a\":".to_vec()),
        Err(broken),
    ]));
    let reply = gateway.post_text("/manager/send_msg", ADMIN, body).await;
    reply.assert_refused(400, 400, "the body broke off");
}
