//! JPush.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use towncrier::{
    config::Push,
    push::vendor::{Outcome, Vendor},
};
use towncrier_client::Trust;

use super::{
    assert_certificate, assert_deadline, assert_meanings, assert_patience, kinds, large_notice,
    notice, other_trust, push, push_notice, vendor_of,
};
use crate::support::{
    authority::Authority,
    vendors::{
        Order, StandIn, body_of,
        jpush::{self, JPUSH_KEY, JPUSH_SECRET, error},
    },
};

fn vendor(stand_in: &StandIn, secret: &str, trust: &Trust) -> Arc<dyn Vendor> {
    let mut config = Push::default();
    config.jpush.url = stand_in.url();
    config.jpush.app_key = JPUSH_KEY.into();
    config.jpush.master_secret = secret.into();
    vendor_of(&config, None, trust)
}

#[tokio::test]
async fn a_notice_goes_to_the_alias_of_its_user() {
    let stand_in = jpush::start(None).await;
    let vendor = vendor(&stand_in, JPUSH_SECRET, &Trust::default());
    let vendor_id = "18100287007833609".to_owned();
    assert_eq!(push(&vendor, &["u1"]).await, [Outcome::Sent { vendor_id }]);
    stand_in.assert_no_faults();
    let body = body_of(&stand_in.calls()[0]);
    assert_eq!(body["audience"], json!({"alias": ["u1"]}));
    let ios = &body["notification"]["ios"];
    assert_eq!(
        ios["alert"],
        json!({"title": "Office", "body": "Come at nine"})
    );
    assert_eq!(
        (&ios["badge"], &ios["sound"]),
        (&json!(3), &json!("bell.caf"))
    );
    let extras = json!({
        "server_msg_id": "07070707070707070707070707070707",
        "conversation_id": "sn_office_u1", "seq": 42, "ex": "for the app",
    });
    assert_eq!(ios["extras"], extras);
    assert_eq!(body["notification"]["android"]["extras"], extras);
    assert_eq!(body["options"]["time_to_live"], 86_400);
}

#[tokio::test]
async fn a_list_of_users_shares_one_call_and_no_word_of_one_of_them() {
    let stand_in = jpush::start(None).await;
    let vendor = vendor(&stand_in, JPUSH_SECRET, &Trust::default());
    assert!(vendor.takes_many_users());
    let users: Vec<_> = (0..vendor.devices_max())
        .map(|user| format!("user{user}"))
        .collect();
    let mut users: Vec<_> = users.iter().map(String::as_str).collect();
    users[3] = "not-an-alias";
    let outcomes = push(&vendor, &users).await;
    let sent = kinds(&outcomes)
        .into_iter()
        .filter(|kind| *kind == "sent")
        .count();
    assert_eq!(
        (sent, super::kind(&outcomes[3])),
        (users.len() - 1, "refused")
    );
    stand_in.assert_no_faults();
    let calls = stand_in.calls();
    let body = body_of(&calls[0]);
    assert_eq!(calls.len(), 1);
    assert_eq!(body["notification"]["ios"]["badge"], "+1");
    let extras = json!({"server_msg_id": "07070707070707070707070707070707", "ex": "for the app"});
    assert_eq!(body["notification"]["ios"]["extras"], extras);
}

#[tokio::test]
async fn a_large_notice_is_cut_and_one_without_a_text_shows_its_title() {
    let stand_in = jpush::start(None).await;
    let vendor = vendor(&stand_in, JPUSH_SECRET, &Trust::default());
    push_notice(&vendor, &large_notice(), &["u1"]).await;
    let silent = super::Notice {
        body: "".into(),
        ..notice()
    };
    push_notice(&vendor, &silent, &["u1"]).await;
    stand_in.assert_no_faults();
    let body = body_of(&stand_in.calls()[1]);
    assert_eq!(body["notification"]["android"]["alert"], "Office");
}

#[tokio::test]
async fn each_error_has_its_meaning() {
    let stand_in = jpush::start(None).await;
    let vendor = vendor(&stand_in, JPUSH_SECRET, &Trust::default());
    let meanings = [
        (500, 1000, "later"),
        (405, 1001, "refused"),
        (400, 1002, "refused"),
        (400, 1003, "refused"),
        (401, 1004, "credentials"),
        (400, 1005, "refused"),
        (400, 1008, "credentials"),
        (400, 1009, "refused"),
        (400, 1011, "refused"),
        (400, 1012, "refused"),
        (400, 1020, "refused"),
        (400, 1030, "later"),
        (429, 2002, "later"),
        (403, 2003, "credentials"),
        (403, 2004, "credentials"),
        (403, 2005, "later"),
    ];
    let meanings = meanings
        .map(|(status, code, kind)| (error(status, code), kind))
        .into();
    assert_meanings(&vendor, &stand_in, "/v3/push", "u1", meanings).await;
    let mut busy = error(429, 2002);
    busy.headers_mut()
        .insert("x-rate-limit-reset", "30".parse().unwrap());
    stand_in.order("/v3/push", Order::Answer(busy));
    let outcomes = push(&vendor, &["u1"]).await;
    let [Outcome::Later { retry_after, .. }] = outcomes[..] else {
        panic!("{outcomes:?}");
    };
    assert_eq!(retry_after, Some(Duration::from_secs(30)));
    assert_patience(&vendor, &stand_in, "/v3/push", "u1").await;
}

#[tokio::test]
async fn a_wrong_secret_is_a_matter_of_credentials() {
    let stand_in = jpush::start(None).await;
    let vendor = vendor(&stand_in, "other", &Trust::default());
    assert_eq!(kinds(&push(&vendor, &["u1"]).await), ["credentials"]);
}

#[tokio::test(start_paused = true)]
async fn silence_is_given_up() {
    let stand_in = jpush::start(None).await;
    let vendor = vendor(&stand_in, JPUSH_SECRET, &Trust::default());
    assert_deadline(&vendor, &stand_in, "/v3/push", "u1").await;
}

#[tokio::test]
async fn a_certificate_is_checked() {
    let authority = Authority::new();
    let stand_in = jpush::start(Some(&authority)).await;
    let wrong = vendor(&stand_in, JPUSH_SECRET, &other_trust());
    assert_certificate(&wrong, &stand_in, "u1").await;
}
