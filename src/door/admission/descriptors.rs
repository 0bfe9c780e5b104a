//! File descriptors: the share of each port, so that no port takes the last one from the other port or from the log.
//!
//! A process without descriptors accepts nothing, opens no segment, and spins on its listeners. So the soft limit is raised
//! to the hard one, and the ports' own limits are lowered to what is left.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::lobby::ARRIVALS_MIN;
use crate::{config::Config, process::open_descriptors};

/// The reserve for segments that the log opens later, one descriptor each, and for everything else: at least this many, and
/// this part of all.
const RESERVE_MIN: u64 = 256;
const RESERVE_PART: u64 = 40;
/// The largest share of the admin port, as a part of the descriptors beside the reserve.
const ADMIN_PART: u64 = 16;
/// The gateway does not start with fewer descriptors than this for clients.
const CONNECTIONS_MIN: u64 = 16;

/// The process may have too few descriptors.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this process may have only {limit} file descriptors, and {open} are open already: raise the limit (ulimit -n, LimitNOFILE=)"
)]
pub struct TooFew {
    limit: u64,
    open: u64,
}

/// The limits of the ports: as configured, or lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// The limit in place of `listener.connections_max`. Lobbies use the part of it that sessions leave.
    pub connections_max: usize,
    /// The limit in place of `admin.connections_max`.
    pub admin_connections_max: usize,
}

/// Raises the soft limit to the hard one.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if limit != raised
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, "the limit of file descriptors cannot be raised");
    }
}

impl Shares {
    /// The shares by this process's limit and its open descriptors. Call it when the client port is bound and the log is
    /// open. Logs each limit that is lower than configured.
    pub fn of_process(config: &Config, reactors: usize) -> Result<Self, TooFew> {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let shares = Self::of(limit, open_descriptors(), config, reactors)?;
        if shares.connections_max < config.listener.connections_max {
            tracing::info!(
                descriptors = limit,
                connections_max = shares.connections_max,
                "file descriptors limit the connections"
            );
        }
        Ok(shares)
    }

    /// The same for this limit, with this many open descriptors.
    pub fn of(limit: u64, open: u64, config: &Config, reactors: usize) -> Result<Self, TooFew> {
        let reserve = RESERVE_MIN.max(limit / RESERVE_PART);
        let left = limit.saturating_sub(open + own(reactors) + reserve);
        let lobbies = (reactors * ARRIVALS_MIN) as u64;
        let admin = (left / ADMIN_PART)
            .min(config.admin.connections_max as u64)
            .max(1);
        let connections = left.saturating_sub(lobbies + admin);
        if connections < CONNECTIONS_MIN {
            return Err(TooFew { limit, open });
        }
        let connections_max = connections.min(config.listener.connections_max as u64);
        Ok(Self {
            connections_max: connections_max as usize,
            admin_connections_max: admin as usize,
        })
    }

    /// The inverse: a limit that leaves this many connections.
    pub fn limit_for(connections: u64, open: u64, config: &Config, reactors: usize) -> u64 {
        let lobbies = (reactors * ARRIVALS_MIN) as u64;
        let ports = connections + lobbies + config.admin.connections_max as u64;
        let all = open + own(reactors) + ports;
        // The reserve is a part of the limit, and not of the rest.
        (all + RESERVE_MIN).max(all * RESERVE_PART / (RESERVE_PART - 1) + 1)
    }
}

/// A poller and a waker for each reactor, whose listeners are already open; the same and a listener for the admin port and
/// the signals.
fn own(reactors: usize) -> u64 {
    2 * reactors as u64 + 6
}

#[cfg(test)]
mod tests {
    use super::*;

    const REACTORS: usize = 2;

    fn of(limit: u64) -> Result<Shares, TooFew> {
        Shares::of(limit, 40, &Config::default(), REACTORS)
    }

    #[test]
    fn the_ports_together_never_take_the_last_descriptor() {
        for limit in [512, 1024, 4096, 20_000, 1_000_000, u64::MAX / 2] {
            let shares = of(limit).unwrap();
            let most =
                shares.connections_max + REACTORS * ARRIVALS_MIN + shares.admin_connections_max;
            assert!(
                most as u64 + 40 + RESERVE_MIN < limit,
                "{limit}: {shares:?}"
            );
            assert!(shares.admin_connections_max >= 8);
        }
    }

    #[test]
    fn nine_of_ten_descriptors_are_for_sessions() {
        assert!(of(20_000).unwrap().connections_max >= 18_000);
    }

    #[test]
    fn the_limit_for_so_many_connections_leaves_as_many_and_hardly_more() {
        let mut config = Config::default();
        config.listener.connections_max = usize::MAX;
        for connections in [16, 5_000, 18_000, 1_200_000] {
            let limit = Shares::limit_for(connections, 40, &config, REACTORS);
            let shares = Shares::of(limit, 40, &config, REACTORS).unwrap();
            let left = shares.connections_max as u64;
            // The admin port may get less than configured, which leaves more to connections.
            let admin = config.admin.connections_max as u64;
            assert!(
                (connections..=connections + admin + 2).contains(&left),
                "{limit}: {left}"
            );
        }
    }

    #[test]
    fn with_enough_of_them_the_configuration_stands_and_with_too_few_there_is_no_gateway() {
        let config = Config::default();
        let shares = of(2_000_000).unwrap();
        assert_eq!(shares.connections_max, config.listener.connections_max);
        assert_eq!(shares.admin_connections_max, config.admin.connections_max);
        assert_eq!(
            of(100),
            Err(TooFew {
                limit: 100,
                open: 40
            })
        );
    }
}
