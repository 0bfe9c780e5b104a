//! Each vendor against its stand-in: what is accepted, what each documented error means, and what a bad line or a wrong
//! certificate does. No gateway runs here: a vendor is called as a worker calls it.
//!
//! - `http.rs`, `jpush.rs`, `getui.rs`, `apns.rs`, `fcm.rs`, `webpush.rs`: the vendors

mod apns;
mod fcm;
mod getui;
mod http;
mod jpush;
mod webpush;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use hyper::Response;
use towncrier::{
    clock::Clock,
    config::{Push, WebPushKey},
    ids::{MessageId, Platform, Seq, UserId},
    message::{Device, Provider},
    push::vendor::{Notice, Outcome, Vendor, vendors},
};
use towncrier_client::Trust;

use crate::support::{
    authority::Authority,
    vendors::{Order, StandIn, answer},
};

/// The one vendor of a configuration.
fn vendor_of(push: &Push, key: Option<&WebPushKey>, trust: &Trust) -> Arc<dyn Vendor> {
    let clock = Arc::new(Clock::system());
    let mut vendors = vendors(push, key, &clock, trust).unwrap();
    assert_eq!(vendors.len(), 1, "the configuration has one vendor");
    vendors.remove(0)
}

fn device(provider: Provider, token: &str) -> Device {
    Device {
        provider,
        token: token.into(),
        user: UserId::new("u1").unwrap(),
        platform: Some(Platform::Ios),
        app: String::new(),
        lang: "zh-CN".into(),
        token_hash: [0; 32],
        registered_at_ms: 0,
    }
}

fn notice() -> Notice {
    Notice {
        id: MessageId([7; 16]),
        user: UserId::new("u1").unwrap(),
        conversation_id: "sn_office_u1".into(),
        seq: Seq(42),
        title: "Office".into(),
        body: "Come at nine".into(),
        ex: "for the app".into(),
        sound: "bell.caf".into(),
        badge: Some(3),
        text: None,
        expires_in: Duration::from_secs(86_400),
    }
}

/// A notice at every bound of the admin API.
fn large_notice() -> Notice {
    Notice {
        title: "题".repeat(1000).into(),
        body: "\u{1f600}\"正文\n".repeat(1000).into(),
        ex: "x".repeat(8000).into(),
        conversation_id: "c".repeat(132).into(),
        ..notice()
    }
}

async fn push(vendor: &Arc<dyn Vendor>, tokens: &[&str]) -> Vec<Outcome> {
    push_notice(vendor, &notice(), tokens).await
}

async fn push_notice(vendor: &Arc<dyn Vendor>, notice: &Notice, tokens: &[&str]) -> Vec<Outcome> {
    let devices = tokens.iter().map(|token| device(vendor.provider(), token));
    let devices: Vec<_> = devices.collect();
    let outcomes = vendor.push(notice, &devices).await;
    assert_eq!(outcomes.len(), devices.len());
    outcomes
}

/// The outcome's kind, as the tables of the tests have it.
fn kind(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Sent { .. } => "sent",
        Outcome::Gone { .. } => "gone",
        Outcome::Later { .. } => "later",
        Outcome::Refused { .. } => "refused",
        Outcome::Credentials { .. } => "credentials",
    }
}

fn kinds(outcomes: &[Outcome]) -> Vec<&'static str> {
    outcomes.iter().map(kind).collect()
}

/// Each answer in turn means this kind for a push to this device.
async fn assert_meanings(
    vendor: &Arc<dyn Vendor>,
    stand_in: &StandIn,
    part: &str,
    token: &str,
    meanings: Vec<(Response<Bytes>, &str)>,
) {
    for (answer, expected) in meanings {
        let words = format!("{answer:?}");
        stand_in.order(part, Order::Answer(answer));
        let outcomes = push(vendor, &[token]).await;
        assert_eq!(kinds(&outcomes), [expected], "{words}: {outcomes:?}");
    }
}

/// A vendor that is down, slow with words, or cuts the line gets the notice later, and after the pause that it asks for.
async fn assert_patience(vendor: &Arc<dyn Vendor>, stand_in: &StandIn, part: &str, token: &str) {
    let mut busy = answer(503, "down");
    busy.headers_mut()
        .insert("retry-after", "17".parse().unwrap());
    stand_in.order(part, Order::Answer(busy));
    let outcomes = push(vendor, &[token]).await;
    let [Outcome::Later { retry_after, .. }] = outcomes[..] else {
        panic!("{outcomes:?}");
    };
    assert_eq!(retry_after, Some(Duration::from_secs(17)));

    stand_in.order(part, Order::Cut);
    assert_eq!(kinds(&push(vendor, &[token]).await), ["later"]);
    stand_in.order(
        part,
        Order::Answer(answer(200, "<html>a proxy's page</html>")),
    );
    let outcomes = push(vendor, &[token]).await;
    assert_ne!(kinds(&outcomes), ["gone"], "{outcomes:?}");
    stand_in.order(part, Order::Delay(Duration::from_millis(1)));
    assert_eq!(kinds(&push(vendor, &[token]).await), ["sent"]);
    stand_in.assert_no_faults();
}

/// A vendor that never answers is given up in time. The test's clock is paused, so that the time passes at once.
async fn assert_deadline(vendor: &Arc<dyn Vendor>, stand_in: &StandIn, part: &str, token: &str) {
    stand_in.order(part, Order::Silence);
    assert_eq!(kinds(&push(vendor, &[token]).await), ["later"]);
}

/// A certificate of another authority gets no request.
async fn assert_certificate(vendor: &Arc<dyn Vendor>, stand_in: &StandIn, token: &str) {
    let outcomes = push(vendor, &[token]).await;
    let [Outcome::Later { reason, .. }] = &outcomes[..] else {
        panic!("{outcomes:?}");
    };
    assert!(reason.starts_with("TLS: "), "{reason}");
    assert!(stand_in.calls().is_empty());
}

/// An authority that signed nothing here.
fn other_trust() -> Trust {
    Authority::new().trust()
}
