//! The seam between the loads and a server's protocol.
//!
//! A crowd has sessions, a sender has lanes. Only this module decides which protocol they speak: a session and a lane know
//! the crowd, and the crowd knows neither.

use std::{collections::BTreeMap, rc::Rc};

use anyhow::bail;
use serde::{Deserialize, Serialize};
use tokio::task::{JoinHandle, spawn_local};

use crate::{
    crowd::{Crowd, Who},
    gateway, mqtt,
    parcel::{Parcel, ParcelOutcome},
};

/// The addresses of a server, and its protocol.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum ServerAddress {
    Gateway(gateway::GatewayAddress),
    Mqtt(mqtt::BrokerAddress),
}

impl ServerAddress {
    /// The connections that the server has refused since its start, by reason, if it tells them.
    pub(crate) async fn refusals(&self) -> anyhow::Result<BTreeMap<String, f64>> {
        match self {
            Self::Gateway(address) => address.refusals().await,
            Self::Mqtt(_) => Ok(BTreeMap::new()),
        }
    }

    /// Removes the server's secrets from a text.
    pub(crate) fn mask(&self, text: String) -> String {
        match self {
            Self::Gateway(address) => text.replace(&address.secret, "***"),
            Self::Mqtt(_) => text,
        }
    }
}

/// A server with the secrets for it.
#[derive(Debug)]
pub(crate) enum Protocol {
    Gateway(Rc<gateway::GatewayAccess>),
    Mqtt(Rc<mqtt::BrokerAddress>),
}

/// A sender of one parcel after the other.
#[derive(Debug)]
pub(crate) enum Lane {
    Gateway(gateway::GatewayLane),
    Mqtt(mqtt::MqttLane),
}

impl Protocol {
    pub(crate) async fn enter(address: &ServerAddress) -> anyhow::Result<Self> {
        match address {
            ServerAddress::Gateway(address) => Ok(Self::Gateway(address.enter().await?)),
            ServerAddress::Mqtt(address) => Ok(Self::Mqtt(Rc::new(address.clone()))),
        }
    }

    /// The token of each session of the crowd.
    pub(crate) async fn tokens(&self, crowd: &Rc<Crowd>) -> anyhow::Result<Vec<String>> {
        match self {
            Self::Gateway(access) => access.tokens(crowd).await,
            Self::Mqtt(_) => Ok(vec![String::new(); crowd.sessions() as usize]),
        }
    }

    /// Registers a device for the user of each session, with the sessions' tokens. Cancel safe: registrations under way end.
    pub(crate) async fn register_devices(
        &self,
        crowd: &Rc<Crowd>,
        tokens: Vec<String>,
    ) -> anyhow::Result<()> {
        match self {
            Self::Gateway(access) => access.register_devices(crowd, tokens).await,
            Self::Mqtt(_) => bail!("a broker has no devices"),
        }
    }

    /// Starts a session. It runs until it is aborted, or may not reconnect.
    pub(crate) fn start(&self, crowd: &Rc<Crowd>, who: Who, token: String) -> JoinHandle<()> {
        match self {
            Self::Gateway(access) => access.start(crowd, who, token),
            Self::Mqtt(address) => spawn_local(mqtt::run(crowd.clone(), who, address.clone())),
        }
    }

    /// Starts all sessions of a crowd in one cheap loop.
    pub(crate) fn start_lean(&self, crowd: &Rc<Crowd>) -> anyhow::Result<JoinHandle<()>> {
        match self {
            Self::Gateway(access) => access.start_lean(crowd),
            Self::Mqtt(_) => bail!("only a gateway's sessions can be lean"),
        }
    }

    /// The lane of this number among those that send at once.
    pub(crate) fn lane(&self, number: usize) -> Lane {
        match self {
            Self::Gateway(access) => {
                Lane::Gateway(gateway::GatewayLane::new(access.clone(), number))
            }
            Self::Mqtt(address) => Lane::Mqtt(mqtt::MqttLane::new(address.clone(), number)),
        }
    }
}

impl Lane {
    /// Sends a parcel. The same parcel again, after an unknown outcome, is the same message.
    pub(crate) async fn send(&mut self, crowd: &Crowd, parcel: Parcel) -> ParcelOutcome {
        match self {
            Self::Gateway(lane) => lane.send(crowd, parcel).await,
            Self::Mqtt(lane) => lane.send(crowd, parcel).await,
        }
    }
}
