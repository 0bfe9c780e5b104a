//! What a gateway can do on this host with its configuration: how many sessions, how many durable messages a second, what
//! limits them, and what lifts each limit.
//!
//! [`examine`] looks and measures: the kernel's limits, the disk's syncs, and a real gateway of its own in a directory of
//! its own, which it sends through. [`forecast()`] only calculates. Nothing here touches the operator's log.
//! Leaves to others: where that directory is, and how the forecast is shown.
//!
//! - `host.rs`: what the kernel says
//! - `disk.rs`: how long the disk takes to sync
//! - `trial.rs`: what a message costs here; `load.rs`: who sends it, and to whom
//! - `forecast.rs`: from what was found to what to expect, and the constants that were measured elsewhere

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
    forecast::{Ceiling, Forecast, Limit, Messages, forecast},
    host::Host,
    trial::{Cost, Costs},
};
use crate::{config::Config, gateway};

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Facts {
    /// What the kernel says.
    pub host: Host,
    /// Of the disk that the log is on.
    pub sync: SyncTime,
    /// What a message costs.
    pub costs: Costs,
}

/// Why there is nothing to say about this host.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory cannot be written to.
    #[error("{dir} cannot be written to and synced: {error}")]
    Disk {
        /// Which.
        dir: String,
        /// What the operating system says.
        error: io::Error,
    },
    /// The gateway that is tried out does not start.
    #[error(transparent)]
    Gateway(#[from] gateway::Error),
    /// Its clients did not all get in.
    #[error("of {sessions} sessions of the trial only {connected} connected")]
    Sessions {
        /// Those that got in.
        connected: usize,
        /// Those that tried.
        sessions: usize,
    },
    /// It refused a message.
    #[error("a message of the trial was not accepted: {0}")]
    Send(#[from] AdminError),
    /// Nothing landed at all.
    #[error("no message of the trial landed")]
    Nothing,
    /// What its threads used is not known.
    #[error("the kernel does not say what the threads of this process used: {0}")]
    Threads(io::Error),
    /// The caller wanted no more.
    #[error("interrupted")]
    Interrupted,
}

/// Looks at this host for some seconds, with `dir` for all that is written: a new directory on the log's disk. Call it in
/// a runtime of one thread: that thread's time counts as the callers', everybody else's as the gateway's. `stop` ends it.
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
