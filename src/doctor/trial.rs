//! A trial: a gateway of its own, in a directory of its own, gets messages for some seconds. The result is the cost of a
//! message on this host, kernel and disk, in processor time of the gateway's threads.
//!
//! The trial measures processor time and not messages a second, because their number depends on the other work of the
//! cores, and on the senders. The time is split by thread: the admin port and the log's writer have one thread each on
//! every host.

use std::{path::Path, time::Duration};

use serde::Serialize;
use tokio::task::LocalSet;

use super::{
    Error,
    load::{TrialLoad, TrialSize},
};
use crate::{
    config::{self, Config},
    door::Shares,
    gateway::{self, Gateway},
    process::{self, ThreadTime},
    reactor,
};

/// The time of the sends before the measurement. They pay for work that is done only once.
const WARM_UP: Duration = Duration::from_millis(500);
/// The time of the measurement. The kernel counts each thread's processor time in steps of 10 ms, which are 1 or 2 % of it.
const LASTS: Duration = Duration::from_millis(1500);
/// The receivers of a batch.
pub(super) const BATCH: usize = 100;
/// The callers of batches: as many batches are under way at the load rig's highest rate.
const BATCHES_AT_ONCE: usize = 8;
/// The sessions and callers if there are enough descriptors: as many users as the load rig has, and callers that keep a
/// core busy.
const SIZE_MAX: TrialSize = TrialSize {
    sessions: 1000,
    callers: 64,
};

/// The cost of one message, in µs of processor time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Cost {
    /// The time of all threads of the gateway.
    pub gateway_us: f64,
    /// The part of the admin port's thread.
    pub admin_us: f64,
    /// The part of the log writer's thread.
    pub writer_us: f64,
}

/// The costs of messages.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Costs {
    /// Messages with one request each.
    pub single: Cost,
    /// Messages in batches of 100.
    pub batch: Cost,
}

/// Runs the trial in `dir`. The gateway has ended when this returns.
pub(super) async fn run(
    config: &Config,
    dir: &Path,
    stop: impl Future<Output = ()>,
) -> Result<Costs, Error> {
    let config = own(config, dir);
    let shares = Shares::of_process(&config, reactor::count(&config.listener));
    let size = size(shares.map_err(gateway::Error::from)?);
    let gateway = Gateway::start(config.clone())?;
    let clients = LocalSet::new();
    let measured = tokio::select! {
        measured = clients.run_until(measure(&config, &gateway, size)) => measured,
        () = stop => Err(Error::Interrupted),
    };
    // Without clients the drain need not tell anybody to return.
    drop(clients);
    // The measurement is valid even if the drain fails.
    let _ = gateway.drain().await;
    measured
}

/// The configured settings that decide the speed, with ports, secrets and limits of its own.
fn own(config: &Config, dir: &Path) -> Config {
    let loopback = ([127, 0, 0, 1], 0).into();
    let random = || uuid::Uuid::new_v4().simple().to_string();
    let mut own = Config {
        log: config.log.clone(),
        ..Config::default()
    };
    own.log.dir = dir.join("data");
    own.listener.listen = loopback;
    own.listener.reactors = config.listener.reactors;
    own.listener.handshakes_per_second_max = 0;
    own.listener.handshakes_per_address_max = 0;
    own.listener.memory_bytes_max = u64::MAX;
    own.admin.listen = loopback;
    own.auth = config::Auth {
        secret: random(),
        token_key: random(),
        ..config::Auth::default()
    };
    own.drain.period = Duration::ZERO;
    own
}

/// A third of the ports' shares: both ends of each connection are in this process, and the log is not open yet.
fn size(shares: Shares) -> TrialSize {
    TrialSize {
        sessions: SIZE_MAX.sessions.min(shares.connections_max / 3),
        callers: (shares.admin_connections_max / 3).clamp(1, SIZE_MAX.callers),
    }
}

async fn measure(config: &Config, gateway: &Gateway, size: TrialSize) -> Result<Costs, Error> {
    let load = TrialLoad::start(config, gateway, size.sessions).await?;
    let batch = BATCH.min(size.sessions);
    Ok(Costs {
        single: cost(&load, 1, size.callers).await?,
        batch: cost(&load, batch, BATCHES_AT_ONCE.min(size.callers)).await?,
    })
}

async fn cost(load: &TrialLoad, receivers: usize, callers: usize) -> Result<Cost, Error> {
    load.send(receivers, callers, WARM_UP).await?;
    let threads = || process::threads().map_err(Error::Threads);
    let (before, landed) = (threads()?, load.landed());
    load.send(receivers, callers, LASTS).await?;
    let (after, landed) = (threads()?, load.landed() - landed);
    if landed == 0 {
        return Err(Error::Nothing);
    }
    Ok(share_out(&before, &after, landed))
}

/// The processor time of all threads except the first, which sends, between two readings, divided by this many messages.
fn share_out(before: &[ThreadTime], after: &[ThreadTime], messages: u64) -> Cost {
    let used = |thread: &ThreadTime| {
        let before = before.iter().find(|before| before.id == thread.id);
        thread.cpu - before.map_or(Duration::ZERO, |before| before.cpu)
    };
    let of = |is_meant: &dyn Fn(&ThreadTime) -> bool| {
        let used: Duration = after
            .iter()
            .filter(|thread| is_meant(thread))
            .map(used)
            .sum();
        used.as_secs_f64() * 1e6 / messages as f64
    };
    // The id of a process is the id of its first thread.
    let own = std::process::id();
    Cost {
        gateway_us: of(&|thread| thread.id != own),
        admin_us: of(&|thread| thread.name == "admin"),
        writer_us: of(&|thread| thread.name == "log-writer"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_gateways_threads_used_is_shared_out_among_the_messages() {
        let thread = |id, name: &str, ms| ThreadTime {
            id,
            name: name.into(),
            cpu: Duration::from_millis(ms),
        };
        let own = std::process::id();
        let before = [thread(own, "towncrier", 500), thread(own + 1, "admin", 100)];
        let after = [
            thread(own, "towncrier", 900),
            thread(own + 1, "admin", 400),
            thread(own + 2, "log-writer", 50),
            thread(own + 3, "reactor-0", 150),
        ];
        let cost = Cost {
            gateway_us: 50.0,
            admin_us: 30.0,
            writer_us: 5.0,
        };
        assert_eq!(share_out(&before, &after, 10_000), cost);
    }

    #[test]
    fn the_trial_fits_wherever_a_gateway_starts() {
        let config = own(&Config::default(), Path::new(""));
        let size_of = |limit| Shares::of(limit, 40, &config, 2).map(size);
        let fewest = (0..20_000).find(|limit| size_of(*limit).is_ok()).unwrap();
        for limit in fewest..20_000 {
            let TrialSize { sessions, callers } = size_of(limit).unwrap();
            assert!(sessions > 0 && callers > 0);
            assert!(40 + 2 * (sessions + callers) as u64 <= limit);
        }
        assert_eq!(size_of(20_000), Ok(SIZE_MAX));
    }
}
