//! Users who were erased are in no event that is told from then on.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    super::{HookReceiver, HookReply, HookSources, WebhooksRoom, dead_letters::DeadLetters, rows},
    fixture::{Bench, session, user},
};
use crate::{
    config::{self, Config},
    ids::{MessageId, Seq},
    log::{Erasure, Expiry, FeedPosition, Log as _, SessionBegin},
    registry::Registry,
    threads::watched,
    webhooks::{HookForgetter, event::HookEvent},
};

impl Bench {
    fn erase(&self, name: &str) -> Erasure {
        let pending = self.log.erase(user(name), self.clock.now_ms() + 1);
        pending.unwrap().blocking_recv().unwrap().unwrap()
    }
}

fn accepted(number: usize, receivers: &[&str]) -> HookEvent {
    let receivers: Vec<_> = receivers
        .iter()
        .map(|name| json!({ "user_id": name, "seq": 1 }))
        .collect();
    HookEvent::new(
        crate::ids::Epoch(1),
        config::EventKind::MessageAccepted,
        &[&number.to_be_bytes()],
        5,
        json!({ "receivers": receivers }),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_and_letters_lose_an_erased_user_and_keep_the_others() {
    let bench = Bench::new();
    let mut run = bench.start().await;
    run.all().await;
    let letters = DeadLetters::open(bench.log.clone(), Arc::default()).await;
    let letters = Arc::new(letters.unwrap());
    let events = [&["alice"][..], &["alice", "bob"], &["bob"]];
    let events = (0..)
        .zip(events)
        .map(|(number, names)| accepted(number, names));
    bench.put(letters.add(events.collect(), "HTTP 404", 7));
    for name in ["alice", "bob"] {
        let sent = run
            .pushes
            .sent(MessageId([1; 16]), &user(name), "http", "v");
        bench.put(sent.map(|event| event.row()).into_iter().collect());
        let expiry = Expiry {
            position: FeedPosition(7),
            user: Some(user(name)),
            range: (1, 1),
            time_ms: 5,
        };
        let (key, value) = expiry.row();
        bench.put(vec![rows::put(key, value)]);
        let begun = SessionBegin {
            epoch: bench.log.rows().epoch(),
            cursor: Seq(1),
            time_ms: 5,
        };
        let key = SessionBegin::key(&session(name, "d"));
        bench.put(vec![rows::put(key, begun.value())]);
        bench.send(&[name]);
    }
    let erasure = tokio::task::block_in_place(|| bench.erase("alice"));
    let (orders, mut taken) = tokio::sync::mpsc::channel(4);
    let forgetter = HookForgetter::new(bench.log.clone(), Arc::clone(&letters), orders);
    let thread = tokio::spawn(async move {
        let mut pushes = 0;
        while let Some(order) = taken.recv().await {
            let order: super::super::forget::ForgetOrder = order;
            pushes += order.pushes;
            order.done.send(()).unwrap();
        }
        pushes
    });
    forgetter.forget(&user("alice"), &erasure).await.unwrap();
    drop(forgetter);
    assert_eq!(thread.await.unwrap(), 1);
    let all = bench.kept(b"").await;
    let is_of_alice = |(key, value): &(bytes::Bytes, bytes::Bytes)| {
        let has = |bytes: &[u8]| bytes.windows(5).any(|some| some == b"alice");
        !key.starts_with(crate::log::ERASING_PREFIX) && (has(key) || has(value))
    };
    let left: Vec<_> = all.iter().filter(|row| is_of_alice(row)).collect();
    assert!(left.is_empty(), "{left:?}");
    for prefix in [
        rows::PUSH_PREFIX,
        crate::log::EXPIRY_PREFIX,
        SessionBegin::PREFIX,
    ] {
        assert_eq!(bench.kept(prefix).await.len(), 1, "bob's stays");
    }
    let list = letters.list(0, 10).await.unwrap();
    let receivers = |letter: &super::super::DeadLetter| -> Value {
        serde_json::from_str::<Value>(letter.event.get()).unwrap()["data"]["receivers"].clone()
    };
    let bob = json!([{ "user_id": "bob", "seq": 1 }]);
    assert_eq!(
        list.iter().map(receivers).collect::<Vec<_>>(),
        [bob.clone(), bob]
    );
    assert_eq!(
        (letters.count(), letters.send_again(None).await.unwrap()),
        (2, 2)
    );
    let told = run.all().await;
    let text = json!(told).to_string();
    assert!(!text.contains("alice") && text.contains("bob"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_written_late_are_not_told() {
    let bench = Bench::new();
    let mut run = bench.start().await;
    run.all().await;
    bench.send(&["alice"]);
    let late = run
        .pushes
        .sent(MessageId([1; 16]), &user("alice"), "http", "v");
    tokio::task::block_in_place(|| bench.erase("alice"));
    bench.put(late.map(|event| event.row()).into_iter().collect());
    assert_eq!(run.all().await, Vec::<Value>::new());
    assert_eq!(bench.kept(rows::PUSH_PREFIX).await, []);
}

/// A receiver that is away, or takes everything.
#[derive(Default)]
struct Stand {
    is_there: Mutex<bool>,
    bodies: watch::Sender<Vec<String>>,
}

impl HookReceiver for Stand {
    fn take<'a>(&'a self, _: &'a str, _: u64, body: &'a bytes::Bytes) -> BoxFuture<'a, HookReply> {
        let body = String::from_utf8(body.to_vec()).unwrap();
        self.bodies.send_modify(|bodies| bodies.push(body));
        let is_there = *self.is_there.lock().unwrap();
        Box::pin(async move {
            match is_there {
                true => HookReply::Status(200, None),
                // The request hangs.
                false => std::future::pending().await,
            }
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_under_way_is_given_up_and_composed_anew() {
    let bench = Bench::new();
    let config = Config::default();
    let sources = HookSources {
        log: bench.log.clone(),
        registry: Arc::new(Registry::new(&config.sessions, Arc::default())),
        clock: bench.clock.clone(),
        metrics: Arc::default(),
    };
    let stand = Arc::new(Stand::default());
    let room = WebhooksRoom::open(&config, sources, stand.clone())
        .await
        .unwrap();
    let forgetter = room.forgetter();
    let (stop, stopped) = watch::channel(false);
    bench.send(&["alice"]);
    bench.send(&["alice", "bob"]);
    let running = tokio::spawn(async move {
        let (pulse, _watched) = watched("webhooks");
        room.run(&pulse, stopped).await;
    });
    let mut bodies = stand.bodies.subscribe();
    let has_alice = |bodies: &Vec<String>| bodies.iter().any(|body| body.contains("alice"));
    bodies.wait_for(has_alice).await.unwrap();
    let erasure = tokio::task::block_in_place(|| bench.erase("alice"));
    let before = stand.bodies.borrow().len();
    *stand.is_there.lock().unwrap() = true;
    forgetter.forget(&user("alice"), &erasure).await.unwrap();
    let has_bob = |bodies: &Vec<String>| {
        bodies[before.min(bodies.len())..]
            .iter()
            .any(|body| body.contains("bob"))
    };
    let come = tokio::time::timeout(Duration::from_secs(30), bodies.wait_for(has_bob));
    drop(come.await.unwrap().unwrap());
    let later = stand.bodies.borrow()[before..].to_vec();
    assert!(
        later.iter().all(|body| !body.contains("alice")),
        "{later:?}"
    );
    stop.send_replace(true);
    running.await.unwrap();
}
