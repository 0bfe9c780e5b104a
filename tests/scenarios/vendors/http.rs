//! The generic provider.

use std::sync::Arc;

use serde_json::json;
use towncrier::{config::Push, push::vendor::Vendor};
use towncrier_client::Trust;

use super::{
    assert_certificate, assert_deadline, assert_meanings, assert_patience, kinds, notice,
    other_trust, push, push_notice, vendor_of,
};
use crate::support::{
    authority::Authority,
    vendors::{Order, StandIn, answer, body_of, http},
};

fn provider(stand_in: &StandIn, secret: &str, trust: &Trust) -> Arc<dyn Vendor> {
    let mut config = Push::default();
    config.http.url = format!("{}/push", stand_in.url());
    config.http.secret = secret.into();
    vendor_of(&config, None, trust)
}

#[tokio::test]
async fn a_notice_is_posted_with_its_devices_and_a_repeat_has_the_same_id() {
    let stand_in = http::start(None).await;
    let provider = provider(&stand_in, http::WEBHOOK_SECRET, &Trust::default());
    for _ in 0..2 {
        assert_eq!(kinds(&push(&provider, &["a", "b"]).await), ["sent", "sent"]);
    }
    let text = Some("of the message".into());
    let silent = super::Notice {
        body: "".into(),
        text,
        ..notice()
    };
    push_notice(&provider, &silent, &["a"]).await;
    stand_in.assert_no_faults();
    let calls = stand_in.calls();
    let expected = json!({
        "user_id": "u1",
        "devices": ["a", "b"],
        "server_msg_id": "07070707070707070707070707070707",
        "conversation_id": "sn_office_u1",
        "seq": 42,
        "title": "Office",
        "desc": "Come at nine",
        "ex": "for the app",
        "sound": "bell.caf",
        "badge": 3,
    });
    assert_eq!(body_of(&calls[0])["data"], expected);
    assert_eq!(body_of(&calls[2])["data"]["desc"], "of the message");
    let id = |at: usize| &calls[at].headers()["webhook-id"];
    assert_eq!(id(0), id(1));
    assert_ne!(id(0), id(2));
}

#[tokio::test]
async fn each_answer_has_its_meaning() {
    let stand_in = http::start(None).await;
    let provider = provider(&stand_in, http::WEBHOOK_SECRET, &Trust::default());
    let meanings = [
        (200, "sent"),
        (202, "sent"),
        (301, "refused"),
        (400, "refused"),
        (401, "credentials"),
        (403, "credentials"),
        (404, "refused"),
        (410, "gone"),
        (413, "refused"),
        (429, "later"),
        (500, "later"),
        (502, "later"),
        (504, "later"),
    ];
    let meanings = meanings
        .map(|(status, kind)| (answer(status, ""), kind))
        .into();
    assert_meanings(&provider, &stand_in, "/push", "a", meanings).await;
    stand_in.order(
        "/push",
        Order::Answer(answer(410, json!({"gone": ["b", "c"]}))),
    );
    let outcomes = push(&provider, &["a", "b", "c"]).await;
    assert_eq!(kinds(&outcomes), ["sent", "gone", "gone"]);
    assert_patience(&provider, &stand_in, "/push", "a").await;
}

#[tokio::test]
async fn a_wrong_secret_is_a_matter_of_credentials() {
    let stand_in = http::start(None).await;
    let other = "whsec_b3RoZXIgc2VjcmV0IG9mIHRoZSB0ZXN0cyE=";
    let provider = provider(&stand_in, other, &Trust::default());
    assert_eq!(kinds(&push(&provider, &["a"]).await), ["credentials"]);
    stand_in.assert_no_faults();
}

#[tokio::test(start_paused = true)]
async fn silence_is_given_up() {
    let stand_in = http::start(None).await;
    let provider = provider(&stand_in, http::WEBHOOK_SECRET, &Trust::default());
    assert_deadline(&provider, &stand_in, "/push", "a").await;
}

#[tokio::test]
async fn a_certificate_is_checked() {
    let authority = Authority::new();
    let stand_in = http::start(Some(&authority)).await;
    let trusted = provider(&stand_in, http::WEBHOOK_SECRET, &authority.trust());
    let wrong = provider(&stand_in, http::WEBHOOK_SECRET, &other_trust());
    assert_certificate(&wrong, &stand_in, "a").await;
    assert_eq!(kinds(&push(&trusted, &["a"]).await), ["sent"]);
}
