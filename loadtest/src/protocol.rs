//! The seam between what is done to a server and how it is spoken to.
//!
//! A crowd knows sessions, a sender knows lanes; which protocol either speaks is decided here and nowhere else.

use std::{collections::BTreeMap, rc::Rc};

use anyhow::bail;
use serde::{Deserialize, Serialize};
use tokio::task::{JoinHandle, spawn_local};

use crate::{
    crowd::{Crowd, Who},
    gateway,
    ledger::Key,
    mqtt,
    senders::To,
};

/// Where a server is, and what it speaks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Place {
    Gateway(gateway::Place),
    Mqtt(mqtt::Place),
}

impl Place {
    /// Connections that the server has refused since its start, by reason, where it says so.
    pub(crate) async fn refusals(&self) -> anyhow::Result<BTreeMap<String, f64>> {
        match self {
            Self::Gateway(place) => place.refusals().await,
            Self::Mqtt(_) => Ok(BTreeMap::new()),
        }
    }

    /// Takes its secrets out of a text.
    pub(crate) fn mask(&self, text: String) -> String {
        match self {
            Self::Gateway(place) => text.replace(&place.secret, "***"),
            Self::Mqtt(_) => text,
        }
    }
}

/// A way in, with what opens it.
#[derive(Debug)]
pub(crate) enum Protocol {
    Gateway(Rc<gateway::Entry>),
    Mqtt(Rc<mqtt::Place>),
}

/// One send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parcel {
    /// From the ledger, which knows the content.
    pub(crate) key: Key,
    pub(crate) to: To,
    /// Receivers, from the key's first on.
    pub(crate) count: u32,
}

impl Parcel {
    /// The receiver of this number, below `count`, among so many users.
    pub(crate) fn user(self, at: u32, of: u32) -> u32 {
        (self.key.first + at) % of
    }
}

/// What became of a send.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Accepted under this serverMsgID.
    Accepted(String),
    /// It never arrives, because of this.
    Refused(String),
    /// It may or may not arrive, because of this: send it again.
    Unknown(String),
}

/// What sends one parcel after the other.
#[derive(Debug)]
pub(crate) enum Lane {
    Gateway(gateway::Lane),
    Mqtt(mqtt::Lane),
}

impl Protocol {
    pub(crate) async fn enter(place: &Place) -> anyhow::Result<Self> {
        match place {
            Place::Gateway(place) => Ok(Self::Gateway(place.enter().await?)),
            Place::Mqtt(place) => Ok(Self::Mqtt(Rc::new(place.clone()))),
        }
    }

    /// What each session of the crowd shows at the door.
    pub(crate) async fn tokens(&self, crowd: &Rc<Crowd>) -> anyhow::Result<Vec<String>> {
        match self {
            Self::Gateway(entry) => entry.tokens(crowd).await,
            Self::Mqtt(_) => Ok(vec![String::new(); crowd.sessions() as usize]),
        }
    }

    /// Starts a session, which lives until it is aborted or may not come back.
    pub(crate) fn start(&self, crowd: &Rc<Crowd>, who: Who, token: String) -> JoinHandle<()> {
        match self {
            Self::Gateway(entry) => {
                spawn_local(gateway::run(crowd.clone(), who, entry.clone(), token))
            }
            Self::Mqtt(place) => spawn_local(mqtt::run(crowd.clone(), who, place.clone())),
        }
    }

    /// Starts all sessions of a crowd in one loop that costs little.
    pub(crate) fn start_lean(&self, crowd: &Rc<Crowd>) -> anyhow::Result<JoinHandle<()>> {
        match self {
            Self::Gateway(entry) => entry.start_lean(crowd),
            Self::Mqtt(_) => bail!("only a gateway's sessions can be lean"),
        }
    }

    /// The lane of this number among those that send at once.
    pub(crate) fn lane(&self, number: usize) -> Lane {
        match self {
            Self::Gateway(entry) => Lane::Gateway(gateway::Lane::new(entry)),
            Self::Mqtt(place) => Lane::Mqtt(mqtt::Lane::new(place.clone(), number)),
        }
    }
}

impl Lane {
    /// Sends it. The same parcel again, after an unknown outcome, is the same message.
    pub(crate) async fn send(&mut self, crowd: &Crowd, parcel: Parcel) -> Outcome {
        match self {
            Self::Gateway(lane) => lane.send(crowd, parcel).await,
            Self::Mqtt(lane) => lane.send(crowd, parcel).await,
        }
    }
}
