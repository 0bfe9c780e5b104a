//! The client's loop: connect, land pushes, ack after the commit, ping, and reconnect after a loss.
//!
//! Promises: [`ClientEvent::Landed`] hands out each stored message once, in order, after it is durable in the store (P5).
//! [`ClientEvent::Gap`] announces messages that will not come (P6). A read mark reaches the user's other sessions, also when
//! it was made while the gateway was away. The loop waits for the network, but never longer than 2.5 heartbeats of silence.
//! The store blocks the loop while it commits; if that disturbs other tasks on the same thread, give the client a thread of
//! its own.

use std::{future::Future, pin::pin, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    backoff::Backoff,
    connection::{ClientConnection, Lost},
    conversation::KnownConversation,
    conversations::ConversationOutcome,
    landing::{Batch, Landing, Misled, StorePosition},
    network::{Network, Tcp},
    proto::{
        Ack, Connected, Gap, Message, Ping, Push, ReadMark, Resend, client_frame, gap, kicked,
        server_frame,
    },
    read_state::ReadState,
    store::{Store, StoreError},
    trust::Trust,
};

/// A server that accepted the socket has to answer `Connect` within this time.
const CONNECTED_TIMEOUT: Duration = Duration::from_secs(10);
/// The bit of `Connected.features` for `Read` and `Conversations`.
const READ_STATE: u64 = 1;
/// Pushes that have arrived are landed together, up to this many messages and marks. This bounds a transaction.
const BATCH_ENTRIES_MAX: usize = 512;
/// A shorter heartbeat would be a busy loop.
const HEARTBEAT_MIN: Duration = Duration::from_millis(10);
/// A server counts as gone after this many heartbeats of silence. The protocol fixes the number for both sides.
const SILENCE_HEARTBEATS_MAX: f64 = 2.5;

/// The gateway to connect to, and the session.
#[derive(Clone)]
pub struct Options {
    /// The gateway's client port, e.g. `ws://127.0.0.1:10001/ws`, or `wss://`.
    pub url: String,
    /// A token from `/auth/user_token`. It names user and platform.
    pub token: String,
    /// The device's id, if the gateway's policy allows several devices of a platform; else empty.
    pub device_id: String,
    /// The client's name and version for the gateway's stderr log, at most 64 bytes.
    pub name: String,
}

/// An event of the client. All but `Status` are for the user. `Status` is about the connection.
#[derive(Debug)]
pub enum ClientEvent {
    /// These messages are durable in the store, and none of them was there before.
    Landed {
        /// The epoch of their log.
        epoch: u64,
        /// The messages, ascending by seq.
        messages: Vec<Message>,
    },
    /// A message that was pushed only to online sessions. It is not stored.
    OnlineOnly(Box<Message>),
    /// Unread counts or marks have changed; the store has them already. [`ReadState::mark_read`] causes no event before the
    /// gateway has told the mark.
    Conversations {
        /// The conversations as they are now.
        changed: Vec<KnownConversation>,
        /// The marks among them that are new from the gateway: made by this session or by another one of the user.
        marks: Vec<ReadMark>,
    },
    /// These messages will not come. After a change of the epoch the conversations are gone as well, until the gateway has
    /// told them.
    Gap {
        /// The first missing seq.
        from_seq: u64,
        /// The last missing seq. It is below `from_seq` when another log begins and no message of it is missing.
        to_seq: u64,
        /// Why.
        reason: gap::Reason,
    },
    /// The connection changed.
    Status(Status),
}

/// The state of the connection.
#[derive(Debug)]
pub enum Status {
    /// The server accepted the session.
    Connected(Connected),
    /// All missed messages have been sent. New ones come live from now on.
    CaughtUp {
        /// The last seq of them.
        seq: u64,
    },
    /// The connection is gone; another attempt follows.
    Reconnecting {
        /// The wait before it.
        after: Duration,
        /// The cause.
        lost: Lost,
    },
}

/// Why a client stopped for good.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The caller's `stop` resolved.
    #[error("stopped")]
    Stopped,
    /// A newer login took the place, or an administrator logged the user out.
    #[error("{}", kicked_text(*reason, text))]
    Kicked {
        /// Which of the two.
        reason: kicked::Reason,
        /// The server's text.
        text: String,
    },
    /// The server, or the URL, forbids another attempt.
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

/// One session that is kept connected.
pub struct Client<S, N = Tcp> {
    options: Options,
    trust: Trust,
    store: ReadState<S>,
    network: N,
    backoff: Backoff,
    random: fastrand::Rng,
}

/// Why one connection ended.
enum SessionEnd {
    /// Reconnect if the code allows it, not before `asked` has passed.
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
    /// A client that lands in `store`. It does nothing before [`Self::run`].
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
            store: ReadState::new(store),
            network,
            backoff: Backoff::default(),
            random: fastrand::Rng::new(),
        }
    }

    /// Trusts `trust` over `wss://`, instead of the certificates that this machine trusts.
    #[must_use]
    pub fn trusting(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// The user's conversations, to read and to mark from anywhere while [`Self::run`] goes on.
    pub fn read_state(&self) -> ReadState<S> {
        self.store.clone()
    }

    /// Keeps the session connected until `stop` resolves, or until the server forbids a return. Cancel safe: a drop
    /// cuts the connection and loses nothing, because committed messages are in the store and the others come again.
    pub async fn run(
        &mut self,
        mut on_event: impl FnMut(ClientEvent),
        stop: impl Future<Output = ()>,
    ) -> Ended {
        let mut stop = pin!(stop);
        loop {
            let mut attempt = ConnectAttempt::default();
            let end = tokio::select! {
                biased;
                end = self.attempt(&mut attempt, &mut on_event) => end,
                () = &mut stop => SessionEnd::Ended(Ended::Stopped),
            };
            let (lost, asked) = match end {
                SessionEnd::Ended(ended) => {
                    if let Some(connection) = attempt.connection {
                        connection.close().await;
                    }
                    return ended;
                }
                SessionEnd::Lost { lost, asked } => (lost, asked),
            };
            if let Some((reason, text)) = attempt.kicked {
                return Ended::Kicked { reason, text };
            }
            if !lost.may_come_back() {
                return Ended::Refused(lost);
            }
            if let Some(since) = attempt.connected_at {
                self.backoff.ended_after(since.elapsed());
            }
            let after = self
                .backoff
                .next(asked.max(attempt.asked), &mut self.random);
            on_event(ClientEvent::Status(Status::Reconnecting { after, lost }));
            tokio::select! {
                biased;
                () = &mut stop => return Ended::Stopped,
                () = sleep(after) => {}
            }
        }
    }

    /// Runs one connection, from its opening to its end.
    async fn attempt(
        &mut self,
        attempt: &mut ConnectAttempt<N::Stream>,
        on_event: &mut impl FnMut(ClientEvent),
    ) -> SessionEnd {
        match self.drive(attempt, on_event).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn drive(
        &mut self,
        attempt: &mut ConnectAttempt<N::Stream>,
        on_event: &mut impl FnMut(ClientEvent),
    ) -> Result<std::convert::Infallible, SessionEnd> {
        let Options {
            url,
            token,
            device_id,
            name,
        } = &self.options;
        let mut landing = Landing::new(self.store.position()?);
        let connection = attempt
            .connection
            .insert(ClientConnection::open_trusting(&self.network, url, &self.trust).await?);
        let connect = landing.connect(token, device_id, name);
        connection
            .send(client_frame::Body::Connect(connect))
            .await?;

        let first = timeout(CONNECTED_TIMEOUT, connection.receive()).await;
        let server_frame::Body::Connected(connected) = first.map_err(|_| Lost::Silent)?? else {
            return Err(Misled::NotConnected.into());
        };
        let beginning = landing.connected(&connected)?;
        let is_served = connected.features & READ_STATE != 0;
        let outcome = self.store.begin(beginning, is_served)?;
        let heartbeat = Duration::from_millis(connected.heartbeat_ms.into()).max(HEARTBEAT_MIN);
        attempt.connected_at = Some(Instant::now());
        on_event(ClientEvent::Status(Status::Connected(connected)));
        tell(outcome, None, on_event);

        let mut heard_at = Instant::now();
        // The first ping comes at a random point, so that clients that reconnected together do not ping together.
        let mut ping_at = heard_at + heartbeat.mul_f64(self.random.f64());
        let mut nonce = 0;
        // A frame that was read while a batch was collected, but does not belong to it.
        let mut ahead = None;
        loop {
            while landing.is_landing()
                && let Some(frame) = self.store.next_frame()
            {
                connection.send(frame).await?;
            }
            let next = async {
                match ahead.take() {
                    Some(frame) => frame,
                    None => connection.receive().await,
                }
            };
            let silent_at = heard_at + heartbeat.mul_f64(SILENCE_HEARTBEATS_MAX);
            let wake_at = ping_at.min(silent_at);
            let wake_at = self.store.due_at().map_or(wake_at, |due| due.min(wake_at));
            // Inputs: the timer for pings, silence and marks, which a flood of frames must not delay, the server, and a mark of
            // the application. The caller handles `stop`.
            let frame = tokio::select! {
                biased;
                () = sleep_until(wake_at) => {
                    let now = Instant::now();
                    if now >= silent_at {
                        return Err(Lost::Silent.into());
                    }
                    if now >= ping_at {
                        nonce += 1;
                        ping_at += heartbeat;
                        connection.send(client_frame::Body::Ping(Ping { nonce })).await?;
                    }
                    continue;
                }
                frame = next => frame?,
                () = self.store.marked() => continue,
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
                server_frame::Body::ConversationList(list) => {
                    let outcome = self.store.answered(&list, landing.position().cursor)?;
                    tell(outcome, None, on_event);
                }
                server_frame::Body::CaughtUp(up_to) => {
                    on_event(ClientEvent::Status(Status::CaughtUp { seq: up_to.seq }));
                }
                server_frame::Body::Kicked(kicked) => {
                    attempt.kicked = Some((kicked.reason(), kicked.text));
                }
                server_frame::Body::Draining(draining) => {
                    let after = Duration::from_millis(draining.reconnect_after_ms.into());
                    attempt.asked = Some(after);
                }
                server_frame::Body::Connected(_) => return Err(Misled::ConnectedTwice.into()),
                server_frame::Body::Pong(_) | server_frame::Body::Fetched(_) => {}
            }
        }
    }

    /// Commits, hands out, then replies. In this order an ack never comes before the commit.
    async fn land(
        &mut self,
        position: StorePosition,
        mut batch: Batch,
        connection: &mut ClientConnection<N::Stream>,
        on_event: &mut impl FnMut(ClientEvent),
    ) -> Result<(), SessionEnd> {
        let (messages, outcome) = self.store.land(position, &mut batch)?;
        let landed = (!messages.is_empty()).then_some(ClientEvent::Landed {
            epoch: position.epoch,
            messages,
        });
        tell(outcome, landed, on_event);
        for message in batch.online_only {
            on_event(ClientEvent::OnlineOnly(Box::new(message)));
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
        position: StorePosition,
        gap: &Gap,
        connection: &mut ClientConnection<N::Stream>,
        on_event: &mut impl FnMut(ClientEvent),
    ) -> Result<(), SessionEnd> {
        let outcome = self.store.skip(position, gap)?;
        tell(outcome, None, on_event);
        let seq = position.cursor;
        Ok(connection
            .send(client_frame::Body::Ack(Ack { seq }))
            .await?)
    }
}

/// Hands out an outcome, and the landed messages in the middle of it.
fn tell(
    outcome: ConversationOutcome,
    landed: Option<ClientEvent>,
    on_event: &mut impl FnMut(ClientEvent),
) {
    for gap in outcome.gaps {
        on_event(ClientEvent::Gap {
            from_seq: gap.from_seq,
            to_seq: gap.to_seq,
            reason: gap.reason(),
        });
    }
    if let Some(landed) = landed {
        on_event(landed);
    }
    if !outcome.record.rows.is_empty() {
        on_event(ClientEvent::Conversations {
            changed: outcome.record.rows,
            marks: outcome.marks,
        });
    }
}

/// The facts of one connection that decide if and when to reconnect.
struct ConnectAttempt<T> {
    connection: Option<ClientConnection<T>>,
    connected_at: Option<Instant>,
    kicked: Option<(kicked::Reason, String)>,
    asked: Option<Duration>,
}

impl<T> Default for ConnectAttempt<T> {
    fn default() -> Self {
        Self {
            connection: None,
            connected_at: None,
            kicked: None,
            asked: None,
        }
    }
}

/// Adds `push` and the pushes that have arrived after it. Leaves the first other frame in `ahead`.
fn collect<T: AsyncRead + AsyncWrite + Unpin>(
    push: Push,
    landing: &mut Landing,
    connection: &mut ClientConnection<T>,
    ahead: &mut Option<Result<server_frame::Body, Lost>>,
) -> Result<Batch, Misled> {
    let mut batch = Batch::default();
    landing.push(push, &mut batch)?;
    while batch.land.len() + batch.marks.len() + batch.online_only.len() < BATCH_ENTRIES_MAX {
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
