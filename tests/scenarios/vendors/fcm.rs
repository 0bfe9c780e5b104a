//! FCM.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use towncrier::{
    config::Push,
    push::vendor::{Outcome, Vendor},
};
use towncrier_client::Trust;

use super::{
    assert_certificate, assert_deadline, assert_meanings, assert_patience, kinds, large_notice,
    other_trust, push, push_notice, vendor_of,
};
use crate::support::{
    authority::Authority,
    vendors::{
        Order, answer, body_of,
        fcm::{Google, error, invalid},
    },
};

const SEND: &str = "messages:send";

fn vendor(google: &Google, trust: &Trust) -> Arc<dyn Vendor> {
    let mut config = Push::default();
    config.fcm.url = google.stand_in.url();
    config.fcm.token_url = format!("{}/token", google.stand_in.url());
    config.fcm.service_account_file = google.account();
    vendor_of(&config, None, trust)
}

#[tokio::test]
async fn a_notice_goes_to_each_device_with_one_grant_for_all() {
    let google = Google::start(None).await;
    let vendor = vendor(&google, &Trust::default());
    let outcomes = push(&vendor, &["phone", "pad"]).await;
    let vendor_id = "projects/towncrier-tests/messages/0:1".to_owned();
    let sent = Outcome::Sent { vendor_id };
    assert_eq!(outcomes, [sent.clone(), sent]);
    assert_eq!(
        kinds(&push_notice(&vendor, &large_notice(), &["phone"]).await),
        ["sent"]
    );
    google.stand_in.assert_no_faults();
    assert_eq!(google.grants(), 1);
    let calls = google.stand_in.calls();
    let call = calls
        .iter()
        .find(|call| call.uri().path().ends_with(SEND))
        .unwrap();
    let message = &body_of(call)["message"];
    assert_eq!(
        message["notification"],
        json!({"title": "Office", "body": "Come at nine"})
    );
    let data = json!({
        "server_msg_id": "07070707070707070707070707070707",
        "conversation_id": "sn_office_u1", "seq": "42", "ex": "for the app",
    });
    assert_eq!(message["data"], data);
    assert_eq!(message["android"]["ttl"], "86400s");
    assert_eq!(message["apns"]["payload"]["aps"]["badge"], 3);
}

#[tokio::test]
async fn each_error_has_its_meaning() {
    let google = Google::start(None).await;
    let vendor = vendor(&google, &Trust::default());
    let meanings = vec![
        (error(404, "NOT_FOUND", Some("UNREGISTERED")), "gone"),
        (
            error(403, "PERMISSION_DENIED", Some("SENDER_ID_MISMATCH")),
            "gone",
        ),
        (invalid("message.token"), "gone"),
        (invalid("message.android.ttl"), "refused"),
        (error(400, "INVALID_ARGUMENT", None), "refused"),
        (
            error(400, "INVALID_ARGUMENT", Some("UNSPECIFIED_ERROR")),
            "refused",
        ),
        (
            error(429, "RESOURCE_EXHAUSTED", Some("QUOTA_EXCEEDED")),
            "later",
        ),
        (error(500, "INTERNAL", Some("INTERNAL")), "later"),
        (error(503, "UNAVAILABLE", Some("UNAVAILABLE")), "later"),
        (
            error(401, "UNAUTHENTICATED", Some("THIRD_PARTY_AUTH_ERROR")),
            "refused",
        ),
        (error(403, "PERMISSION_DENIED", None), "credentials"),
        (error(404, "NOT_FOUND", None), "credentials"),
        (answer(404, "<html>not found</html>"), "refused"),
        (answer(502, "<html>bad gateway</html>"), "later"),
    ];
    assert_meanings(&vendor, &google.stand_in, SEND, "phone", meanings).await;
    let busy = error(429, "RESOURCE_EXHAUSTED", Some("QUOTA_EXCEEDED"));
    google.stand_in.order(SEND, Order::Answer(busy));
    let outcomes = push(&vendor, &["phone"]).await;
    let [Outcome::Later { retry_after, .. }] = outcomes[..] else {
        panic!("{outcomes:?}");
    };
    assert_eq!(
        retry_after,
        Some(Duration::from_secs(60)),
        "Google's default pause"
    );
    assert_patience(&vendor, &google.stand_in, SEND, "phone").await;
}

#[tokio::test]
async fn a_grant_that_ran_out_is_renewed_once_and_the_notice_is_sent() {
    let google = Google::start(None).await;
    let vendor = vendor(&google, &Trust::default());
    push(&vendor, &["phone"]).await;
    google.forget_token();
    assert_eq!(kinds(&push(&vendor, &["phone"]).await), ["sent"]);
    assert_eq!(google.grants(), 2);
    for _ in 0..2 {
        google
            .stand_in
            .order(SEND, Order::Answer(error(401, "UNAUTHENTICATED", None)));
    }
    assert_eq!(kinds(&push(&vendor, &["phone"]).await), ["credentials"]);
    google.stand_in.assert_no_faults();
}

#[tokio::test]
async fn a_failure_of_the_grant_is_one_of_the_notice() {
    let google = Google::start(None).await;
    let vendor = vendor(&google, &Trust::default());
    let refused = |word: &str| answer(400, json!({"error": word, "error_description": "words"}));
    for (order, expected) in [
        (Order::Answer(refused("invalid_grant")), "credentials"),
        (
            Order::Answer(answer(401, json!({"error": "unauthorized_client"}))),
            "credentials",
        ),
        (Order::Answer(answer(200, "{}")), "credentials"),
        (Order::Answer(answer(503, "")), "later"),
        (Order::Cut, "later"),
    ] {
        google.stand_in.order("/token", order);
        assert_eq!(kinds(&push(&vendor, &["phone"]).await), [expected]);
    }
    assert_eq!(kinds(&push(&vendor, &["phone"]).await), ["sent"]);
}

#[tokio::test(start_paused = true)]
async fn silence_is_given_up() {
    let google = Google::start(None).await;
    let vendor = vendor(&google, &Trust::default());
    assert_deadline(&vendor, &google.stand_in, "/token", "phone").await;
}

#[tokio::test]
async fn a_certificate_is_checked() {
    let authority = Authority::new();
    let google = Google::start(Some(&authority)).await;
    let wrong = vendor(&google, &other_trust());
    assert_certificate(&wrong, &google.stand_in, "phone").await;
    let trusted = vendor(&google, &authority.trust());
    assert_eq!(kinds(&push(&trusted, &["phone"]).await), ["sent"]);
}
