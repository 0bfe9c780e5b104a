//! Names and pictures of users.

use bytes::Bytes;
use serde_json::{Value, json};

use super::fixture::{World, message, user};
use crate::message::StoredMessage;

/// The entries for these users.
async fn infos(world: &World, ids: &[&str]) -> Vec<Value> {
    let body = json!({ "userIDs": ids });
    let data = world.data("/user/get_users_info", body).await;
    data["usersInfo"].as_array().unwrap().clone()
}

/// Name and picture of one user.
async fn face(world: &World, id: &str) -> (String, String) {
    let info = &infos(world, &[id]).await[0];
    let text = |name: &str| info[name].as_str().unwrap().to_owned();
    (text("nickname"), text("faceURL"))
}

fn told(name: &str, picture: &str) -> (String, String) {
    (name.to_owned(), picture.to_owned())
}

async fn register(world: &World, id: &str, profile: &'static str) {
    let profile = Bytes::from_static(profile.as_bytes());
    world.delivery.register(user(id), profile).await.unwrap();
}

#[tokio::test]
async fn every_id_gets_an_entry_once() {
    let world = World::new();
    let infos = infos(&world, &["u1", "nobody", "u1"]).await;
    let entry = |id: &str| {
        json!({
            "userID": id, "nickname": "", "faceURL": "", "ex": "", "createTime": 0, "appMangerLevel": 0,
            "globalRecvMsgOpt": 0,
        })
    };
    assert_eq!(infos, [entry("u1"), entry("nobody")]);
}

#[tokio::test]
async fn a_registration_names_its_user_and_keeps_the_rest_to_itself() {
    let world = World::new();
    world.notices(&["oa"], 1).await;
    let profile =
        r#"{"nickname":"Office","faceURL":"http://f","ex":"x","phoneNumber":"1","email":"e"}"#;
    register(&world, "oa", profile).await;
    let infos = infos(&world, &["oa"]).await;
    assert_eq!(infos[0]["nickname"], "Office");
    assert_eq!(
        (&infos[0]["faceURL"], &infos[0]["ex"]),
        (&"http://f".into(), &"x".into())
    );
    let text = infos[0].to_string();
    assert!(!text.contains("phone") && !text.contains("email"), "{text}");
}

#[tokio::test]
async fn a_sender_without_a_registered_name_has_that_of_the_newest_message_to_the_caller() {
    let world = World::new();
    register(&world, "oa", "{}").await;
    world.notices(&["oa"], 2).await;
    assert_eq!(
        face(&world, "oa").await,
        told("Name of oa", "http://face/oa")
    );
    let renamed = StoredMessage {
        sender_nickname: "New".into(),
        ..message("oa", 1)
    };
    world.send("u1", renamed).await;
    assert_eq!(face(&world, "oa").await, told("New", "http://face/oa"));
    world.notices(&["oa"], 1).await;
    assert_eq!(
        face(&world, "oa").await,
        told("Name of oa", "http://face/oa")
    );
    // A message to somebody else tells u1 nothing.
    world.send("u2", message("hr", 4)).await;
    assert_eq!(face(&world, "hr").await, told("", ""));
}

#[tokio::test]
async fn a_message_of_the_caller_does_not_name_the_peer() {
    let world = World::new();
    world.send("u1", message("u2", 1)).await;
    assert_eq!(
        face(&world, "u2").await,
        told("Name of u2", "http://face/u2")
    );
    world.send("u1", message("u1", 1)).await;
    assert_eq!(
        face(&world, "u2").await,
        told("Name of u2", "http://face/u2")
    );
}
