//! The calls of the JavaScript SDK: protobuf in JSON, or JSON.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use prost::Message as _;
use serde_json::{Value, json};

use super::fixture::World;
use crate::openim::proto::{ConversationsResp, GetActiveConversationsReq, GetConversationsReq};

const ACTIVE: &str = "/jssdk/get_active_conversations";
const NAMED: &str = "/jssdk/get_conversations";

/// The answer to a call of u1 in protobuf.
async fn ask(world: &World, path: &str, body: Vec<u8>) -> Value {
    let token = world.token("u1");
    let kind = ("content-type", "application/x-protobuf");
    let headers = [("operationID", "op"), ("token", &*token), kind];
    world.ask(path, &headers, body).await.0
}

async fn protobuf(world: &World, path: &str, body: Vec<u8>) -> ConversationsResp {
    let answer = ask(world, path, body).await;
    let data = answer["data"]
        .as_str()
        .unwrap_or_else(|| panic!("{answer}"));
    ConversationsResp::decode(&*BASE64_STANDARD.decode(data).unwrap()).unwrap()
}

fn active(count: i64) -> Vec<u8> {
    GetActiveConversationsReq {
        owner_user_id: "u1".into(),
        count,
    }
    .encode_to_vec()
}

#[tokio::test]
async fn the_newest_conversations_come_with_peer_seqs_and_the_sum_of_the_unread() {
    let world = World::new();
    world.notices(&["oa", "hr", "it"], 4).await;
    let mark = json!({ "conversationID": "sn_it_u1", "hasReadSeq": 3 });
    world.data("/msg/mark_conversation_as_read", mark).await;
    let answer = protobuf(&world, ACTIVE, active(2)).await;
    let told = answer.conversations.iter().map(|one| {
        let (conversation, user) = (
            one.conversation.as_ref().unwrap(),
            one.user.as_ref().unwrap(),
        );
        let ids = (&*conversation.conversation_id, &*user.nickname);
        (ids, one.max_seq, one.read_seq)
    });
    let expected = [
        (("sn_it_u1", "Name of it"), 4, 3),
        (("sn_hr_u1", "Name of hr"), 4, 0),
    ];
    assert_eq!(told.collect::<Vec<_>>(), expected);
    assert_eq!(answer.unread_count, 5);
    assert_eq!(
        protobuf(&world, ACTIVE, active(0))
            .await
            .conversations
            .len(),
        3
    );
    let data = world
        .data(ACTIVE, json!({ "ownerUserID": "u1", "count": 1 }))
        .await;
    assert_eq!(
        (&data["unreadCount"], &data["conversations"][0]["readSeq"]),
        (&json!(1), &json!(3))
    );
    assert_eq!(data["conversations"][0]["user"]["userID"], "it");
}

#[tokio::test]
async fn a_conversation_that_had_only_online_messages_is_described_all_the_same() {
    let world = World::new();
    world.notices(&["oa"], 1).await;
    let asked = GetConversationsReq {
        owner_user_id: "u1".into(),
        conversation_i_ds: vec!["sn_new_u1".into(), "sn_oa_u1".into(), "sn_a_b".into()],
    };
    let answer = protobuf(&world, NAMED, asked.encode_to_vec()).await;
    let told = answer.conversations.iter().map(|one| {
        let conversation = one.conversation.as_ref().unwrap();
        (&*conversation.user_id, one.max_seq, one.read_seq)
    });
    assert_eq!(told.collect::<Vec<_>>(), [("new", 0, 0), ("oa", 1, 0)]);
    assert_eq!(answer.unread_count, 1);
}

#[tokio::test]
async fn the_sdk_without_a_store_is_told_dense_numbers_in_a_new_epoch() {
    let world = World::new();
    world.notices(&["oa"], 3).await;
    world.log.expire_all();
    world.notices(&["oa", "hr"], 1).await;
    world.log.rows().begin_base(1000);
    world.notices(&["hr"], 1).await;
    let answer = protobuf(&world, ACTIVE, active(0)).await;
    let told = answer.conversations.iter().map(|one| {
        let conversation = one.conversation.as_ref().unwrap();
        (one.max_seq, one.read_seq, conversation.min_seq)
    });
    let expected = [(1002, 1000, 0), (1004, 1003, 1004)];
    assert_eq!(told.collect::<Vec<_>>(), expected);
    let asked = json!({ "ownerUserID": "u1", "count": 9 });
    let data = world.data(ACTIVE, asked).await;
    let kept = data["conversations"].as_array().unwrap().iter();
    let kept = kept.map(|one| one["maxSeq"].as_u64().unwrap());
    assert_eq!(kept.collect::<Vec<_>>(), [1002, 4]);
}

#[tokio::test]
async fn a_wrong_request_is_refused() {
    let world = World::new();
    let foreign = GetActiveConversationsReq {
        owner_user_id: "u2".into(),
        count: 20,
    };
    let foreign_ids = GetConversationsReq {
        owner_user_id: "u2".into(),
        ..GetConversationsReq::default()
    };
    for (path, body, code) in [
        (ACTIVE, foreign.encode_to_vec(), 1002),
        (NAMED, foreign_ids.encode_to_vec(), 1002),
        (ACTIVE, active(-1), 1001),
        (ACTIVE, b"{}".to_vec(), 1001),
        (NAMED, vec![0xff; 40], 1001),
    ] {
        assert_eq!(ask(&world, path, body).await["errCode"], code, "{path}");
    }
    let unknown = world.text("/jssdk/get_something", "{}").await;
    assert_eq!(unknown["errCode"], 1002, "the port answers 404 before");
}

#[tokio::test]
async fn the_newest_message_and_the_seqs_are_numbered_as_the_client_counts() {
    let world = World::new();
    world.notices(&["oa"], 3).await;
    world.log.rows().begin_base(1000);
    let pinned = json!({ "conversation": { "conversationID": "sn_oa_u1", "isPinned": true } });
    world.data("/conversation/set_conversations", pinned).await;
    world.notices(&["hr"], 1).await;
    let answer = protobuf(&world, ACTIVE, active(1)).await;
    let told = &answer.conversations[0];
    assert_eq!(
        (told.max_seq, told.read_seq),
        (1003, 1000),
        "the pinned one"
    );
    let same = world.data(ACTIVE, json!({ "count": 1 })).await;
    let same = &same["conversations"][0];
    assert_eq!(
        (&same["maxSeq"], &same["lastMsg"]["seq"]),
        (&3.into(), &3.into())
    );
    assert_eq!(same["lastMsg"]["senderNickname"], "Name of oa");
    let newest = told.last_msg.clone().unwrap();
    // The field `seq` is 14, a varint.
    assert!(
        newest
            .windows(3)
            .any(|bytes| bytes == [14 << 3, 0xeb, 0x07])
    );
}

#[tokio::test]
async fn the_newest_message_is_one_that_is_left() {
    let world = World::new();
    world.notices(&["oa"], 3).await;
    let newest = async || {
        let data = world.data(ACTIVE, json!({})).await;
        data["conversations"][0]["lastMsg"]["seq"].as_u64()
    };
    assert_eq!(newest().await, Some(3));
    let delete = json!({ "conversationID": "sn_oa_u1", "seqs": [3] });
    world.data("/msg/delete_msgs", delete).await;
    assert_eq!(newest().await, Some(2));
    world.data("/msg/user_clear_all_msg", json!({})).await;
    assert_eq!(newest().await, None);
}
