//! The seed's own sample request and every content type of its table land as they were sent.

use serde_json::{Value, json};

use crate::support::{ADMIN, Gateway, IOS, WEB, notice, text_of};

/// The sample of the seed document, word for word.
const SAMPLE: &str = include_str!("seed.json");

/// The `content` of a request, byte for byte.
fn content_of(request: &str) -> &str {
    let start = request.find(r#""content": "#).unwrap() + r#""content": "#.len();
    let end = request.find(r#","contentType""#).unwrap();
    &request[start..end]
}

#[tokio::test]
async fn the_seeds_own_request_lands_word_for_word() {
    let gateway = Gateway::start(&[]).await;
    let mut phone = gateway.connect("18712345678", IOS).await;
    let mut admin = gateway.admin().await;
    let answer = admin
        .call("POST", "/manager/send_msg", &[], SAMPLE)
        .await
        .unwrap();
    let sent = answer.sent();
    assert_eq!(answer.json()["errMsg"], "");

    let message = phone.expect_push().await;
    assert_eq!(message.sender_nickname, "系统通知2");
    assert_eq!(message.sender_face_url, "http://www.head.com");
    assert_eq!(
        str::from_utf8(&message.content).unwrap(),
        content_of(SAMPLE)
    );
    assert_eq!((message.seq, message.send_id.as_str()), (1, ADMIN));
    assert_eq!(message.recv_id, "18712345678");
    assert_eq!((message.content_type, message.session_type), (1400, 4));
    assert_eq!(message.sender_platform_id, 2);
    assert_eq!(message.conversation_id, "sn_18712345678_openIM123456");
    assert_eq!(message.server_msg_id, sent.server_msg_id);
    assert_eq!(message.client_msg_id, sent.client_msg_id);
    assert_eq!(message.send_time, sent.send_time as i64);
    let push = message.offline_push.unwrap();
    assert_eq!(push.title, "admin revoke your message");
    assert_eq!(
        (push.ios_push_sound.as_str(), push.ios_badge_count),
        ("default", false)
    );
}

#[tokio::test]
async fn every_content_type_of_the_seed_lands() {
    let gateway = Gateway::start(&[]).await;
    let mut web = gateway.connect("alice", WEB).await;
    let mut admin = gateway.admin().await;
    let picture =
        json!({"uuid": "p", "type": "png", "size": 9, "width": 3, "height": 3, "url": "http://p"});
    let contents: [(i32, Value); 14] = [
        (101, json!({"text": "nihao"})),
        (
            102,
            json!({"sourcePath": "", "sourcePicture": picture, "bigPicture": picture, "snapshotPicture": picture}),
        ),
        (
            103,
            json!({"uuid": "s", "soundPath": "", "sourceUrl": "http://s", "dataSize": 8, "duration": 2}),
        ),
        (
            104,
            json!({"videoUrl": "http://v", "videoType": "mp4", "videoSize": 8, "duration": 2, "snapshotUrl": "http://s"}),
        ),
        (
            105,
            json!({"uuid": "f", "sourceUrl": "http://f", "fileName": "leave.pdf", "fileSize": 8}),
        ),
        (106, json!({"text": "@bob", "atUserList": ["bob"]})),
        (
            107,
            json!({"title": "merged", "abstractList": ["a"], "multiMessage": []}),
        ),
        (
            108,
            json!({"userID": "bob", "nickname": "Bob", "faceURL": "", "ex": ""}),
        ),
        (
            109,
            json!({"description": "office", "longitude": 116.4, "latitude": 39.9}),
        ),
        (
            110,
            json!({"data": "{\"a\":1}", "description": "", "extension": ""}),
        ),
        (111, json!({"revokeMsgClientID": "some-message"})),
        (
            112,
            json!({"msgIDList": ["m"], "ownKey": {"unknown": [1, null]}}),
        ),
        (114, json!({"text": "quoted", "quoteMessage": {}})),
        (
            1400,
            json!({"notificationName": "n", "notificationType": 1, "text": "t", "mixType": 0}),
        ),
    ];
    for (content_type, content) in contents {
        let mut request = notice("alice", "");
        request["contentType"] = content_type.into();
        request["sessionType"] = 1.into();
        request["content"] = content.clone();
        admin.send(&request).await;
        let message = web.expect_push().await;
        assert_eq!(message.content_type, content_type);
        assert_eq!(message.content, content.to_string());
        assert_eq!(
            message.session_type,
            if content_type == 1400 { 4 } else { 1 }
        );
        web.ack(message.seq).await;
    }
}

#[tokio::test]
async fn both_spellings_of_the_send_call_work() {
    let gateway = Gateway::start(&[]).await;
    let mut web = gateway.connect("alice", WEB).await;
    let mut admin = gateway.admin().await;
    for path in ["/manager/send_msg", "/msg/manage_send_msg"] {
        admin.post(path, &notice("alice", path)).await.sent();
        assert_eq!(text_of(&web.expect_push().await), path);
    }
}
