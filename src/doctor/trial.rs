//! A gateway of its own, in a directory of its own, that is sent through for some seconds: what a message costs on this
//! host, kernel and disk, in processor time of the gateway's threads.
//!
//! Processor time, not messages a second: how many of these there are depends on what else the cores do meanwhile, and on
//! who sends. It is told apart by thread, because the admin port and the log's writer have one each, whatever the host.

use std::{path::Path, time::Duration};

use serde::Serialize;
use tokio::task::LocalSet;

use super::{
    Error,
    load::{Load, Size},
};
use crate::{
    admission::Shares,
    config::{self, Config},
    gateway::{self, Gateway},
    process::{self, Thread},
    reactor,
};

/// Of the sends before anything is counted: they bring along what there is only once.
const WARM_UP: Duration = Duration::from_millis(500);
/// The kernel counts processor time in steps of 10 ms, for each thread: of so long they are 1 or 2 %.
const LASTS: Duration = Duration::from_millis(1500);
/// Receivers of a batch.
pub(super) const BATCH: usize = 100;
/// Callers of batches: as many batches are under way where the load rig's rate is highest.
const BATCHES_AT_ONCE: usize = 8;
/// Sessions and callers with descriptors enough: as many users as the load rig has, and callers that keep a core busy.
const SIZE_MAX: Size = Size {
    sessions: 1000,
    callers: 64,
};

/// What one message costs, in µs of processor time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Cost {
    /// All of the gateway's threads.
    pub gateway_us: f64,
    /// Of it the admin port's one.
    pub admin_us: f64,
    /// Of it the log writer's one.
    pub writer_us: f64,
}

/// What messages cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Costs {
    /// One request a message.
    pub single: Cost,
    /// In batches of 100.
    pub batch: Cost,
}

/// Tries it out in `dir`. All of it is down again when this returns.
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
    // Clients that are gone need not be told to come back.
    drop(clients);
    // What was measured is good whatever came of this.
    let _ = gateway.drain().await;
    measured
}

/// What decides about speed as it is configured, and ports, secrets and limits of its own.
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

/// A third of what the ports may have: both ends of each connection are here, and the log is not open yet.
fn size(shares: Shares) -> Size {
    Size {
        sessions: SIZE_MAX.sessions.min(shares.connections_max / 3),
        callers: (shares.admin_connections_max / 3).clamp(1, SIZE_MAX.callers),
    }
}

async fn measure(config: &Config, gateway: &Gateway, size: Size) -> Result<Costs, Error> {
    let load = Load::start(config, gateway, size.sessions).await?;
    let batch = BATCH.min(size.sessions);
    Ok(Costs {
        single: cost(&load, 1, size.callers).await?,
        batch: cost(&load, batch, BATCHES_AT_ONCE.min(size.callers)).await?,
    })
}

async fn cost(load: &Load, receivers: usize, callers: usize) -> Result<Cost, Error> {
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

/// What all threads but the first, which sends, used between two looks, for each of so many messages.
fn share_out(before: &[Thread], after: &[Thread], messages: u64) -> Cost {
    let used = |thread: &Thread| {
        let before = before.iter().find(|before| before.id == thread.id);
        thread.cpu - before.map_or(Duration::ZERO, |before| before.cpu)
    };
    let of = |is_meant: &dyn Fn(&Thread) -> bool| {
        let used: Duration = after
            .iter()
            .filter(|thread| is_meant(thread))
            .map(used)
            .sum();
        used.as_secs_f64() * 1e6 / messages as f64
    };
    // The number of a process is that of its first thread.
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
        let thread = |id, name: &str, ms| Thread {
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
            let Size { sessions, callers } = size_of(limit).unwrap();
            assert!(sessions > 0 && callers > 0);
            assert!(40 + 2 * (sessions + callers) as u64 <= limit);
        }
        assert_eq!(size_of(20_000), Ok(SIZE_MAX));
    }
}
