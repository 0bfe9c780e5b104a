//! P4: each user's messages carry 1, 2, 3 …, and every session gets them in that order with none missing.

use std::collections::HashSet;

use serde_json::json;
use tokio::task::JoinSet;

use crate::support::{Gateway, IOS, WEB, notice, seqs_of, text_of};

#[tokio::test]
async fn messages_come_in_the_order_of_acceptance_live_and_as_backlog() {
    let gateway = Gateway::start(&[]).await;
    let mut admin = gateway.admin().await;
    let mut live = gateway.connect("alice", WEB).await;
    let texts: Vec<_> = (0..300).map(|number| format!("notice {number}")).collect();
    for text in &texts {
        admin.send(&notice("alice", text)).await;
        let message = live.expect_push().await;
        assert_eq!(text_of(&message), *text);
        live.ack(message.seq).await;
    }
    // A backlog larger than a window.
    let mut late = gateway.connect("alice", IOS).await;
    assert_eq!((late.welcome.cursor, late.welcome.head), (0, 300));
    let backlog = late.expect_whole_inbox().await;
    assert_eq!(seqs_of(&backlog), (1..=300).collect::<Vec<_>>());
    assert_eq!(backlog.iter().map(text_of).collect::<Vec<_>>(), texts);
}

#[tokio::test]
async fn concurrent_senders_leave_no_gap_and_all_sessions_see_one_order() {
    let gateway = Gateway::start(&[]).await;
    let admin = gateway.admin().await;
    let mut web = gateway.connect("alice", WEB).await;
    let mut phone = gateway.connect("alice", IOS).await;
    let mut senders = JoinSet::new();
    for sender in 0..20 {
        let mut admin = admin.another();
        senders.spawn(async move {
            for number in 0..10 {
                admin
                    .send(&notice("alice", &format!("{sender}-{number}")))
                    .await;
            }
        });
    }
    let on_web = web.expect_messages(200).await;
    let on_phone = phone.expect_messages(200).await;
    senders.join_all().await;
    assert_eq!(seqs_of(&on_web), (1..=200).collect::<Vec<_>>());
    assert_eq!(on_web, on_phone);
    for sender in 0..20 {
        let own: Vec<_> = on_web
            .iter()
            .map(text_of)
            .filter(|text| text.starts_with(&format!("{sender}-")))
            .collect();
        let sent: Vec<_> = (0..10).map(|number| format!("{sender}-{number}")).collect();
        assert_eq!(own, sent);
    }
}

#[tokio::test]
async fn a_batch_lands_once_at_each_receiver_and_failed_ids_stop_nobody() {
    let gateway = Gateway::start(&[]).await;
    let mut admin = gateway.admin().await;
    let mut alice = gateway.connect("alice", WEB).await;
    let mut bob = gateway.connect("bob", WEB).await;
    admin.send(&notice("bob", "before")).await;
    assert_eq!(bob.expect_push().await.seq, 1);

    let mut batch = notice("", "to both");
    batch["recvIDList"] = json!(["alice", "bob", "alice", "not\nan id"]);
    let answer = admin.post("/manager/batch_send_msg", &batch).await.json();
    assert_eq!(answer["errCode"], 0);
    assert_eq!(answer["data"]["FailedIDList"], json!(["not\nan id"]));
    let results = answer["data"]["resultList"].as_array().unwrap();
    let receivers: HashSet<_> = results
        .iter()
        .map(|result| result["recvID"].as_str().unwrap())
        .collect();
    assert_eq!(
        (results.len(), receivers),
        (2, HashSet::from(["alice", "bob"]))
    );

    let at_alice = alice.expect_push().await;
    let at_bob = bob.expect_push().await;
    assert_eq!((at_alice.seq, at_bob.seq), (1, 2));
    assert_eq!(at_alice.server_msg_id, at_bob.server_msg_id);
    assert_eq!(at_alice.conversation_id, "sn_alice_openIM123456");

    let mut everyone = notice("", "to all");
    everyone["isSendAll"] = true.into();
    let answer = admin.post("/msg/batch_send_msg", &everyone).await.json();
    assert_eq!(answer["errCode"], 0);
    assert_eq!(text_of(&alice.expect_push().await), "to all");
    assert_eq!(text_of(&bob.expect_push().await), "to all");
}

#[tokio::test]
async fn online_only_messages_come_without_a_seq_and_are_never_stored() {
    let gateway = Gateway::start(&[]).await;
    let mut admin = gateway.admin().await;
    let mut web = gateway.connect("alice", WEB).await;
    let mut fleeting = notice("alice", "now or never");
    fleeting["isOnlineOnly"] = true.into();
    admin.send(&fleeting).await;
    admin.send(&notice("alice", "kept")).await;
    let both = web.expect_messages(2).await;
    assert_eq!(seqs_of(&both), [0, 1]);
    assert_eq!(
        both.iter().map(text_of).collect::<Vec<_>>(),
        ["now or never", "kept"]
    );

    let mut late = gateway.connect("alice", IOS).await;
    let backlog = late.expect_backlog().await;
    assert_eq!(backlog.iter().map(text_of).collect::<Vec<_>>(), ["kept"]);
}
