//! Send, ack and trace over the embedded log, without sockets; `read_state.rs`: read marks; `ask.rs`: what v3 clients ask.

mod ask;
mod read_state;

use std::{sync::Mutex, time::Duration};

use futures_util::FutureExt as _;
use tokio::{sync::Notify, time::timeout};

use super::{
    send::{EVERYONE_WAIT, RECEIVERS_IN_A_ROW},
    *,
};
use crate::{
    clock::Clock,
    config::{self, Config},
    gateway::Base,
    ids::{ConnectionId, Fence, Platform, Seq, SessionKey, UserId},
    log::{
        ReadLimit,
        embedded::EmbeddedLog,
        tests::memory::{Fault, MemoryLog},
    },
    message::{Numbers, Origin, StoredMessage},
    registry::{Item, Mailbox},
};

/// Keeps the seqs of the posted messages.
#[derive(Default)]
struct Posted {
    seqs: Mutex<Vec<Seq>>,
    more: Notify,
}

impl Mailbox for Posted {
    fn post(&self, _: ConnectionId, item: Item) {
        if let Item::Live(live) = item {
            self.seqs.lock().unwrap().push(live.numbers.seq);
            self.more.notify_one();
        }
    }
}

impl Posted {
    /// The first `count` seqs. A caller may be answered before its message is posted, so this waits for them.
    async fn first(&self, count: usize) -> Vec<Seq> {
        let posted = async {
            loop {
                let seqs = self.seqs.lock().unwrap().clone();
                if seqs.len() >= count {
                    return seqs;
                }
                self.more.notified().await;
            }
        };
        timeout(Duration::from_secs(30), posted).await.unwrap()
    }
}

fn delivery(dir: &std::path::Path) -> Arc<Delivery> {
    let log = config::Log {
        dir: dir.into(),
        ..config::Log::default()
    };
    let auth = config::Auth {
        token_key: "a key of more than 16 bytes".into(),
        ..config::Auth::default()
    };
    let config = Config {
        log,
        auth,
        ..Config::default()
    };
    let (clock, metrics) = (Arc::new(Clock::system()), Arc::default());
    let log = EmbeddedLog::open(&config.log, Arc::clone(&clock), Arc::clone(&metrics)).unwrap();
    Base::build(&config, metrics, clock, log).delivery
}

fn session(name: &str) -> SessionKey {
    SessionKey {
        user: UserId::new(name).unwrap(),
        platform: Platform::Web,
        device: "".into(),
    }
}

async fn begin(delivery: &Delivery, key: &SessionKey, cursor: Seq) {
    let point = delivery.enter(key, 0).await.unwrap();
    delivery
        .begin(key, point.inbox.epoch, Fence::NONE, cursor)
        .unwrap();
}

fn notice(receivers: Receivers) -> Send {
    Send {
        fingerprint: [0; 16],
        message: StoredMessage {
            send_id: "openIM123456".into(),
            session_type: 4,
            content_type: 1400,
            ..StoredMessage::default()
        },
        receivers,
        is_online_only: false,
    }
}

fn to(names: &[&str]) -> Receivers {
    Receivers::List(
        names
            .iter()
            .map(|name| UserId::new(name).unwrap())
            .collect(),
    )
}

#[tokio::test]
async fn a_keyed_send_to_nobody_known_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let delivery = delivery(dir.path());
    let keyed = |fingerprint| {
        let mut send = notice(Receivers::Everyone);
        send.message.client_msg_id = "key".into();
        Send {
            fingerprint,
            ..send
        }
    };
    let first = delivery.send(keyed([1; 16])).await.unwrap();
    assert!(first.entries.is_empty());
    // By now one user is known.
    delivery.send(notice(to(&["u1"]))).await.unwrap();
    assert_eq!(delivery.send(keyed([1; 16])).await, Ok(first));
    let reused = Err(SendError::Append(AppendError::KeyReused));
    assert_eq!(delivery.send(keyed([2; 16])).await, reused);
}

#[tokio::test]
async fn an_accepted_send_reaches_who_is_online_in_order_and_the_log_for_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let delivery = delivery(dir.path());
    let posted = Arc::new(Posted::default());
    let mailbox: Arc<dyn Mailbox> = posted.clone();
    delivery
        .registry
        .register(&session("u1"), ConnectionId(1), &mailbox, 0)
        .unwrap();
    for expected in 1..=5 {
        let receipt = delivery.send(notice(to(&["u1", "u2"]))).await.unwrap();
        assert_eq!(
            receipt
                .entries
                .iter()
                .map(|(_, numbers)| numbers.seq.0)
                .collect::<Vec<_>>(),
            [expected, expected]
        );
    }
    assert_eq!(posted.first(5).await, [1, 2, 3, 4, 5].map(Seq));
    let limit = ReadLimit {
        messages: 100,
        bytes: usize::MAX,
    };
    let read = delivery.replay(&UserId::new("u2").unwrap(), Seq(2), limit);
    let read = read.wait().await.unwrap().entries;
    assert_eq!(
        read.iter()
            .map(|entry| entry.numbers.seq.0)
            .collect::<Vec<_>>(),
        [3, 4, 5]
    );
    let body = read[0].content.body().unwrap();
    let message = StoredMessage::from_bytes(body);
    assert_eq!(message.send_id, "openIM123456");
    assert_eq!(Origin::of(body).conversation_id("u2"), "sn_openIM123456_u2");
    assert_eq!(message.client_msg_id, message.server_msg_id);
}

#[tokio::test]
async fn online_only_messages_leave_no_trace_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let delivery = delivery(dir.path());
    let posted = Arc::new(Posted::default());
    let mailbox: Arc<dyn Mailbox> = posted.clone();
    delivery
        .registry
        .register(&session("u1"), ConnectionId(1), &mailbox, 0)
        .unwrap();
    let receipt = delivery
        .send(Send {
            is_online_only: true,
            ..notice(to(&["u1", "u2"]))
        })
        .await
        .unwrap();
    assert_eq!(posted.first(1).await, [Seq::ZERO]);
    assert!(
        receipt
            .entries
            .iter()
            .all(|(_, numbers)| *numbers == Numbers::default())
    );
    let inbox = delivery.inbox(&UserId::new("u1").unwrap()).wait().await;
    assert_eq!(inbox.unwrap().head, Seq::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_message_to_everyone_whose_last_piece_takes_long_has_an_unknown_outcome() {
    let log = MemoryLog::default();
    log.fail(Fault::Hang);
    let clock = Arc::new(Clock::system());
    let delivery = Base::build(&Config::default(), Arc::default(), clock, log).delivery;
    let begun = tokio::time::Instant::now();
    let unknown = Err(SendError::Append(AppendError::OutcomeUnknown));
    assert_eq!(delivery.send(notice(Receivers::Everyone)).await, unknown);
    assert!(begun.elapsed() >= EVERYONE_WAIT);
}

#[tokio::test]
async fn an_online_only_message_to_many_lets_others_have_their_turn() {
    let dir = tempfile::tempdir().unwrap();
    let delivery = delivery(dir.path());
    let send = |receivers| {
        let names: Vec<_> = (0..receivers).map(|n| format!("u{n}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        delivery.send(Send {
            is_online_only: true,
            ..notice(to(&names))
        })
    };
    assert!(send(RECEIVERS_IN_A_ROW - 1).now_or_never().is_some());
    assert!(send(RECEIVERS_IN_A_ROW).now_or_never().is_none());
    let receipt = send(RECEIVERS_IN_A_ROW + 1).await.unwrap();
    assert_eq!(receipt.entries.len(), RECEIVERS_IN_A_ROW + 1);
}

#[tokio::test]
async fn everyone_is_who_connected_was_registered_or_has_an_inbox() {
    let dir = tempfile::tempdir().unwrap();
    let delivery = delivery(dir.path());
    assert!(
        delivery
            .send(notice(Receivers::Everyone))
            .await
            .unwrap()
            .entries
            .is_empty()
    );
    begin(&delivery, &session("connected"), Seq(0)).await;
    delivery
        .register(UserId::new("registered").unwrap(), "{}".into())
        .await
        .unwrap();
    delivery.send(notice(to(&["addressed"]))).await.unwrap();
    let receipt = delivery.send(notice(Receivers::Everyone)).await.unwrap();
    let mut users: Vec<_> = receipt
        .entries
        .iter()
        .map(|(user, _)| user.as_str())
        .collect();
    users.sort_unstable();
    assert_eq!(users, ["addressed", "connected", "registered"]);
}

#[tokio::test]
async fn what_an_openim_client_acks_is_received() {
    let dir = tempfile::tempdir().unwrap();
    let delivery = delivery(dir.path());
    let phone = SessionKey {
        device: SessionKey::openim_device(&[7; 32]),
        ..session("u1")
    };
    for key in [&phone, &session("u1")] {
        begin(&delivery, key, Seq(0)).await;
    }
    let receipt = delivery.send(notice(to(&["u1"]))).await.unwrap();
    let ack = async |key: &SessionKey| {
        let epoch = delivery.enter(key, 0).await.unwrap().inbox.epoch;
        delivery.ack(key, epoch, Fence::NONE, Seq(1)).unwrap();
        let page = TracePage {
            user: None,
            offset: 0,
            limit: 1,
        };
        let trace = delivery.trace(Lookup::Id(receipt.message_id), page).await;
        trace.unwrap().unwrap().receivers[0].state
    };
    assert_eq!(ack(&phone).await, TraceState::Received);
    assert_eq!(ack(&session("u1")).await, TraceState::Acked);
}

#[tokio::test]
async fn a_trace_follows_a_message_from_pending_to_acked() {
    let dir = tempfile::tempdir().unwrap();
    let delivery = delivery(dir.path());
    let (key, page) = (
        session("u1"),
        TracePage {
            user: None,
            offset: 0,
            limit: 10,
        },
    );
    begin(&delivery, &key, Seq(0)).await;
    let receipt = delivery.send(notice(to(&["u1", "u2"]))).await.unwrap();
    let trace = async |lookup| delivery.trace(lookup, page.clone()).await.unwrap();
    let by_id = Lookup::Id(receipt.message_id);
    let states = |trace: Option<Trace>| {
        trace
            .unwrap()
            .receivers
            .iter()
            .map(|r| r.state)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        states(trace(by_id.clone()).await),
        [TraceState::Pending, TraceState::Pending]
    );
    delivery.pushed(&key, Seq(1));
    assert_eq!(
        states(trace(by_id.clone()).await),
        [TraceState::Sent, TraceState::Pending]
    );
    let epoch = delivery.enter(&key, 0).await.unwrap().inbox.epoch;
    delivery.ack(&key, epoch, Fence::NONE, Seq(1)).unwrap();
    let acked = trace(by_id).await.unwrap();
    assert_eq!(acked.receivers_total, 2);
    let first = &acked.receivers[0].sessions[0];
    assert!(
        first.state == TraceState::Acked
            && first.sent_at_ms.is_some()
            && first.acked_at_ms.is_some()
    );
    let by_key = Lookup::Key {
        sender: receipt.sender.clone(),
        client_message_id: receipt.client_message_id.clone(),
    };
    assert_eq!(trace(by_key).await, Some(acked));
    assert_eq!(trace(Lookup::Id(crate::ids::MessageId::new(5))).await, None);
}

#[tokio::test]
async fn a_revoked_token_is_refused_and_one_issued_later_is_good() {
    let dir = tempfile::tempdir().unwrap();
    let delivery = delivery(dir.path());
    let user = UserId::new("u1").unwrap();
    let issue = |at_ms| delivery.tokens.issue(&user, Platform::Web, at_ms).token;
    let old = issue(delivery.now_ms() - 1);
    assert!(delivery.authenticate(&old).await.is_ok());
    delivery.log_out(user.clone(), Platform::Web).await.unwrap();
    assert!(matches!(
        delivery.authenticate(&old).await,
        Err(AuthError::Revoked)
    ));
    let new = issue(delivery.now_ms());
    assert!(delivery.authenticate(&new).await.is_ok());
}

/// A clock that was ahead issues a token. After the clock is set right, a revocation still covers that token, and the next
/// token is good.
#[tokio::test]
async fn a_token_from_a_time_to_come_is_revoked_and_the_next_one_outlives_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut delivery = delivery(dir.path());
    let user = UserId::new("u1").unwrap();
    let later = delivery.now_ms() + 3_600_000;
    let seen = delivery
        .tokens
        .issue_at(&user, Platform::Web, delivery.now_ms(), later)
        .token;
    assert!(delivery.authenticate(&seen).await.is_ok());
    drop(delivery);
    // The newest token's time outlives the process.
    delivery = self::delivery(dir.path());
    delivery.log_out(user.clone(), Platform::Web).await.unwrap();
    assert!(matches!(
        delivery.authenticate(&seen).await,
        Err(AuthError::Revoked)
    ));
    let issued = delivery.issue_token(&user, Platform::Web).await;
    let next = issued.unwrap().token;
    let claims = delivery.authenticate(&next).await.unwrap();
    assert_eq!(claims.issued_at_ms, later + 1);
    delivery.log_out(user, Platform::Web).await.unwrap();
    assert!(matches!(
        delivery.authenticate(&next).await,
        Err(AuthError::Revoked)
    ));
}

/// A logout between the first look at the token and the registration finds no connection, so it closes none.
#[tokio::test]
async fn a_login_that_a_logout_overtook_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let delivery = delivery(dir.path());
    let key = session("u1");
    let issued = delivery.issue_token(&key.user, key.platform).await;
    let claims = delivery.authenticate(&issued.unwrap().token).await.unwrap();
    assert!(delivery.enter(&key, claims.issued_at_ms).await.is_ok());
    let logged_out = delivery.log_out(key.user.clone(), key.platform).await;
    assert_eq!(logged_out, Ok(0));
    let refused = delivery.enter(&key, claims.issued_at_ms).await;
    assert!(matches!(refused, Err(AuthError::Revoked)));
}

#[tokio::test]
async fn a_session_is_known_from_its_beginning_and_may_go_back() {
    let dir = tempfile::tempdir().unwrap();
    let delivery = delivery(dir.path());
    let key = session("u1");
    let stored = async || {
        let point = delivery.enter(&key, 0).await.unwrap();
        point.stored.map(|row| row.cursor)
    };
    assert_eq!(stored().await, None);
    for cursor in [Seq(3), Seq(1)] {
        begin(&delivery, &key, cursor).await;
        assert_eq!(stored().await, Some(cursor));
    }
}

#[tokio::test]
async fn a_draining_gateway_refuses_sends() {
    let dir = tempfile::tempdir().unwrap();
    let delivery = delivery(dir.path());
    delivery.start_draining();
    assert_eq!(
        delivery.send(notice(to(&["u1"]))).await,
        Err(SendError::Draining)
    );
    assert_eq!(delivery.check_ready(), Err(NotReady::Draining));
}
