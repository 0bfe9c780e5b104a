//! Bodies that are refused, calls that are not made, and calls that find nothing.

use serde_json::json;

use super::fixture::World;
use crate::message::OVERVIEW_MAX;

#[tokio::test]
async fn a_body_that_is_no_object_is_refused() {
    let world = World::new();
    let nested = "[".repeat(10_000);
    for body in [
        "", "no", "[]", "7", "null", "\"x\"", "{", "{}x", &nested, "\u{feff}",
    ] {
        let refused = world.refused("/friend/get_black_list", body).await;
        assert_eq!(
            refused,
            (1001, "the body must be a JSON object".into()),
            "{body}"
        );
    }
}

#[tokio::test]
async fn a_field_of_the_wrong_type_is_refused_by_its_name() {
    let world = World::new();
    for (path, body, detail) in [
        (
            "/user/get_users_info",
            json!({ "userIDs": "u1" }),
            "userIDs must be a list of texts",
        ),
        (
            "/user/get_users_info",
            json!({ "userIDs": ["u1", 7] }),
            "userIDs must be a list of texts",
        ),
        (
            "/user/get_users_info",
            json!({ "userIDs": [""] }),
            "userIDs is empty",
        ),
        (
            "/user/get_users_info",
            json!({ "userIDs": ["x".repeat(65)] }),
            "userIDs is 65 bytes long, at most 64 are allowed",
        ),
        ("/user/get_users_info", json!({}), "userIDs is required"),
        (
            "/user/get_users_info",
            json!({ "userIDs": vec!["a"; OVERVIEW_MAX + 1] }),
            "userIDs has more than 2000 entries",
        ),
        (
            "/conversation/get_conversations",
            json!({ "conversationIDs": {} }),
            "conversationIDs must be a list of texts",
        ),
        (
            "/conversation/get_conversations",
            json!({ "conversationIDs": vec!["a"; OVERVIEW_MAX + 1] }),
            "conversationIDs has more than 2000 entries",
        ),
        (
            "/conversation/get_conversations",
            json!({ "conversationIDs": ["sn_a\u{0}b"] }),
            "conversationID must be the id of a conversation",
        ),
        (
            "/conversation/get_conversation",
            json!({ "conversationID": "sn_oa_u2" }),
            "conversationID must be a conversation of the user",
        ),
        (
            "/msg/mark_conversation_as_read",
            json!({ "hasReadSeq": 1 }),
            "conversationID is required",
        ),
        (
            "/msg/mark_conversation_as_read",
            json!({ "conversationID": "sn_oa_u1" }),
            "hasReadSeq is required",
        ),
        (
            "/msg/mark_conversation_as_read",
            json!({ "conversationID": ["sn_oa_u1"], "hasReadSeq": 1 }),
            "conversationID must be a text",
        ),
        (
            "/msg/mark_conversation_as_read",
            json!({ "conversationID": "x".repeat(200), "hasReadSeq": 1 }),
            "conversationID must be the id of a conversation",
        ),
        (
            "/msg/mark_conversation_as_read",
            json!({ "conversationID": "sn_oa_u1", "hasReadSeq": -1 }),
            "hasReadSeq must be a whole number",
        ),
        (
            "/msg/mark_conversation_as_read",
            json!({ "conversationID": "sn_oa_u1", "hasReadSeq": "1" }),
            "hasReadSeq must be a whole number",
        ),
        (
            "/msg/mark_msgs_as_read",
            json!({ "conversationID": "sn_oa_u1", "seqs": [1, 1.5] }),
            "seqs must be a list of whole numbers",
        ),
        (
            "/jssdk/get_active_conversations",
            json!({ "count": "20" }),
            "count must be a whole number",
        ),
        (
            "/jssdk/get_conversations",
            json!({ "conversationIDs": "sn_oa_u1" }),
            "conversationIDs must be a list of texts",
        ),
    ] {
        let refused = world.refused(path, &body.to_string()).await;
        assert_eq!(refused, (1001, detail.into()), "{path} {body}");
    }
}

#[tokio::test]
async fn a_call_that_asks_for_a_change_is_refused_and_any_other_finds_nothing() {
    let world = World::new();
    for path in [
        "/conversation/update_conversation",
        "/msg/delete_msg_phsical_by_seq",
        "/msg/revoke_msg",
        "/user/set_global_msg_recv_opt",
        "/user/update_user_info_ex",
        "/friend/add_friend",
        "/group/create_group",
        "/third/upload_logs",
    ] {
        let expected = (1002, "this gateway does not support the call".into());
        assert_eq!(world.refused(path, "{}").await, expected, "{path}");
    }
    for path in [
        "/friend/get_incremental_friends",
        "/friend/get_full_friend_user_ids",
        "/friend/get_designated_friends",
        "/friend/get_black_list",
        "/group/get_incremental_join_groups",
        "/api/group/get_full_join_group_ids",
        "//api//user/get_user_client_config/",
    ] {
        assert_eq!(world.data(path, json!({})).await, json!({}), "{path}");
    }
}
