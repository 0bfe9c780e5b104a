//! The user's conversations, their seqs, and the marks in them.

use serde_json::{Value, json};

use super::fixture::{World, message, user};
use crate::{
    clock::tests::manual::NOW_MS,
    ids::{Platform, Seq, SessionKey},
    log::Log as _,
    message::StoredMessage,
};

const INCREMENTAL: &str = "/conversation/get_incremental_conversations";
const MARK: &str = "/msg/mark_conversation_as_read";

/// Head and mark of a conversation of u1.
async fn seqs(world: &World, id: &str) -> (u64, u64) {
    let path = "/msg/get_conversations_has_read_and_max_seq";
    let data = world.data(path, json!({ "conversationIDs": [id] })).await;
    let seq = |name: &str| data["seqs"][id][name].as_u64().unwrap();
    (seq("maxSeq"), seq("hasReadSeq"))
}

fn ids(data: &Value) -> Vec<&str> {
    let list = data["insert"].as_array().unwrap().iter();
    list.map(|one| one["conversationID"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn every_login_gets_the_whole_list_with_the_newest_first() {
    let world = World::new();
    let none = world.data(INCREMENTAL, json!({})).await;
    assert_eq!(ids(&none), [""; 0]);
    world.notices(&["oa", "hr"], 2).await;
    world.send("u1", message("u2", 1)).await;
    let group = StoredMessage {
        group_id: "g1".into(),
        ..message("u2", 3)
    };
    world.send("u1", group).await;
    for path in [
        INCREMENTAL,
        "/api/conversation/get_incremental_conversations",
    ] {
        let asked = json!({ "userID": "u1", "versionID": "towncrier", "version": 1 });
        let data = world.data(path, asked).await;
        assert_eq!(ids(&data), ["sg_g1", "si_u1_u2", "sn_hr_u1", "sn_oa_u1"]);
        assert_eq!(
            (&data["full"], &data["version"]),
            (&json!(false), &json!(1))
        );
        assert_eq!((&data["delete"], &data["update"]), (&json!([]), &json!([])));
        let kinds = |name: &str| {
            let list = data["insert"].as_array().unwrap().iter();
            list.map(|one| one[name].clone()).collect::<Vec<_>>()
        };
        assert_eq!(kinds("conversationType"), [3, 1, 4, 4]);
        assert_eq!(kinds("userID"), ["", "u2", "hr", "oa"]);
        assert_eq!(kinds("groupID"), ["g1", "", "", ""]);
        let expected = json!({
            "ownerUserID": "u1", "conversationID": "sn_oa_u1", "recvMsgOpt": 0, "conversationType": 4,
            "userID": "oa", "groupID": "", "isPinned": false, "attachedInfo": "", "isPrivateChat": false,
            "groupAtType": 0, "ex": "", "burnDuration": 0, "minSeq": 0, "maxSeq": 0, "msgDestructTime": 0,
            "latestMsgDestructTime": 0, "isMsgDestruct": false,
        });
        assert_eq!(data["insert"][3], expected);
    }
    let all = world
        .data("/conversation/get_full_conversation_ids", json!({}))
        .await;
    assert_eq!(all["conversationIDs"][0], "sg_g1");
    for path in [
        "get_not_notify_conversation_ids",
        "get_pinned_conversation_ids",
    ] {
        let data = world
            .data(&format!("/conversation/{path}"), json!({}))
            .await;
        assert_eq!(data, json!({ "conversationIDs": [] }));
    }
}

#[tokio::test]
async fn a_conversation_that_lost_its_begin_says_where_it_begins_now() {
    let world = World::new();
    world.notices(&["oa"], 3).await;
    world.log.expire_all();
    world.notices(&["oa"], 1).await;
    let data = world.data(INCREMENTAL, json!({})).await;
    assert_eq!(data["insert"][0]["minSeq"], 4);
}

#[tokio::test]
async fn conversations_are_found_by_their_ids() {
    let world = World::new();
    world.notices(&["oa"], 1).await;
    let asked = json!({ "ownerUserID": "u1", "conversationIDs": ["sn_oa_u1", "si_u1_u9", "sg_g9", "sn_a_b"] });
    let data = world.data("/conversation/get_conversations", asked).await;
    let found = data["conversations"].as_array().unwrap().iter();
    let found: Vec<_> = found.map(|one| &one["conversationID"]).collect();
    // The second had online-only messages at most. The others are not u1's.
    assert_eq!(found, ["sn_oa_u1", "si_u1_u9"]);
    let one = json!({ "conversationID": "sn_oa_u1" });
    let data = world.data("/conversation/get_conversation", one).await;
    assert_eq!(data["conversation"]["userID"], "oa");
}

#[tokio::test]
async fn a_mark_moves_forward_and_counts_as_entry_of_the_inbox() {
    let world = World::new();
    world.notices(&["oa", "hr"], 5).await;
    assert_eq!(seqs(&world, "sn_oa_u1").await, (5, 0));
    let mark = |seq: u64| json!({ "conversationID": "sn_oa_u1", "userID": "u1", "hasReadSeq": seq, "seqs": null });
    assert_eq!(world.data(MARK, mark(3)).await, json!({}));
    assert_eq!(seqs(&world, "sn_oa_u1").await, (5, 3));
    world.data(MARK, mark(2)).await;
    assert_eq!(seqs(&world, "sn_oa_u1").await, (5, 3));
    let listed = json!({ "conversationID": "sn_oa_u1", "seqs": [0, 1, 4] });
    world.data("/msg/mark_msgs_as_read", listed).await;
    assert_eq!(seqs(&world, "sn_oa_u1").await, (5, 4));
    world
        .data("/msg/set_conversation_has_read_seq", mark(99))
        .await;
    assert_eq!(seqs(&world, "sn_oa_u1").await, (5, 5));
    assert_eq!(seqs(&world, "sn_hr_u1").await, (5, 0));
    // Ten messages and three marks.
    let key = SessionKey {
        user: user("u1"),
        platform: Platform::Web,
        device: "".into(),
    };
    let point = world.log.enter(&key).wait().await.unwrap();
    assert_eq!(point.inbox.head, Seq(13));
    let unknown = json!({ "conversationID": "sn_x_u1", "hasReadSeq": 1 });
    assert_eq!(world.data(MARK, unknown).await, json!({}));
}

/// The numbers of a Go core, which has a store. Some of its messages were lost with the log before the change.
#[tokio::test]
async fn a_mark_of_an_earlier_epoch_reaches_what_the_change_left() {
    for (said, read) in [
        (3, 1003),
        (4, 1004),
        (9, 1004),
        (999, 1004),
        (1003, 1003),
        (1005, 1005),
        (1006, 1006),
        (9999, 1006),
    ] {
        let world = World::new();
        world.notices(&["oa"], 4).await;
        world.log.rows().begin_base(1000);
        assert_eq!(seqs(&world, "sn_oa_u1").await, (4, 0));
        world.notices(&["oa"], 2).await;
        assert_eq!(seqs(&world, "sn_oa_u1").await, (1006, 1000));
        let mark = json!({ "conversationID": "sn_oa_u1", "hasReadSeq": said });
        world.data(MARK, mark).await;
        assert_eq!(seqs(&world, "sn_oa_u1").await, (1006, read), "{said}");
    }
}

/// The JavaScript core names its functions.
#[tokio::test]
async fn each_core_is_told_the_numbers_by_which_it_counts() {
    let world = World::new();
    world.notices(&["oa"], 3).await;
    world.log.expire_all();
    world.notices(&["oa"], 1).await;
    world.log.rows().begin_base(1000);
    let token = world.token("u1");
    for (name, first, head) in [("os", 4, 4), ("reqFuncName", 1004, 1004)] {
        let headers = [("operationID", "op"), ("token", &*token), (name, "x")];
        let ask = async |path| {
            let asked = json!({ "conversationIDs": ["sn_oa_u1"] }).to_string();
            world.ask(path, &headers, asked).await.0["data"].take()
        };
        let listed = ask(INCREMENTAL).await;
        assert_eq!(listed["insert"][0]["minSeq"], first, "{name}");
        let found = ask("/conversation/get_conversations").await;
        assert_eq!(found["conversations"][0]["minSeq"], first, "{name}");
        let seqs = ask("/msg/get_conversations_has_read_and_max_seq").await;
        assert_eq!(seqs["seqs"]["sn_oa_u1"]["maxSeq"], head, "{name}");
    }
}

#[tokio::test]
async fn a_mark_during_the_drain_is_refused() {
    let world = World::new();
    world.notices(&["oa"], 1).await;
    world.delivery.start_draining();
    let mark = json!({ "conversationID": "sn_oa_u1", "hasReadSeq": 1 }).to_string();
    assert_eq!(world.refused(MARK, &mark).await.0, 500);
}

#[tokio::test]
async fn the_clock_is_the_gateways() {
    let world = World::new();
    let data = world.data("/msg/get_server_time", json!({})).await;
    assert_eq!(data, json!({ "serverTime": NOW_MS }));
}
