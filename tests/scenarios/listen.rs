//! P5 at the client's end: `towncrier listen` is killed at any moment, and its store holds each message once.
//!
//! Also the commands of the README's tour: `token`, `send`, `listen` against a running gateway.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use towncrier_client::DiskStore;

use crate::support::{Gateway, WEB, admin::Admin, notice, seed, within};

/// A `towncrier listen` process and the lines it prints.
pub(crate) struct Listen {
    child: Child,
    lines: mpsc::UnboundedReceiver<Value>,
}

impl Listen {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = read_lines(child.stdout.take().expect("it is piped"));
        Self { child, lines }
    }

    /// The next line it prints: a message, or read marks.
    pub(crate) async fn next(&mut self) -> Value {
        within("a printed message", self.lines.recv())
            .await
            .expect("it runs")
    }

    /// Kill -9. Returns the lines printed until then.
    pub(crate) async fn kill(mut self) -> Vec<Value> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let mut rest = Vec::new();
        while let Some(line) = self.lines.recv().await {
            rest.push(line);
        }
        rest
    }

    /// Ctrl-C, as a person ends it.
    pub(crate) async fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        let mut child = self.child;
        let ended = tokio::task::spawn_blocking(move || child.wait().unwrap());
        assert!(within("its end", ended).await.unwrap().success());
        self.lines.close();
    }
}

/// The whole lines, as JSON. A line that a kill cut short is left out.
fn read_lines(stdout: ChildStdout) -> mpsc::UnboundedReceiver<Value> {
    let (tell, lines) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            match serde_json::from_str(&line) {
                Ok(line) => drop(tell.send(line)),
                Err(_) => break,
            }
        }
    });
    lines
}

fn listen(gateway: &Gateway, store: &Path) -> Command {
    listen_on(gateway, "web", store)
}

/// `towncrier listen` for alice on a platform.
pub(crate) fn listen_on(gateway: &Gateway, platform: &str, store: &Path) -> Command {
    let mut command = gateway.command("listen");
    command.args(["--user", "alice", "--platform", platform]);
    command.args(["--json", "--store"]).arg(store);
    command
}

/// Sends one message after the other until told to stop. Returns their texts by serverMsgID.
async fn send_on(mut admin: Admin, stop: watch::Receiver<bool>) -> BTreeMap<String, String> {
    let mut sent = BTreeMap::new();
    while !*stop.borrow() {
        let text = format!("message {}", sent.len());
        let answer = admin.send(&notice("alice", &text)).await;
        sent.insert(answer.server_msg_id, text);
    }
    sent
}

/// Kills the client `rounds` times while sends go on, then compares its store with the sent messages.
async fn kill_the_client(rounds: usize) {
    let seed = seed();
    println!("TOWNCRIER_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let gateway = Gateway::start(&[]).await;
    let store = gateway.data().with_file_name("alice.redb");
    let (stop, is_stopped) = watch::channel(false);
    let sender = tokio::spawn(send_on(gateway.admin().await, is_stopped));

    let mut printed = Vec::new();
    for _ in 0..rounds {
        let mut client = Listen::start(listen(&gateway, &store));
        // The kill may come at any moment, from before the first frame to the middle of a commit.
        for _ in 0..random.usize(..40) {
            printed.push(client.next().await);
        }
        tokio::time::sleep(Duration::from_micros(random.u64(..30_000))).await;
        printed.extend(client.kill().await);
    }
    stop.send_replace(true);
    let sent = sender.await.unwrap();
    let head = sent.len() as u64;
    let mut client = Listen::start(listen(&gateway, &store));
    // The last message may have landed and been shown before the last kill. A marker makes the end certain.
    gateway.admin().await.send(&notice("alice", "marker")).await;
    loop {
        let line = client.next().await;
        let is_marker = line["content"]["text"] == "marker";
        printed.push(line);
        if is_marker {
            break;
        }
    }
    client.stop().await;

    let store = DiskStore::open(&store).unwrap();
    let landed = store.landed().unwrap();
    let epoch = landed[0].0;
    let whole: Vec<_> = (1..=head + 1).map(|seq| (epoch, seq)).collect();
    let mut kept = BTreeMap::new();
    let mut duplicated = 0;
    for (epoch, seq) in &landed {
        let message = store.message(*epoch, *seq).unwrap();
        let content: Value = serde_json::from_slice(&message.content).unwrap();
        let text = content["text"].as_str().unwrap().to_owned();
        if text != "marker" && kept.insert(message.server_msg_id, text).is_some() {
            duplicated += 1;
        }
    }
    let lost = sent.keys().filter(|id| !kept.contains_key(*id)).count();
    println!(
        "kills {rounds} sent {} stored {} lost {lost} duplicated {duplicated} printed {}",
        sent.len(),
        kept.len(),
        printed.len()
    );
    assert_eq!(landed, whole, "TOWNCRIER_SEED={seed}");
    assert_eq!((lost, duplicated), (0, 0), "TOWNCRIER_SEED={seed}");
    assert_eq!(kept, sent, "TOWNCRIER_SEED={seed}");
    let shown: BTreeSet<_> = printed.iter().map(|line| line["seq"].as_u64()).collect();
    let missing = (1..=head).filter(|seq| !shown.contains(&Some(*seq)));
    assert_eq!(missing.count(), 0, "TOWNCRIER_SEED={seed}: all was shown");
}

#[tokio::test]
async fn a_client_killed_at_any_moment_keeps_each_message_once() {
    kill_the_client(3).await;
}

/// `cargo test --release --test scenarios -- --ignored --nocapture listen_full`.
#[tokio::test]
#[ignore = "twenty rounds"]
async fn listen_full_a_client_killed_at_any_moment_keeps_each_message_once() {
    kill_the_client(20).await;
}

#[tokio::test]
async fn the_tours_commands_find_the_gateway_and_its_secret_by_themselves() {
    let mut gateway = Gateway::start(&["auth.secret=", "auth.token_key="]).await;
    let run = |gateway: &Gateway, name: &str, arguments: &[&str]| {
        let output = gateway.command(name).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let store = gateway.data().with_file_name("alice.redb");
    let mut client = Listen::start(listen(&gateway, &store));
    run(
        &gateway,
        "send",
        &["--to", "alice", "--text", "the new leave policy is out"],
    );
    let line = client.next().await;
    assert_eq!(line["content"]["text"], "the new leave policy is out");
    assert_eq!(line["seq"], 1);
    client.stop().await;

    gateway.kill();
    gateway.restart().await;
    run(&gateway, "send", &["--to", "alice", "--text", "still here"]);
    let mut client = Listen::start(listen(&gateway, &store));
    let line = client.next().await;
    assert_eq!(
        (&line["content"]["text"], &line["seq"]),
        (&"still here".into(), &2.into())
    );
    client.stop().await;

    let token = run(&gateway, "token", &["--user", "bob", "--platform", "web"]);
    let connect = towncrier::protocol::towncrier_v1::proto::Connect {
        token: token.trim_end().into(),
        ..Default::default()
    };
    assert_eq!(gateway.connect_as(connect).await.welcome.user_id, "bob");

    let link = run(&gateway, "token", &["--user", "carol", "--link"]);
    let page = format!("http://{}/", gateway.place().clients);
    let (address, token) = link.trim_end().split_once("#token=").expect("it holds one");
    assert_eq!(address, page);
    let connect = towncrier::protocol::towncrier_v1::proto::Connect {
        token: token.into(),
        ..Default::default()
    };
    assert_eq!(gateway.connect_as(connect).await.welcome.user_id, "carol");
}

#[tokio::test]
async fn a_link_is_refused_where_there_is_no_page_to_open() {
    let gateway = Gateway::start(&["listener.inbox=false"]).await;
    let mut command = gateway.command("token");
    let output = command.args(["--user", "bob", "--link"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && output.stdout.is_empty());
    assert!(said.contains("listener.inbox"), "{said}");
}

#[tokio::test]
async fn a_replaced_client_ends_and_does_not_come_back() {
    let gateway = Gateway::start(&[]).await;
    let store = gateway.data().with_file_name("alice.redb");
    let mut client = Listen::start(listen(&gateway, &store));
    gateway.admin().await.send(&notice("alice", "hello")).await;
    client.next().await;
    let _newer = gateway.connect("alice", WEB).await;
    let ended = tokio::task::spawn_blocking(move || client.child.wait().unwrap());
    assert!(!within("its end", ended).await.unwrap().success());
}
