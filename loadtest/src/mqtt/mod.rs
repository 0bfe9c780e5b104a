//! An MQTT 3.1.1 broker as a server under load, for comparison: each user is a topic, each session a persistent one that
//! subscribes to it, and a send is a message to each receiver's topic that waits for the broker's ack.
//!
//! - `session.rs`: one session
//! - `lane.rs`: sends, one after the other over one connection
//! - `packet.rs`, `connection.rs`, `url.rs`: the protocol's bytes, what carries them, and where to
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
    lane::Lane,
    mosquitto::{Keeps, Mosquitto},
    packet::Qos,
    session::run,
    url::Url,
};

/// Where a broker is, and how it is spoken to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) sessions: Url,
    pub(crate) senders: Url,
    pub(crate) qos: Qos,
}

/// Which broker is loaded.
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
