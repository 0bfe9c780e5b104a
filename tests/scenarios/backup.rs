//! P1 and P6 through a backup: a restore has every message that was accepted before the backup began, and clients of both
//! protocols learn that it is another log.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures_util::{SinkExt as _, StreamExt as _};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message as Socket};
use towncrier::protocol::towncrier_v1::proto::gap;

use crate::support::{
    ADMIN, Gateway, WEB, admin::Admin, eventually, gateway::towncrier, notice, text_of, within,
};

/// An answer of OpenIM's v3 to the question for the highest seqs.
#[derive(Clone, PartialEq, prost::Message)]
struct MaxSeqs {
    #[prost(map = "string, int64", tag = "1")]
    max_seqs: HashMap<String, i64>,
}

/// A session of OpenIM v3's JavaScript SDK.
struct Sdk(WebSocketStream<TcpStream>);

impl Sdk {
    async fn log_in(gateway: &Gateway, user: &str) -> Self {
        let token = gateway.token(user, WEB).await;
        let clients = gateway.place().clients;
        let stream = TcpStream::connect(clients).await.unwrap();
        let address = format!(
            "ws://{clients}/?sendID={user}&platformID={WEB}&token={token}&operationID=o&sdkType=js&isMsgResp=true"
        );
        let (socket, _) = within("the upgrade", client_async(address, stream))
            .await
            .unwrap();
        let mut sdk = Self(socket);
        assert!(matches!(sdk.hear().await, Socket::Text(_)), "the verdict");
        sdk
    }

    /// The next message, but for pings.
    async fn hear(&mut self) -> Socket {
        loop {
            let heard = within("a message", self.0.next()).await.unwrap().unwrap();
            if !matches!(heard, Socket::Ping(_)) {
                return heard;
            }
        }
    }

    /// The highest seq of the user's conversation with the administrator.
    async fn max_seq(&mut self, user: &str) -> i64 {
        let request = json!({
            "reqIdentifier": 1001, "msgIncr": "5", "sendID": user, "operationID": "o", "data": ""
        });
        let request = Socket::Binary(request.to_string().into());
        within("room to send", self.0.send(request)).await.unwrap();
        loop {
            let Socket::Binary(bytes) = self.hear().await else {
                panic!("expected an answer");
            };
            let answer: Value = serde_json::from_slice(&bytes).unwrap();
            // Pushes may come before it.
            if answer["reqIdentifier"] != 1001 {
                continue;
            }
            let data = BASE64_STANDARD
                .decode(answer["data"].as_str().unwrap())
                .unwrap();
            let seqs = MaxSeqs::decode(&data[..]).unwrap().max_seqs;
            return seqs[&format!("sn_{ADMIN}_{user}")];
        }
    }
}

pub(crate) fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

/// `towncrier log backup` into this directory.
pub(crate) async fn back_up(gateway: &Gateway, dir: &Path) -> Output {
    let mut command = gateway.command("log");
    command.arg("backup").arg(dir);
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

/// `towncrier log restore` of this backup.
fn restore(backup: &Path, data: &Path) -> Output {
    restoring(backup, data).output().unwrap()
}

/// The command `towncrier log restore` of this backup.
pub(crate) fn restoring(backup: &Path, data: &Path) -> std::process::Command {
    let mut command = towncrier();
    command
        .args(["log", "restore"])
        .arg(backup)
        .arg("--data")
        .arg(data);
    command
}

/// A gateway on the data directory that a restore made. The directory is moved.
pub(crate) async fn serve(restored: &Path) -> Gateway {
    let mut gateway = Gateway::start(&[]).await;
    gateway.kill();
    fs::remove_dir_all(gateway.data()).unwrap();
    let moved = std::process::Command::new("mv")
        .arg(restored)
        .arg(gateway.data())
        .status();
    assert!(moved.unwrap().success());
    gateway.restart().await;
    gateway
}

/// Sends numbered messages to both users until it is over.
async fn send_on(mut admin: Admin, sent: Arc<AtomicU64>, is_over: Arc<AtomicBool>) {
    while !is_over.load(Relaxed) {
        let number = sent.load(Relaxed) + 1;
        for user in ["alice", "u1"] {
            admin
                .send(&notice(user, &format!("{number} {}", "x".repeat(500))))
                .await;
        }
        sent.store(number, Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_backup_during_load_restores_all_that_was_accepted_before_it_in_a_new_epoch() {
    let mut gateway = Gateway::start(&["log.segment_bytes=65536"]).await;
    let mut admin = gateway.admin().await;
    let temp = tempfile::tempdir().unwrap();
    let (sent, is_over) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let sender = tokio::spawn(send_on(admin.another(), sent.clone(), is_over.clone()));
    let mut restored = Vec::new();
    for round in 1..=3 {
        eventually("more is accepted", async || sent.load(Relaxed) > round * 60).await;
        let before = sent.load(Relaxed);
        let backup = temp.path().join("backup");
        let made = back_up(&gateway, &backup).await;
        assert!(made.status.success(), "{}", said(&made));
        assert!(said(&made).contains("backed up to"), "{}", said(&made));
        let data = temp.path().join(format!("restored-{round}"));
        let output = restore(&backup, &data);
        assert!(output.status.success(), "{}", said(&output));
        restored.push((before, data));
    }
    is_over.store(true, Relaxed);
    sender.await.unwrap();
    assert!(admin.metric("towncrier_backup_timestamp_seconds").await > 0.0);
    assert!(admin.metric("towncrier_backup_size_bytes").await > 65_536.0);
    assert_eq!(admin.metric("towncrier_backups_failed_total").await, 0.0);

    // The clients have everything that the first gateway ever had.
    let (_, head) = admin.bounds("alice").await;
    let epoch = gateway.connect("alice", WEB).await.welcome.epoch;
    let seen = Sdk::log_in(&gateway, "u1").await.max_seq("u1").await;
    assert_eq!(seen as u64, head);
    gateway.kill();
    for (before, data) in restored {
        let gateway = serve(&data).await;
        let mut admin = gateway.admin().await;
        let mut web = gateway.resume("alice", WEB, epoch, head).await;
        assert_ne!(web.welcome.epoch, epoch);
        let gap = web.expect_gap().await;
        let told = (gap.from_seq, gap.to_seq, gap.reason());
        assert_eq!(told, (1, 0, gap::Reason::EpochChanged));
        let messages = web.expect_whole_inbox().await;
        assert!(
            messages.len() as u64 >= before,
            "{} of {before}",
            messages.len()
        );
        for (number, message) in (1..).zip(&messages) {
            assert_eq!(message.seq, number);
            assert!(text_of(message).starts_with(&format!("{number} x")));
        }
        // Numbers that the SDK has seen are not used again.
        let mut sdk = Sdk::log_in(&gateway, "u1").await;
        assert!(sdk.max_seq("u1").await >= before as i64);
        admin.send(&notice("u1", "after the restore")).await;
        let next = Sdk::log_in(&gateway, "u1").await.max_seq("u1").await;
        assert!(next > seen && next > 1_000_000, "{next}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_during_a_backup_leaves_the_one_before_it() {
    let mut gateway = Gateway::start(&["log.segment_bytes=1048576"]).await;
    let mut admin = gateway.admin().await;
    let temp = tempfile::tempdir().unwrap();
    let backup = temp.path().join("backup");
    for number in 1..=5 {
        admin.send(&notice("alice", &number.to_string())).await;
    }
    assert!(back_up(&gateway, &backup).await.status.success());
    let segments = || fs::read_dir(backup.join("segments")).unwrap().count();
    assert_eq!(segments(), 1);
    for _ in 0..400 {
        admin.send(&notice("alice", &"x".repeat(40_000))).await;
    }
    let mut command = gateway.command("log");
    command.arg("backup").arg(&backup);
    let killed = tokio::task::spawn_blocking(move || command.output().unwrap());
    eventually("a part is copied", async || segments() > 2).await;
    gateway.kill();
    let killed = killed.await.unwrap();
    assert_eq!(killed.status.code(), Some(1), "{}", said(&killed));
    let data = temp.path().join("restored");
    let output = restore(&backup, &data);
    assert!(said(&output).contains("5 messages"), "{}", said(&output));

    gateway.restart().await;
    let made = back_up(&gateway, &backup).await;
    assert!(made.status.success(), "{}", said(&made));
    let output = restore(&backup, &temp.path().join("again"));
    assert!(said(&output).contains("405 messages"), "{}", said(&output));
}

#[tokio::test]
async fn backups_are_an_administrators_and_a_damaged_one_is_refused_by_name() {
    let gateway = Gateway::start(&[]).await;
    let mut admin = gateway.admin().await;
    admin.send(&notice("alice", "one")).await;
    let temp = tempfile::tempdir().unwrap();
    let backup = temp.path().join("backup");
    let body = json!({ "operationID": "o", "destination": backup });
    let mut stranger = admin.another();
    stranger.token = gateway.token("alice", WEB).await;
    let refused = stranger.post("/log/backup", &body).await;
    assert_eq!((refused.status, refused.code()), (400, 400), "{refused:?}");
    let within_data = json!({ "operationID": "o", "destination": gateway.data().join("backup") });
    let refused = admin.post("/log/backup", &within_data).await;
    assert_eq!((refused.status, refused.code()), (400, 400), "{refused:?}");
    assert!(refused.text.contains("data directory"), "{}", refused.text);
    assert!(!backup.exists());

    // A token from a file needs no secrets.
    let token_file = temp.path().join("token");
    fs::write(&token_file, format!("{}\n", admin.token)).unwrap();
    let mut command = towncrier();
    command.args(["log", "backup"]).arg(&backup);
    command.args(["--admin", &format!("http://{}", gateway.place().admin)]);
    command.arg("--token-file").arg(&token_file);
    let made = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    assert!(made.status.success(), "{}", said(&made));

    let refused = restore(&backup, &gateway.data());
    assert!(said(&refused).contains("in use"), "{}", said(&refused));
    let name = only_segment(&backup);
    let mut bytes = fs::read(&name).unwrap();
    let half = bytes.len() / 2;
    bytes[half] ^= 1;
    fs::write(&name, bytes).unwrap();
    let data = temp.path().join("restored");
    let refused = restore(&backup, &data);
    assert_eq!(refused.status.code(), Some(1));
    let name = name.file_name().unwrap().to_str().unwrap();
    assert!(said(&refused).contains(name), "{}", said(&refused));
    assert!(!data.join("log").exists());
}

fn only_segment(backup: &Path) -> PathBuf {
    let mut segments = fs::read_dir(backup.join("segments")).unwrap();
    segments.next().unwrap().unwrap().path()
}
