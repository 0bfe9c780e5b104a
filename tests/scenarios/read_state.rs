//! Read on one device is read on all: marks reach every session of the user, connected or away, and outlive kill -9 of
//! the gateway and of the clients. A mark never goes back, and every device counts the same unread messages.

use std::{
    cell::Cell,
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use prost::Message as _;
use serde_json::Value;
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{sleep, timeout},
};
use towncrier::protocol::towncrier_v1::proto::{Message, server_frame::Body};
use towncrier_client::{
    Client, ClientEvent, DiskStore, Ended, Knowledge, Network, Options, ReadState, Store as _, Tcp,
};

use crate::{
    listen::{Listen, listen_on},
    support::{
        ADMIN, DEADLINE, Gateway, Heard, IOS, WEB, WINDOWS, admin::Admin, eventually,
        gateway::Whereabouts, notice, seed,
    },
};

/// The platform of the new device.
const ANDROID: u32 = 2;
/// The platform of the raw session that asks the gateway for its conversations.
const LINUX: u32 = 7;

/// Head, mark and unread count, by conversation.
type Conversations = BTreeMap<String, (u64, u64, u64)>;

/// The gateway's own.
async fn at_gateway(gateway: &Gateway) -> Conversations {
    let list = gateway.connect("alice", LINUX).await.conversations().await;
    let numbers = list.into_iter().map(|told| {
        let numbers = (told.head, told.mark, told.unread.into());
        (told.conversation_id, numbers)
    });
    numbers.collect()
}

/// The conversations in the store of a client that does not run.
fn in_store(path: &Path) -> Conversations {
    in_open_store(&DiskStore::open(path).unwrap())
}

fn in_open_store(store: &DiskStore) -> Conversations {
    let (_, rows) = store.conversations().unwrap();
    let numbers = rows
        .into_iter()
        .map(|row| (row.conversation_id, (row.head, row.mark, row.unread)));
    numbers.collect()
}

/// The unread count beside this mark, if the line tells of it.
fn unread_at(line: &Value, conversation_seq: u64) -> Option<u64> {
    let mut marks = line["marks"].as_array()?.iter();
    let mark = marks.find(|mark| mark["conversationSeq"] == conversation_seq)?;
    mark["unread"].as_u64()
}

/// Reads the lines of a client until it has told of this mark. Returns the unread count beside it.
async fn expect_mark(client: &mut Listen, conversation_seq: u64) -> u64 {
    loop {
        if let Some(unread) = unread_at(&client.next().await, conversation_seq) {
            return unread;
        }
    }
}

/// Reads the lines of a client until it has printed this text.
async fn expect_text(client: &mut Listen, text: &str) {
    while client.next().await["content"]["text"] != text {}
}

fn reader(gateway: &Gateway, platform: &str, store: &Path) -> Listen {
    let mut command = listen_on(gateway, platform, store);
    command.arg("--mark-read");
    Listen::start(command)
}

#[tokio::test]
async fn marks_of_each_session_reach_the_other_also_while_it_is_away() {
    let gateway = Gateway::start(&[]).await;
    let mut admin = gateway.admin().await;
    let stores = ["web", "ios"].map(|name| gateway.data().with_file_name(format!("{name}.redb")));
    let [web_store, phone_store] = &stores;

    let mut web = Listen::start(listen_on(&gateway, "web", web_store));
    let mut phone = reader(&gateway, "ios", phone_store);
    for text in ["one", "two", "three"] {
        admin.send(&notice("alice", text)).await;
    }
    assert_eq!(expect_mark(&mut web, 3).await, 0);
    expect_mark(&mut phone, 3).await;
    web.stop().await;
    phone.stop().await;

    // The other way round.
    let mut web = reader(&gateway, "web", web_store);
    let mut phone = Listen::start(listen_on(&gateway, "ios", phone_store));
    admin.send(&notice("alice", "four")).await;
    assert_eq!(expect_mark(&mut phone, 4).await, 0);
    phone.stop().await;

    // The phone is away.
    admin.send(&notice("alice", "five")).await;
    expect_mark(&mut web, 5).await;
    web.stop().await;
    admin.send(&notice("alice", "six")).await;
    let mut phone = Listen::start(listen_on(&gateway, "ios", phone_store));
    let (mut is_read, mut is_printed) = (false, false);
    while !is_read || !is_printed {
        let line = phone.next().await;
        is_read |= unread_at(&line, 5).is_some();
        is_printed |= line["content"]["text"] == "six";
    }
    let mut web = Listen::start(listen_on(&gateway, "web", web_store));
    expect_text(&mut web, "six").await;
    phone.stop().await;
    web.stop().await;

    let told = at_gateway(&gateway).await;
    assert_eq!(told.values().collect::<Vec<_>>(), [&(6, 5, 1)]);
    for store in &stores {
        assert_eq!(in_store(store), told);
    }
}

/// The fields of a message that an older client knows.
#[derive(Clone, PartialEq, prost::Message)]
struct OlderMessage {
    #[prost(uint64, tag = "1")]
    seq: u64,
    #[prost(string, tag = "2")]
    server_msg_id: String,
    #[prost(bytes = "vec", tag = "12")]
    content: Vec<u8>,
}

#[tokio::test]
async fn an_older_client_moves_on_over_marks_and_shows_nothing_for_them() {
    let gateway = Gateway::start(&[]).await;
    let mut admin = gateway.admin().await;
    let mut older = gateway.connect("alice", WEB).await;
    let mut phone = gateway.connect("alice", IOS).await;
    assert_eq!(phone.welcome.features & 1, 1);
    let epoch = older.welcome.epoch;
    let (mut cursor, mut shown) = (0, Vec::<OlderMessage>::new());
    let mut land = |messages: Vec<Message>| {
        for message in messages {
            let message = OlderMessage::decode(&message.encode_to_vec()[..]).unwrap();
            assert_eq!(message.seq, cursor + 1);
            cursor = message.seq;
            let is_known = |known: &OlderMessage| known.server_msg_id == message.server_msg_id;
            if !shown.iter().any(is_known) {
                assert!(!message.content.is_empty());
                shown.push(message);
            }
        }
        (cursor, shown.len())
    };
    for text in ["one", "two"] {
        admin.send(&notice("alice", text)).await;
    }
    let landed = older.expect_messages(2).await;
    let conversation_id = landed[0].conversation_id.clone();
    assert_eq!(land(landed), (2, 2));
    older.ack(2).await;
    phone.expect_messages(2).await;
    phone.read(&conversation_id, 1).await;
    assert_eq!(land(older.expect_messages(1).await), (3, 2));
    phone.read(&conversation_id, 2).await;
    assert_eq!(land(older.expect_messages(1).await), (4, 2));
    older.ack(4).await;
    older.settle().await;
    admin.send(&notice("alice", "three")).await;
    assert_eq!(land(older.expect_messages(1).await), (5, 3));
    older.ack(5).await;
    drop(older);

    // The phone was away while the third message was read.
    phone.read(&conversation_id, 3).await;
    let mut entries = 0;
    while entries < 6 {
        match phone.hear().await {
            Heard::Frame(Body::Push(push)) => {
                entries = push.messages.last().map_or(entries, |last| last.seq);
            }
            Heard::Frame(Body::CaughtUp(_)) => {}
            other => panic!("expected a push, got {other:?}"),
        }
    }
    let mut older = gateway.resume("alice", WEB, epoch, 5).await;
    assert_eq!((older.welcome.cursor, older.welcome.head), (5, 6));
    assert_eq!(land(older.expect_backlog().await), (6, 3));
    older.ack(6).await;
    older.settle().await;
}

/// The gateway's present address, also after a restart.
struct Following(Whereabouts);

impl Network for Following {
    type Stream = TcpStream;

    async fn connect(&self, _: &str, _: u16) -> io::Result<TcpStream> {
        let place = *self.0.borrow();
        let clients = place.ok_or(io::ErrorKind::ConnectionRefused)?.clients;
        Tcp.connect(&clients.ip().to_string(), clients.port()).await
    }
}

/// A client with an empty store comes to know these conversations.
async fn expect_at_new_device(gateway: &Gateway, expected: Conversations) {
    let store = DiskStore::open(&gateway.data().with_file_name("new.redb")).unwrap();
    let mut client = client(gateway, ANDROID, store.clone()).await;
    let known = eventually("the conversations", async || {
        let knowledge = store.conversations().unwrap().0;
        knowledge == Knowledge::Whole && in_open_store(&store) == expected
    });
    let ended = client.run(|_| {}, known).await;
    assert!(matches!(ended, Ended::Stopped), "{ended}");
}

/// A client that finds the gateway also after a restart.
async fn client(
    gateway: &Gateway,
    platform: u32,
    store: DiskStore,
) -> Client<DiskStore, Following> {
    let options = Options {
        url: "ws://gateway/ws".into(),
        token: gateway.token("alice", platform).await,
        device_id: String::new(),
        name: "scenario/1".into(),
    };
    Client::over(Following(gateway.whereabouts()), options, store)
}

/// Sends into two conversations until told to stop, through every kill.
async fn send_on(mut admin: Admin, seed: u64, stop: watch::Receiver<bool>) {
    for number in 0.. {
        if *stop.borrow() {
            return;
        }
        send_surely(&mut admin, seed, number).await;
    }
}

/// Sends one message, again until it is accepted.
async fn send_surely(admin: &mut Admin, seed: u64, number: u64) {
    let mut request = notice("alice", &format!("message {number}"));
    request["clientMsgID"] = format!("{seed:x}-{number}").into();
    if number.is_multiple_of(3) {
        request["contentType"] = 101.into();
        request["sessionType"] = 1.into();
    }
    loop {
        let answer = admin
            .call("POST", "/manager/send_msg", &[], request.to_string())
            .await;
        if answer.is_ok_and(|answer| answer.code() == 0) {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// No mark is lower than it was.
fn expect_no_step_back(before: &Conversations, now: &Conversations, name: &str) {
    for (id, (_, mark, _)) in before {
        let now = now.get(id).map_or(0, |now| now.1);
        assert!(now >= *mark, "{name}: {id} went from {mark} to {now}");
    }
}

/// A client process that is killed and started again.
struct Victim {
    platform: &'static str,
    store: PathBuf,
    known: Conversations,
    /// The highest mark that it printed, by conversation.
    printed: BTreeMap<String, u64>,
}

impl Victim {
    fn note(&mut self, line: &Value) {
        for mark in line["marks"].as_array().into_iter().flatten() {
            let id = mark["conversationID"].as_str().unwrap().to_owned();
            let seq = mark["conversationSeq"].as_u64().unwrap();
            let before = self.printed.insert(id, seq).unwrap_or(0);
            assert!(seq > before, "{}: {seq} after {before}", self.platform);
        }
    }

    async fn kill(&mut self, process: Listen) {
        for line in process.kill().await {
            self.note(&line);
        }
        let now = in_store(&self.store);
        expect_no_step_back(&self.known, &now, self.platform);
        self.known = now;
    }
}

/// Kills the gateway and two clients, and cuts the connection of a third, `rounds` times while messages come and are read
/// everywhere. Afterwards all of them agree.
async fn kill_everything(rounds: usize) {
    let seed = seed();
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut gateway = Gateway::start(&[]).await;
    let folder = gateway.data();
    let (stop, is_stopped) = watch::channel(false);
    let mut admin = gateway.admin().await;
    let sender = tokio::spawn(send_on(admin.another(), seed, is_stopped));
    let mut victims = ["web", "ios"].map(|platform| Victim {
        platform,
        store: folder.with_file_name(format!("{platform}.redb")),
        known: Conversations::new(),
        printed: BTreeMap::new(),
    });

    // The third client lives through everything. It reads a part of its messages.
    let store = DiskStore::open(&folder.with_file_name("windows.redb")).unwrap();
    let mut client = client(&gateway, WINDOWS, store.clone()).await;
    let read_state = client.read_state();
    let (mut choice, reads) = (random.fork(), Cell::new(true));
    let on_event = |event| {
        if reads.get() {
            read_some(&event, &read_state, &mut choice);
        }
    };

    let course = async {
        let (mut told, mut known) = (Conversations::new(), Conversations::new());
        for _ in 0..rounds {
            let mut processes = Vec::new();
            for victim in &victims {
                let mut command = listen_on(&gateway, victim.platform, &victim.store);
                if random.bool() {
                    command.arg("--mark-read");
                }
                processes.push(Listen::start(command));
            }
            for _ in 0..random.usize(1..30) {
                for (victim, process) in victims.iter_mut().zip(&mut processes) {
                    let line = process.next().await;
                    victim.note(&line);
                }
            }
            sleep(Duration::from_micros(random.u64(..300_000))).await;
            let is_first = random.bool();
            if is_first {
                gateway.kill();
            }
            for (victim, process) in victims.iter_mut().zip(processes) {
                victim.kill(process).await;
            }
            if !is_first {
                gateway.kill();
            }
            gateway.restart().await;
            let now = at_gateway(&gateway).await;
            expect_no_step_back(&told, &now, "the gateway");
            for victim in &victims {
                for (id, mark) in &victim.printed {
                    assert!(
                        now[id].1 >= *mark,
                        "{} was told {mark} of {id}",
                        victim.platform
                    );
                }
            }
            told = now;
            let now = in_open_store(&store);
            expect_no_step_back(&known, &now, "the third client");
            known = now;
        }
        stop.send_replace(true);
        sender.await.unwrap();

        reads.set(false);
        // Nobody reads any more. The marks that wait in a store still have to reach everyone.
        let mut number = u64::MAX / 2;
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            number += 1;
            send_surely(&mut admin, seed, number).await;
            for victim in &mut victims {
                let mut process =
                    Listen::start(listen_on(&gateway, victim.platform, &victim.store));
                expect_text(&mut process, &format!("message {number}")).await;
                process.stop().await;
            }
            let told = at_gateway(&gateway).await;
            let is_same = timeout(
                Duration::from_secs(5),
                eventually("the third client", async || in_open_store(&store) == told),
            );
            let is_same = is_same.await.is_ok();
            let stores = victims.each_ref().map(|victim| in_store(&victim.store));
            if is_same && stores.iter().all(|store| *store == told) {
                break;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "seed {seed}: {told:?}, {stores:?}, {:?}",
                in_open_store(&store)
            );
        }
        let told = at_gateway(&gateway).await;
        println!("rounds {rounds} at the end {told:?}");
        assert_eq!(told.len(), 2);
        for (head, mark, unread) in told.values() {
            assert_eq!(head - mark, *unread);
        }

        expect_at_new_device(&gateway, told).await;
    };
    let ended = client.run(on_event, course).await;
    assert!(matches!(ended, Ended::Stopped), "{ended}");
}

/// Reads up to one of the messages that have landed, now and then.
fn read_some(event: &ClientEvent, read_state: &ReadState<DiskStore>, choice: &mut fastrand::Rng) {
    if let ClientEvent::Landed { messages, .. } = event
        && choice.u32(..8) == 0
    {
        let message = &messages[choice.usize(..messages.len())];
        read_state
            .mark_read(&message.conversation_id, message.conversation_seq)
            .unwrap();
    }
}

#[tokio::test]
async fn marks_agree_everywhere_after_kills_at_any_moment() {
    kill_everything(3).await;
}

/// `cargo test --release --test scenarios -- --ignored --nocapture read_state_full`.
#[tokio::test]
#[ignore = "twenty rounds"]
async fn read_state_full_marks_agree_everywhere_after_kills_at_any_moment() {
    kill_everything(20).await;
}

#[tokio::test]
async fn a_new_device_gets_the_counts_with_its_backlog() {
    let gateway = Gateway::start(&[]).await;
    let mut admin = gateway.admin().await;
    for text in ["one", "two", "three"] {
        admin.send(&notice("alice", text)).await;
    }
    let mut phone = gateway.connect("alice", IOS).await;
    let backlog = phone.expect_backlog().await;
    let conversation_id = format!("sn_alice_{ADMIN}");
    assert!(backlog.iter().zip(1..).all(|(message, seq)| {
        message.conversation_id == conversation_id && message.conversation_seq == seq
    }));
    phone.ack(3).await;
    phone.read(&conversation_id, 2).await;
    let entry = phone.expect_push().await;
    assert_eq!(entry.marks[0].conversation_seq, 2);
    expect_at_new_device(&gateway, BTreeMap::from([(conversation_id, (3, 2, 1))])).await;
}
