//! One persistent session at a broker: it lands, acks, pings, and reconnects with full jitter, as a gateway's session does.
//!
//! MQTT has no seqs and does not tell the size of a backlog. So a session has caught up when the ledger misses nothing at
//! it. If a message stays missing, the session sends itself a mark through the same queue: messages that have not come when
//! the mark comes back are lost.
//!
//! A QoS 2 message lands with its PUBLISH, and its id is remembered until the PUBREL (4.3.3, method B).

use std::{convert::Infallible, io, rc::Rc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use towncrier_client::Backoff;

use super::{
    BrokerAddress,
    connection::MqttConnection,
    packet::{ClientPacket, Heard, Publish, Qos, Step},
};
use crate::{
    crowd::{Crowd, Orders, SLOW_PAUSE, Who, end_of_life, until},
    ledger::{LandedMessage, Ledger},
};

/// A broker ends a connection after one and a half of these without a packet (3.1.2.10). As long as a gateway's heartbeat.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// A session that misses a message, and received nothing for this long, sends the mark.
const QUIET: Duration = Duration::from_secs(1);
/// The session's own packet identifiers: one subscription and one mark at a time.
const SUBSCRIPTION: u16 = 1;
const MARK: u16 = 2;

/// Why a session left its connection.
enum MqttExit {
    /// The session was ordered to leave, or its connection's life was over.
    Told,
    Lost(io::Error),
}

impl From<io::Error> for MqttExit {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

/// Runs until it is aborted.
pub(crate) async fn run(crowd: Rc<Crowd>, who: Who, address: Rc<BrokerAddress>) {
    let topic = crowd.ledger.borrow().user_id(who.user);
    let mut session = MqttSession {
        orders: crowd.orders.subscribe(),
        topic,
        address,
        landed: 0,
        unreleased: Vec::new(),
        is_known: false,
        generation: 0,
        mark_at: None,
        away_since: Instant::now(),
        connected_at: Instant::now(),
        reading_since_us: 0,
        crowd,
        who,
    };
    let mut backoff = Backoff::default();
    // The wait fails when the crowd is gone.
    while session.orders.wait_for(|orders| !orders.away).await.is_ok() {
        let began = Instant::now();
        let exit = session.attend().await;
        session.away_since = Instant::now();
        session.crowd.set_connected(who, false);
        backoff.ended_after(began.elapsed());
        if let MqttExit::Lost(error) = exit {
            session.crowd.incident(error.to_string());
        }
        sleep(backoff.next(None, &mut fastrand::Rng::new())).await;
    }
}

struct MqttSession {
    crowd: Rc<Crowd>,
    who: Who,
    address: Rc<BrokerAddress>,
    orders: watch::Receiver<Orders>,
    /// The user's topic.
    topic: String,
    /// The number of landings, in place of the seq, which MQTT does not have.
    landed: u64,
    /// QoS 2: ids of landed messages that the broker has not released yet.
    unreleased: Vec<u16>,
    /// True if the broker has confirmed its subscription before.
    is_known: bool,
    /// The generation in which the present connection was opened.
    generation: u32,
    /// The end of the last connection, and the opening of the present one.
    away_since: Instant,
    connected_at: Instant,
    /// The time on the crowd's clock since which it reads. A message that was due earlier counts as hindered.
    reading_since_us: u64,
    /// The time of the next check if it has caught up; `None`: it has, or is not connected.
    mark_at: Option<Instant>,
}

impl MqttSession {
    /// Runs one connection, from its opening to its end.
    async fn attend(&mut self) -> MqttExit {
        let mut orders = *self.orders.borrow_and_update();
        self.generation = orders.generation;
        self.mark_at = None;
        match self.attend_under(&mut orders).await {
            Ok(never) => match never {},
            Err(exit) => exit,
        }
    }

    async fn attend_under(&mut self, orders: &mut Orders) -> Result<Infallible, MqttExit> {
        let mut connection =
            MqttConnection::open(&&self.crowd.sources, &self.address.sessions).await?;
        connection.say(ClientPacket::Connect {
            client_id: &format!("{}-{}", self.topic, self.who.session),
            is_clean: false,
            keep_alive_s: KEEP_ALIVE.as_secs() as u16,
        });
        connection.flush().await?;
        let ping = sleep(KEEP_ALIVE.mul_f64(fastrand::f64()));
        tokio::pin!(ping);
        let mut end = end_of_life(orders);
        let mut rests_until = None;
        loop {
            let is_deaf = orders.deaf.holds(self.who.user, self.crowd.size.users);
            let is_slow = orders.slow.holds(self.who.user, self.crowd.size.users);
            tokio::select! {
                () = until(rests_until), if rests_until.is_some() => rests_until = None,
                heard = connection.hear(), if !is_deaf && rests_until.is_none() => {
                    heard?;
                    rests_until = is_slow.then(|| Instant::now() + SLOW_PAUSE);
                    self.take(&mut connection)?;
                    connection.flush().await?;
                }
                () = &mut ping, if !is_deaf => {
                    connection.say(ClientPacket::PingReq);
                    connection.flush().await?;
                    ping.as_mut().reset(Instant::now() + KEEP_ALIVE);
                }
                () = until(self.mark_at), if !is_deaf => {
                    self.mark_at = None;
                    if !self.look() {
                        self.send_mark(&mut connection);
                        connection.flush().await?;
                    }
                }
                () = until(end) => return Err(MqttExit::Told),
                _ = self.orders.changed() => {
                    let before = std::mem::replace(orders, *self.orders.borrow_and_update());
                    if orders.generation != before.generation || orders.away {
                        return Err(MqttExit::Told);
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

    /// Handles all received packets, and sends the replies.
    fn take(&mut self, connection: &mut MqttConnection) -> io::Result<()> {
        while let Some(heard) = connection.next()? {
            match heard {
                Heard::ConnAck { code: 1.., .. } => {
                    return Err(io::Error::other(format!(
                        "refused by the broker: {heard:?}"
                    )));
                }
                Heard::ConnAck {
                    is_session_present: true,
                    ..
                } => self.arrived(),
                Heard::ConnAck { .. } => {
                    if self.is_known {
                        self.crowd
                            .incident("the broker had forgotten a session".to_owned());
                    }
                    self.unreleased.clear();
                    connection.say(ClientPacket::Subscribe {
                        id: SUBSCRIPTION,
                        topic: &self.topic,
                        qos: self.address.qos,
                    });
                }
                Heard::SubAck { code } if code == self.address.qos as u8 => self.arrived(),
                Heard::SubAck { code } => {
                    let text = format!("the broker grants the subscription QoS {code}");
                    return Err(io::Error::other(text));
                }
                Heard::Publish(publish) => {
                    let Publish { id, qos, .. } = publish;
                    if !self.unreleased.contains(&id) {
                        self.land(&publish);
                    }
                    match qos {
                        Qos::AtLeastOnce => connection.say(ClientPacket::Step(Step::Ack, id)),
                        Qos::ExactlyOnce => {
                            if !self.unreleased.contains(&id) {
                                self.unreleased.push(id);
                            }
                            connection.say(ClientPacket::Step(Step::Rec, id));
                        }
                    }
                }
                Heard::Step(Step::Rel, id) => {
                    self.unreleased.retain(|unreleased| *unreleased != id);
                    connection.say(ClientPacket::Step(Step::Comp, id));
                }
                // The broker has the mark. The sender need not follow its further way.
                Heard::Step(Step::Rec, id) => connection.say(ClientPacket::Step(Step::Rel, id)),
                Heard::Step(Step::Ack | Step::Comp, _) | Heard::PingResp => {}
            }
        }
        if self.mark_at.is_some() && !self.look() {
            self.mark_at = Some(Instant::now() + QUIET);
        }
        Ok(())
    }

    /// The broker keeps this session from now on.
    fn arrived(&mut self) {
        self.is_known = true;
        self.crowd.set_connected(self.who, true);
        self.connected_at = Instant::now();
        self.reading_since_us = self.crowd.now_us();
        self.mark_at = Some(Instant::now() + QUIET);
    }

    /// Checks if nothing is missing, and enters it.
    fn look(&mut self) -> bool {
        let Who { user, session } = self.who;
        let is_whole = self.crowd.ledger.borrow().missing(user, session) == 0;
        if is_whole {
            self.caught_up();
        }
        is_whole
    }

    fn caught_up(&mut self) {
        self.mark_at = None;
        self.crowd.set_caught_up(self.who, self.generation);
        let mut meter = self.crowd.meter.borrow_mut();
        meter.returned(self.away_since.elapsed(), self.connected_at.elapsed());
    }

    fn send_mark(&self, connection: &mut MqttConnection) {
        connection.say(ClientPacket::Publish(Publish {
            topic: &self.topic,
            id: MARK,
            qos: self.address.qos,
            is_again: false,
            payload: self.mark().as_bytes(),
        }));
    }

    /// A mark of its own for each session and generation, because all sessions of the user get it.
    fn mark(&self) -> String {
        format!("mark {} {}", self.who.session, self.generation)
    }

    fn land(&mut self, publish: &Publish<'_>) {
        if publish.payload.starts_with(b"mark ") {
            if publish.payload == self.mark().as_bytes() {
                self.caught_up();
            }
            return;
        }
        let key = Ledger::key_text(publish.payload);
        self.landed += 1;
        let landed = LandedMessage {
            seq: self.landed,
            client_msg_id: key,
            server_msg_id: key,
            recv_id: publish.topic,
            content: publish.payload,
        };
        self.crowd.land(self.who, &landed, self.reading_since_us);
    }
}
