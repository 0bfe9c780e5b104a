//! The surroundings for tests of connections and reactors: a log in memory, a client that speaks frames, and a
//! strict reader of the server's bytes.

use std::{cell::Cell, ops::Deref, rc::Rc, sync::Arc};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message as WsMessage};
use towncrier_websocket::{
    Reader, Received, Rules, Side,
    frame::{BINARY, CLOSE, FIN, PONG, put_header},
};

use crate::{
    clock::{Clock, tests::manual::Manual},
    config::{self, Config},
    connection::{Context, OutboxLimits},
    door::{Admission, Arrival, Lobby},
    gateway::Base,
    ids::{Platform, Seq, UserId},
    log::{
        Append, Log,
        tests::{conformance, memory::MemoryLog},
    },
    message::{Message, Numbers, StoredMessage},
    protocol::towncrier_v1::proto::{
        ClientFrame, Connect, ServerFrame, client_frame, server_frame::Body,
    },
    registry::Mailbox,
    session::{Limits, REPLAYED_BYTES_MAX},
};

/// The rooms below connections and reactors.
pub(crate) struct World {
    base: Base<MemoryLog>,
    /// The clock that tokens are checked against. Tests move it.
    pub(crate) machine: Arc<Manual>,
    pub(crate) clock: Arc<Clock>,
}

/// The rooms are reached as if they were fields.
impl Deref for World {
    type Target = Base<MemoryLog>;

    fn deref(&self) -> &Self::Target {
        &self.base
    }
}

impl World {
    pub(crate) fn new(sessions: &config::Sessions) -> Self {
        let mut config = Config {
            sessions: sessions.clone(),
            ..Config::default()
        };
        // Vendor push is on, as far as connections notice it.
        config.push.http.url = "http://127.0.0.1:9/".into();
        let machine = Manual::new();
        let clock = machine.clock();
        let base = Base::build(&config, Arc::default(), clock.clone(), MemoryLog::default());
        Self {
            base,
            machine,
            clock,
        }
    }

    /// A context of connections with this outbox and defaults for everything else.
    pub(crate) fn context(&self, mailbox: Arc<dyn Mailbox>, outbox: OutboxLimits) -> Rc<Context> {
        let (sessions, delivery, listener) = (
            config::Sessions::default(),
            config::Delivery::default(),
            config::Listener::default(),
        );
        Rc::new(Context {
            delivery: Arc::clone(&self.delivery),
            registry: Arc::clone(&self.registry),
            metrics: Arc::clone(&self.metrics),
            mailbox,
            session: Limits {
                window: delivery.window,
                replayed_bytes_max: REPLAYED_BYTES_MAX,
                resend_after: delivery.resend_after,
                heartbeat: sessions.heartbeat,
                stall_timeout: listener.stall_timeout,
                starts_at_head: false,
            },
            outbox,
            started: tokio::time::Instant::now(),
            stood_still: std::cell::Cell::default(),
            no_device: "".into(),
            unix: Cell::default(),
        })
    }

    /// A client that is about to connect, from an address without any penalty.
    pub(crate) fn arrival(&self) -> Arrival {
        let listener = config::Listener::default();
        let admission = Admission::new(&listener, Arc::clone(&self.metrics));
        let lobby = Lobby::new(&listener, Arc::new(admission));
        let arrival = lobby.enter(Some([127, 0, 0, 1].into()));
        arrival.expect("an empty lobby has room")
    }

    /// Appends a message with this content, and tells nobody.
    pub(crate) fn append(&self, user: &str, content: &[u8]) -> (Numbers, Bytes) {
        let message = StoredMessage {
            content: Bytes::copy_from_slice(content),
            ..StoredMessage::default()
        };
        let append = Append {
            body: message.to_bytes(),
            ..conformance::message(self.clock.now_ms(), &[user], None, "")
        };
        let body = append.body.clone();
        let receipt = self.log.append_unannounced(append).unwrap();
        (receipt.entries[0].1, body)
    }

    pub(crate) fn delete(&self, user: &str, seq: u64) {
        let user = UserId::new(user).unwrap();
        self.log.delete(user, vec![Seq(seq)]).unwrap();
    }

    /// Appends a message and hands it to the sessions that are connected.
    pub(crate) fn send(&self, user: &str, content: &[u8]) -> usize {
        let (numbers, body) = self.append(user, content);
        let epoch = self.log.rows().epoch();
        self.registry
            .deliver(user, numbers, &Arc::new(Message::of(epoch, body)))
    }

    /// A valid `Connect` of a client that has no store yet.
    pub(crate) fn connect(&self, user: &str, platform: Platform) -> Connect {
        let user = UserId::new(user).unwrap();
        let now_ms = self.clock.now_ms();
        Connect {
            token: self.tokens.issue(&user, platform, now_ms).token,
            ..Connect::default()
        }
    }
}

/// A frame or an event that a client receives.
#[derive(Debug, PartialEq)]
pub(crate) enum Said {
    Frame(Body),
    Pong,
    Close(u16, String),
    /// The stream ended.
    End,
}

/// A client that sends and receives frames. By itself it only answers a close.
pub(crate) struct Client<S>(pub(crate) WebSocketStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) async fn say(&mut self, body: client_frame::Body) {
        let frame = ClientFrame { body: Some(body) };
        self.say_raw(WsMessage::Binary(frame.encode_to_vec().into()))
            .await;
    }

    pub(crate) async fn say_raw(&mut self, message: WsMessage) {
        self.0.send(message).await.unwrap();
    }

    pub(crate) async fn hear(&mut self) -> Said {
        match self.0.next().await {
            Some(Ok(WsMessage::Binary(bytes))) => {
                let frame = ServerFrame::decode(bytes).expect("decodes");
                Said::Frame(frame.body.expect("not empty"))
            }
            Some(Ok(WsMessage::Pong(_))) => Said::Pong,
            Some(Ok(WsMessage::Close(Some(close)))) => {
                Said::Close(close.code.into(), close.reason.to_string())
            }
            // RFC 6455 section 7.1.5: a close frame without a code counts as 1005.
            Some(Ok(WsMessage::Close(None))) => Said::Close(1005, String::new()),
            None | Some(Err(_)) => Said::End,
            Some(Ok(message)) => panic!("unexpected {message:?}"),
        }
    }

    pub(crate) async fn hear_frame(&mut self) -> Body {
        match self.hear().await {
            Said::Frame(body) => body,
            said => panic!("{said:?} instead of a frame"),
        }
    }

    /// Receives pushes until `count` messages have come, and returns their seqs and contents.
    pub(crate) async fn hear_messages(&mut self, count: usize) -> Vec<(u64, Bytes)> {
        let mut messages = Vec::new();
        while messages.len() < count {
            match self.hear_frame().await {
                Body::Push(push) => {
                    messages.extend(push.messages.into_iter().map(|m| (m.seq, m.content)));
                }
                Body::CaughtUp(_) => {}
                body => panic!("{body:?} instead of a push"),
            }
        }
        messages
    }

    /// Receives until the close, and returns its code.
    pub(crate) async fn hear_close(&mut self) -> u16 {
        loop {
            match self.hear().await {
                Said::Close(code, _) => return code,
                Said::End => panic!("ended without a close frame"),
                Said::Frame(_) | Said::Pong => {}
            }
        }
    }
}

/// A frame from the server.
#[derive(Debug, PartialEq)]
pub(crate) enum Heard {
    Body(Body),
    Pong(Vec<u8>),
    Close(Option<u16>),
}

/// Splits `bytes` into whole frames. Writing them again gives the same bytes, so each is unfragmented and has the shortest
/// header.
pub(crate) fn frames(bytes: &[u8]) -> Vec<Heard> {
    let rules = Rules {
        from: Side::Server,
        takes_text: false,
        message_bytes_max: 1 << 20,
    };
    let (mut reader, mut left) = (Reader::default(), bytes);
    let (mut frames, mut again) = (Vec::new(), Vec::new());
    let mut write = |first, payload: &[u8]| {
        put_header(&mut again, first, payload.len(), None);
        again.extend_from_slice(payload);
    };
    while let Some(message) = reader.next(&mut left, &rules).expect("a server's") {
        frames.push(match message {
            Received::Binary(payload) => {
                write(FIN | BINARY, &payload);
                let frame = ServerFrame::decode(payload).expect("decodes");
                Heard::Body(frame.body.expect("not empty"))
            }
            Received::Pong(payload) => {
                write(FIN | PONG, &payload);
                Heard::Pong(payload.to_vec())
            }
            Received::Close(close) => {
                let text = close.iter().flat_map(|close| close.text.bytes());
                let code = close.iter().flat_map(|close| close.code.to_be_bytes());
                write(FIN | CLOSE, &code.chain(text).collect::<Vec<_>>());
                Heard::Close(close.map(|close| close.code))
            }
            other => panic!("{other:?} is nothing that we say"),
        });
    }
    assert_eq!(again, bytes, "whole frames, as short as they can be");
    frames
}
