//! A second protocol: JSON in text messages, one value each. It shows that a new protocol needs only a codec.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::BytesMut;
use serde_json::{Value, json};
use towncrier_websocket::{
    Close, Frame, Rules, Side, Violation,
    frame::{FIN, TEXT, put_header},
};

use super::*;
use crate::{
    message::{Live, Origin, StoredMessage},
    session::{self, FromClient, Manner, Reason, Resume, ToClient},
};

const NAME: &str = "lines";

/// The codec. It counts the shared encodings, so that a test can see that sessions share them.
#[derive(Clone, Default)]
struct JsonLines {
    encoded: Arc<AtomicUsize>,
}

impl Codec for JsonLines {
    fn subprotocol(&self) -> &'static str {
        NAME
    }

    fn rules(&self) -> Rules {
        Rules {
            from: Side::Client,
            takes_text: true,
            message_bytes_max: 1024,
        }
    }

    fn decode(&mut self, payload: Bytes, _is_text: bool) -> Result<FromClient, Reason> {
        let said: Value =
            serde_json::from_slice(&payload).map_err(|_| Reason::Protocol("no JSON"))?;
        let seq = |value: &Value| value.as_u64().map(Seq);
        if let Some(token) = said["token"].as_str() {
            return Ok(FromClient::Connect(session::Connect {
                token: token.to_owned(),
                device: String::new(),
                client: String::new(),
                // A client of this protocol has no store of its own.
                resume: Resume {
                    epoch: 0,
                    cursor: None,
                },
                manner: Manner::Acks,
                named: None,
                is_background: false,
            }));
        }
        if let Some(ack) = seq(&said["ack"]) {
            return Ok(FromClient::Ack(ack));
        }
        let fetch = seq(&said["fetch"]).ok_or(Reason::Protocol("nothing known"))?;
        Ok(FromClient::Fetch(session::Fetch {
            request_id: 0,
            after: fetch,
            limit: 10,
        }))
    }

    fn encode(&mut self, user: &UserId, what: ToClient, send: &mut dyn FnMut(Frame)) {
        match what {
            ToClient::Live(Live { numbers, message }) => {
                let shared = message.encoding(NAME, |body| {
                    self.encoded.fetch_add(1, Relaxed);
                    content(body)
                });
                send(line(entry(numbers.seq, user, message.origin()), shared));
            }
            ToClient::Push { messages, .. } | ToClient::Fetched { messages, .. } => {
                for (numbers, body) in messages {
                    let own = entry(numbers.seq, user, &Origin::of(&body));
                    send(line(own, content(&body)));
                }
            }
            ToClient::Connected(connected) => send(whole(&json!({ "head": connected.head.0 }))),
            ToClient::CaughtUp(seq) => send(whole(&json!({ "caughtUp": seq.0 }))),
            other => send(whole(&json!(format!("{other:?}")))),
        }
    }

    fn close(&self, reason: Reason) -> Close {
        let code = match reason {
            Reason::Replaced => 3001,
            _ => 3000,
        };
        let text = String::new();
        Close { code, text }
    }

    fn refuse(&self, violation: Violation) -> Close {
        let (code, text) = (violation.code(), String::new());
        Close { code, text }
    }
}

/// The beginning of a message's line, which belongs to one receiver.
fn entry(seq: Seq, user: &UserId, origin: &Origin) -> String {
    let conversation = origin.conversation_id(user.as_str());
    format!(r#"{{"seq":{},"in":"{conversation}","#, seq.0)
}

/// The end of the line, which all receivers share.
fn content(body: &Bytes) -> Bytes {
    let message = StoredMessage::from_bytes(body);
    let text = String::from_utf8_lossy(&message.content);
    format!(r#""content":{}}}"#, json!(text)).into()
}

fn line(own: String, shared: Bytes) -> Frame {
    let mut head = BytesMut::new();
    put_header(&mut head, FIN | TEXT, own.len() + shared.len(), None);
    head.extend_from_slice(own.as_bytes());
    Frame {
        head: head.freeze(),
        body: shared,
    }
}

fn whole(value: &Value) -> Frame {
    line(value.to_string(), Bytes::new())
}

type Lines = WebSocketStream<DuplexStream>;

async fn say(client: &mut Lines, value: Value) {
    let text = WsMessage::Text(value.to_string().into());
    client.send(text).await.unwrap();
}

async fn hear(client: &mut Lines) -> Value {
    match client.next().await.expect("goes on").expect("well formed") {
        WsMessage::Text(text) => serde_json::from_str(&text).unwrap(),
        WsMessage::Close(close) => json!(u16::from(close.expect("a code").code)),
        message => panic!("{message:?}"),
    }
}

impl Bench {
    /// A session of "u" over the other protocol, up to its first line.
    async fn log_in_by_lines(&mut self, codec: &JsonLines, platform: Platform) -> Lines {
        let token = self.world.connect("u", platform).token;
        let (mut client, _) = self.open_with(Box::new(codec.clone()), 1 << 20).await;
        say(&mut client, json!({ "token": token })).await;
        let head = hear(&mut client).await;
        assert!(head["head"].is_u64(), "{head}");
        client
    }
}

#[test]
fn a_session_of_another_protocol_gets_its_backlog_then_live_messages_and_acks() {
    run(async {
        let mut bench = Bench::new();
        bench.world.append("u", b"1");
        let mut client = bench
            .log_in_by_lines(&JsonLines::default(), Platform::Web)
            .await;
        let backlog = json!({ "seq": 1, "in": "si__u", "content": "1" });
        assert_eq!(hear(&mut client).await, backlog);
        assert_eq!(hear(&mut client).await, json!({ "caughtUp": 1 }));
        bench.send(b"2");
        let live = json!({ "seq": 2, "in": "si__u", "content": "2" });
        assert_eq!(hear(&mut client).await, live);
        say(&mut client, json!({ "ack": 2 })).await;
        say(&mut client, json!({ "fetch": 1 })).await;
        assert_eq!(hear(&mut client).await, live);
        assert_eq!(bench.world.log.cursor(&web("u")), Some(Seq(2)));
    });
}

#[test]
fn sessions_of_two_protocols_share_a_message_that_each_protocol_encodes_once() {
    run(async {
        let mut bench = Bench::new();
        let codec = JsonLines::default();
        let mut clients = Vec::new();
        for platform in [Platform::Ios, Platform::Android, Platform::Windows] {
            let mut client = bench.log_in_by_lines(&codec, platform).await;
            assert_eq!(hear(&mut client).await, json!({ "caughtUp": 0 }));
            clients.push(client);
        }
        let mut other = bench.log_in_live().await;
        bench.send(b"1");
        for client in &mut clients {
            assert_eq!(hear(client).await["content"], "1");
        }
        let expected = [(1, Bytes::from_static(b"1"))];
        assert_eq!(other.hear_messages(1).await, expected);
        assert_eq!(codec.encoded.load(Relaxed), 1);
    });
}

#[test]
fn a_protocol_closes_with_codes_of_its_own() {
    run(async {
        let mut bench = Bench::new();
        let codec = JsonLines::default();
        let mut older = bench.log_in_by_lines(&codec, Platform::Web).await;
        assert_eq!(hear(&mut older).await, json!({ "caughtUp": 0 }));
        // A newer login takes the same place, also over another protocol.
        let _newer = bench.log_in_live().await;
        bench.hand_out();
        assert!(hear(&mut older).await.is_string(), "not told");
        assert_eq!(hear(&mut older).await, json!(3001));
        let (mut client, _) = bench.open_with(Box::new(codec), 1 << 20).await;
        say(&mut client, json!({ "nothing": "known" })).await;
        assert_eq!(hear(&mut client).await, json!(3000));
    });
}
