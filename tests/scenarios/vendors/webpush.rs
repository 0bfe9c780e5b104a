//! Web Push.

use std::sync::Arc;

use serde_json::{Value, json};
use towncrier::{
    config::{Config, Push, WebPushKey},
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
        browser::{Browser, PUSH_HOST},
        webpush::{self, SUBJECT},
    },
};

/// A browser, its push service, and the gateway's key.
struct World {
    browser: Arc<Browser>,
    stand_in: StandIn,
    key: WebPushKey,
}

impl World {
    async fn new(tls: Option<&Authority>) -> Self {
        let (browser, key) = (Arc::new(Browser::new()), random_key());
        let stand_in = webpush::start(tls, Arc::clone(&browser), key.public.clone()).await;
        Self {
            browser,
            stand_in,
            key,
        }
    }

    fn vendor(&self, trust: &Trust) -> Arc<dyn Vendor> {
        self.vendor_with(&self.key, trust)
    }

    fn vendor_with(&self, key: &WebPushKey, trust: &Trust) -> Arc<dyn Vendor> {
        let mut config = Push::default();
        config.webpush.subject = SUBJECT.into();
        config.webpush.url = self.stand_in.url();
        vendor_of(&config, Some(key), trust)
    }
}

/// A key as the first start writes it.
fn random_key() -> WebPushKey {
    let temp = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.log.dir = temp.path().into();
    config.push.webpush.subject = SUBJECT.into();
    config.read_or_create_webpush_key().unwrap().unwrap()
}

#[tokio::test]
async fn only_the_browser_reads_a_notice() {
    let world = World::new(None).await;
    let vendor = world.vendor(&Trust::default());
    let subscription = world.browser.subscription();
    let vendor_id = format!("https://{PUSH_HOST}/m/1");
    assert_eq!(
        push(&vendor, &[&subscription]).await,
        [Outcome::Sent { vendor_id }]
    );
    let outcomes = push_notice(&vendor, &large_notice(), &[&subscription]).await;
    assert_eq!(kinds(&outcomes), ["sent"]);
    world.stand_in.assert_no_faults();
    let calls = world.stand_in.calls();
    let plain = world.browser.decrypt(calls[0].body()).unwrap();
    let plain: Value = serde_json::from_slice(&plain).unwrap();
    let expected = json!({
        "title": "Office",
        "body": "Come at nine",
        "badge": 3,
        "server_msg_id": "07070707070707070707070707070707",
        "conversation_id": "sn_office_u1",
        "seq": 42,
        "ex": "for the app",
    });
    assert_eq!(plain, expected);
    assert_eq!(
        calls[0].headers()["topic"],
        "07070707070707070707070707070707"
    );
    assert!(Browser::new().decrypt(calls[0].body()).is_err());
}

#[tokio::test]
async fn each_status_has_its_meaning() {
    let world = World::new(None).await;
    let vendor = world.vendor(&Trust::default());
    let meanings = [
        (200, "sent"),
        (201, "sent"),
        (202, "sent"),
        (301, "refused"),
        (400, "refused"),
        (401, "refused"),
        (403, "refused"),
        (404, "gone"),
        (410, "gone"),
        (413, "refused"),
        (429, "later"),
        (500, "later"),
        (502, "later"),
        (503, "later"),
    ];
    let meanings = meanings
        .map(|(status, kind)| (answer(status, "words"), kind))
        .into();
    let subscription = world.browser.subscription();
    assert_meanings(&vendor, &world.stand_in, "/wpush", &subscription, meanings).await;
    assert_patience(&vendor, &world.stand_in, "/wpush", &subscription).await;
}

#[tokio::test]
async fn one_bad_subscription_stops_no_other() {
    let world = World::new(None).await;
    let vendor = world.vendor(&Trust::default());
    let (good, unknown) = (world.browser.subscription(), Browser::new().subscription());
    let elsewhere = good.replace(PUSH_HOST, "push.evil.example");
    let outcomes = push(&vendor, &["{}", &elsewhere, &unknown, &good]).await;
    assert_eq!(kinds(&outcomes), ["gone", "gone", "gone", "sent"]);
    assert_eq!(
        world.stand_in.calls().len(),
        2,
        "the first two are never called"
    );
    let other = world.vendor_with(&random_key(), &Trust::default());
    assert_eq!(kinds(&push(&other, &[&good]).await), ["refused"]);
    world.stand_in.assert_no_faults();
}

#[tokio::test(start_paused = true)]
async fn silence_is_given_up() {
    let world = World::new(None).await;
    let vendor = world.vendor(&Trust::default());
    let subscription = world.browser.subscription();
    assert_deadline(&vendor, &world.stand_in, "/wpush", &subscription).await;
}

#[tokio::test]
async fn a_certificate_is_checked() {
    let authority = Authority::new();
    let world = World::new(Some(&authority)).await;
    let wrong = world.vendor(&other_trust());
    assert_certificate(&wrong, &world.stand_in, &world.browser.subscription()).await;
}
