//! Getui.

use std::sync::Arc;

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
        Order, body_of,
        getui::{GETUI_APP, GETUI_KEY, GETUI_SECRET, Getui, error},
    },
};

const SINGLE: &str = "/push/single/alias";

fn vendor(getui: &Getui, secret: &str, trust: &Trust) -> Arc<dyn Vendor> {
    let mut config = Push::default();
    config.getui.url = getui.stand_in.url();
    config.getui.app_id = GETUI_APP.into();
    config.getui.app_key = GETUI_KEY.into();
    config.getui.master_secret = secret.into();
    vendor_of(&config, None, trust)
}

#[tokio::test]
async fn a_notice_goes_to_the_alias_of_its_user_with_one_token_for_many() {
    let getui = Getui::start(None).await;
    let vendor = vendor(&getui, GETUI_SECRET, &Trust::default());
    let vendor_id = "RASS_1".to_owned();
    assert_eq!(push(&vendor, &["u1"]).await, [Outcome::Sent { vendor_id }]);
    push(&vendor, &["u1"]).await;
    push(&vendor, &["u2"]).await;
    push_notice(&vendor, &large_notice(), &["u1"]).await;
    let silent = super::Notice {
        body: "".into(),
        ..notice()
    };
    push_notice(&vendor, &silent, &["u1"]).await;
    getui.stand_in.assert_no_faults();
    assert_eq!((getui.count("/auth"), getui.count(SINGLE)), (1, 5));
    let calls = getui.stand_in.calls();
    let (first, again, other) = (body_of(&calls[1]), body_of(&calls[2]), body_of(&calls[3]));
    assert_eq!(first["audience"], json!({"alias": ["u1"]}));
    assert_eq!(
        first["request_id"], again["request_id"],
        "Getui drops the repeat"
    );
    assert_ne!(first["request_id"], other["request_id"]);
    let payload = first["push_message"]["notification"]["payload"]
        .as_str()
        .unwrap();
    let payload: serde_json::Value = serde_json::from_str(payload).unwrap();
    assert_eq!(
        (&payload["seq"], &payload["ex"]),
        (&json!(42), &json!("for the app"))
    );
    assert_eq!(first["push_channel"]["ios"]["auto_badge"], "3");
}

#[tokio::test]
async fn a_list_takes_two_calls() {
    let getui = Getui::start(None).await;
    let vendor = vendor(&getui, GETUI_SECRET, &Trust::default());
    let users: Vec<_> = (0..vendor.devices_max())
        .map(|user| format!("user{user}"))
        .collect();
    let users: Vec<_> = users.iter().map(String::as_str).collect();
    let outcomes = push(&vendor, &users).await;
    assert!(kinds(&outcomes).iter().all(|kind| *kind == "sent"));
    getui.stand_in.assert_no_faults();
    assert_eq!(
        (getui.count("/list/message"), getui.count("/list/alias")),
        (1, 1)
    );
    let stored = body_of(&getui.stand_in.calls()[1]);
    let payload = stored["push_message"]["notification"]["payload"].to_string();
    assert!(!payload.contains("conversation_id"), "{payload}");
    assert_eq!(stored["push_channel"]["ios"]["auto_badge"], "+1");
}

#[tokio::test]
async fn a_token_that_ran_out_is_renewed_once_and_the_notice_is_sent() {
    let getui = Getui::start(None).await;
    let vendor = vendor(&getui, GETUI_SECRET, &Trust::default());
    push(&vendor, &["u1"]).await;
    getui.forget_token();
    assert_eq!(kinds(&push(&vendor, &["u1"]).await), ["sent"]);
    assert_eq!((getui.count("/auth"), getui.count(SINGLE)), (2, 3));
    for _ in 0..2 {
        getui
            .stand_in
            .order(SINGLE, Order::Answer(error(401, 10001)));
    }
    assert_eq!(kinds(&push(&vendor, &["u1"]).await), ["credentials"]);
}

#[tokio::test]
async fn each_error_has_its_meaning() {
    let getui = Getui::start(None).await;
    let vendor = vendor(&getui, GETUI_SECRET, &Trust::default());
    let meanings = [
        (200, 1, "refused"),
        (200, 2, "later"),
        (200, 301, "credentials"),
        (400, 20001, "refused"),
        (401, 10002, "credentials"),
        (401, 10003, "later"),
        (401, 10004, "credentials"),
        (401, 10005, "later"),
        (403, 30001, "later"),
        (404, 404, "refused"),
        (405, 405, "refused"),
        (429, 10005, "later"),
        (500, 500, "later"),
    ];
    let meanings = meanings
        .map(|(status, code, kind)| (error(status, code), kind))
        .into();
    assert_meanings(&vendor, &getui.stand_in, SINGLE, "u1", meanings).await;
    assert_patience(&vendor, &getui.stand_in, SINGLE, "u1").await;
}

#[tokio::test]
async fn a_failure_of_the_token_is_one_of_the_notice() {
    let getui = Getui::start(None).await;
    let wrong = vendor(&getui, "other", &Trust::default());
    assert_eq!(kinds(&push(&wrong, &["u1"]).await), ["credentials"]);
    let vendor = vendor(&getui, GETUI_SECRET, &Trust::default());
    for (order, expected) in [
        (Order::Answer(error(401, 10003)), "later"),
        (Order::Answer(error(503, 503)), "later"),
        (Order::Answer(error(401, 10002)), "credentials"),
        (Order::Answer(error(401, 10001)), "credentials"),
        (Order::Cut, "later"),
    ] {
        getui.stand_in.order("/auth", order);
        assert_eq!(kinds(&push(&vendor, &["u1"]).await), [expected]);
    }
    assert_eq!(getui.count(SINGLE), 0);
    assert_eq!(kinds(&push(&vendor, &["u1"]).await), ["sent"]);
}

#[tokio::test(start_paused = true)]
async fn silence_is_given_up() {
    let getui = Getui::start(None).await;
    let vendor = vendor(&getui, GETUI_SECRET, &Trust::default());
    assert_deadline(&vendor, &getui.stand_in, "/auth", "u1").await;
}

#[tokio::test]
async fn a_certificate_is_checked() {
    let authority = Authority::new();
    let getui = Getui::start(Some(&authority)).await;
    let wrong = vendor(&getui, GETUI_SECRET, &other_trust());
    assert_certificate(&wrong, &getui.stand_in, "u1").await;
}
