//! The client's loop: connect, land what is pushed, ack after the commit, ping, and come back after a loss.
//!
//! Promises: each stored message is handed out once by [`Event::Landed`], in order, after it is durable in the store
//! (P5); what will not come is announced by [`Event::Gap`] (P6). It waits for the network, never longer than
//! [`SILENCE_HEARTBEATS_MAX`] heartbeats without a word from the server. The store blocks the loop while it commits: where that disturbs others
//! on the same thread, give the client a thread of its own.

use std::{future::Future, pin::pin, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    backoff::Backoff,
    connection::{Connection, Lost},
    landing::{Batch, Landing, Misled, Position},
    network::{Network, Tcp},
    proto::{
        Ack, Connected, Gap, Message, Ping, Push, Resend, client_frame, gap, kicked, server_frame,
    },
    store::{Store, StoreError},
    trust::Trust,
};

/// A server that accepted the socket answers `Connect` within this.
const CONNECTED_TIMEOUT: Duration = Duration::from_secs(10);
/// Pushes that have arrived are landed together, up to this many messages: it bounds a transaction.
const BATCH_MESSAGES_MAX: usize = 512;
/// A heartbeat below this would be a busy loop.
const HEARTBEAT_MIN: Duration = Duration::from_millis(10);
/// Heartbeats without a word after which the server is given up. The protocol fixes the number for both sides.
const SILENCE_HEARTBEATS_MAX: f64 = 2.5;

/// Whom to connect as, and where.
#[derive(Clone)]
pub struct Options {
    /// The gateway's client port, e.g. `ws://127.0.0.1:10001/ws`, or `wss://`.
    pub url: String,
    /// From `/auth/user_token`; it says which user and platform.
    pub token: String,
    /// Tells devices of one platform apart where the gateway's policy allows several; else empty.
    pub device_id: String,
    /// Name and version for the operator's log, at most 64 bytes.
    pub name: String,
}

/// What happened. `Landed`, `OnlineOnly` and `Gap` are for the user, `Status` is for whoever watches the connection.
#[derive(Debug)]
pub enum Event {
    /// These messages are durable in the store, and none of them was there before.
    Landed {
        /// The log they belong to.
        epoch: u64,
        /// Ascending.
        messages: Vec<Message>,
    },
    /// Came to whoever is online; not stored.
    OnlineOnly(Box<Message>),
    /// These will not come.
    Gap {
        /// First one missing.
        from_seq: u64,
        /// Last one missing; below `from_seq` when another log begins and nothing is missing of it.
        to_seq: u64,
        /// Why.
        reason: gap::Reason,
    },
    /// The connection changed.
    Status(Status),
}

/// How the connection stands.
#[derive(Debug)]
pub enum Status {
    /// The server knows us.
    Connected(Connected),
    /// What had been missed has been sent; live from now on.
    CaughtUp {
        /// Up to here.
        seq: u64,
    },
    /// The connection is gone; another attempt follows.
    Reconnecting {
        /// Wait before it.
        after: Duration,
        /// What happened.
        lost: Lost,
    },
}

/// Why a client does not come back.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The caller's `stop` resolved.
    #[error("stopped")]
    Stopped,
    /// A newer login took the place, or an administrator logged the user out.
    #[error("{}", kicked_text(*reason, text))]
    Kicked {
        /// Which.
        reason: kicked::Reason,
        /// The server's words.
        text: String,
    },
    /// The server, or the URL, forbids coming back.
    #[error(transparent)]
    Refused(Lost),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn kicked_text(reason: kicked::Reason, text: &str) -> String {
    match (reason, text) {
        (kicked::Reason::Replaced, "") => "replaced by a newer login".into(),
        (kicked::Reason::LoggedOut, "") => "logged out by an administrator".into(),
        (_, text) => text.to_owned(),
    }
}

/// One session, kept connected.
pub struct Client<S, N = Tcp> {
    options: Options,
    trust: Trust,
    store: S,
    network: N,
    backoff: Backoff,
    random: fastrand::Rng,
}

/// Why one connection ended.
enum SessionEnd {
    /// Come back if the code allows, no earlier than `asked`.
    Lost {
        lost: Lost,
        asked: Option<Duration>,
    },
    Ended(Ended),
}

impl From<Lost> for SessionEnd {
    fn from(lost: Lost) -> Self {
        let asked = lost.asked_delay();
        Self::Lost { lost, asked }
    }
}

impl From<Misled> for SessionEnd {
    fn from(misled: Misled) -> Self {
        Lost::from(misled).into()
    }
}

impl From<StoreError> for SessionEnd {
    fn from(error: StoreError) -> Self {
        Self::Ended(error.into())
    }
}

impl<S: Store> Client<S> {
    /// A client that lands in `store`. Nothing happens before [`Self::run`].
    pub fn new(options: Options, store: S) -> Self {
        Self::over(Tcp, options, store)
    }
}

impl<S: Store, N: Network> Client<S, N> {
    /// The same over any network.
    pub fn over(network: N, options: Options, store: S) -> Self {
        Self {
            options,
            trust: Trust::default(),
            store,
            network,
            backoff: Backoff::default(),
            random: fastrand::Rng::new(),
        }
    }

    /// Believes `trust` over `wss://`, instead of whom this machine trusts.
    #[must_use]
    pub fn trusting(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// Keeps the session connected until `stop` resolves or the server says not to come back. Dropping the future cuts the
    /// connection, which loses nothing: what was committed is in the store, and the rest comes again.
    pub async fn run(
        &mut self,
        mut on_event: impl FnMut(Event),
        stop: impl Future<Output = ()>,
    ) -> Ended {
        let mut stop = pin!(stop);
        loop {
            let mut session = Session::default();
            let end = tokio::select! {
                biased;
                end = self.session(&mut session, &mut on_event) => end,
                () = &mut stop => SessionEnd::Ended(Ended::Stopped),
            };
            let (lost, asked) = match end {
                SessionEnd::Ended(ended) => {
                    if let Some(connection) = session.connection {
                        connection.close().await;
                    }
                    return ended;
                }
                SessionEnd::Lost { lost, asked } => (lost, asked),
            };
            if let Some((reason, text)) = session.kicked {
                return Ended::Kicked { reason, text };
            }
            if !lost.may_come_back() {
                return Ended::Refused(lost);
            }
            if let Some(since) = session.connected_at {
                self.backoff.ended_after(since.elapsed());
            }
            let after = self
                .backoff
                .next(asked.max(session.asked), &mut self.random);
            on_event(Event::Status(Status::Reconnecting { after, lost }));
            tokio::select! {
                biased;
                () = &mut stop => return Ended::Stopped,
                () = sleep(after) => {}
            }
        }
    }

    /// One connection, from its opening to its end.
    async fn session(
        &mut self,
        session: &mut Session<N::Stream>,
        on_event: &mut impl FnMut(Event),
    ) -> SessionEnd {
        match self.drive(session, on_event).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn drive(
        &mut self,
        session: &mut Session<N::Stream>,
        on_event: &mut impl FnMut(Event),
    ) -> Result<std::convert::Infallible, SessionEnd> {
        let Options {
            url,
            token,
            device_id,
            name,
        } = &self.options;
        let mut landing = Landing::new(self.store.position()?);
        let connection = session
            .connection
            .insert(Connection::open_trusting(&self.network, url, &self.trust).await?);
        let connect = landing.connect(token, device_id, name);
        connection
            .send(client_frame::Body::Connect(connect))
            .await?;

        let first = timeout(CONNECTED_TIMEOUT, connection.receive()).await;
        let server_frame::Body::Connected(connected) = first.map_err(|_| Lost::Silent)?? else {
            return Err(Misled::NotConnected.into());
        };
        if let Some(beginning) = landing.connected(&connected)? {
            self.store.move_to(beginning)?;
        }
        let heartbeat = Duration::from_millis(connected.heartbeat_ms.into()).max(HEARTBEAT_MIN);
        session.connected_at = Some(Instant::now());
        on_event(Event::Status(Status::Connected(connected)));

        let mut heard_at = Instant::now();
        // At a random point, so that clients that came back together do not ping together.
        let mut ping_at = heard_at + heartbeat.mul_f64(self.random.f64());
        let mut nonce = 0;
        // Read while a batch was collected, but not part of it.
        let mut ahead = None;
        loop {
            let next = async {
                match ahead.take() {
                    Some(frame) => frame,
                    None => connection.receive().await,
                }
            };
            // Inputs: the ping timer, which no flood of frames may starve, and the server. `stop` is the caller's business.
            let frame = tokio::select! {
                biased;
                () = sleep_until(ping_at) => {
                    if heard_at.elapsed() > heartbeat.mul_f64(SILENCE_HEARTBEATS_MAX) {
                        return Err(Lost::Silent.into());
                    }
                    nonce += 1;
                    ping_at += heartbeat;
                    connection.send(client_frame::Body::Ping(Ping { nonce })).await?;
                    continue;
                }
                frame = next => frame?,
            };
            heard_at = Instant::now();
            match frame {
                server_frame::Body::Push(push) => {
                    let batch = collect(push, &mut landing, connection, &mut ahead)?;
                    self.land(landing.position(), batch, connection, on_event)
                        .await?;
                }
                server_frame::Body::Gap(gap) => {
                    if let Some(position) = landing.gap(&gap)? {
                        self.skip(position, &gap, connection, on_event).await?;
                    }
                }
                server_frame::Body::CaughtUp(up_to) => {
                    on_event(Event::Status(Status::CaughtUp { seq: up_to.seq }));
                }
                server_frame::Body::Kicked(kicked) => {
                    session.kicked = Some((kicked.reason(), kicked.text));
                }
                server_frame::Body::Draining(draining) => {
                    let after = Duration::from_millis(draining.reconnect_after_ms.into());
                    session.asked = Some(after);
                }
                server_frame::Body::Connected(_) => return Err(Misled::ConnectedTwice.into()),
                server_frame::Body::Pong(_) | server_frame::Body::Fetched(_) => {}
            }
        }
    }

    /// Commits, hands out, then replies: in this order, so an ack never runs ahead of the disk.
    async fn land(
        &mut self,
        position: Position,
        batch: Batch,
        connection: &mut Connection<N::Stream>,
        on_event: &mut impl FnMut(Event),
    ) -> Result<(), SessionEnd> {
        let epoch = position.epoch;
        let messages = self.store.land(epoch, batch.land)?;
        if !messages.is_empty() {
            on_event(Event::Landed { epoch, messages });
        }
        for message in batch.online_only {
            on_event(Event::OnlineOnly(Box::new(message)));
        }
        if let Some(seq) = batch.ack {
            connection
                .send(client_frame::Body::Ack(Ack { seq }))
                .await?;
        }
        if let Some(after_seq) = batch.resend {
            connection
                .send(client_frame::Body::Resend(Resend { after_seq }))
                .await?;
        }
        Ok(())
    }

    async fn skip(
        &mut self,
        position: Position,
        gap: &Gap,
        connection: &mut Connection<N::Stream>,
        on_event: &mut impl FnMut(Event),
    ) -> Result<(), SessionEnd> {
        self.store.move_to(position)?;
        on_event(Event::Gap {
            from_seq: gap.from_seq,
            to_seq: gap.to_seq,
            reason: gap.reason(),
        });
        let seq = position.cursor;
        Ok(connection
            .send(client_frame::Body::Ack(Ack { seq }))
            .await?)
    }
}

/// What one connection leaves for the decision whether and when to come back.
struct Session<T> {
    connection: Option<Connection<T>>,
    connected_at: Option<Instant>,
    kicked: Option<(kicked::Reason, String)>,
    asked: Option<Duration>,
}

impl<T> Default for Session<T> {
    fn default() -> Self {
        Self {
            connection: None,
            connected_at: None,
            kicked: None,
            asked: None,
        }
    }
}

/// Takes in `push` and the pushes that have arrived behind it; the first other frame is left in `ahead`.
fn collect<T: AsyncRead + AsyncWrite + Unpin>(
    push: Push,
    landing: &mut Landing,
    connection: &mut Connection<T>,
    ahead: &mut Option<Result<server_frame::Body, Lost>>,
) -> Result<Batch, Misled> {
    let mut batch = Batch::default();
    landing.push(push, &mut batch)?;
    while batch.land.len() + batch.online_only.len() < BATCH_MESSAGES_MAX {
        match connection.receive_now() {
            Some(Ok(server_frame::Body::Push(push))) => landing.push(push, &mut batch)?,
            other => {
                *ahead = other;
                break;
            }
        }
    }
    Ok(batch)
}

#[cfg(test)]
mod tests;
