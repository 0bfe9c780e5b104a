//! The calls on a log in memory: whose call it is, what is taken, and who loses which device.

use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::json;
use tower::ServiceExt as _;

use super::*;
use crate::{
    clock::tests::manual::Manual,
    config::Config,
    gateway::Base,
    ids::{SessionKey, UserId},
    log::tests::memory::{Fault, MemoryLog},
    message::{
        DEVICE_APP_BYTES_MAX, DEVICE_LANG_BYTES_MAX, DEVICE_TOKEN_BYTES_MAX, Device, Provider,
    },
};

const APNS: &str = "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0";

struct World {
    router: Router,
    base: Base<MemoryLog>,
    machine: Arc<Manual>,
}

fn user(id: &str) -> UserId {
    UserId::new(id).unwrap()
}

fn fcm(token: &str) -> Value {
    json!({ "provider": "fcm", "token": token, "platform": 2, "app": "oa", "lang": "zh-CN" })
}

fn subscription(endpoint: &str) -> Value {
    let key =
        "BAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc";
    json!({ "endpoint": endpoint, "keys": { "p256dh": key, "auth": "CQkJCQkJCQkJCQkJCQkJCQ" } })
}

impl World {
    fn new() -> Self {
        let machine = Manual::new();
        let config = Config::default();
        let (clock, log) = (machine.clock(), MemoryLog::default());
        let base = Base::build(&config, Arc::default(), clock, log);
        Self {
            router: router(Arc::clone(&base.delivery)),
            base,
            machine,
        }
    }

    /// A new token. Each comes at a time of its own.
    fn token(&self, of: &str, platform: Platform) -> String {
        self.machine.advance(1);
        let now_ms = self.base.delivery.now_ms();
        self.base.tokens.issue(&user(of), platform, now_ms).token
    }

    async fn ask(
        &self,
        method: Method,
        token: Option<&str>,
        body: impl Into<Body>,
    ) -> (u16, Value) {
        let mut request = Request::builder().method(method).uri(DEVICES_PATH);
        if let Some(token) = token {
            request = request.header("token", token);
        }
        let request = request.body(body.into()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        assert_eq!(response.headers()["content-type"], "application/json");
        let waits = [
            StatusCode::TOO_MANY_REQUESTS,
            StatusCode::SERVICE_UNAVAILABLE,
        ];
        let has_wait = response.headers().contains_key("retry-after");
        assert_eq!(waits.contains(&status), has_wait);
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let answer: Value = serde_json::from_slice(&bytes).unwrap();
        if !status.is_success() {
            assert_eq!(answer["errCode"], status.as_u16());
            assert!(answer["errMsg"].as_str().is_some_and(|text| text.len() > 8));
        }
        (status.as_u16(), answer)
    }

    async fn register(&self, token: &str, body: &Value) -> u16 {
        self.ask(Method::POST, Some(token), body.to_string())
            .await
            .0
    }

    async fn remove(&self, token: &str, body: &Value) -> u16 {
        self.ask(Method::DELETE, Some(token), body.to_string())
            .await
            .0
    }

    async fn devices(&self, of: &str) -> Vec<Device> {
        self.base.delivery.devices(&user(of)).await.unwrap()
    }

    async fn tokens_of(&self, of: &str) -> Vec<String> {
        let devices = self.devices(of).await;
        devices.into_iter().map(|device| device.token).collect()
    }

    fn counted(&self, provider: &str, outcome: &str) -> Option<String> {
        let text = self.base.metrics.render();
        let lines = text
            .lines()
            .filter(|line| line.starts_with("towncrier_devices_total{"));
        let labels = [
            format!("provider=\"{provider}\""),
            format!("outcome=\"{outcome}\""),
        ];
        let mut these = lines.filter(|line| labels.iter().all(|label| line.contains(label)));
        Some(these.next()?.rsplit(' ').next()?.to_owned())
    }
}

#[tokio::test]
async fn a_device_is_registered_listed_and_removed() {
    let world = World::new();
    let token = world.token("u1", Platform::Android);
    assert_eq!(world.register(&token, &fcm("one")).await, 200);
    let devices = world.devices("u1").await;
    let expected = Device {
        provider: Provider::Fcm,
        token: "one".into(),
        user: user("u1"),
        platform: Some(Platform::Android),
        app: "oa".into(),
        lang: "zh-CN".into(),
        token_hash: devices[0].token_hash,
        registered_at_ms: world.base.delivery.now_ms(),
    };
    assert_eq!(devices, [expected]);
    assert_eq!(world.devices("u2").await, []);
    let foreign = world.token("u2", Platform::Android);
    assert_eq!(world.remove(&foreign, &fcm("one")).await, 200);
    assert_eq!(world.devices("u1").await.len(), 1, "it is not u2's");
    assert_eq!(world.remove(&token, &fcm("one")).await, 200);
    assert_eq!(world.remove(&token, &fcm("one")).await, 200);
    assert_eq!(world.devices("u1").await, []);
    assert_eq!(world.counted("fcm", "registered").as_deref(), Some("1"));
    assert_eq!(world.counted("fcm", "removed").as_deref(), Some("1"));
}

#[tokio::test]
async fn a_call_without_a_good_token_is_refused_before_its_body_is_looked_at() {
    let world = World::new();
    let token = world.token("u1", Platform::Android);
    for method in [Method::GET, Method::POST, Method::DELETE] {
        for bad in [None, Some(""), Some("no token")] {
            let (status, _) = world.ask(method.clone(), bad, "no body").await;
            assert_eq!(status, 401);
        }
    }
    world.machine.advance(1);
    let log_out = world.base.delivery.log_out(user("u1"), Platform::Android);
    log_out.await.unwrap();
    assert_eq!(world.register(&token, &fcm("one")).await, 401);
    assert_eq!(world.devices("u1").await, []);
}

#[tokio::test]
async fn pages_learn_the_key_of_web_push_once_the_gateway_has_one() {
    let world = World::new();
    let token = world.token("u1", Platform::Web);
    let ask = || world.ask(Method::GET, Some(&token), "");
    assert_eq!(ask().await, (200, json!({ "webpush_key": null })));
    world.base.delivery.offer_webpush_key("BKey".into());
    assert_eq!(ask().await, (200, json!({ "webpush_key": "BKey" })));
}

#[tokio::test]
async fn bodies_of_another_form_are_refused() {
    let world = World::new();
    let token = world.token("u1", Platform::Ios);
    let apns = |name: &str, value: Value| {
        let mut body = json!({ "provider": "apns", "token": APNS });
        body[name] = value;
        body.to_string().into_bytes()
    };
    let long = |bytes| json!("a".repeat(bytes));
    let wrong: [Vec<u8>; 22] = [
        b"".into(),
        b"{}".into(),
        b"[]".into(),
        b"null".into(),
        b"{\"provider\": \"apns\", \"token\": \"\xff\xfe\"}".into(),
        apns("provider", json!("APNS")),
        apns("provider", json!("getui")),
        apns("provider", json!("jpush")),
        apns("provider", json!(3)),
        apns("provider", Value::Null),
        apns("token", json!("")),
        apns("token", json!("not hexadecimal!")),
        apns("token", json!("abc")),
        apns("token", json!(7)),
        apns("token", long(DEVICE_TOKEN_BYTES_MAX + 2)),
        apns("platform", json!(12)),
        apns("platform", json!("IOS")),
        apns("platform", json!(5)),
        apns("app", long(DEVICE_APP_BYTES_MAX + 1)),
        apns("app", json!("a\nb")),
        apns("lang", long(DEVICE_LANG_BYTES_MAX + 1)),
        apns("lang", json!("zh CN")),
    ];
    for body in wrong {
        let shown = String::from_utf8_lossy(&body).into_owned();
        let (status, _) = world.ask(Method::POST, Some(&token), body).await;
        assert_eq!(status, 400, "{shown}");
    }
    assert_eq!(world.devices("u1").await, []);
    assert!(world.counted("apns", "refused").is_some());
    assert!(world.counted("unknown", "refused").is_some());
    let fits = json!({
        "provider": "apns", "token": APNS.to_uppercase(), "platform": null, "app": "a".repeat(DEVICE_APP_BYTES_MAX),
        "lang": "zh-Hans-CN", "other": 7,
    });
    assert_eq!(world.register(&token, &fits).await, 200);
    assert_eq!(world.tokens_of("u1").await, [APNS]);
}

#[tokio::test]
async fn a_subscription_is_taken_as_text_or_object_and_only_at_a_browsers_service() {
    let world = World::new();
    let token = world.token("u1", Platform::Web);
    let body = |subscription: Value| json!({ "provider": "webpush", "token": subscription });
    let good = subscription("https://web.push.apple.com/one");
    for given in [good.clone(), json!(good.to_string())] {
        assert_eq!(world.register(&token, &body(given)).await, 200);
        assert_eq!(world.devices("u1").await.len(), 1);
    }
    // The same subscription with another secret takes the place of the first.
    let mut renewed = good.clone();
    renewed["keys"]["auth"] = json!("CAgICAgICAgICAgICAgICA");
    assert_eq!(world.register(&token, &body(renewed)).await, 200);
    assert_eq!(world.devices("u1").await.len(), 1);
    for endpoint in [
        "https://127.0.0.1/one",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/one",
        "https://localhost/one",
        "http://web.push.apple.com/one",
        "https://web.push.apple.com:25/one",
        "https://a@web.push.apple.com/one",
        "https://web.push.apple.com.example.com/one",
        "https://example.com/one",
    ] {
        let status = world.register(&token, &body(subscription(endpoint))).await;
        assert_eq!(status, 400, "{endpoint}");
    }
    assert_eq!(world.remove(&token, &body(good)).await, 200);
    assert_eq!(world.devices("u1").await, []);
}

#[tokio::test]
async fn a_device_belongs_to_the_user_who_registered_it_last() {
    let world = World::new();
    let (one, other) = (
        world.token("u1", Platform::Android),
        world.token("u2", Platform::Android),
    );
    let (before, of_other) = (
        world.base.delivery.devices_version(&user("u1")),
        world.base.delivery.devices_version(&user("u2")),
    );
    assert_eq!(world.register(&one, &fcm("shared")).await, 200);
    assert_ne!(world.base.delivery.devices_version(&user("u1")), before);
    assert_eq!(world.register(&other, &fcm("shared")).await, 200);
    assert_ne!(world.base.delivery.devices_version(&user("u2")), of_other);
    assert_eq!(world.tokens_of("u1").await, [""; 0]);
    assert_eq!(world.tokens_of("u2").await, ["shared"]);
    assert_eq!(world.counted("fcm", "moved").as_deref(), Some("1"));
    assert_eq!(world.register(&one, &fcm("shared")).await, 200);
    assert_eq!(world.tokens_of("u2").await, [""; 0]);
    assert_eq!(world.tokens_of("u1").await, ["shared"]);
}

#[tokio::test]
async fn one_device_too_many_takes_the_place_of_the_oldest_one_in_use() {
    let world = World::new();
    let token = world.token("u1", Platform::Android);
    let names: Vec<_> = (0..17).map(|number| format!("d{number}")).collect();
    for name in &names[..16] {
        assert_eq!(world.register(&token, &fcm(name)).await, 200);
        world.machine.advance(1);
    }
    // The first one is in use a day later, so the second one is the oldest.
    world.machine.advance(24 * 3_600_000);
    assert_eq!(world.register(&token, &fcm("d0")).await, 200);
    assert_eq!(world.register(&token, &fcm("d16")).await, 200);
    let left = world.tokens_of("u1").await;
    assert_eq!(left.len(), 16);
    assert!(!left.contains(&names[1]), "{left:?}");
    assert_eq!(world.counted("fcm", "displaced").as_deref(), Some("1"));
}

#[tokio::test]
async fn a_repeat_writes_nothing_and_a_change_is_written() {
    let world = World::new();
    let token = world.token("u1", Platform::Android);
    for _ in 0..3 {
        assert_eq!(world.register(&token, &fcm("one")).await, 200);
        world.machine.advance(1000);
    }
    assert_eq!(world.counted("fcm", "registered").as_deref(), Some("1"));
    assert_eq!(world.counted("fcm", "unchanged").as_deref(), Some("2"));
    let mut english = fcm("one");
    english["lang"] = json!("en");
    assert_eq!(world.register(&token, &english).await, 200);
    let devices = world.devices("u1").await;
    assert_eq!((devices.len(), &*devices[0].lang), (1, "en"));
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_registrations_of_one_user_keep_16_devices_and_are_slowed_down() {
    let world = World::new();
    let token = world.token("u1", Platform::Android);
    let mut taken = 0;
    for number in 0..10_000 {
        let status = world
            .register(&token, &fcm(&format!("token-{number}")))
            .await;
        assert!([200, 429].contains(&status), "{status}");
        taken += usize::from(status == 200);
    }
    assert_eq!(taken, 30);
    assert_eq!(world.devices("u1").await.len(), 16);
    let of_all_users = world.base.log.rows().device_rows();
    assert_eq!(of_all_users, 2 * 16, "nothing is left of the others");
    let other = world.token("u2", Platform::Android);
    assert_eq!(world.register(&other, &fcm("other")).await, 200);
}

#[tokio::test]
async fn a_logout_removes_the_devices_of_its_platform_or_of_its_token() {
    let world = World::new();
    let delivery = &world.base.delivery;
    let phone = world.token("u1", Platform::Android);
    let phone_too = world.token("u1", Platform::Android);
    let page = world.token("u1", Platform::Web);
    let on_page = |token: &str| json!({ "provider": "http", "token": token });
    let wrong = fcm("a token with spaces");
    assert_eq!(world.register(&phone, &wrong).await, 400);
    for (token, body) in [(&phone, fcm("phone")), (&page, on_page("page"))] {
        world.machine.advance(1);
        assert_eq!(world.register(token, &body).await, 200);
    }
    assert_eq!(world.register(&phone_too, &fcm("phone-too")).await, 200);
    let hash = world.devices("u1").await[0].token_hash;
    let login = SessionKey {
        user: user("u1"),
        platform: Platform::Android,
        device: SessionKey::openim_device(&hash),
    };
    delivery.remove_devices_of_login(&login).await.unwrap();
    assert_eq!(world.tokens_of("u1").await, ["page", "phone-too"]);
    let revoked = delivery.log_out(user("u1"), Platform::Android);
    revoked.await.unwrap();
    assert_eq!(world.tokens_of("u1").await, ["page"]);
    assert_eq!(world.counted("fcm", "logged_out").as_deref(), Some("2"));
}

#[tokio::test]
async fn a_device_that_its_vendor_forgot_is_removed_unless_it_came_back() {
    let world = World::new();
    let token = world.token("u1", Platform::Android);
    assert_eq!(world.register(&token, &fcm("one")).await, 200);
    let gone = world.devices("u1").await.remove(0);
    let mut english = fcm("one");
    english["lang"] = json!("en");
    world.machine.advance(1);
    assert_eq!(world.register(&token, &english).await, 200);
    let delivery = &world.base.delivery;
    delivery.remove_gone_device(gone).await.unwrap();
    let back = world.devices("u1").await;
    assert_eq!(back.len(), 1);
    delivery.remove_gone_device(back[0].clone()).await.unwrap();
    assert_eq!(world.devices("u1").await, []);
    assert_eq!(world.counted("fcm", "gone").as_deref(), Some("1"));
}

#[tokio::test]
async fn a_registration_that_the_log_refuses_is_told_to_come_back() {
    let world = World::new();
    let token = world.token("u1", Platform::Android);
    let full = crate::log::AppendError::QueueFull;
    world.base.log.fail(Fault::Refuse(full));
    assert_eq!(world.register(&token, &fcm("one")).await, 503);
    world.base.log.rows().fault = None;
    assert_eq!(world.register(&token, &fcm("one")).await, 200);
    world.base.delivery.start_draining();
    assert_eq!(world.register(&token, &fcm("two")).await, 503);
    assert_eq!(world.remove(&token, &fcm("one")).await, 503);
    assert_eq!(world.tokens_of("u1").await, ["one"]);
}
