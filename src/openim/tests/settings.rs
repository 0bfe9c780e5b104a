//! Pinned, do-not-disturb, cleared and deleted: each is the user's own, and in every later answer.

use serde_json::{Value, json};

use super::fixture::{World, message};
use crate::openim::{rate::CHANGES_AT_ONCE_MAX, settings::DELETED_MAX};

const SET: &str = "/conversation/set_conversations";
const CLEAR: &str = "/msg/clear_conversation_msg";
const CLEAR_ALL: &str = "/msg/user_clear_all_msg";
const DELETE: &str = "/msg/delete_msgs";
const ID: &str = "sn_oa_u1";

/// A change as a Go core asks for it: with all settings, and `null` for those that stay.
fn change(settings: Value) -> Value {
    let mut conversation = json!({
        "conversationID": ID, "conversationType": 4, "userID": "oa", "groupID": "",
        "recvMsgOpt": null, "isPinned": null, "attachedInfo": null, "isPrivateChat": null, "ex": null,
        "burnDuration": null, "minSeq": null, "maxSeq": null, "groupAtType": null,
        "msgDestructTime": null, "isMsgDestruct": null,
    });
    for (name, value) in settings.as_object().unwrap() {
        conversation[name] = value.clone();
    }
    json!({ "userIDs": ["u1"], "conversation": conversation })
}

async fn conversation(world: &World, id: &str) -> Value {
    let path = "/conversation/get_conversation";
    let mut data = world.data(path, json!({ "conversationID": id })).await;
    data["conversation"].take()
}

async fn ids(world: &World, path: &str) -> Value {
    let mut data = world.data(path, json!({ "userID": "u1" })).await;
    data["conversationIDs"].take()
}

/// First and head of a conversation as a history ends, and what is read of it.
async fn seqs(world: &World, id: &str) -> (i64, i64, i64) {
    let path = "/msg/get_conversations_has_read_and_max_seq";
    let data = world.data(path, json!({ "conversationIDs": [id] })).await;
    let seq = |name: &str| data["seqs"][id][name].as_i64().unwrap();
    let first = conversation(world, id).await["minSeq"].as_i64().unwrap();
    (first, seq("maxSeq"), seq("hasReadSeq"))
}

#[tokio::test]
async fn changes_above_the_rate_are_refused_and_questions_are_not() {
    let world = World::new();
    world.notices(&["oa"], 1).await;
    let mark = json!({ "conversationID": ID, "hasReadSeq": 1, "seqs": null });
    let mark = ("/msg/mark_conversation_as_read", mark);
    let set = (SET, change(json!({ "isPinned": true })));
    for (path, body) in [mark.clone(), set.clone()]
        .iter()
        .cycle()
        .take(CHANGES_AT_ONCE_MAX as usize)
    {
        world.data(path, body.clone()).await;
    }
    let clear = (CLEAR, json!({ "conversationIDs": [ID] }));
    let delete = (DELETE, json!({ "conversationID": ID, "seqs": [1] }));
    for (path, body) in [mark, set, clear, (CLEAR_ALL, json!({})), delete] {
        let (code, detail) = world.refused(path, &body.to_string()).await;
        assert_eq!((code, &*detail), (500, "too many changes: try again later"));
    }
    assert_eq!(conversation(&world, ID).await["isPinned"], true);
}

#[tokio::test]
async fn a_setting_changes_alone_and_is_in_every_answer() {
    let world = World::new();
    world.notices(&["oa", "hr"], 1).await;
    world.data(SET, change(json!({ "isPinned": true }))).await;
    world.data(SET, change(json!({ "recvMsgOpt": 2 }))).await;
    // The JavaScript SDK leaves out what stays.
    let reset = json!({
        "userIDs": ["u1"],
        "conversation": { "conversationID": "sn_hr_u1", "isPinned": false, "groupAtType": 0, "ex": "" },
    });
    world.data(SET, reset).await;
    let one = conversation(&world, ID).await;
    assert_eq!(
        (&one["isPinned"], &one["recvMsgOpt"]),
        (&true.into(), &2.into())
    );
    let path = "/conversation/get_incremental_conversations";
    let all = world.data(path, json!({})).await;
    let pinned = all["insert"].as_array().unwrap().iter();
    let pinned: Vec<_> = pinned.map(|one| one["isPinned"] == true).collect();
    assert_eq!(pinned, [false, true]);
    let pinned = "/conversation/get_pinned_conversation_ids";
    let silent = "/conversation/get_not_notify_conversation_ids";
    assert_eq!(ids(&world, pinned).await, json!([ID]));
    assert_eq!(ids(&world, silent).await, json!([ID]));
    let path = "/msg/get_conversations_has_read_and_max_seq";
    let data = world.data(path, json!({})).await;
    assert_eq!(data["pinnedConversationIDs"], json!([ID]));

    world
        .data(SET, change(json!({ "isPinned": false, "recvMsgOpt": 1 })))
        .await;
    assert_eq!(ids(&world, pinned).await, json!([]));
    assert_eq!(ids(&world, silent).await, json!([]));
    assert_eq!(conversation(&world, ID).await["recvMsgOpt"], 1);
}

#[tokio::test]
async fn a_cleared_conversation_begins_behind_what_was_cleared() {
    let world = World::new();
    world.notices(&["oa", "hr"], 3).await;
    let body =
        json!({ "userID": "u1", "conversationIDs": [ID, "sn_new_u1"], "deleteSyncOpt": null });
    world.data(CLEAR, body).await;
    assert_eq!(seqs(&world, ID).await, (4, 3, 3));
    assert_eq!(seqs(&world, "sn_hr_u1").await, (0, 3, 0));
    world.notices(&["oa"], 1).await;
    assert_eq!(seqs(&world, ID).await, (4, 4, 3));
    world.data(CLEAR_ALL, json!({ "userID": "u1" })).await;
    assert_eq!(seqs(&world, ID).await, (5, 4, 4));
    assert_eq!(seqs(&world, "sn_hr_u1").await, (4, 3, 3));
}

#[tokio::test]
async fn all_of_many_conversations_are_cleared() {
    let world = World::new();
    let senders: Vec<_> = (0..2100).map(|number| format!("oa{number}")).collect();
    let senders: Vec<_> = senders.iter().map(String::as_str).collect();
    world.notices(&senders, 1).await;
    world.data(CLEAR_ALL, json!({})).await;
    for sender in [senders[0], senders[99], senders[100], senders[2099]] {
        let id = format!("sn_{sender}_u1");
        assert_eq!(seqs(&world, &id).await, (2, 1, 1));
    }
}

#[tokio::test]
async fn a_deleted_message_is_not_unread_and_the_others_stay() {
    let world = World::new();
    world.notices(&["hr", "oa"], 3).await;
    let body =
        json!({ "userID": "u1", "conversationID": ID, "seqs": [2, 9, 0], "deleteSyncOpt": null });
    world.data(DELETE, body.clone()).await;
    world.data(DELETE, body).await;
    assert_eq!(seqs(&world, ID).await, (0, 3, 1));
    assert_eq!(seqs(&world, "sn_hr_u1").await, (0, 3, 0));
    let unknown = json!({ "conversationID": "sn_new_u1", "seqs": [1] });
    world.data(DELETE, unknown).await;
}

#[tokio::test]
async fn what_is_not_kept_or_not_ones_own_is_refused() {
    let world = World::new();
    world.notices(&["oa"], 1).await;
    world.send("u2", message("oa", 4)).await;
    let another = json!({ "userIDs": ["u1", "u2"], "conversation": { "conversationID": ID, "isPinned": true } });
    let unknown = json!({ "userIDs": ["u1"], "conversation": { "conversationID": "sn_oa_u2", "isPinned": true } });
    let both = json!({ "isSyncSelf": true, "isSyncOther": true });
    for (path, body, code) in [
        (SET, another, 1002),
        (SET, unknown, 1001),
        (SET, json!({ "userIDs": ["u1"] }), 1001),
        (SET, json!({ "conversation": [] }), 1001),
        (SET, json!({ "conversation": {} }), 1001),
        (SET, change(json!({ "isPinned": 1 })), 1001),
        (SET, change(json!({ "recvMsgOpt": 3 })), 1001),
        (SET, change(json!({ "recvMsgOpt": "2" })), 1001),
        (SET, change(json!({ "isPinned": true, "ex": "x" })), 1002),
        (
            SET,
            change(json!({ "isPinned": true, "isPrivateChat": true })),
            1002,
        ),
        (
            SET,
            change(json!({ "isPinned": true, "burnDuration": 30 })),
            1002,
        ),
        (SET, change(json!({ "isPinned": true, "minSeq": -1 })), 1002),
        (
            CLEAR,
            json!({ "userID": "u2", "conversationIDs": [ID] }),
            1002,
        ),
        (CLEAR, json!({ "conversationIDs": [] }), 1001),
        (CLEAR, json!({ "conversationIDs": ["sn_a\u{0}b"] }), 1001),
        (
            CLEAR,
            json!({ "conversationIDs": [ID], "deleteSyncOpt": both }),
            1002,
        ),
        (CLEAR_ALL, json!({ "userID": "u2" }), 1002),
        (
            CLEAR_ALL,
            json!({ "deleteSyncOpt": { "isSyncOther": true } }),
            1002,
        ),
        (
            DELETE,
            json!({ "userID": "u2", "conversationID": ID, "seqs": [1] }),
            1002,
        ),
        (DELETE, json!({ "conversationID": ID }), 1001),
        (DELETE, json!({ "conversationID": ID, "seqs": [-1] }), 1001),
        (
            DELETE,
            json!({ "conversationID": ID, "seqs": vec![1; DELETED_MAX + 1] }),
            1001,
        ),
        (DELETE, json!({ "seqs": [1] }), 1001),
    ] {
        let refused = world.refused(path, &body.to_string()).await;
        assert_eq!(refused.0, code, "{path} {body}: {}", refused.1);
    }
    assert_eq!(seqs(&world, ID).await, (0, 1, 0));
    assert_eq!(conversation(&world, ID).await["isPinned"], false);
}

#[tokio::test]
async fn a_message_is_deleted_by_its_number_as_either_client_counts() {
    let world = World::new();
    world.notices(&["oa"], 3).await;
    world.log.rows().begin_base(1000);
    world.notices(&["oa"], 3).await;
    assert_eq!(seqs(&world, ID).await, (0, 1006, 1000));
    let delete = async |seqs: &[u64]| {
        let body = json!({ "conversationID": ID, "seqs": seqs });
        world.data(DELETE, body).await;
        let left = world.data(
            "/jssdk/get_conversations",
            json!({ "conversationIDs": [ID] }),
        );
        left.await["unreadCount"].as_u64().unwrap()
    };
    // A Go core knows 1, 2, 3, 1004, 1005, 1006. The JavaScript core knows 1001 to 1006.
    assert_eq!(delete(&[4, 1000, 1007]).await, 6);
    assert_eq!(delete(&[1, 1004]).await, 4);
    assert_eq!(delete(&[1001, 1002, 1004, 1005]).await, 2);
}
