//! One session by the rules of the protocol: it lands, acks, pings, and reconnects with full jitter.
//!
//! The rules are `towncrier-client`'s. A message lands here when it is entered in the ledger, before the ack leaves.

use std::{rc::Rc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use towncrier_client::{
    Backoff, Batch, ClientConnection, Landing, Lost, StorePosition,
    proto::{Ack, Connected, Message, Ping, Resend, client_frame, server_frame::Body},
};

use super::GatewayAccess;
use crate::{
    crowd::{Crowd, Orders, SLOW_PAUSE, Who, end_of_life, until},
    ledger::LandedMessage,
};

/// Frames taken at once before the ack for them leaves.
const FRAMES_AT_ONCE: usize = 16;

/// Why a session left its connection.
enum ClientExit {
    /// The session was ordered to leave, or its connection's life was over.
    Told,
    Lost(Lost),
}

impl<E: Into<Lost>> From<E> for ClientExit {
    fn from(error: E) -> Self {
        Self::Lost(error.into())
    }
}

/// Runs until it may not reconnect any more.
pub(crate) async fn run(crowd: Rc<Crowd>, who: Who, access: Rc<GatewayAccess>, token: String) {
    let mut session = ClientSession {
        orders: crowd.orders.subscribe(),
        landing: Landing::new(StorePosition::default()),
        head: None,
        generation: 0,
        dies_before_ack: false,
        away_since: Instant::now(),
        connected_at: Instant::now(),
        reading_since_us: 0,
        gateway: who.user as usize,
        crowd,
        who,
        access,
        token,
    };
    let mut backoff = Backoff::default();
    // The wait fails when the crowd is gone.
    while session.orders.wait_for(|orders| !orders.away).await.is_ok() {
        let began = Instant::now();
        let exit = session.attend().await;
        session.away_since = Instant::now();
        session.crowd.set_connected(who, false);
        backoff.ended_after(began.elapsed());
        let asked = match &exit {
            ClientExit::Told => None,
            ClientExit::Lost(lost) => {
                session.crowd.incident(lost.to_string());
                if !lost.may_come_back() {
                    return;
                }
                // A balancer sends it elsewhere.
                session.gateway += 1;
                lost.asked_delay()
            }
        };
        let wait = backoff.next(asked, &mut fastrand::Rng::new());
        sleep(wait).await;
    }
}

struct ClientSession {
    crowd: Rc<Crowd>,
    who: Who,
    access: Rc<GatewayAccess>,
    token: String,
    orders: watch::Receiver<Orders>,
    landing: Landing,
    /// The head of the inbox at `Connected`, until everything up to it has landed.
    head: Option<u64>,
    /// The generation in which the present connection was opened.
    generation: u32,
    /// The connection ends at the next landing, before the ack.
    dies_before_ack: bool,
    /// The end of the last connection.
    away_since: Instant,
    /// The time of `Connected` on the present connection.
    connected_at: Instant,
    /// The time on the crowd's clock since which it reads. A message that was due earlier counts as hindered.
    reading_since_us: u64,
    /// The number of its gateway.
    gateway: usize,
}

impl ClientSession {
    /// Runs one connection, from its opening to its end.
    async fn attend(&mut self) -> ClientExit {
        let mut orders = *self.orders.borrow_and_update();
        self.generation = orders.generation;
        self.head = None;
        self.dies_before_ack = false;
        match self.attend_under(&mut orders).await {
            Ok(never) => match never {},
            Err(exit) => exit,
        }
    }

    async fn attend_under(
        &mut self,
        orders: &mut Orders,
    ) -> Result<std::convert::Infallible, ClientExit> {
        let mut connection = ClientConnection::open_trusting(
            &&self.crowd.sources,
            &self.access.gateway(self.gateway).ws,
            &self.access.trust,
        )
        .await?;
        let connect = self.landing.connect(&self.token, "", "loadtest/1");
        connection
            .send(client_frame::Body::Connect(connect))
            .await?;
        let mut heartbeat = Duration::from_secs(30);
        let ping = sleep(heartbeat);
        tokio::pin!(ping);
        let mut end = end_of_life(orders);
        let mut rests_until = None;
        loop {
            let is_deaf = orders.deaf.holds(self.who.user, self.crowd.size.users);
            let is_slow = orders.slow.holds(self.who.user, self.crowd.size.users);
            tokio::select! {
                () = until(rests_until), if rests_until.is_some() => rests_until = None,
                body = connection.receive(), if !is_deaf && rests_until.is_none() => {
                    rests_until = is_slow.then(|| Instant::now() + SLOW_PAUSE);
                    let connected = self.take(&mut connection, body?).await?;
                    if let Some(connected) = connected {
                        heartbeat = Duration::from_millis(connected.heartbeat_ms.max(1000).into());
                        ping.as_mut().reset(Instant::now() + heartbeat.mul_f64(fastrand::f64()));
                    }
                }
                () = &mut ping, if !is_deaf => {
                    connection.send(client_frame::Body::Ping(Ping { nonce: 1 })).await?;
                    ping.as_mut().reset(Instant::now() + heartbeat);
                }
                () = until(end) => {
                    // Half of them end between landing and ack. Such an end has to wait until a message lands.
                    if fastrand::bool() {
                        return Err(ClientExit::Told);
                    }
                    self.dies_before_ack = true;
                    end = None;
                }
                _ = self.orders.changed() => {
                    let before = std::mem::replace(orders, *self.orders.borrow_and_update());
                    if orders.generation != before.generation || orders.away {
                        return Err(ClientExit::Told);
                    }
                    if orders.deaf != before.deaf {
                        self.reading_since_us = self.crowd.now_us();
                    }
                    if orders.lifetime != before.lifetime {
                        end = end_of_life(orders);
                    }
                }
            }
        }
    }

    /// Takes a frame and the frames that have come after it, then sends the replies. Returns a `Connected`.
    async fn take(
        &mut self,
        connection: &mut ClientConnection,
        body: Body,
    ) -> Result<Option<Connected>, ClientExit> {
        let mut batch = Batch::default();
        let mut welcome = None;
        let mut next = Some(Ok(body));
        let mut frames = 0;
        while let Some(body) = next.transpose()? {
            match body {
                Body::Connected(connected) => {
                    self.landing.connected(&connected)?;
                    self.head = Some(connected.head);
                    self.crowd.set_connected(self.who, true);
                    self.connected_at = Instant::now();
                    self.reading_since_us = self.crowd.now_us();
                    welcome = Some(connected);
                }
                Body::Push(push) => {
                    self.landing.push(push, &mut batch)?;
                    self.land(batch.land.drain(..));
                }
                Body::Gap(gap) => {
                    let moved = self.landing.gap(&gap)?;
                    self.crowd
                        .incident(format!("a gap: {}", gap.reason().as_str_name()));
                    batch.ack = moved.map(|position| position.cursor).or(batch.ack);
                }
                _ => {}
            }
            if self
                .head
                .is_some_and(|head| self.landing.position().cursor >= head)
            {
                self.head = None;
                self.crowd.set_caught_up(self.who, self.generation);
                let mut meter = self.crowd.meter.borrow_mut();
                meter.returned(self.away_since.elapsed(), self.connected_at.elapsed());
            }
            frames += 1;
            // Every frame taken here has to be handled, so none is taken once there are enough.
            next = match frames {
                ..FRAMES_AT_ONCE => connection.receive_now(),
                _ => None,
            };
        }
        if batch.ack.is_some() && self.dies_before_ack {
            return Err(ClientExit::Told);
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
        Ok(welcome)
    }

    fn land(&self, messages: impl Iterator<Item = Message>) {
        for message in messages {
            let landed = LandedMessage {
                seq: message.seq,
                client_msg_id: &message.client_msg_id,
                server_msg_id: &message.server_msg_id,
                recv_id: &message.recv_id,
                content: &message.content,
            };
            self.crowd.land(self.who, &landed, self.reading_since_us);
        }
    }
}
