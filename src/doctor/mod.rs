//! The capacity of a gateway on this host with its configuration: the number of sessions, the number of durable messages a
//! second, their limits, and the way to raise each limit.
//!
//! [`examine`] reads and measures: the kernel's limits, the disk's syncs, and a gateway of its own, in a directory of its
//! own, which it sends through. [`forecast()`] only calculates. No function here touches the configured log. Leaves to
//! others: the choice of that directory, and the output of the forecast.
//!
//! - `host.rs`: the kernel's facts
//! - `disk.rs`: the time of a sync
//! - `trial.rs`: the cost of a message here; `load.rs`: its senders and receivers
//! - `forecast.rs`: from the facts to the forecast, and the constants that were measured elsewhere

mod disk;
mod forecast;
mod host;
mod load;
mod trial;

use std::{io, path::Path};

use serde::Serialize;
use towncrier_client::AdminError;

pub use self::{
    disk::SyncTime,
    forecast::{Ceiling, Forecast, Limit, MessageRates, forecast},
    host::Host,
    trial::{Cost, Costs},
};
use crate::{config::Config, gateway};

/// The measured facts.
#[derive(Debug, Clone, Serialize)]
pub struct Facts {
    /// The kernel's facts.
    pub host: Host,
    /// The sync time of the log's disk.
    pub sync: SyncTime,
    /// The cost of a message.
    pub costs: Costs,
}

/// Why there is no forecast for this host.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory cannot be written to.
    #[error("{dir} cannot be written to and synced: {error}")]
    Disk {
        /// The directory.
        dir: String,
        /// The operating system's error.
        error: io::Error,
    },
    /// The gateway of the trial does not start.
    #[error(transparent)]
    Gateway(#[from] gateway::Error),
    /// Not all sessions of the trial connected.
    #[error("of {sessions} sessions of the trial only {connected} connected")]
    Sessions {
        /// The sessions that connected.
        connected: usize,
        /// The sessions that tried.
        sessions: usize,
    },
    /// The gateway refused a message.
    #[error("a message of the trial was not accepted: {0}")]
    Send(#[from] AdminError),
    /// No message landed.
    #[error("no message of the trial landed")]
    Nothing,
    /// The processor time of the threads is not known.
    #[error("the kernel does not say what the threads of this process used: {0}")]
    Threads(io::Error),
    /// The caller stopped it.
    #[error("interrupted")]
    Interrupted,
}

/// Examines this host for some seconds. `dir` is for everything that it writes: a new directory on the log's disk. Call it
/// in a runtime of one thread: that thread's time counts as the callers', the time of all other threads as the gateway's.
/// `stop` ends it in order. Not cancel safe: a drop ends the trial's gateway without a drain.
pub async fn examine(
    config: &Config,
    dir: &Path,
    stop: impl Future<Output = ()>,
) -> Result<Facts, Error> {
    let host = Host::look(config);
    let sync = disk::measure(dir).map_err(|error| Error::Disk {
        dir: dir.display().to_string(),
        error,
    })?;
    let costs = trial::run(config, dir, stop).await?;
    Ok(Facts { host, sync, costs })
}
