//! The looks at many users at once.

use super::{database, gateway, seq_of};
use crate::{
    ids::{Platform, Seq},
    log::{
        Log as _,
        tests::conformance::{message, user},
    },
};

#[tokio::test]
async fn heads_come_in_the_order_of_the_users_and_a_logout_is_seen_until_a_newer_token() {
    let Some(database) = database().await else {
        return;
    };
    let (log, _tasks) = gateway(&database.url()).await;
    for number in [1, 2] {
        seq_of(&log, message(number, &["u2"], None, "a"))
            .await
            .unwrap();
    }
    let users = ["nobody", "u2", "u1"].map(user);
    let heads = log.heads(users.to_vec()).wait().await.unwrap();
    let seqs: Vec<_> = heads.iter().map(|(_, head)| *head).collect();
    assert_eq!(seqs, [0, 2, 0].map(Seq));
    let inbox = log.inbox(&user("u2")).wait().await.unwrap();
    assert_eq!(heads[1].0, inbox.epoch);

    let logged_out = async || log.logged_out(users.to_vec()).wait().await.unwrap();
    assert_eq!(logged_out().await, []);
    let revoked = log.revoke(user("u2"), Platform::Web, 1000).unwrap();
    revoked.await.unwrap().unwrap();
    assert_eq!(logged_out().await, [(user("u2"), Platform::Web, 1000)]);
    log.note_token(&user("u2"), Platform::Web, 1000).unwrap();
    assert_eq!(logged_out().await, []);
}
