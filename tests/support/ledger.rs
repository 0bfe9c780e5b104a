//! The ledger: every send that was accepted or refused, held against what landed.
//!
//! A message is known by its `clientMsgID`, which the run makes unique; each sender numbers its sends, one after the
//! other, so that order can be told: what a sender sent first must stand first in every inbox.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::json;
use tokio::{sync::watch, task::JoinSet};
use towncrier::wire::proto::{Connect, Message};

use super::{
    ADMIN, DEADLINE, Gateway, IOS, WEB,
    admin::{Admin, Sent},
    client::Client,
    listener::Listener,
    within,
};

/// One run: who sends how much to whom, and the kill in the middle.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) sends: usize,
    pub(crate) senders: usize,
    pub(crate) users: usize,
    /// The first so many users listen while the sends go on.
    pub(crate) listeners: usize,
    /// Decides receivers and the moment of the kill.
    pub(crate) seed: u64,
}

/// Every so many sends of a sender, one that must be refused goes before.
const REFUSED_EVERY: usize = 25;
/// Fresh connections at once when all inboxes are read in the end.
const READERS: usize = 32;

/// What was accepted.
#[derive(Debug)]
struct Accepted {
    user: String,
    sender: usize,
    /// The sender's own count.
    place: usize,
    content: String,
    sent: Sent,
}

/// All answers of a run, by clientMsgID.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    accepted: HashMap<String, Accepted>,
    /// Answered with an error that says nothing was stored; each must never land.
    refused: HashSet<String>,
    /// Sends that got no answer, each then sent again.
    unanswered: usize,
}

/// The count of one comparison.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) accepted: usize,
    pub(crate) landed: usize,
    pub(crate) lost: usize,
    pub(crate) duplicated: usize,
    pub(crate) reordered: usize,
    pub(crate) ghost: usize,
}

impl Tally {
    /// Whether everything accepted landed once and in order, and nothing else did.
    pub(crate) fn is_exactly_once(&self) -> bool {
        let Self {
            accepted,
            landed,
            lost,
            duplicated,
            reordered,
            ghost,
        } = *self;
        accepted == landed && [lost, duplicated, reordered, ghost] == [0; 4]
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            accepted,
            landed,
            lost,
            duplicated,
            reordered,
            ghost,
        } = self;
        write!(
            f,
            "accepted {accepted} landed {landed} lost {lost} duplicated {duplicated} reordered {reordered} ghost {ghost}"
        )
    }
}

impl Ledger {
    /// Holds the stores of some users against what was accepted for them. A message that landed altered, at another
    /// user or under another serverMsgID is a ghost.
    pub(crate) fn compare(&self, stores: &BTreeMap<String, Vec<Message>>) -> Tally {
        let mut tally = Tally::default();
        let mut expected: BTreeMap<&str, usize> = BTreeMap::new();
        for accepted in self.accepted.values() {
            *expected.entry(&accepted.user).or_default() += 1;
        }
        for (user, store) in stores {
            let expected = expected.get(&**user).copied().unwrap_or_default();
            let mut seen = HashSet::new();
            let mut latest: HashMap<usize, usize> = HashMap::new();
            let mut seq = 0;
            for message in store {
                let known = self
                    .accepted
                    .get(&message.client_msg_id)
                    .filter(|known| known.is(user, message));
                let Some(known) = known else {
                    tally.ghost += 1;
                    continue;
                };
                if !seen.insert(&message.client_msg_id) {
                    tally.duplicated += 1;
                    continue;
                }
                let before = latest.insert(known.sender, known.place);
                if message.seq <= seq || before.is_some_and(|before| before >= known.place) {
                    tally.reordered += 1;
                }
                seq = message.seq;
            }
            tally.accepted += expected;
            tally.landed += seen.len();
            tally.lost += expected - seen.len();
        }
        tally
    }
}

impl Accepted {
    fn is(&self, user: &str, message: &Message) -> bool {
        self.user == user
            && message.recv_id == user
            && message.server_msg_id == self.sent.server_msg_id
            && message.send_time == self.sent.send_time as i64
            && message.content == self.content
    }
}

/// What one run came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// At the clients that listened through the kill.
    pub(crate) listening: Tally,
    /// In every user's inbox, read by fresh connections afterwards.
    pub(crate) inboxes: Tally,
    /// Sends that were refused, none of which may land.
    pub(crate) refused: usize,
    /// Sends that got no answer and were sent again.
    pub(crate) unanswered: usize,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  listening clients: {}", self.listening)?;
        writeln!(f, "  every inbox:       {}", self.inboxes)?;
        write!(
            f,
            "  refused {} (none landed, or it were a ghost), unanswered and sent again {}",
            self.refused, self.unanswered
        )
    }
}

fn user(number: usize) -> String {
    format!("user-{number:04}")
}

/// Sends go on, the gateway is killed (-9) in the middle and started again, and everything is accounted for.
pub(crate) async fn run_with_kill(plan: Plan) -> Outcome {
    let mut gateway = Gateway::start(&[]).await;
    let mut admin = gateway.admin().await;
    let mut listeners = BTreeMap::new();
    for number in 0..plan.listeners {
        let token = admin.another().token(&user(number), WEB).await;
        let listener = Listener::start(gateway.whereabouts(), token).await;
        listeners.insert(user(number), listener);
    }

    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let answered = Arc::new(watch::Sender::new(0));
    let mut random = fastrand::Rng::with_seed(plan.seed);
    let mut senders = JoinSet::new();
    for number in 0..plan.senders {
        senders.spawn(send(
            plan,
            number,
            random.fork(),
            admin.another(),
            ledger.clone(),
            answered.clone(),
        ));
    }
    let kill_at = random.usize(plan.sends / 4..plan.sends * 3 / 4);
    let mut progress = answered.subscribe();
    within(
        "the moment of the kill",
        progress.wait_for(|sends| *sends >= kill_at),
    )
    .await
    .expect("it is held here");
    gateway.kill();
    gateway.restart().await;
    while let Some(sender) = senders.join_next().await {
        sender.unwrap();
    }

    let mut landed = BTreeMap::new();
    for (user, listener) in listeners {
        let (_, head) = admin.bounds(&user).await;
        landed.insert(user, listener.landed(head).await);
    }
    let inboxes = read_inboxes(&gateway, &admin, plan.users).await;
    let ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
    Outcome {
        listening: ledger.compare(&landed),
        inboxes: ledger.compare(&inboxes),
        refused: ledger.refused.len(),
        unanswered: ledger.unanswered,
    }
}

/// One sender: one send after the other, each repeated with its clientMsgID until it is answered.
async fn send(
    plan: Plan,
    sender: usize,
    mut random: fastrand::Rng,
    mut admin: Admin,
    ledger: Arc<Mutex<Ledger>>,
    answered: Arc<watch::Sender<usize>>,
) {
    let record = |note: &mut dyn FnMut(&mut Ledger)| {
        note(&mut ledger.lock().unwrap_or_else(PoisonError::into_inner));
    };
    for place in 0..plan.sends / plan.senders {
        let user = user(random.usize(..plan.users));
        if place % REFUSED_EVERY == 0 {
            let key = format!("refused-{sender}-{place}");
            // A notice without its name: known, and not accepted.
            let request = request(
                &user,
                &key,
                &json!({"text": key, "notificationType": 1}).to_string(),
            );
            let answer = repeat_until_answered(&mut admin, &request, &record).await;
            assert_eq!(answer, Err(403));
            record(&mut |ledger| {
                ledger.refused.insert(key.clone());
            });
        }
        let key = format!("{sender}-{place}");
        let content =
            json!({"notificationName": "Ledger", "notificationType": 1, "text": key}).to_string();
        let request = request(&user, &key, &content);
        let sent = repeat_until_answered(&mut admin, &request, &record)
            .await
            .unwrap_or_else(|code| panic!("a good send was refused: {code}"));
        record(&mut |ledger| {
            let accepted = Accepted {
                user: user.clone(),
                sender,
                place,
                content: content.clone(),
                sent: sent.clone(),
            };
            ledger.accepted.insert(key.clone(), accepted);
        });
        answered.send_modify(|sends| *sends += 1);
    }
}

fn request(user: &str, key: &str, content: &str) -> String {
    format!(
        r#"{{"operationID":"ledger","sendID":"{ADMIN}","recvID":"{user}","clientMsgID":"{key}","contentType":1400,"sessionType":4,"content":{content}}}"#
    )
}

/// The answer, or the errCode of a refusal that will stay one.
async fn repeat_until_answered(
    admin: &mut Admin,
    request: &str,
    record: &impl Fn(&mut dyn FnMut(&mut Ledger)),
) -> Result<Sent, u64> {
    loop {
        let answer = admin
            .call("POST", "/manager/send_msg", &[], request.to_owned())
            .await;
        match answer {
            Ok(answer) if answer.code() == 0 => return Ok(answer.sent()),
            // 50304: the outcome is not known, which equals no answer.
            Ok(answer) if answer.code() != 50304 => return Err(answer.code()),
            _ => record(&mut |ledger| ledger.unanswered += 1),
        }
    }
}

/// Reads every user's whole inbox over connections that were never seen before.
pub(crate) async fn read_inboxes(
    gateway: &Gateway,
    admin: &Admin,
    users: usize,
) -> BTreeMap<String, Vec<Message>> {
    let clients = gateway.place().clients;
    let mut readers = JoinSet::new();
    for first in 0..READERS {
        let mut admin = admin.another();
        readers.spawn(async move {
            let mut inboxes = Vec::new();
            for number in (first..users).step_by(READERS) {
                let user = user(number);
                let token = admin.token(&user, IOS).await;
                let mut client = Client::dial(clients).await.expect("upgraded");
                let connect = Connect {
                    token,
                    ..Connect::default()
                };
                client.log_in(connect).await;
                inboxes.push((user, client.expect_whole_inbox().await));
            }
            inboxes
        });
    }
    let mut inboxes = BTreeMap::new();
    while let Some(read) = tokio::time::timeout(DEADLINE * 4, readers.join_next())
        .await
        .expect("the inboxes are read")
    {
        inboxes.extend(read.unwrap());
    }
    inboxes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two sends of sender 0 and one of sender 1, all to alice.
    fn books() -> (Ledger, Vec<Message>) {
        let mut ledger = Ledger::default();
        let mut store = Vec::new();
        for (seq, (sender, place)) in (1..).zip([(0, 0), (1, 0), (0, 1)]) {
            let key = format!("{sender}-{place}");
            let sent = Sent {
                server_msg_id: format!("id of {key}"),
                client_msg_id: key.clone(),
                send_time: 1,
            };
            store.push(Message {
                seq,
                recv_id: "alice".into(),
                server_msg_id: sent.server_msg_id.clone(),
                client_msg_id: key.clone(),
                send_time: 1,
                content: key.clone().into(),
                ..Message::default()
            });
            let accepted = Accepted {
                user: "alice".into(),
                sender,
                place,
                content: key.clone(),
                sent,
            };
            ledger.accepted.insert(key, accepted);
        }
        (ledger, store)
    }

    fn compare(spoil: impl FnOnce(&mut Vec<Message>)) -> Tally {
        let (ledger, mut store) = books();
        spoil(&mut store);
        ledger.compare(&BTreeMap::from([("alice".into(), store)]))
    }

    #[test]
    fn the_ledger_sees_each_kind_of_failure() {
        let whole = Tally {
            accepted: 3,
            landed: 3,
            ..Tally::default()
        };
        assert_eq!(compare(|_| {}), whole);
        assert!(whole.is_exactly_once());
        assert_eq!(compare(|store| drop(store.pop())).lost, 1);
        assert_eq!(compare(|store| store.push(store[2].clone())).duplicated, 1);
        assert_eq!(compare(|store| store.swap(0, 2)).reordered, 3 - 1);
        let altered = compare(|store| store[1].content = "other".into());
        assert_eq!((altered.ghost, altered.lost), (1, 1));
        assert_eq!(compare(|store| store.push(Message::default())).ghost, 1);
    }
}
