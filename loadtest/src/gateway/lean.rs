//! Very many sessions in one small loop: a few hundred bytes each, where `session.rs` takes several thousand.
//!
//! One epoll instance holds all sockets, and `towncrier-websocket` parses their bytes. `towncrier-client` still decides
//! which messages land, and they are entered in the ledger. Such a session only holds its place. It sends no heartbeat, so
//! the gateway must be configured to expect none. It does not reconnect; every end of it is an incident.

use std::{io, net::SocketAddrV4, os::fd::OwnedFd, rc::Rc, time::Duration};

use anyhow::{Context, bail};
use bytes::Bytes;
use prost::Message as _;
use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
};
use tokio::{task::yield_now, time::sleep};
use towncrier_client::{
    Batch, Landing, SUBPROTOCOL, StorePosition,
    proto::{Ack, ClientFrame, Resend, ServerFrame, client_frame, server_frame::Body},
};
use towncrier_websocket::{
    Close, Reader, Received, Rules, Side, Violation,
    frame::{BINARY, FIN, masked},
    handshake,
};

use super::{GatewayAccess, token::Signer};
use crate::{
    crowd::{Crowd, Who},
    ledger::LandedMessage,
};

/// Handshakes under way at once. They are fewer than the smallest backlog of a listener, so that connecting never waits.
const UNDER_WAY_MAX: u32 = 128;
/// Events taken at once. Other tasks of this thread have their turn after them.
const EVENTS: usize = 256;
/// The pause between two polls that found nothing.
const PAUSE: Duration = Duration::from_millis(2);
/// A message of the gateway has at most a little more than 64 KiB.
const READ_BYTES: usize = 128 << 10;
/// The bounds of a gateway's messages.
const RULES: Rules = Rules {
    from: Side::Server,
    takes_text: false,
    message_bytes_max: READ_BYTES,
};
/// The nonce of every handshake. It may be constant, because no proxy lies between that could confuse answers.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// The platform of every connection, by name and number.
const PLATFORM: (&str, u32) = ("IOS", 1);

/// The loop and its sessions, by number.
#[derive(Debug)]
pub(super) struct Lean {
    crowd: Rc<Crowd>,
    signer: Signer,
    server: SocketAddrV4,
    epoll: OwnedFd,
    sessions: Vec<Option<LeanSession>>,
    under_way: u32,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct LeanSession {
    socket: OwnedFd,
    landing: Landing,
    /// The bytes so far of the answer to the handshake; `None` once it is complete.
    answer: Option<Vec<u8>>,
    reader: Reader,
}

impl Lean {
    /// A loop for a crowd of users with one session each.
    pub(super) fn new(crowd: Rc<Crowd>, access: &GatewayAccess) -> anyhow::Result<Self> {
        let key = access.token_key.as_ref();
        let key = key.context(
            "only a gateway that the rig has started has a key known to it: leave out --ws",
        )?;
        if access.gateways.len() > 1 {
            bail!("lean sessions know one gateway: leave out --gateways");
        }
        let server = access
            .gateway(0)
            .ws
            .trim_start_matches("ws://")
            .trim_end_matches("/ws");
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self {
            signer: Signer::new(key)?,
            server: server.parse().context("the rig's own gateway is on IPv4")?,
            epoll,
            sessions: Vec::with_capacity(crowd.sessions() as usize),
            under_way: 0,
            buffer: vec![0; READ_BYTES],
            crowd,
        })
    }

    /// Starts all sessions, as fast as the gateway accepts them, and serves them. Never returns.
    pub(super) async fn run(mut self) {
        let error = loop {
            if let Err(error) = self.turn().await {
                break error;
            }
        };
        self.crowd.incident(format!("no more sessions: {error}"));
    }

    async fn turn(&mut self) -> io::Result<()> {
        while self.under_way < UNDER_WAY_MAX && self.sessions.len() < self.crowd.sessions() as usize
        {
            self.start()?;
        }
        let mut events = Vec::with_capacity(EVENTS);
        let at_once = Some(&Timespec::default());
        epoll::wait(&self.epoll, spare_capacity(&mut events), at_once)?;
        // A wake-up by an epoll inside tokio's would need unsafe code.
        match events.is_empty() {
            true => sleep(PAUSE).await,
            false => yield_now().await,
        }
        for event in events {
            let at = event.data.u64() as u32;
            if let Err(what) = self.read(at) {
                self.end(at, what);
            }
        }
        Ok(())
    }

    fn start(&mut self) -> io::Result<()> {
        let at = self.sessions.len() as u64;
        let socket = self.crowd.sources.connect_now(self.server)?;
        let request = handshake::request(&self.server.to_string(), "/ws", KEY, SUBPROTOCOL);
        write(&socket, &request)?;
        epoll::add(
            &self.epoll,
            &socket,
            epoll::EventData::new_u64(at),
            epoll::EventFlags::IN,
        )?;
        self.sessions.push(Some(LeanSession {
            socket,
            landing: Landing::new(StorePosition::default()),
            answer: Some(Vec::new()),
            reader: Reader::default(),
        }));
        self.under_way += 1;
        Ok(())
    }

    fn end(&mut self, at: u32, what: String) {
        self.crowd.incident(what);
        let who = self.crowd.who(at);
        self.crowd.set_connected(who, false);
        self.sessions[at as usize] = None;
    }

    /// Reads the bytes that have come for a session.
    fn read(&mut self, at: u32) -> Result<(), String> {
        let Some(session) = &mut self.sessions[at as usize] else {
            return Ok(());
        };
        let read = match rustix::io::read(&session.socket, &mut self.buffer[..]) {
            Ok(0) => return Err("the connection was cut".to_owned()),
            Ok(read) => &self.buffer[..read],
            Err(rustix::io::Errno::AGAIN) => return Ok(()),
            Err(error) => return Err(error.to_string()),
        };
        let who = self.crowd.who(at);
        let mut left = read;
        let answer = session.answer.take().map(|begun| [&begun, read].concat());
        if let Some(answer) = &answer {
            let length = handshake::read_answer(answer, KEY).map_err(|bad| bad.to_string())?;
            let Some(length) = length else {
                session.answer = Some(answer.clone());
                return Ok(());
            };
            left = &answer[length..];
            let user_id = self.crowd.ledger.borrow().user_id(who.user);
            let token = self.signer.token(&user_id, PLATFORM);
            let connect = session.landing.connect(&token, "", "loadtest/1");
            session.send(client_frame::Body::Connect(connect))?;
        }
        let mut batch = Batch::default();
        let broken = |violation: Violation| format!("broken WebSocket framing: {violation}");
        while let Some(message) = session.reader.next(&mut left, &RULES).map_err(broken)? {
            match message {
                Received::Binary(payload) => {
                    session.take(&self.crowd, who, payload, &mut batch, &mut self.under_way)?;
                }
                Received::Close(Some(Close { code, text })) => {
                    return Err(format!("closed with {code}: {text}"));
                }
                Received::Close(None) => return Err("closed".to_owned()),
                other => return Err(format!("a message that nobody asked for: {other:?}")),
            }
        }
        for message in batch.land {
            let landed = LandedMessage {
                seq: message.seq,
                client_msg_id: &message.client_msg_id,
                server_msg_id: &message.server_msg_id,
                recv_id: &message.recv_id,
                content: &message.content,
            };
            self.crowd.land(who, &landed, 0);
        }
        if let Some(seq) = batch.ack {
            session.send(client_frame::Body::Ack(Ack { seq }))?;
        }
        if let Some(after_seq) = batch.resend {
            session.send(client_frame::Body::Resend(Resend { after_seq }))?;
        }
        Ok(())
    }
}

impl LeanSession {
    fn take(
        &mut self,
        crowd: &Crowd,
        who: Who,
        payload: Bytes,
        batch: &mut Batch,
        under_way: &mut u32,
    ) -> Result<(), String> {
        let frame = ServerFrame::decode(payload).map_err(|error| error.to_string())?;
        match frame.body {
            Some(Body::Connected(connected)) => {
                self.landing
                    .connected(&connected)
                    .map_err(|misled| misled.to_string())?;
                *under_way -= 1;
                crowd.set_connected(who, true);
            }
            Some(Body::Push(push)) => {
                self.landing
                    .push(push, batch)
                    .map_err(|misled| misled.to_string())?;
            }
            // The backlog, which is empty at the first connection of a user, has been sent.
            Some(Body::CaughtUp(_)) => crowd.set_caught_up(who, 0),
            Some(other) => return Err(format!("a frame that nobody asked for: {other:?}")),
            None => return Err("an empty frame".to_owned()),
        }
        Ok(())
    }

    fn send(&self, body: client_frame::Body) -> Result<(), String> {
        let payload = ClientFrame { body: Some(body) }.encode_to_vec();
        // A mask of zeros leaves the payload as it is.
        let bytes = masked(FIN | BINARY, &payload, [0; 4]);
        write(&self.socket, &bytes).map_err(|error| error.to_string())
    }
}

/// Writes all bytes. They always fit the socket, unless the gateway stopped reading long ago.
fn write(socket: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    match rustix::io::write(socket, bytes)? == bytes.len() {
        true => Ok(()),
        false => Err(io::ErrorKind::WriteZero.into()),
    }
}
