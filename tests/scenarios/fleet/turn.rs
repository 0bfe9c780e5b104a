//! Vendor push and webhooks run at one gateway of a fleet: each event is told and each push is made once in quiet times, and another
//! gateway goes on after the first was killed.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::gateways_with;
use crate::support::{
    Gateway, IOS, eventually, notice,
    postgres::Postgres,
    receiver::{Receiver, SECRET_1},
    vendor::VendorStand,
};

/// Two gateways that send events to the receiver and pushes to the stand-in.
struct Fleet {
    receiver: Receiver,
    vendor: VendorStand,
    gateways: [Gateway; 2],
    _server: Postgres,
}

impl Fleet {
    async fn start() -> Option<Self> {
        let (receiver, vendor) = (Receiver::start().await, VendorStand::start().await);
        let url = format!("webhooks.url={}", receiver.url());
        let secret = format!("webhooks.secrets={SECRET_1}");
        let [push, push_secret] = vendor.settings();
        let settings = [&*url, &secret, &push, &push_secret, "push.after=1s"];
        let (server, gateways) = gateways_with(&settings).await?;
        for gateway in &gateways {
            let token = gateway.token("alice", IOS).await;
            gateway.register_device(&token, "phone of alice").await;
        }
        Some(Self {
            receiver,
            vendor,
            gateways,
            _server: server,
        })
    }

    /// The gateway that has the turn.
    async fn holder(&self) -> usize {
        let works = |gateway: &Gateway| {
            let log = gateway.said();
            log.contains("webhooks run at this gateway now")
                && log.contains("vendor push runs at this gateway now")
        };
        eventually("a gateway with the turn", async || {
            self.gateways.iter().any(works)
        })
        .await;
        self.gateways.iter().position(works).unwrap()
    }

    /// Sends at a gateway, and returns the message's id.
    async fn send(&self, at: usize, text: &str) -> String {
        let mut admin = self.gateways[at].admin().await;
        admin.send(&notice("alice", text)).await.server_msg_id
    }

    /// The ids of the messages of these events, each as often as it was told.
    fn told(&self, kind: &str) -> HashMap<String, usize> {
        let mut events = self.receiver.events();
        events.retain(|event| event["type"] == kind);
        let mut told = HashMap::new();
        for event in events {
            let id = event["data"]["server_msg_id"].as_str().unwrap();
            *told.entry(id.to_owned()).or_default() += 1;
        }
        told
    }

    /// Waits until all these messages are told as accepted and pushed. Returns how often each was pushed.
    async fn until_told(&mut self, messages: &[String]) -> HashMap<String, usize> {
        let mut pushed = HashMap::<String, usize>::new();
        while !messages.iter().all(|id| pushed.contains_key(id)) {
            let push = self.vendor.expect_push().await;
            let id = push["server_msg_id"].as_str().unwrap().to_owned();
            *pushed.entry(id).or_default() += 1;
        }
        for kind in ["message.accepted", "push.sent"] {
            eventually(kind, async || {
                let told = self.told(kind);
                messages.iter().all(|id| told.contains_key(id))
            })
            .await;
        }
        pushed
    }
}

#[tokio::test]
async fn in_a_fleet_each_event_is_told_once_and_each_push_is_made_once() {
    let Some(mut fleet) = Fleet::start().await else {
        return;
    };
    fleet.holder().await;
    let mut messages = Vec::new();
    for number in 0..20 {
        let at = number % 2;
        messages.push(fleet.send(at, &number.to_string()).await);
    }
    let pushed = fleet.until_told(&messages).await;
    // A last message: whatever another gateway would have told twice has been told by then.
    let last = fleet.send(0, "the last one").await;
    let pushed_last = fleet.until_told(std::slice::from_ref(&last)).await;
    assert_eq!(pushed_last, HashMap::from([(last.clone(), 1)]));
    messages.push(last);
    let once: HashMap<_, _> = messages.into_iter().map(|id| (id, 1)).collect();
    assert_eq!(pushed.len() + 1, once.len());
    assert!(pushed.values().all(|count| *count == 1), "{pushed:?}");
    for kind in ["message.accepted", "push.sent"] {
        assert_eq!(fleet.told(kind), once, "{kind}");
    }
    assert!(fleet.vendor.is_quiet());
    let kinds = fleet.receiver.events().into_iter();
    let mut kinds = kinds.map(|event| event["type"].clone());
    assert!(!kinds.any(|kind: Value| kind == json!("user.state")));
}

#[tokio::test]
async fn after_kill_9_of_the_gateway_with_the_turn_another_tells_and_pushes_the_rest() {
    let Some(mut fleet) = Fleet::start().await else {
        return;
    };
    let holder = fleet.holder().await;
    let other = 1 - holder;
    let mut messages = Vec::new();
    for number in 0..10 {
        messages.push(fleet.send(number % 2, &number.to_string()).await);
    }
    fleet.until_told(&messages[..1]).await;
    // In the middle of its work, and with decisions that are not due.
    for number in 10..20 {
        messages.push(fleet.send(other, &number.to_string()).await);
    }
    fleet.gateways[holder].kill();
    for number in 20..30 {
        messages.push(fleet.send(other, &number.to_string()).await);
    }
    for kind in ["message.accepted", "push.sent"] {
        eventually(kind, async || {
            let told = fleet.told(kind);
            messages.iter().all(|id| told.contains_key(id))
        })
        .await;
    }
    // Repeats have their first id.
    let accepted = fleet.receiver.once("message.accepted");
    let seqs = accepted.iter();
    let seqs = seqs.map(|event| event["data"]["receivers"][0]["seq"].as_u64().unwrap());
    assert_eq!(seqs.collect::<Vec<_>>(), (1..=30).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_gateway_that_slept_through_the_end_of_its_turn_pushes_nothing_twice() {
    let Some(mut fleet) = Fleet::start().await else {
        return;
    };
    let holder = fleet.holder().await;
    let other = 1 - holder;
    let first = fleet.send(other, "before").await;
    fleet.until_told(std::slice::from_ref(&first)).await;
    fleet.gateways[holder].suspend();
    let mut messages = Vec::new();
    for number in 0..10 {
        messages.push(fleet.send(other, &number.to_string()).await);
    }
    let mut pushed = fleet.until_told(&messages).await;
    fleet.gateways[holder].wake();
    for number in 10..20 {
        messages.push(fleet.send(other, &number.to_string()).await);
    }
    pushed.extend(fleet.until_told(&messages[10..]).await);
    assert_eq!(pushed.len(), messages.len());
    assert!(pushed.values().all(|count| *count == 1), "{pushed:?}");
    // Its first batch after the sleep may have been a repeat, and no other.
    let told = fleet.told("message.accepted");
    assert!(told.values().all(|count| *count <= 2), "{told:?}");
    eventually("the end of the work", async || {
        let said = fleet.gateways[holder].said();
        said.contains("webhooks end at this gateway") && said.contains("vendor push ends at this")
    })
    .await;
}

#[tokio::test]
async fn a_gateway_that_drains_hands_its_turn_over() {
    let Some(mut fleet) = Fleet::start().await else {
        return;
    };
    let holder = fleet.holder().await;
    let other = 1 - holder;
    let first = fleet.send(holder, "before").await;
    fleet.until_told(&[first]).await;
    fleet.gateways[holder].terminate();
    assert!(fleet.gateways[holder].exited().await.success());
    let second = fleet.send(other, "after").await;
    fleet.until_told(&[second]).await;
    for kind in ["message.accepted", "push.sent"] {
        let told = fleet.told(kind);
        assert!(told.values().all(|count| *count == 1), "{kind} {told:?}");
    }
}

#[tokio::test]
async fn of_a_user_who_was_erased_at_another_gateway_nothing_more_is_told() {
    let Some(fleet) = Fleet::start().await else {
        return;
    };
    let other = 1 - fleet.holder().await;
    fleet.receiver.answer(|_| Some(503.into()));
    fleet.send(other, "secret").await;
    let names_alice = |body: &Value| body.to_string().contains("alice");
    fleet
        .receiver
        .until("a request with the user", |receiver| {
            receiver.requests().iter().any(|one| names_alice(&one.body))
        })
        .await;
    let mut admin = fleet.gateways[other].admin().await;
    let asked = json!({"operationID": "erase-1", "userID": "alice"});
    let answer = admin.post("/user/erase", &asked).await;
    assert_eq!(answer.code(), 0, "{answer:?}");
    let before = fleet.receiver.requests().len();
    fleet.receiver.answer(|_| Some(200.into()));
    let to_bob = admin.send(&notice("bob", "later")).await.server_msg_id;
    eventually("the event of another user", async || {
        fleet.told("message.accepted").contains_key(&to_bob)
    })
    .await;
    // A request that was under way at the answer had begun before it.
    let later = fleet.receiver.requests().split_off(before);
    let later = later.iter().filter(|one| one.status == 200);
    assert_eq!(later.filter(|one| names_alice(&one.body)).count(), 0);
}
