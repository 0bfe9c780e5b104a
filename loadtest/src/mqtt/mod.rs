//! An MQTT 3.1.1 broker as a server under load, for comparison. Each user is a topic. Each session is a persistent one that
//! subscribes to it. A send is a message to each receiver's topic, and waits for the broker's ack.
//!
//! The protocol is written by hand, because a known client takes more processor time and memory
//! (docs/measured.md#the-clients-of-the-rig). The tests run it against a real broker.
//!
//! - `session.rs`: one session
//! - `lane.rs`: sends, one after the other over one connection
//! - `packet.rs`, `connection.rs`, `url.rs`: the protocol's bytes, their connection, and the broker's address
//! - `mosquitto.rs`: a broker of the rig's own

mod connection;
mod lane;
mod mosquitto;
mod packet;
mod session;
mod url;

use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub(crate) use self::{
    lane::MqttLane,
    mosquitto::{Keeps, Mosquitto},
    packet::Qos,
    session::run,
    url::Url,
};

/// The addresses of a broker, and the quality of service.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BrokerAddress {
    pub(crate) sessions: Url,
    pub(crate) senders: Url,
    pub(crate) qos: Qos,
}

/// The broker under load.
#[derive(Debug, Clone)]
pub(crate) enum Broker {
    At(Url),
    /// A Mosquitto of the rig's own.
    Own(Keeps),
}

impl FromStr for Broker {
    type Err = url::NoUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "mosquitto" => Ok(Self::Own(Keeps::All)),
            "mosquitto-memory" => Ok(Self::Own(Keeps::Nothing)),
            url => Ok(Self::At(url.parse()?)),
        }
    }
}
