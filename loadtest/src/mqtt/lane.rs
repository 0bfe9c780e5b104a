//! Sends to a broker over one connection: a message for each receiver. The ack of the last one is the answer.

use std::{io, rc::Rc, time::Duration};

use tokio::time::timeout;
use towncrier_client::Tcp;

use super::{
    BrokerAddress,
    connection::MqttConnection,
    packet::{ClientPacket, Heard, Publish, Qos, Step},
};
use crate::{
    crowd::Crowd,
    ledger::MessageKey,
    parcel::{Parcel, ParcelOutcome},
};

/// The same as a gateway's lane waits.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(35);
/// Messages of one send under way at once: the number that Mosquitto takes from one client by default.
const UNDER_WAY_MAX: usize = 20;

/// A lane. It connects when needed.
#[derive(Debug)]
pub(crate) struct MqttLane {
    address: Rc<BrokerAddress>,
    /// The number among the crowd's lanes. A QoS 2 sender reconnects as the same client.
    number: usize,
    connection: Option<MqttConnection>,
    /// The send under way, until all of it was acked.
    key: Option<MessageKey>,
    content: String,
    /// The next receiver to send to.
    next: u32,
    under_way: Vec<UnderWay>,
    last_id: u16,
}

/// One message of a send.
#[derive(Debug, Clone, Copy)]
struct UnderWay {
    id: u16,
    user: u32,
    /// QoS 2: the broker has it, and is asked to forget its id.
    is_released: bool,
}

impl MqttLane {
    pub(crate) fn new(address: Rc<BrokerAddress>, number: usize) -> Self {
        Self {
            address,
            number,
            connection: None,
            key: None,
            content: String::new(),
            next: 0,
            under_way: Vec::new(),
            last_id: 0,
        }
    }

    /// Sends a parcel. The same parcel again continues where it stopped.
    pub(crate) async fn send(&mut self, crowd: &Crowd, parcel: Parcel) -> ParcelOutcome {
        if self.key != Some(parcel.key) {
            self.key = Some(parcel.key);
            self.content = crowd.ledger.borrow().content(parcel.key);
            self.next = 0;
            self.under_way.clear();
        }
        let delivered = timeout(ANSWER_TIMEOUT, self.deliver(crowd, parcel)).await;
        match delivered.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(()) => ParcelOutcome::Accepted(parcel.key.to_string()),
            Err(error) => {
                self.connection = None;
                ParcelOutcome::Unknown(error.to_string())
            }
        }
    }

    async fn deliver(&mut self, crowd: &Crowd, parcel: Parcel) -> io::Result<()> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let mut connection = self.connect(parcel.key.run).await?;
                self.say_again(crowd, &mut connection);
                connection
            }
        };
        while !self.under_way.is_empty() || self.next < parcel.count {
            while self.next < parcel.count && self.under_way.len() < UNDER_WAY_MAX {
                let user = parcel.user(self.next, crowd.size.users);
                self.next += 1;
                self.last_id = self.last_id.checked_add(1).unwrap_or(1);
                let message = UnderWay {
                    id: self.last_id,
                    user,
                    is_released: false,
                };
                self.under_way.push(message);
                self.say(crowd, &mut connection, message, false);
            }
            connection.flush().await?;
            connection.hear().await?;
            while let Some(heard) = connection.next()? {
                match heard {
                    Heard::Step(Step::Ack | Step::Comp, id) => {
                        self.under_way.retain(|message| message.id != id);
                    }
                    Heard::Step(Step::Rec, id) => {
                        let message = self.under_way.iter_mut().find(|one| one.id == id);
                        if let Some(message) = message {
                            message.is_released = true;
                        }
                        connection.say(ClientPacket::Step(Step::Rel, id));
                    }
                    heard => return Err(io::Error::other(format!("the broker says {heard:?}"))),
                }
            }
        }
        self.connection = Some(connection);
        Ok(())
    }

    async fn connect(&self, run: u32) -> io::Result<MqttConnection> {
        let mut connection = MqttConnection::open(&Tcp, &self.address.senders).await?;
        connection.say(ClientPacket::Connect {
            client_id: &format!("lane{run:x}-{}", self.number),
            // Only exactly-once messages need a broker that remembers their ids.
            is_clean: self.address.qos == Qos::AtLeastOnce,
            // A lane may be silent for any time.
            keep_alive_s: 0,
        });
        connection.flush().await?;
        loop {
            connection.hear().await?;
            match connection.next()? {
                None => {}
                Some(Heard::ConnAck { code: 0, .. }) => return Ok(connection),
                Some(heard) => {
                    return Err(io::Error::other(format!(
                        "refused by the broker: {heard:?}"
                    )));
                }
            }
        }
    }

    /// Repeats the messages that were under way when the connection before was lost.
    fn say_again(&self, crowd: &Crowd, connection: &mut MqttConnection) {
        for message in &self.under_way {
            match message.is_released {
                true => connection.say(ClientPacket::Step(Step::Rel, message.id)),
                false => self.say(crowd, connection, *message, true),
            }
        }
    }

    fn say(
        &self,
        crowd: &Crowd,
        connection: &mut MqttConnection,
        message: UnderWay,
        is_again: bool,
    ) {
        connection.say(ClientPacket::Publish(Publish {
            topic: &crowd.ledger.borrow().user_id(message.user),
            id: message.id,
            qos: self.address.qos,
            is_again,
            payload: self.content.as_bytes(),
        }));
    }
}
