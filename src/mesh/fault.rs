//! The ends of links, and why there is no mesh.

use std::{io, net::SocketAddr};

use super::record::RecordError;

/// Why a gateway has no mesh.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// The port cannot be listened on.
    #[error(
        "mesh.listen {address} cannot be used: {error}. Every gateway of one host needs a port of its own (mesh.listen = \"0.0.0.0:10013\")"
    )]
    Listen {
        /// The configured address.
        address: SocketAddr,
        /// The operating system's error.
        error: io::Error,
    },
    /// The library cannot be set up.
    #[error("TLS between gateways cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The operating system has no random numbers.
    #[error("the operating system gives no random numbers for a key")]
    NoRandomness,
    /// The thread could not be started.
    #[error("the operating system gives no thread: {0}")]
    Thread(#[from] io::Error),
}

/// The reason for which a link ended, or did not begin.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkFault {
    /// The connection failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The other end took too long.
    #[error("{0} took too long")]
    Late(&'static str),
    /// The proof of the other end is wrong.
    #[error(
        "the two gateways have different secrets: gateways that share a log.store have one, so one of the two addresses belongs to another fleet"
    )]
    WrongSecret,
    /// Another gateway answers at this address.
    #[error("the gateway that is meant is no longer at this address")]
    WrongGateway,
    /// The other end has another version of the mesh.
    #[error(
        "the two gateways have versions that do not talk to each other: bring all gateways of a fleet to one version"
    )]
    WrongVersion,
    /// The records make no sense.
    #[error("{0}")]
    Record(#[from] RecordError),
    /// The other end closed the connection.
    #[error("the other gateway closed the link")]
    Closed,
}

impl LinkFault {
    /// True for a fault that only an operator mends.
    pub(super) fn is_lasting(&self) -> bool {
        matches!(self, Self::WrongSecret | Self::WrongVersion)
    }
}
