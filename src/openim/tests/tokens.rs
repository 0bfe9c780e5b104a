//! A call is its token's user's.

use serde_json::json;

use super::fixture::{World, user};
use crate::ids::Platform;

const PATH: &str = "/conversation/get_incremental_conversations";

/// The errCode of a call with this token.
async fn code(world: &World, token: &str) -> u64 {
    let headers = [("operationID", "op"), ("token", token)];
    let (answer, _) = world.ask(PATH, &headers, "{}").await;
    answer["errCode"].as_u64().unwrap()
}

#[tokio::test]
async fn a_call_without_a_good_token_is_refused_with_the_code_that_logs_the_user_out() {
    let world = World::new();
    let token = world.token("u1");
    assert_eq!(code(&world, &token).await, 0);
    assert_eq!(code(&world, "").await, 1001, "a header is missing");
    assert_eq!(code(&world, "no token").await, 1503);
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let first = if signature.starts_with('A') { "B" } else { "A" };
    let forged = format!("{first}{}", &signature[1..]);
    assert_eq!(code(&world, &format!("{signed}.{forged}")).await, 1502);
    world.machine.advance(91 * 24 * 3_600_000);
    assert_eq!(code(&world, &token).await, 1501);
    let token = world.token("u1");
    world.machine.advance(1);
    let log_out = world.delivery.log_out(user("u1"), Platform::Web);
    log_out.await.unwrap();
    assert_eq!(code(&world, &token).await, 1506);
}

#[tokio::test]
async fn a_refused_token_is_refused_before_the_body_is_looked_at() {
    let world = World::new();
    let headers = [("operationID", "op"), ("token", "no token")];
    let (answer, _) = world.ask(PATH, &headers, "no body").await;
    assert_eq!(answer["errCode"], 1503);
    let token = world.token("u1");
    let (answer, _) = world.ask(PATH, &[("token", &token)], "{}").await;
    assert_eq!(answer["errDlt"], "the header operationID is required");
}

#[tokio::test]
async fn a_call_that_names_another_user_as_its_own_is_refused() {
    let world = World::new();
    world.notices(&["oa"], 1).await;
    for path in [
        PATH,
        "/conversation/get_conversations",
        "/msg/mark_conversation_as_read",
        "/msg/get_conversations_has_read_and_max_seq",
        "/friend/get_black_list",
        "/user/get_users_info",
        "/jssdk/get_active_conversations",
    ] {
        for field in [
            "userID",
            "ownerUserID",
            "fromUserID",
            "sendID",
            "sendUserID",
        ] {
            let body = json!({ field: "u2", "userIDs": ["u1"] }).to_string();
            let expected = (1002, format!("{field} must be the user of the token"));
            assert_eq!(world.refused(path, &body).await, expected, "{path}");
            let body = json!({ field: 7 }).to_string();
            assert_eq!(world.refused(path, &body).await.0, 1001, "{path}");
        }
    }
    let own = json!({ "userID": "u1", "ownerUserID": "", "fromUserID": null });
    let data = world.data(PATH, own).await;
    assert_eq!(data["insert"][0]["ownerUserID"], "u1");
}

#[tokio::test]
async fn a_user_sees_and_marks_its_own_conversations_only() {
    let world = World::new();
    world.notices(&["oa"], 2).await;
    let token = world.token("u2");
    let headers = [("operationID", "op"), ("token", &*token)];
    let ids = json!({ "conversationIDs": ["sn_oa_u1", "sg_g1"] }).to_string();
    let (answer, _) = world
        .ask("/conversation/get_conversations", &headers, ids)
        .await;
    assert_eq!(answer["data"], json!({ "conversations": [] }));
    let mark = json!({ "conversationID": "sn_oa_u1", "hasReadSeq": 2 }).to_string();
    let (answer, _) = world
        .ask("/msg/mark_conversation_as_read", &headers, mark)
        .await;
    assert_eq!(answer["errCode"], 0);
    let seqs = world
        .data("/msg/get_conversations_has_read_and_max_seq", json!({}))
        .await;
    assert_eq!(seqs["seqs"]["sn_oa_u1"]["hasReadSeq"], 0);
}
