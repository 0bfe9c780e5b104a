//! One WebSocket that sends and receives exactly what a test wants.

use std::{io, net::SocketAddr};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use prost::Message as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{self, Message as Socket},
};
use towncrier::protocol::towncrier_v1::proto::{
    Ack, ClientFrame, Connect, Connected, Conversation, Conversations, Fetch, Fetched, Gap, Kicked,
    Message, Ping, Read, ReadMark, Resend, ServerFrame, client_frame, kicked, server_frame::Body,
};

use super::within;

/// A frame or an event from the gateway.
#[derive(Debug)]
pub(crate) enum Heard {
    Frame(Body),
    Closed {
        code: u16,
        reason: String,
    },
    /// The connection broke without a close.
    Lost,
}

/// A silent TCP connection from this address of this machine.
pub(crate) async fn knock_from(source: [u8; 4], to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((source, 0).into())?;
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A connection, with or without a session.
pub(crate) struct Client {
    socket: WebSocketStream<TcpStream>,
    /// The last `Connected`.
    pub(crate) welcome: Connected,
    /// The nonce of the last ping.
    nonce: u64,
}

impl Client {
    /// Opens a WebSocket.
    pub(crate) async fn dial(clients: SocketAddr) -> Result<Self, tungstenite::Error> {
        let stream = TcpStream::connect(clients).await?;
        stream.set_nodelay(true)?;
        Self::upgrade(stream, clients).await
    }

    /// Opens one from another address of this machine.
    pub(crate) async fn dial_from(
        source: [u8; 4],
        clients: SocketAddr,
    ) -> Result<Self, tungstenite::Error> {
        Self::upgrade(knock_from(source, clients).await?, clients).await
    }

    /// Opens one with small buffers.
    pub(crate) async fn dial_narrow(clients: SocketAddr) -> Result<Self, tungstenite::Error> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(4096)?;
        Self::upgrade(socket.connect(clients).await?, clients).await
    }

    async fn upgrade(stream: TcpStream, clients: SocketAddr) -> Result<Self, tungstenite::Error> {
        let upgrade = client_async(format!("ws://{clients}/ws"), stream);
        let (socket, _) = within("the upgrade", upgrade).await?;
        Ok(Self {
            socket,
            welcome: Connected::default(),
            nonce: 0,
        })
    }

    pub(crate) async fn say(&mut self, body: client_frame::Body) {
        self.say_bytes(ClientFrame { body: Some(body) }.encode_to_vec())
            .await;
    }

    /// Sends any bytes in a binary frame. A client that is closed meanwhile learns it from its next read.
    pub(crate) async fn say_bytes(&mut self, bytes: impl Into<Bytes>) {
        let _ = within(
            "room to send",
            self.socket.send(Socket::Binary(bytes.into())),
        )
        .await;
    }

    pub(crate) async fn say_text(&mut self, text: &'static str) {
        let _ = within("room to send", self.socket.send(Socket::Text(text.into()))).await;
    }

    pub(crate) async fn ack(&mut self, seq: u64) {
        self.say(client_frame::Body::Ack(Ack { seq })).await;
    }

    pub(crate) async fn ping(&mut self, nonce: u64) {
        self.say(client_frame::Body::Ping(Ping { nonce })).await;
    }

    pub(crate) async fn resend(&mut self, after_seq: u64) {
        self.say(client_frame::Body::Resend(Resend { after_seq }))
            .await;
    }

    pub(crate) async fn fetch(&mut self, after_seq: u64, limit: u32) -> Fetched {
        let fetch = Fetch {
            request_id: 7,
            after_seq,
            limit,
        };
        self.say(client_frame::Body::Fetch(fetch)).await;
        match self.hear().await {
            Heard::Frame(Body::Fetched(fetched)) => {
                assert_eq!(fetched.request_id, 7);
                fetched
            }
            other => panic!("expected Fetched, got {other:?}"),
        }
    }

    /// Marks a conversation as read.
    pub(crate) async fn read(&mut self, conversation_id: &str, conversation_seq: u64) {
        let mark = ReadMark {
            conversation_id: conversation_id.into(),
            conversation_seq,
        };
        let read = Read { marks: vec![mark] };
        self.say(client_frame::Body::Read(read)).await;
    }

    /// The newest conversations, 100 at most. Pushes that come before the answer are dropped.
    pub(crate) async fn conversations(&mut self) -> Vec<Conversation> {
        let asked = Conversations {
            request_id: 8,
            ..Conversations::default()
        };
        self.say(client_frame::Body::Conversations(asked)).await;
        loop {
            match self.hear().await {
                Heard::Frame(Body::Push(_) | Body::CaughtUp(_)) => {}
                Heard::Frame(Body::ConversationList(list)) => {
                    assert_eq!((list.request_id, list.end), (8, true));
                    return list.list;
                }
                other => panic!("expected ConversationList, got {other:?}"),
            }
        }
    }

    pub(crate) async fn say_connect(&mut self, connect: Connect) {
        self.say(client_frame::Body::Connect(connect)).await;
    }

    /// Sends `Connect` and waits for `Connected`.
    pub(crate) async fn log_in(&mut self, connect: Connect) {
        self.say_connect(connect).await;
        self.welcome = match self.hear().await {
            Heard::Frame(Body::Connected(connected)) => connected,
            other => panic!("expected Connected, got {other:?}"),
        };
    }

    /// The next frame or event.
    pub(crate) async fn hear(&mut self) -> Heard {
        within("a frame", self.hear_patiently()).await
    }

    /// The next frame or event, without a deadline.
    pub(crate) async fn hear_patiently(&mut self) -> Heard {
        loop {
            match self.socket.next().await {
                Some(Ok(Socket::Binary(bytes))) => {
                    let frame = ServerFrame::decode(bytes).expect("a ServerFrame");
                    return Heard::Frame(frame.body.expect("a body"));
                }
                Some(Ok(Socket::Close(frame))) => {
                    let (code, reason) = frame.map_or((1005, String::new()), |frame| {
                        (frame.code.into(), frame.reason.to_string())
                    });
                    return Heard::Closed { code, reason };
                }
                Some(Ok(Socket::Ping(_) | Socket::Pong(_))) => {}
                Some(Ok(other)) => panic!("expected binary frames only, got {other:?}"),
                Some(Err(_)) | None => return Heard::Lost,
            }
        }
    }

    /// The next messages, in one push or several.
    pub(crate) async fn expect_messages(&mut self, count: usize) -> Vec<Message> {
        let mut messages = Vec::new();
        while messages.len() < count {
            match self.hear().await {
                Heard::Frame(Body::Push(push)) => messages.extend(push.messages),
                Heard::Frame(Body::CaughtUp(_)) => {}
                other => panic!("expected a message, got {other:?}"),
            }
        }
        assert_eq!(messages.len(), count, "more came than expected");
        messages
    }

    /// The next message.
    pub(crate) async fn expect_push(&mut self) -> Message {
        self.expect_messages(1).await.remove(0)
    }

    /// All messages up to `CaughtUp`, whose seq must be the last one's.
    pub(crate) async fn expect_backlog(&mut self) -> Vec<Message> {
        let mut messages: Vec<Message> = Vec::new();
        loop {
            match self.hear().await {
                Heard::Frame(Body::Push(push)) => messages.extend(push.messages),
                Heard::Frame(Body::CaughtUp(caught_up)) => {
                    if let Some(last) = messages.last() {
                        assert!(caught_up.seq <= last.seq);
                    }
                    return messages;
                }
                other => panic!("expected the backlog, got {other:?}"),
            }
        }
    }

    /// All messages that were there at `Connected`, each acked.
    pub(crate) async fn expect_whole_inbox(&mut self) -> Vec<Message> {
        let mut messages: Vec<Message> = Vec::new();
        while messages.last().map_or(0, |last| last.seq) < self.welcome.head {
            match self.hear().await {
                Heard::Frame(Body::Push(push)) => messages.extend(push.messages),
                Heard::Frame(Body::CaughtUp(_)) => {}
                other => panic!("expected the inbox, got {other:?}"),
            }
            if let Some(last) = messages.last() {
                self.ack(last.seq).await;
            }
        }
        messages
    }

    pub(crate) async fn expect_gap(&mut self) -> Gap {
        match self.hear().await {
            Heard::Frame(Body::Gap(gap)) => gap,
            other => panic!("expected a Gap, got {other:?}"),
        }
    }

    /// Waits until the gateway has handled all frames sent before. Only the end of the backlog may arrive meanwhile.
    pub(crate) async fn settle(&mut self) {
        self.nonce += 1;
        self.ping(self.nonce).await;
        match self.hear_after_backlog().await {
            Heard::Frame(Body::Pong(pong)) => assert_eq!(pong.nonce, self.nonce),
            other => panic!("expected a Pong, got {other:?}"),
        }
    }

    pub(crate) async fn expect_kicked(&mut self, reason: kicked::Reason) {
        match self.hear_after_backlog().await {
            Heard::Frame(Body::Kicked(Kicked { reason: said, .. })) => {
                assert_eq!(said, i32::from(reason));
            }
            other => panic!("expected Kicked, got {other:?}"),
        }
    }

    /// The delay in `Draining`, in ms.
    pub(crate) async fn expect_draining(&mut self) -> u32 {
        match self.hear_after_backlog().await {
            Heard::Frame(Body::Draining(draining)) => draining.reconnect_after_ms,
            other => panic!("expected Draining, got {other:?}"),
        }
    }

    async fn hear_after_backlog(&mut self) -> Heard {
        loop {
            match self.hear().await {
                Heard::Frame(Body::CaughtUp(_)) => {}
                other => return other,
            }
        }
    }

    /// A close with this code; other frames may come before it. Returns the reason text.
    pub(crate) async fn expect_close(&mut self, code: u16) -> String {
        loop {
            match self.hear().await {
                Heard::Frame(_) => {}
                Heard::Closed { code: said, reason } => {
                    assert_eq!(said, code, "{reason}");
                    return reason;
                }
                Heard::Lost => panic!("expected a close with {code}, the connection broke"),
            }
        }
    }
}
