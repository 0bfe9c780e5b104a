//! APNs.

use std::sync::Arc;

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
        StandIn, answer,
        apns::{self, ApnsKey, KEY_ID, TEAM_ID, TOPIC, error},
        body_of,
    },
};

/// A device of the tests.
const PHONE: &str = "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0";
const PAD: &str = "11fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0";

fn vendor(stand_in: &StandIn, key: &ApnsKey, trust: &Trust) -> Arc<dyn Vendor> {
    let mut config = Push::default();
    config.apns.url = stand_in.url();
    config.apns.key_file = key.file();
    config.apns.key_id = KEY_ID.into();
    config.apns.team_id = TEAM_ID.into();
    config.apns.topic = TOPIC.into();
    vendor_of(&config, None, trust)
}

#[tokio::test]
async fn a_notice_goes_to_each_device_with_one_token_for_all() {
    let (authority, key) = (Authority::new(), ApnsKey::new());
    let stand_in = apns::start(&authority, &key).await;
    let vendor = vendor(&stand_in, &key, &authority.trust());
    let outcomes = push(&vendor, &[PHONE, PAD]).await;
    let vendor_id = "eabeae54-14a8-11e5-b60b-1697f925ec7b".to_owned();
    let sent = Outcome::Sent { vendor_id };
    assert_eq!(outcomes, [sent.clone(), sent]);
    assert_eq!(
        kinds(&push_notice(&vendor, &large_notice(), &[PHONE]).await),
        ["sent"]
    );
    stand_in.assert_no_faults();
    let calls = stand_in.calls();
    let tokens = calls.iter().map(|call| &call.headers()["authorization"]);
    assert!(
        tokens
            .clone()
            .all(|token| Some(token) == tokens.clone().next())
    );
    let expected = json!({
        "aps": {
            "alert": {"title": "Office", "body": "Come at nine"},
            "badge": 3,
            "sound": "bell.caf",
            "thread-id": "sn_office_u1",
            "mutable-content": 1,
        },
        "server_msg_id": "07070707070707070707070707070707",
        "conversation_id": "sn_office_u1",
        "seq": 42,
        "ex": "for the app",
    });
    assert_eq!(body_of(&calls[0]), expected);
    assert_eq!(
        calls[0].headers()["apns-collapse-id"],
        "07070707070707070707070707070707"
    );
}

#[tokio::test]
async fn each_reason_has_its_meaning() {
    let (authority, key) = (Authority::new(), ApnsKey::new());
    let stand_in = apns::start(&authority, &key).await;
    let vendor = vendor(&stand_in, &key, &authority.trust());
    let meanings = [
        (400, "BadCollapseId", "refused"),
        (400, "BadDeviceToken", "gone"),
        (400, "BadExpirationDate", "refused"),
        (400, "BadMessageId", "refused"),
        (400, "BadPriority", "refused"),
        (400, "BadTopic", "credentials"),
        (400, "DeviceTokenNotForTopic", "refused"),
        (400, "DuplicateHeaders", "refused"),
        (400, "IdleTimeout", "later"),
        (400, "InvalidPushType", "refused"),
        (400, "MissingDeviceToken", "refused"),
        (400, "MissingTopic", "credentials"),
        (400, "PayloadEmpty", "refused"),
        (400, "TopicDisallowed", "credentials"),
        (403, "BadCertificate", "credentials"),
        (403, "BadCertificateEnvironment", "credentials"),
        (403, "ExpiredProviderToken", "later"),
        (403, "Forbidden", "credentials"),
        (403, "InvalidProviderToken", "credentials"),
        (403, "MissingProviderToken", "credentials"),
        (403, "UnrelatedKeyIdInToken", "credentials"),
        (403, "BadEnvironmentKeyIdInToken", "credentials"),
        (404, "BadPath", "refused"),
        (405, "MethodNotAllowed", "refused"),
        (410, "ExpiredToken", "gone"),
        (410, "Unregistered", "gone"),
        (413, "PayloadTooLarge", "refused"),
        (429, "TooManyProviderTokenUpdates", "later"),
        (429, "TooManyRequests", "later"),
        (500, "InternalServerError", "later"),
        (503, "ServiceUnavailable", "later"),
        (503, "Shutdown", "later"),
    ];
    let meanings = meanings
        .map(|(status, reason, kind)| (error(status, reason), kind))
        .into();
    assert_meanings(&vendor, &stand_in, "/3/device", PHONE, meanings).await;
    let bare = vec![(answer(410, ""), "gone"), (answer(403, ""), "credentials")];
    assert_meanings(&vendor, &stand_in, "/3/device", PHONE, bare).await;
    assert_patience(&vendor, &stand_in, "/3/device", PHONE).await;
}

#[tokio::test]
async fn what_is_no_device_token_is_forgotten_without_a_call() {
    let (authority, key) = (Authority::new(), ApnsKey::new());
    let stand_in = apns::start(&authority, &key).await;
    let vendor = vendor(&stand_in, &key, &authority.trust());
    let outcomes = push(
        &vendor,
        &["", "../3/device/x", "a b", &"f".repeat(300), PHONE],
    )
    .await;
    assert_eq!(kinds(&outcomes), ["gone", "gone", "gone", "gone", "sent"]);
    assert_eq!(stand_in.calls().len(), 1);
}

#[tokio::test]
async fn a_key_of_another_team_is_a_matter_of_credentials() {
    let (authority, key) = (Authority::new(), ApnsKey::new());
    let stand_in = apns::start(&authority, &key).await;
    let vendor = vendor(&stand_in, &ApnsKey::new(), &authority.trust());
    assert_eq!(kinds(&push(&vendor, &[PHONE]).await), ["credentials"]);
    stand_in.assert_no_faults();
}

#[tokio::test(start_paused = true)]
async fn silence_is_given_up() {
    let (authority, key) = (Authority::new(), ApnsKey::new());
    let stand_in = apns::start(&authority, &key).await;
    let vendor = vendor(&stand_in, &key, &authority.trust());
    assert_deadline(&vendor, &stand_in, "/3/device", PHONE).await;
}

#[tokio::test]
async fn a_certificate_is_checked() {
    let (authority, key) = (Authority::new(), ApnsKey::new());
    let stand_in = apns::start(&authority, &key).await;
    let wrong = vendor(&stand_in, &key, &other_trust());
    assert_certificate(&wrong, &stand_in, PHONE).await;
}
