//! Very many sessions in one small loop: some hundred bytes each, where `session.rs` takes several thousand.
//!
//! One epoll instance holds all sockets, and WebSocket's frames are taken apart here. What lands is still decided by
//! `towncrier-client` and entered in the ledger. Such a session only holds its place: it sends no heartbeat, so the gateway
//! must be told to wait for none, and it does not come back; whatever ends it is an incident.

use std::{io, net::SocketAddrV4, os::fd::OwnedFd, rc::Rc, time::Duration};

use anyhow::Context;
use prost::Message as _;
use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
};
use tokio::{task::yield_now, time::sleep};
use towncrier_client::{
    Batch, Landing, Position, SUBPROTOCOL,
    proto::{Ack, ClientFrame, Resend, ServerFrame, client_frame, server_frame::Body},
};

use super::{Entry, token::Signer};
use crate::{
    crowd::{Crowd, Who},
    ledger::Arrival,
};

/// Handshakes under way at once: below the smallest backlog of a listener, so that connecting never waits.
const UNDER_WAY_MAX: u32 = 128;
/// Events taken at once; others on this thread have their turn after so many.
const EVENTS: usize = 256;
/// Between two looks when nothing has come.
const PAUSE: Duration = Duration::from_millis(2);
/// A frame has at most 64 KiB and a little.
const READ_BYTES: usize = 128 << 10;
const PLATFORM: &str = "IOS";

/// The loop and its sessions, by number.
#[derive(Debug)]
pub(super) struct Lean {
    crowd: Rc<Crowd>,
    signer: Signer,
    server: SocketAddrV4,
    epoll: OwnedFd,
    sessions: Vec<Option<Session>>,
    under_way: u32,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Session {
    socket: OwnedFd,
    landing: Landing,
    is_upgraded: bool,
    /// The beginning of what has not come whole.
    rest: Vec<u8>,
}

impl Lean {
    /// For a crowd of users with one session each.
    pub(super) fn new(crowd: Rc<Crowd>, entry: &Entry) -> anyhow::Result<Self> {
        let key = entry.token_key.as_ref();
        let key = key.context(
            "only a gateway that the rig has started has a key known to it: leave out --ws",
        )?;
        let server = entry.ws.trim_start_matches("ws://").trim_end_matches("/ws");
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

    /// Starts all sessions, as fast as the gateway takes them, and serves them for good.
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
        // To be woken by an epoll inside tokio's takes unsafe code.
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
        let request = format!(
            "GET /ws HTTP/1.1\r\nhost: {}\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: {SUBPROTOCOL}\r\n\r\n",
            self.server
        );
        write(&socket, request.as_bytes())?;
        epoll::add(
            &self.epoll,
            &socket,
            epoll::EventData::new_u64(at),
            epoll::EventFlags::IN,
        )?;
        self.sessions.push(Some(Session {
            socket,
            landing: Landing::new(Position::default()),
            is_upgraded: false,
            rest: Vec::new(),
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

    /// Takes what has come for a session.
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
        let mut heard = std::mem::take(&mut session.rest);
        heard.extend_from_slice(read);
        let mut left = &heard[..];
        let who = self.crowd.who(at);
        if !session.is_upgraded {
            let Some(end) = left.windows(4).position(|window| window == b"\r\n\r\n") else {
                session.rest = heard;
                return Ok(());
            };
            if !left.starts_with(b"HTTP/1.1 101 ") {
                return Err("the handshake was refused".to_owned());
            }
            left = &left[end + 4..];
            session.is_upgraded = true;
            let user_id = self.crowd.ledger.borrow().user_id(who.user);
            let token = self.signer.token(&user_id, PLATFORM);
            let connect = session.landing.connect(&token, "", "loadtest/1");
            session.send(client_frame::Body::Connect(connect))?;
        }
        let mut batch = Batch::default();
        while let Some((opcode, payload, rest)) = frame(left) {
            left = rest;
            match opcode {
                0x82 => session.take(&self.crowd, who, payload, &mut batch, &mut self.under_way)?,
                0x88 => return Err(closed(payload)),
                _ => return Err(format!("a WebSocket frame that begins with {opcode:#x}")),
            }
        }
        session.rest = left.to_vec();
        for message in batch.land {
            let arrival = Arrival {
                seq: message.seq,
                client_msg_id: &message.client_msg_id,
                server_msg_id: &message.server_msg_id,
                recv_id: &message.recv_id,
                content: &message.content,
            };
            self.crowd.land(who, &arrival, 0);
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

impl Session {
    fn take(
        &mut self,
        crowd: &Crowd,
        who: Who,
        payload: &[u8],
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
        let length = u16::try_from(payload.len()).expect("a client's frames are small");
        let mut bytes = vec![0x82];
        match u8::try_from(length) {
            Ok(length @ ..126) => bytes.push(0x80 | length),
            _ => {
                bytes.push(0x80 | 126);
                bytes.extend(length.to_be_bytes());
            }
        }
        // A mask of zeros leaves the payload as it is.
        bytes.extend([0; 4]);
        bytes.extend(payload);
        write(&self.socket, &bytes).map_err(|error| error.to_string())
    }
}

/// The first frame's first byte and payload, and what follows. `None`: it has not come whole.
fn frame(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[opcode, length], rest) = bytes.split_first_chunk()?;
    let (length, rest) = match length {
        126 => {
            let (length, rest) = rest.split_first_chunk()?;
            (u16::from_be_bytes(*length).into(), rest)
        }
        127 => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::try_from(u64::from_be_bytes(*length)).ok()?, rest)
        }
        length => (length.into(), rest),
    };
    let (payload, rest) = rest.split_at_checked(length)?;
    Some((opcode, payload, rest))
}

fn closed(payload: &[u8]) -> String {
    match payload.split_first_chunk() {
        Some((code, text)) => {
            let (code, text) = (u16::from_be_bytes(*code), String::from_utf8_lossy(text));
            format!("closed with {code}: {text}")
        }
        None => "closed".to_owned(),
    }
}

/// All of it: what a session says always fits its socket, or the gateway has long stopped reading.
fn write(socket: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    match rustix::io::write(socket, bytes)? == bytes.len() {
        true => Ok(()),
        false => Err(io::ErrorKind::WriteZero.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_taken_only_when_it_has_come_whole() {
        for bytes in [0, 5, 125, 126, 65_535, 65_536] {
            let mut sent = vec![0x82];
            match bytes {
                0..126 => sent.push(bytes as u8),
                126..65_536 => {
                    sent.push(126);
                    sent.extend((bytes as u16).to_be_bytes());
                }
                _ => {
                    sent.push(127);
                    sent.extend((bytes as u64).to_be_bytes());
                }
            }
            sent.extend(vec![7; bytes]);
            for heard in [0, 1, sent.len() / 2, sent.len() - 1] {
                assert_eq!(frame(&sent[..heard.min(sent.len() - 1)]), None);
            }
            sent.push(0x88);
            let (opcode, payload, rest) = frame(&sent).unwrap();
            assert_eq!((opcode, payload.len(), rest), (0x82, bytes, &[0x88][..]));
        }
    }
}
