//! The client against servers that end, refuse, mislead or fall silent.
//!
//! - `read_state.rs`: read marks, with a newer and an older gateway

mod read_state;

use std::cell::RefCell;

use futures_util::{SinkExt, StreamExt};
use prost::Message as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        handshake::server::{Request, Response},
        protocol::{CloseFrame, Message as Envelope},
    },
};

use super::*;
use crate::{
    MemoryStore, SUBPROTOCOL,
    proto::{CaughtUp, ClientFrame, Connect, ConversationList, Draining, Kicked, ServerFrame},
};

/// A gateway that sends what the test tells it to.
struct Script(WebSocketStream<TcpStream>);

impl Script {
    async fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = listener.accept().await.unwrap();
        #[expect(clippy::result_large_err, reason = "tungstenite's callback type")]
        let echo = |_: &Request, mut response: Response| {
            let name = "sec-websocket-protocol";
            response
                .headers_mut()
                .insert(name, SUBPROTOCOL.parse().unwrap());
            Ok(response)
        };
        Self(accept_hdr_async(stream, echo).await.unwrap())
    }

    async fn expect(&mut self) -> client_frame::Body {
        loop {
            let Envelope::Binary(bytes) = self.0.next().await.unwrap().unwrap() else {
                panic!("expected a frame");
            };
            match ClientFrame::decode(bytes).unwrap().body.unwrap() {
                client_frame::Body::Ping(_) => {}
                body => return body,
            }
        }
    }

    /// Receives `Connect`, answers it as a gateway without read state, and returns it.
    async fn greet(&mut self, cursor: u64, head: u64) -> Connect {
        self.greet_with(cursor, head, 0).await
    }

    async fn greet_with(&mut self, cursor: u64, head: u64, features: u64) -> Connect {
        let client_frame::Body::Connect(connect) = self.expect().await else {
            panic!("expected Connect");
        };
        let connected = Connected {
            epoch: 7,
            cursor,
            head,
            first: 1,
            heartbeat_ms: 30_000,
            window: 256,
            features,
            ..Connected::default()
        };
        self.say(server_frame::Body::Connected(connected)).await;
        connect
    }

    async fn say(&mut self, body: server_frame::Body) {
        let bytes = ServerFrame { body: Some(body) }.encode_to_vec();
        self.0.send(Envelope::Binary(bytes.into())).await.unwrap();
    }

    async fn push(&mut self, seqs: impl IntoIterator<Item = u64>) {
        let messages = seqs.into_iter().map(|seq| Message {
            seq,
            ..Message::default()
        });
        let push = Push {
            messages: messages.collect(),
        };
        self.say(server_frame::Body::Push(push)).await;
    }

    /// Receives `Conversations`, and answers that there are none.
    async fn tell_no_conversations(&mut self) {
        let client_frame::Body::Conversations(asked) = self.expect().await else {
            panic!("expected Conversations");
        };
        let list = ConversationList {
            request_id: asked.request_id,
            list: Vec::new(),
            end: true,
        };
        self.say(server_frame::Body::ConversationList(list)).await;
    }

    async fn push_whole(&mut self, message: Message) {
        let push = Push {
            messages: vec![message],
        };
        self.say(server_frame::Body::Push(push)).await;
    }

    async fn close(mut self, code: u16, text: &'static str) {
        let frame = CloseFrame {
            code: code.into(),
            reason: text.into(),
        };
        self.0.close(Some(frame)).await.unwrap();
        while self.0.next().await.is_some_and(|answer| answer.is_ok()) {}
    }
}

async fn listen() -> (TcpListener, Options) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = Options {
        url: format!("ws://{}/ws", listener.local_addr().unwrap()),
        token: "t".into(),
        device_id: "d".into(),
        name: "test/1".into(),
    };
    (listener, options)
}

/// Runs a client against `script`. Returns its end and the seqs that it handed out.
async fn run(options: Options, script: impl Future<Output = ()>) -> (Ended, Vec<u64>) {
    let landed = RefCell::new(Vec::new());
    let mut client = Client::new(options, MemoryStore::default());
    let on_event = |event| {
        if let ClientEvent::Landed { messages, .. } = event {
            landed
                .borrow_mut()
                .extend(messages.iter().map(|message| message.seq));
        }
    };
    let ended = client.run(on_event, script).await;
    (ended, landed.into_inner())
}

#[tokio::test]
async fn lands_acks_and_resumes_from_its_cursor_after_a_cut() {
    let (listener, options) = listen().await;
    let script = async {
        let mut first = Script::accept(&listener).await;
        let connect = first.greet(0, 3).await;
        assert_eq!((connect.epoch, connect.cursor), (0, None));
        assert_eq!((&*connect.token, &*connect.device_id), ("t", "d"));
        first.push([1, 2]).await;
        assert_eq!(
            first.expect().await,
            client_frame::Body::Ack(Ack { seq: 2 })
        );
        drop(first);

        let mut second = Script::accept(&listener).await;
        let connect = second.greet(2, 3).await;
        assert_eq!((connect.epoch, connect.cursor), (7, Some(2)));
        second.push([2, 3]).await;
        assert_eq!(
            second.expect().await,
            client_frame::Body::Ack(Ack { seq: 3 })
        );
        second
            .say(server_frame::Body::CaughtUp(CaughtUp { seq: 3 }))
            .await;
    };
    let (ended, landed) = run(options, script).await;
    assert!(matches!(ended, Ended::Stopped), "{ended}");
    assert_eq!(landed, [1, 2, 3]);
}

#[tokio::test]
async fn a_hole_is_asked_for_after_the_ack_of_what_landed() {
    let (listener, options) = listen().await;
    let script = async {
        let mut server = Script::accept(&listener).await;
        server.greet(0, 5).await;
        server.push([1, 3]).await;
        assert_eq!(
            server.expect().await,
            client_frame::Body::Ack(Ack { seq: 1 })
        );
        let resend = Resend { after_seq: 1 };
        assert_eq!(server.expect().await, client_frame::Body::Resend(resend));
        server.push([2, 3]).await;
        assert_eq!(
            server.expect().await,
            client_frame::Body::Ack(Ack { seq: 3 })
        );
    };
    assert_eq!(run(options, script).await.1, [1, 2, 3]);
}

#[tokio::test]
async fn a_gap_moves_the_cursor_and_is_acked() {
    let (listener, options) = listen().await;
    let script = async {
        let mut server = Script::accept(&listener).await;
        server.greet(0, 6).await;
        let gap = Gap {
            from_seq: 1,
            to_seq: 5,
            reason: gap::Reason::Expired.into(),
        };
        server.say(server_frame::Body::Gap(gap)).await;
        assert_eq!(
            server.expect().await,
            client_frame::Body::Ack(Ack { seq: 5 })
        );
        server.push([6]).await;
        assert_eq!(
            server.expect().await,
            client_frame::Body::Ack(Ack { seq: 6 })
        );
    };
    assert_eq!(run(options, script).await.1, [6]);
}

#[tokio::test]
async fn codes_below_4500_end_it_and_a_kick_says_why() {
    for (code, is_kicked) in [(4401, false), (4409, true)] {
        let (listener, options) = listen().await;
        let script = async {
            let mut server = Script::accept(&listener).await;
            server.greet(0, 0).await;
            if is_kicked {
                let kicked = Kicked {
                    reason: kicked::Reason::Replaced.into(),
                    text: String::new(),
                };
                server.say(server_frame::Body::Kicked(kicked)).await;
            }
            server.close(code, "no").await;
            std::future::pending().await
        };
        match run(options, script).await.0 {
            Ended::Kicked { reason, .. } => {
                assert!(is_kicked && reason == kicked::Reason::Replaced)
            }
            Ended::Refused(Lost::Closed { code: got, .. }) => assert!(!is_kicked && got == code),
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn a_close_right_behind_a_push_is_heard_although_the_ack_fails() {
    let (listener, options) = listen().await;
    let script = async {
        let mut server = Script::accept(&listener).await;
        server.greet(0, 1).await;
        let message = Message {
            seq: 1,
            ..Message::default()
        };
        let push = Push {
            messages: vec![message],
        };
        let frame = ServerFrame {
            body: Some(server_frame::Body::Push(push)),
        };
        // The push is fed and not sent, so that it leaves in one write with the close.
        let push = Envelope::Binary(frame.encode_to_vec().into());
        server.0.feed(push).await.unwrap();
        server.close(4400, "no").await;
        std::future::pending().await
    };
    let bounded = tokio::time::timeout(Duration::from_secs(30), run(options, script));
    let (ended, landed) = bounded.await.expect("it does not come back");
    assert_eq!(landed, [1]);
    assert!(
        matches!(&ended, Ended::Refused(Lost::Closed { code: 4400, text }) if text == "no"),
        "{ended}"
    );
}

#[tokio::test]
async fn a_drain_is_waited_out() {
    let (listener, options) = listen().await;
    let script = async {
        let mut server = Script::accept(&listener).await;
        server.greet(0, 0).await;
        let draining = Draining {
            reconnect_after_ms: 300,
        };
        server.say(server_frame::Body::Draining(draining)).await;
        let closed_at = Instant::now();
        server.close(4503, "300").await;
        Script::accept(&listener).await.greet(0, 0).await;
        assert!(closed_at.elapsed() >= Duration::from_millis(300));
    };
    assert!(matches!(run(options, script).await.0, Ended::Stopped));
}

/// The paused clock jumps to the next timer while nothing is said.
#[tokio::test]
async fn a_silent_server_is_left_after_two_and_a_half_heartbeats() {
    let (listener, options) = listen().await;
    let mut client = Client::new(options, MemoryStore::default());
    let (lost, is_lost) = tokio::sync::oneshot::channel();
    let mut lost = Some(lost);
    let on_event = |event| {
        if let ClientEvent::Status(Status::Reconnecting { lost: cause, .. }) = event
            && let Some(lost) = lost.take()
        {
            lost.send((cause, Instant::now())).unwrap();
        }
    };
    let script = async {
        let mut server = Script::accept(&listener).await;
        server.greet(0, 1).await;
        server.push([1]).await;
        assert_eq!(
            server.expect().await,
            client_frame::Body::Ack(Ack { seq: 1 })
        );
        tokio::time::pause();
        let silent_from = Instant::now();
        let (cause, at) = is_lost.await.unwrap();
        assert!(matches!(cause, Lost::Silent), "{cause}");
        let silence = at - silent_from;
        // Two and a half heartbeats are 75 s. A timer rounds up to whole milliseconds.
        assert!(silence < Duration::from_secs(76), "{silence:?}");
    };
    let ended = client.run(on_event, script).await;
    assert!(matches!(ended, Ended::Stopped), "{ended}");
}
