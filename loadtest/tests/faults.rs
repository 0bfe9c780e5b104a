//! The ledger finds faults: the rig loads a gateway that duplicates, loses, reorders or alters messages, reports it, and
//! exits with 1.
//!
//! The gateway here is a false one: enough of both protocols for one sender, with one chosen fault.

#![expect(
    clippy::unwrap_used,
    reason = "what a test cannot unwrap is a failure of the test"
)]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use futures_util::{SinkExt, StreamExt};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::watch,
};
use tokio_tungstenite::{
    accept_hdr_async,
    tungstenite::{
        Message as Envelope,
        handshake::server::{ErrorResponse, Request, Response},
        http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL},
    },
};
use towncrier_client::{
    SUBPROTOCOL,
    proto::{ClientFrame, Connected, Message, Push, ServerFrame, client_frame, server_frame::Body},
};

/// The fault of the false gateway, each time at the same entry of an inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Duplicate,
    Lose,
    /// The message comes only after many that were sent after its answer, so that no short delay of the machine can explain
    /// it.
    Delay,
    Alter,
    /// The message is delivered, but its sender is told that it was refused.
    Refuse,
}

/// The entry with the fault: the `n`th message that is accepted for a user.
const SPOILT: usize = 3;
/// The number of messages that overtake it. Each user gets about 30 in all, at random.
const DELAYED_TO: usize = 10;

#[derive(Debug)]
struct False {
    fault: Fault,
    inboxes: Mutex<BTreeMap<String, Inbox>>,
    grown: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Inbox {
    accepted: usize,
    /// The delayed message.
    held: Option<Message>,
    messages: Vec<Message>,
}

impl Inbox {
    fn add(&mut self, mut message: Message) {
        message.seq = self.messages.len() as u64 + 1;
        self.messages.push(message);
    }
}

impl False {
    /// Accepts a send, with the fault if it is due. `false`: answer that it was refused.
    fn accept(&self, message: Message) -> bool {
        let mut inboxes = self.inboxes.lock().unwrap();
        let inbox = inboxes.entry(message.recv_id.clone()).or_default();
        inbox.accepted += 1;
        let is_spoilt = inbox.accepted == SPOILT;
        let held = inbox.held.take_if(|_| inbox.accepted == DELAYED_TO);
        match self.fault {
            Fault::Duplicate if is_spoilt => {
                inbox.add(message.clone());
                inbox.add(message);
            }
            Fault::Lose if is_spoilt => {}
            Fault::Delay if is_spoilt => inbox.held = Some(message),
            Fault::Alter if is_spoilt => inbox.add(Message {
                content: b"{}".to_vec().into(),
                ..message
            }),
            _ => inbox.add(message),
        }
        if let Some(held) = held {
            inbox.add(held);
        }
        self.grown.send_modify(|changes| *changes += 1);
        !(self.fault == Fault::Refuse && is_spoilt)
    }

    fn inbox(&self, user: &str) -> Vec<Message> {
        let inboxes = self.inboxes.lock().unwrap();
        inboxes
            .get(user)
            .map_or_else(Vec::new, |inbox| inbox.messages.clone())
    }

    fn answer(&self, path: &str, body: &Value) -> Value {
        let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        if path == "/auth/user_token" {
            // The token is the user.
            return json!({"errCode": 0, "errMsg": "", "data": {"token": body["userID"]}});
        }
        let server_msg_id = format!("server-{}", text("clientMsgID"));
        let list = body["recvIDList"].as_array().cloned();
        let users = list.clone().unwrap_or_else(|| vec![body["recvID"].clone()]);
        let mut is_accepted = true;
        for user in users {
            is_accepted &= self.accept(Message {
                client_msg_id: text("clientMsgID"),
                server_msg_id: server_msg_id.clone(),
                recv_id: user.as_str().unwrap().to_owned(),
                content: body["content"].to_string().into_bytes().into(),
                ..Message::default()
            });
        }
        let one = json!({"serverMsgID": server_msg_id});
        match is_accepted {
            false => json!({"errCode": 403, "errMsg": "refused"}),
            true if list.is_some() => json!({"errCode": 0, "data": {"resultList": [one]}}),
            true => json!({"errCode": 0, "data": one}),
        }
    }

    async fn serve_admin(self: Arc<Self>, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        loop {
            let (mut path, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                    return;
                }
                if let Some(rest) = line.strip_prefix("POST ") {
                    path = rest.split(' ').next().unwrap().to_owned();
                } else if let Some(rest) = line.strip_prefix("content-length: ") {
                    length = rest.trim().parse().unwrap();
                } else if line == "\r\n" {
                    break;
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.unwrap();
            let answer = self
                .answer(&path, &serde_json::from_slice(&body).unwrap())
                .to_string();
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{answer}",
                answer.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    }

    async fn serve_client(self: Arc<Self>, stream: TcpStream) {
        let Ok(mut socket) = accept_hdr_async(stream, upgrade).await else {
            return;
        };
        let mut grown = self.grown.subscribe();
        let (mut user, mut sent) = (None, 0);
        loop {
            let mut frames = Vec::new();
            tokio::select! {
                heard = socket.next() => {
                    let Some(Ok(Envelope::Binary(bytes))) = heard else { return };
                    if let Some(client_frame::Body::Connect(connect)) = ClientFrame::decode(bytes).unwrap().body {
                        sent = connect.cursor.unwrap_or(0) as usize;
                        frames.push(Body::Connected(Connected {
                            epoch: 1,
                            cursor: sent as u64,
                            head: self.inbox(&connect.token).len() as u64,
                            heartbeat_ms: 30_000,
                            ..Connected::default()
                        }));
                        user = Some(connect.token);
                    }
                }
                changed = grown.changed() => changed.unwrap(),
            }
            let Some(user) = &user else { continue };
            let messages = self.inbox(user).split_off(sent);
            if !messages.is_empty() {
                sent += messages.len();
                frames.push(Body::Push(Push { messages }));
            }
            for body in frames {
                let bytes = ServerFrame { body: Some(body) }.encode_to_vec();
                if socket.send(Envelope::Binary(bytes.into())).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[expect(clippy::result_large_err, reason = "the signature is tungstenite's")]
fn upgrade(_: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    let protocol = HeaderValue::from_static(SUBPROTOCOL);
    response
        .headers_mut()
        .insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    Ok(response)
}

/// Runs the rig against a gateway with this fault. Returns its exit code and its ledger.
async fn load(fault: Fault) -> (i32, Value) {
    let gateway = Arc::new(False {
        fault,
        inboxes: Mutex::default(),
        grown: watch::Sender::new(0),
    });
    let [clients, admin] = [
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
    ];
    let mut rig = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    // One lane, so that each answer comes before the next send. This gives an order that can be broken.
    rig.args([
        "send",
        "--users",
        "2",
        "--lanes",
        "1",
        "--rate",
        "20",
        "--seconds",
        "3",
        "--json",
    ]);
    rig.args(["--patience", "2", "--secret", "none"]);
    rig.arg("--ws")
        .arg(format!("ws://{}/ws", clients.local_addr().unwrap()));
    rig.arg("--admin")
        .arg(admin.local_addr().unwrap().to_string());
    let running = rig.kill_on_drop(true).output();
    tokio::pin!(running);
    let output = loop {
        tokio::select! {
            output = &mut running => break output.unwrap(),
            accepted = clients.accept() => {
                tokio::spawn(gateway.clone().serve_client(accepted.unwrap().0));
            }
            accepted = admin.accept() => {
                tokio::spawn(gateway.clone().serve_admin(accepted.unwrap().0));
            }
        }
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}"));
    (output.status.code().unwrap(), report["ledger"].clone())
}

/// The only fault found, and its count.
async fn found(fault: Fault) -> (&'static str, u64) {
    let (code, ledger) = load(fault).await;
    let kinds = ["lost", "duplicated", "reordered", "ghost", "pending"];
    let counts = kinds.map(|kind| (kind, ledger[kind].as_u64().unwrap()));
    let found: Vec<_> = counts.into_iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!((code, found.len()), (1, 1), "{fault:?}: {ledger}");
    found[0]
}

#[tokio::test]
async fn a_faultless_gateway_passes() {
    let (code, ledger) = load(Fault::None).await;
    assert_eq!(
        (code, &ledger["landed"]),
        (0, &ledger["accepted"]),
        "{ledger}"
    );
    assert_eq!(ledger["accepted"], 62);
}

#[tokio::test]
async fn a_message_that_comes_twice_is_found() {
    assert_eq!(found(Fault::Duplicate).await, ("duplicated", 2));
}

#[tokio::test]
async fn a_message_that_never_comes_is_found() {
    assert_eq!(found(Fault::Lose).await, ("lost", 2));
}

#[tokio::test]
async fn messages_in_the_wrong_order_are_found() {
    assert_eq!(found(Fault::Delay).await, ("reordered", 2));
}

#[tokio::test]
async fn a_refused_message_that_comes_is_found() {
    assert_eq!(found(Fault::Refuse).await, ("ghost", 2));
}

#[tokio::test]
async fn an_altered_message_is_found() {
    let (code, ledger) = load(Fault::Alter).await;
    // The landed message belongs to no send, and the sent one is missing.
    assert_eq!(
        (code, &ledger["ghost"], &ledger["lost"]),
        (1, &json!(2), &json!(2)),
        "{ledger}"
    );
}
