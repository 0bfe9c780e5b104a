//! Proxies in front of the gateway: the address of the client behind them.
//!
//! A proxy names its client in one of two ways: in the PROXY protocol, before everything else on the connection, or in a header of
//! each request. Only the networks in `listener.trusted_proxies` are believed. From anybody else the PROXY protocol is no HTTP, and a
//! header changes nothing.
//!
//! - `preface.rs`: the PROXY protocol, version 1 and 2
//! - `forwarded.rs`: the headers `Forwarded` and `X-Forwarded-For`

mod forwarded;
mod preface;

use std::{io, net::IpAddr, time::Duration};

use axum::http::HeaderMap;
use tokio::{io::AsyncRead, net::TcpStream, time::sleep};

use crate::config::{self, AddressRange};

/// The pause between two looks for the second byte of a connection.
const PEEK_PAUSE: Duration = Duration::from_millis(10);

/// The proxies that are believed.
#[derive(Debug, Clone, Default)]
pub(super) struct Proxies {
    trusted: Vec<AddressRange>,
    has_preface: bool,
}

impl Proxies {
    pub(super) fn new(config: &config::Listener) -> Self {
        Self {
            trusted: config.trusted_proxies.clone(),
            has_preface: config.proxy_protocol,
        }
    }

    /// True if this address is a proxy's, which may name another one.
    pub(super) fn trust(&self, ip: IpAddr) -> bool {
        self.trusted.iter().any(|range| range.contains(ip))
    }

    /// Reads the PROXY protocol's preface if this peer sends one. Returns the address that it names, or the peer's own. Reads no byte
    /// behind it.
    ///
    /// # Errors
    /// The peer's bytes are no preface, or the connection ended in it.
    pub(super) async fn read_preface<S: AsyncRead + Unpin>(
        &self,
        peer: IpAddr,
        stream: &mut S,
    ) -> io::Result<IpAddr> {
        if !self.has_preface || !self.trust(peer) {
            return Ok(peer);
        }
        Ok(preface::read(stream).await?.unwrap_or(peer))
    }

    /// The client of a request that came from `hop`: the right-most address in the headers that is not a proxy's.
    pub(super) fn client_of(&self, hop: IpAddr, headers: &HeaderMap) -> IpAddr {
        if !self.trust(hop) {
            return hop;
        }
        forwarded::client(hop, headers, |ip| self.trust(ip))
    }
}

/// True if the next bytes of the stream begin a preface, and neither HTTP nor TLS. Takes none of them. Cancel safe.
pub(super) async fn begins_with_preface(stream: &TcpStream) -> io::Result<bool> {
    loop {
        let mut first = [0; 2];
        match stream.peek(&mut first).await? {
            2 => return Ok(preface::may_begin_with(first)),
            // The peer sends byte by byte. A look does not wait for the second one.
            1 => sleep(PEEK_PAUSE).await,
            _ => return Ok(false),
        }
    }
}

/// For fuzzing: the address that these bytes of a peer name, and the number of bytes that it took to name it. Cancel safe.
pub async fn named_by(bytes: &[u8]) -> io::Result<(Option<IpAddr>, usize)> {
    let mut rest = bytes;
    let named = preface::read(&mut rest).await?;
    Ok((named, bytes.len() - rest.len()))
}
