//! A run under the ledger: sends go on while the gateway is killed or drains, and every message is accounted for.
//!
//! The ledger itself is the load rig's. A user's session 0 in it is the client that listened through the end. Session 1 is
//! a new connection that reads the whole inbox afterwards.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use loadtest::ledger::{LandedMessage, Ledger, LedgerTally, MessageKey, SessionStanding};
use tokio::{sync::watch, task::JoinSet};
use towncrier::protocol::towncrier_v1::proto::{Connect, Message};

use super::{
    ADMIN, DEADLINE, Gateway, IOS, WEB,
    admin::{Admin, Sent},
    client::Client,
    listener::Listener,
    within,
};

/// The plan of one run: senders, messages and users, with the end of the gateway in the middle.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) sends: usize,
    pub(crate) senders: usize,
    pub(crate) users: u32,
    /// This many users, the first ones, listen while the sends go on.
    pub(crate) listeners: u32,
    /// Decides receivers and the moment of the end.
    pub(crate) seed: u64,
}

/// After this many sends, a sender makes one that must be refused.
const REFUSED_EVERY: usize = 25;
/// New connections at once when all inboxes are read at the end.
const READERS: usize = 32;
/// The sessions of a user in the ledger.
const LISTENING: u32 = 0;
const INBOX: u32 = 1;
const SESSIONS: u32 = 2;

/// The ledger that all senders share.
struct Books {
    ledger: Mutex<Ledger>,
    began: Instant,
    /// Sends that were answered.
    answered: watch::Sender<usize>,
    /// Sends without an answer, or with "not now". Each was then repeated.
    unanswered: watch::Sender<usize>,
}

impl Books {
    fn write<T>(&self, entry: impl FnOnce(&mut Ledger, u64) -> T) -> T {
        let now_us = self.began.elapsed().as_micros() as u64;
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        entry(&mut ledger, now_us)
    }

    fn land(&self, user: u32, session: u32, store: &[Message]) {
        self.write(|ledger, _| {
            // An entry of read marks is no message.
            for message in store.iter().filter(|message| message.marks.is_empty()) {
                let landed = LandedMessage {
                    seq: message.seq,
                    client_msg_id: &message.client_msg_id,
                    server_msg_id: &message.server_msg_id,
                    recv_id: &message.recv_id,
                    content: &message.content,
                };
                ledger.landed(user, session, &landed);
            }
        });
    }
}

/// The result of a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The result at the clients that listened through the end.
    pub(crate) listening: LedgerTally,
    /// The result in every user's inbox, read by new connections afterwards.
    pub(crate) inboxes: LedgerTally,
    /// Sends without an answer, or with "not now", which were repeated.
    pub(crate) unanswered: usize,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  listening clients: {}", self.listening)?;
        writeln!(f, "  every inbox:       {}", self.inboxes)?;
        write!(f, "  unanswered and sent again {}", self.unanswered)
    }
}

/// The end of the gateway in the middle of a run, before it is started again.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    /// Kill -9.
    Kill,
    /// SIGTERM: sessions are sent away within half a second.
    Drain,
}

impl Plan {
    /// A size that suits every run of the tests.
    pub(crate) fn brief(seed: u64) -> Self {
        Self {
            sends: 2_000,
            senders: 20,
            users: 100,
            listeners: 30,
            seed,
        }
    }
}

/// Carries out the plan and prints its outcome. Panics unless every message was accepted and landed exactly once.
pub(crate) async fn expect_exactly_once(end: End, plan: Plan) {
    let outcome = run_with(end, plan).await;
    let seed = plan.seed;
    println!("TOWNCRIER_SEED={seed}\n{outcome}");
    assert!(
        outcome.listening.is_exactly_once(),
        "TOWNCRIER_SEED={seed}\n{outcome}"
    );
    assert!(
        outcome.inboxes.is_exactly_once(),
        "TOWNCRIER_SEED={seed}\n{outcome}"
    );
    assert_eq!(
        outcome.inboxes.accepted, plan.sends as u64,
        "TOWNCRIER_SEED={seed}"
    );
}

/// Sends go on; the gateway ends in the middle and is started again; every message is accounted for.
async fn run_with(end: End, plan: Plan) -> Outcome {
    let mut gateway = Gateway::start(&["drain.period=500ms"]).await;
    let mut admin = gateway.admin().await;
    let books = Arc::new(Books {
        ledger: Mutex::new(Ledger::new(plan.users, SESSIONS, (60, 60))),
        began: Instant::now(),
        answered: watch::Sender::new(0),
        unanswered: watch::Sender::new(0),
    });
    let user_id = |user| books.write(|ledger, _| ledger.user_id(user));
    let mut listeners = BTreeMap::new();
    for user in 0..plan.listeners {
        let token = admin.another().token(&user_id(user), WEB).await;
        let listener = Listener::start(gateway.whereabouts(), token).await;
        listeners.insert(user, listener);
    }

    let mut random = fastrand::Rng::with_seed(plan.seed);
    let mut senders = JoinSet::new();
    for _ in 0..plan.senders {
        senders.spawn(send(plan, random.fork(), admin.another(), books.clone()));
    }
    let end_at = random.usize(plan.sends / 4..plan.sends * 3 / 4);
    let mut progress = books.answered.subscribe();
    within(
        "the moment of the end",
        progress.wait_for(|sends| *sends >= end_at),
    )
    .await
    .expect("it is held here");
    match end {
        End::Kill => gateway.kill(),
        End::Drain => {
            gateway.terminate();
            assert!(gateway.exited().await.success());
        }
    }
    gateway.restart().await;
    while let Some(sender) = senders.join_next().await {
        sender.unwrap();
    }

    for (user, listener) in listeners {
        let (_, head) = admin.bounds(&user_id(user)).await;
        books.land(user, LISTENING, &listener.landed(head).await);
    }
    let user_ids: Vec<_> = (0..plan.users).map(user_id).collect();
    for (user, inbox) in read_inboxes(&gateway, &admin, &user_ids).await {
        books.land(user, INBOX, &inbox);
    }
    let close = |counted: u32| {
        let is_there =
            |user, session| session == counted && (session == INBOX || user < plan.listeners);
        let standing = |user, session| match is_there(user, session) {
            true => SessionStanding::CaughtUp,
            false => SessionStanding::Absent,
        };
        books.write(|ledger, _| ledger.tally(standing))
    };
    Outcome {
        listening: close(LISTENING),
        inboxes: close(INBOX),
        unanswered: *books.unanswered.borrow(),
    }
}

/// One sender: one send after the other, each repeated with its clientMsgID until it is answered.
async fn send(plan: Plan, mut random: fastrand::Rng, mut admin: Admin, books: Arc<Books>) {
    for place in 0..plan.sends / plan.senders {
        let user = random.u32(..plan.users);
        let issue = || {
            books.write(|ledger, now_us| {
                let key = ledger.issue(now_us, user, 1);
                (key, ledger.user_id(user), ledger.content(key))
            })
        };
        if place % REFUSED_EVERY == 0 {
            let (key, user_id, content) = issue();
            // A notice without its name: a known content type that is not accepted.
            let request = request(1400, 4, &user_id, key, &content);
            let answer = repeat_until_answered(&mut admin, &request, &books).await;
            assert_eq!(answer, Err(403));
            books.write(|ledger, _| ledger.refused(key));
        }
        let (key, user_id, content) = issue();
        let request = request(101, 1, &user_id, key, &content);
        let sent = repeat_until_answered(&mut admin, &request, &books)
            .await
            .unwrap_or_else(|code| panic!("a good send was refused: {code}"));
        books.write(|ledger, now_us| ledger.accepted(key, now_us, &sent.server_msg_id));
        books.answered.send_modify(|sends| *sends += 1);
    }
}

fn request(
    content_type: u32,
    session_type: u32,
    user: &str,
    key: MessageKey,
    content: &str,
) -> String {
    format!(
        r#"{{"operationID":"ledger","sendID":"{ADMIN}","recvID":"{user}","clientMsgID":"{key}","contentType":{content_type},"sessionType":{session_type},"content":{content}}}"#
    )
}

/// The answer, or the errCode of a final refusal.
async fn repeat_until_answered(
    admin: &mut Admin,
    request: &str,
    books: &Books,
) -> Result<Sent, u64> {
    loop {
        let answer = admin
            .call("POST", "/manager/send_msg", &[], request.to_owned())
            .await;
        match answer {
            Ok(answer) if answer.code() == 0 => return Ok(answer.sent()),
            // 50304: the outcome is unknown, the same as no answer. 50305: the gateway drains. 50309: it starts.
            Ok(answer) if ![50304, 50305, 50309].contains(&answer.code()) => {
                return Err(answer.code());
            }
            _ => books.unanswered.send_modify(|sends| *sends += 1),
        }
        // As a real caller would, only sooner.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Reads every user's whole inbox over new connections.
async fn read_inboxes(
    gateway: &Gateway,
    admin: &Admin,
    user_ids: &[String],
) -> BTreeMap<u32, Vec<Message>> {
    let clients = gateway.place().clients;
    let mut readers = JoinSet::new();
    for first in 0..READERS {
        let mut admin = admin.another();
        let mine = (0..).zip(user_ids).skip(first).step_by(READERS);
        let mine: Vec<(u32, String)> = mine.map(|(user, id)| (user, id.clone())).collect();
        readers.spawn(async move {
            let mut inboxes = Vec::new();
            for (user, id) in mine {
                let token = admin.token(&id, IOS).await;
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
