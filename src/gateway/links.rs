//! A gateway among the others of its log: its place in the fleet, and its links to them.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use ring::hmac;

use super::{Base, Error, OpenLog};
use crate::{
    config::Config,
    fleet::{Fleet, FleetParts},
    hints::{HintParts, Hints},
    log::{
        Log,
        cluster::{ClusterError, postgres::own_address},
    },
    mesh::{MeshPort, MeshSecret},
    threads::{self, Watch},
};

/// The gateway as a member of its fleet.
pub(super) struct Membership {
    fleet: Arc<Fleet>,
    hints: Hints,
}

impl Membership {
    /// Joins the fleet of the log's store, if it has one. Blocks.
    pub(super) fn join(
        config: &Config,
        port: Option<MeshPort>,
        log: &OpenLog,
        base: &Base<dyn Log>,
        watch: &Watch,
    ) -> Result<Option<Self>, Error> {
        let (Some(port), OpenLog::Cluster(host)) = (port, log) else {
            return Ok(None);
        };
        let parts = FleetParts {
            store: host.fleet_store(),
            registry: base.registry.clone(),
            address: address(config, &port),
            answer_within: config.store.answer_within,
            turns: host.log().turns(),
        };
        let fleet = Fleet::join_blocking(parts, &host.runtime()).map_err(ClusterError::from)?;
        base.delivery.join(fleet.clone());
        tracing::info!(address = %port.address(), gateway = %fleet.gateway(), "the mesh listens for other gateways");
        let parts = HintParts {
            fleet: fleet.clone(),
            log: host.log(),
            registry: base.registry.clone(),
            fan_out: base.delivery.fan_out(),
            metrics: base.metrics.mesh.clone(),
        };
        let (pulse, watched) = threads::watched("mesh");
        let hints = Hints::start(parts, port, secret(config), pulse, &host.runtime())?;
        watch.add([watched]);
        Ok(Some(Self { fleet, hints }))
    }

    /// Leaves the fleet at a clean end. False if the thread of the links had panicked. Not cancel safe: the others find out by
    /// themselves.
    pub(super) async fn part(self) -> bool {
        self.fleet.part().await;
        let hints = self.hints;
        let stopped = tokio::task::spawn_blocking(|| hints.stop()).await;
        stopped.unwrap_or(false)
    }
}

/// The port of the links, where the log has several gateways.
pub(super) fn bind(config: &Config) -> Result<Option<MeshPort>, Error> {
    let has_others = config.log.store.url().is_some();
    let port = has_others.then(|| MeshPort::bind(config.mesh.listen));
    Ok(port.transpose()?)
}

/// The host and port at which the other gateways reach this one. Blocks while the store's name is looked up.
fn address(config: &Config, port: &MeshPort) -> String {
    let listen = port.address();
    if let Some(advertised) = config.mesh.advertised(listen.port()) {
        return advertised;
    }
    if !listen.ip().is_unspecified() {
        return listen.to_string();
    }
    let own = config.log.store.url().and_then(own_address);
    // The store is on this host.
    let own = own.unwrap_or(Ipv4Addr::LOCALHOST.into());
    SocketAddr::new(own, listen.port()).to_string()
}

/// The secret that the gateways of a fleet share. It follows from the key of tokens, which they share as well.
fn secret(config: &Config) -> MeshSecret {
    let key = hmac::Key::new(hmac::HMAC_SHA256, config.auth.token_key.as_bytes());
    let derived = hmac::sign(&key, b"towncrier mesh");
    let derived = derived.as_ref().first_chunk();
    MeshSecret::new(derived.expect("SHA-256 has 32 bytes"))
}
