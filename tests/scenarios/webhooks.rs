//! Webhooks: each event of a message arrives at least once, in order, whatever is killed or away in between.

use serde_json::{Value, json};

use crate::support::{
    ADMIN, Gateway, IOS, WEB,
    admin::Admin,
    eventually, notice,
    receiver::{Receiver, SECRET_1, SECRET_2, Word},
};

fn sending_to(receiver: &Receiver) -> Vec<String> {
    vec![
        format!("webhooks.url={}", receiver.url()),
        format!("webhooks.secrets={SECRET_1}"),
    ]
}

async fn start(settings: &[String]) -> Gateway {
    let settings: Vec<_> = settings.iter().map(String::as_str).collect();
    Gateway::start(&settings).await
}

/// The texts' numbers of accepted messages for a user, by the events of one kind. Each message has its own sender's id.
fn seqs_told(receiver: &Receiver, user: &str) -> Vec<u64> {
    let events = receiver.once("message.accepted").into_iter();
    let entries = events.flat_map(|event| event["data"]["receivers"].as_array().cloned());
    let entries = entries.flatten().filter(|entry| entry["user_id"] == user);
    entries
        .map(|entry| entry["seq"].as_u64().unwrap())
        .collect()
}

async fn letters(admin: &mut Admin) -> Value {
    let asked = json!({"operationID": "letters"});
    let answer = admin.post("/webhook/dead_letters", &asked).await;
    assert_eq!(answer.code(), 0, "{answer:?}");
    answer.json()["data"].clone()
}

#[tokio::test]
async fn a_message_its_ack_and_its_sessions_are_told() {
    let receiver = Receiver::start().await;
    let mut settings = sending_to(&receiver);
    settings.push("log.checkpoint_interval=100ms".into());
    let gateway = start(&settings).await;
    let mut admin = gateway.admin().await;
    receiver
        .until("the state", |receiver| {
            !receiver.once("user.state").is_empty()
        })
        .await;
    let mut web = gateway.connect("alice", WEB).await;
    let mut body = notice("alice", "told?");
    body["clientMsgID"] = "told-1".into();
    let sent = admin.send(&body).await;
    web.expect_push().await;
    web.ack(1).await;
    receiver
        .until("the ack", |receiver| {
            !receiver.once("message.acked").is_empty()
        })
        .await;
    drop(web);
    receiver
        .until("the end of the session", |receiver| {
            !receiver.once("user.offline").is_empty()
        })
        .await;
    let accepted = &receiver.once("message.accepted")[0];
    let data = json!({
        "server_msg_id": sent.server_msg_id,
        "client_msg_id": "told-1",
        "send_id": ADMIN,
        "content_type": 1400,
        "session_type": 4,
        "send_time": sent.send_time,
        "receivers": [{"user_id": "alice", "seq": 1}],
    });
    assert_eq!(accepted["data"], data);
    let acked = &receiver.once("message.acked")[0]["data"];
    assert!(acked["acked_time"].as_u64() >= Some(sent.send_time));
    for (key, value) in [
        ("user_id", json!("alice")),
        ("platform", json!(WEB)),
        ("device_id", json!("")),
        ("from_seq", json!(1)),
        ("to_seq", json!(1)),
        ("proof", json!("ack")),
    ] {
        assert_eq!(acked[key], value, "{key}");
    }
    assert_eq!(receiver.once("user.online")[0]["data"]["user_id"], "alice");
    assert_eq!(receiver.once("user.state").len(), 1);
    // They count once that is durable, which is after the answer to the receiver.
    eventually("the count", async || {
        let delivered = admin.metric("towncrier_webhook_events_delivered_total");
        delivered.await >= 5.0
    })
    .await;
}

#[tokio::test]
async fn after_kill_9_every_message_is_told_in_order_and_repeats_have_the_same_id() {
    const SENT: u64 = 60;
    let receiver = Receiver::start().await;
    let mut settings = sending_to(&receiver);
    settings.push("webhooks.batch_max=3".into());
    let mut gateway = start(&settings).await;
    for round in 1..=3 {
        let mut admin = gateway.admin().await;
        let before = receiver.requests().len();
        // The receiver takes some requests and leaves the next one without an answer.
        let mut count = 0;
        receiver.answer(move |_| {
            count += 1;
            (count < 4).then(|| 200.into())
        });
        for number in 0..SENT / 3 {
            let user = ["alice", "bob"][(number % 2) as usize];
            admin.send(&notice(user, "kept?")).await;
        }
        eventually("requests", async || receiver.requests().len() >= before + 4).await;
        gateway.kill();
        receiver.answer(|_| Some(200.into()));
        gateway.restart().await;
        let expected = SENT / 6 * round;
        for user in ["alice", "bob"] {
            receiver
                .until("all events of the round", |receiver| {
                    seqs_told(receiver, user).len() as u64 >= expected
                })
                .await;
            let told = seqs_told(&receiver, user);
            assert_eq!(told, (1..=expected).collect::<Vec<_>>(), "{user}");
        }
    }
}

#[tokio::test]
async fn a_receiver_that_was_away_gets_everything_in_order() {
    let mut receiver = Receiver::start().await;
    let mut settings = sending_to(&receiver);
    settings.push("webhooks.batch_max=7".into());
    let gateway = start(&settings).await;
    let mut admin = gateway.admin().await;
    admin.send(&notice("alice", "before")).await;
    receiver
        .until("the first event", |receiver| {
            !seqs_told(receiver, "alice").is_empty()
        })
        .await;
    receiver.close().await;
    for _ in 0..40 {
        admin.send(&notice("alice", "meanwhile")).await;
    }
    eventually("a failure", async || {
        admin
            .metric("towncrier_webhook_requests_failed_total")
            .await
            > 0.0
    })
    .await;
    receiver.open().await;
    receiver
        .until("the others", |receiver| {
            seqs_told(receiver, "alice").len() == 41
        })
        .await;
    assert_eq!(seqs_told(&receiver, "alice"), (1..=41).collect::<Vec<_>>());
}

#[tokio::test]
async fn refused_events_are_dead_letters_until_an_administrator_sends_them_again() {
    let receiver = Receiver::start().await;
    let mut settings = sending_to(&receiver);
    settings.push("webhooks.events=message.accepted".into());
    let mut gateway = start(&settings).await;
    let mut admin = gateway.admin().await;
    receiver
        .until("the state", |receiver| {
            !receiver.once("user.state").is_empty()
        })
        .await;
    receiver.answer(|_| Some(422.into()));
    let sent = admin.send(&notice("alice", "unwanted")).await;
    eventually("a dead letter", async || {
        letters(&mut admin).await["total"] == 1
    })
    .await;
    // The order is free again: the next event is told, and the letter waits, also over a restart.
    receiver.answer(|_| Some(200.into()));
    admin.send(&notice("alice", "wanted")).await;
    receiver
        .until("the next event", |receiver| {
            seqs_told(receiver, "alice") == [2]
        })
        .await;
    gateway.kill();
    gateway.restart().await;
    let mut admin = gateway.admin().await;
    let list = letters(&mut admin).await;
    let letter = &list["list"][0];
    assert_eq!(letter["reason"], "HTTP 422");
    assert_eq!(letter["type"], "message.accepted");
    let id = &letter["event"]["data"]["server_msg_id"];
    assert_eq!(*id, json!(sent.server_msg_id));
    let again = json!({"operationID": "again", "numbers": [letter["number"], 77]});
    let answer = admin.post("/webhook/send_again", &again).await.json();
    assert_eq!(answer["data"]["sent"], 1);
    receiver
        .until("the letter", |receiver| {
            seqs_told(receiver, "alice") == [2, 1]
        })
        .await;
    let told = receiver.once("message.accepted");
    assert_eq!(told[1]["id"], letter["eventID"]);
    assert_eq!(letters(&mut admin).await["total"], 0);
    let neither = json!({"operationID": "again"});
    assert_eq!(
        admin.post("/webhook/send_again", &neither).await.code(),
        400
    );
}

#[tokio::test]
async fn a_secret_is_changed_without_a_forged_request() {
    for (secrets, known) in [
        (format!("{SECRET_1},{SECRET_2}"), SECRET_1),
        (format!("{SECRET_1},{SECRET_2}"), SECRET_2),
        (SECRET_2.to_owned(), SECRET_2),
    ] {
        let receiver = Receiver::knowing(known).await;
        let url = format!("webhooks.url={}", receiver.url());
        let gateway = start(&[url, format!("webhooks.secrets={secrets}")]).await;
        let mut admin = gateway.admin().await;
        admin.send(&notice("alice", "signed")).await;
        receiver
            .until("the event", |receiver| seqs_told(receiver, "alice") == [1])
            .await;
        let mut effective = gateway.command("config");
        let print = effective.arg("--effective").output().unwrap().stdout;
        let print = String::from_utf8(print).unwrap();
        let console = admin.get("/gateway/config").await.text;
        for shown in [print, console, gateway.said()] {
            assert!(!shown.contains(&SECRET_1[6..]) && !shown.contains(&SECRET_2[6..]));
        }
    }
}

#[tokio::test]
async fn messages_that_expire_unread_are_told_to_a_receiver_that_is_back_later() {
    let receiver = Receiver::start().await;
    let mut settings = sending_to(&receiver);
    settings.extend(["log.segment_bytes=65536", "log.retention_bytes=131072"].map(str::to_owned));
    let gateway = start(&settings).await;
    let mut admin = gateway.admin().await;
    receiver.answer(|_| Some(503.into()));
    for _ in 0..24 {
        admin.send(&notice("alice", &"x".repeat(20_000))).await;
    }
    eventually("retention", async || {
        let (first, _) = admin.bounds("alice").await;
        first > 1 && admin.metric("towncrier_log_bytes").await <= 131_072.0
    })
    .await;
    let (first, head) = admin.bounds("alice").await;
    receiver.answer(|_| Some(200.into()));
    receiver
        .until("the newest message", |receiver| {
            seqs_told(receiver, "alice").last() == Some(&head)
        })
        .await;
    receiver
        .until("the expired messages", |receiver| {
            let expired = receiver.once("message.expired");
            let last = expired.iter().map(|event| event["data"]["to_seq"].as_u64());
            last.max() == Some(Some(first - 1))
        })
        .await;
    let expired = receiver.once("message.expired");
    let from = expired
        .iter()
        .map(|event| event["data"]["from_seq"].as_u64());
    assert_eq!(from.min(), Some(Some(1)));
    // The messages that went before they were told are announced.
    let told = seqs_told(&receiver, "alice");
    let lost = receiver.once("events.lost");
    assert!(told.len() as u64 == head || !lost.is_empty(), "{told:?}");
    for event in lost {
        assert_eq!(event["data"]["type"], "message.accepted");
        assert!(event["data"]["to_time"].as_u64() >= event["data"]["from_time"].as_u64());
    }
}

fn asking(receiver: &Receiver) -> Vec<String> {
    vec![
        format!("webhooks.before_send.url={}", receiver.url()),
        format!("webhooks.secrets={SECRET_1}"),
    ]
}

fn word(body: Value) -> Option<Word> {
    Some(Word {
        status: 200,
        body,
        retry_after: None,
    })
}

#[tokio::test]
async fn before_send_allows_refuses_and_changes() {
    let receiver = Receiver::start().await;
    let gateway = start(&asking(&receiver)).await;
    let mut admin = gateway.admin().await;
    let mut web = gateway.connect("alice", WEB).await;
    receiver.answer(|asked| {
        let mut content = asked["data"]["content"].clone();
        match content["text"].as_str() {
            Some("bad") => word(json!({"allow": false, "errCode": 40317, "errMsg": "rude"})),
            Some("odd") => word(json!({"allow": false, "errCode": 7})),
            Some("change") => {
                content["text"] = "changed".into();
                word(json!({"allow": true, "content": content}))
            }
            Some("spoil") => word(json!({"allow": true, "content": {"text": 1}})),
            _ => word(json!({"allow": true})),
        }
    });
    let text = |text: &str| {
        let mut body = notice("alice", text);
        body["contentType"] = 101.into();
        body["sessionType"] = 1.into();
        body["content"] = json!({"text": text});
        body
    };
    admin.send(&text("good")).await;
    let refused = admin.post("/manager/send_msg", &text("bad")).await;
    assert_eq!((refused.status, refused.code()), (403, 40317));
    assert_eq!(refused.json()["errMsg"], "rude");
    let refused = admin.post("/manager/send_msg", &text("odd")).await;
    assert_eq!((refused.status, refused.code()), (403, 40301));
    // A content that no send may have is no answer.
    let refused = admin.post("/manager/send_msg", &text("spoil")).await;
    assert_eq!((refused.status, refused.code()), (503, 50310));
    let mut changed = text("change");
    changed["clientMsgID"] = "changed-1".into();
    let first = admin.send(&changed).await;
    // A repeat compares the caller's own body, and is not asked about.
    let asked = receiver.requests().len();
    assert_eq!(admin.send(&changed).await, first);
    assert_eq!(receiver.requests().len(), asked);
    changed["content"] = json!({"text": "changed"});
    let reused = admin.post("/manager/send_msg", &changed).await;
    assert_eq!((reused.status, reused.code()), (409, 409));
    let pushed = web.expect_messages(2).await;
    let texts: Vec<_> = pushed.iter().map(crate::support::text_of).collect();
    assert_eq!(texts, ["good", "changed"]);
    let mut batch = text("good");
    batch["recvID"] = "".into();
    batch["recvIDList"] = json!(["alice", "bob"]);
    let asked = receiver.requests().len();
    let answer = admin.post("/manager/batch_send_msg", &batch).await;
    assert_eq!(answer.code(), 0, "{answer:?}");
    let requests = receiver.requests();
    assert_eq!(requests.len(), asked + 1);
    let receivers = &requests[asked].body["data"]["receivers"];
    assert_eq!(*receivers, json!(["alice", "bob"]));
}

#[tokio::test]
async fn without_an_answer_a_send_is_refused_or_allowed_as_configured() {
    let receiver = Receiver::start().await;
    receiver.answer(|_| None);
    let mut settings = asking(&receiver);
    settings.push("webhooks.before_send.timeout=200ms".into());
    let gateway = start(&settings).await;
    let mut admin = gateway.admin().await;
    let refused = admin
        .post("/manager/send_msg", &notice("alice", "well?"))
        .await;
    assert_eq!((refused.status, refused.code()), (503, 50310));
    assert_eq!(refused.retry_after.as_deref(), Some("1"));
    assert_eq!(admin.bounds("alice").await, (1, 0));
    let failed = "towncrier_before_send_total{outcome=\"failed\"}";
    assert_eq!(admin.metric(failed).await, 1.0);
    drop(gateway);
    settings.push("webhooks.before_send.on_failure=allow".into());
    let gateway = start(&settings).await;
    let mut admin = gateway.admin().await;
    admin.send(&notice("alice", "well?")).await;
    // Also where nobody listens.
    drop(receiver);
    admin.send(&notice("alice", "well!")).await;
    let mut phone = gateway.connect("alice", IOS).await;
    phone.expect_messages(2).await;
}
