//! Listening sockets that share one port, so that the kernel spreads connections over the reactors.
//!
//! Sharing is for this process only: the first socket is bound before it may share, which fails where anyone listens
//! already, a second gateway included. Bound the other way round, two gateways would each get half of the clients.
//!
//! From then on clients wait in the kernel's queues for the reactors to start, as long as those have room and clients have
//! patience, 10 s: whoever comes while a gateway reads its log after a crash need not come back after a delay.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use socket2::{Domain, Protocol, Socket, Type};

use super::{Error, count};
use crate::config;

/// Connections of one listener that wait to be accepted, at most. The kernel takes the smaller of this and
/// `net.core.somaxconn`.
pub(crate) const BACKLOG: u16 = 65_535;

/// The client port, where clients can knock; [`super::Reactors`] serve it.
pub struct Port {
    pub(super) address: SocketAddr,
    /// One for each reactor.
    pub(super) listeners: Vec<TcpListener>,
}

impl Port {
    /// Takes it, once for each reactor that there will be.
    ///
    /// # Errors
    /// [`Error::Listen`], also where somebody else listens there.
    pub fn bind(config: &config::Listener) -> Result<Self, Error> {
        let (address, listeners) = bind(config, count(config)).map_err(|source| Error::Listen {
            address: config.listen,
            source,
        })?;
        Ok(Self { address, listeners })
    }
}

/// Binds `count` listeners. With port 0 the first one finds a free port, and the others share it. Fails with `AddrInUse`
/// where somebody else listens on the port, shared or not.
fn bind(config: &config::Listener, count: usize) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    let first = socket(config)?;
    first.bind(&config.listen.into())?;
    first.set_reuse_port(true)?;
    let first = listen(first)?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..count {
        let next = socket(config)?;
        next.set_reuse_port(true)?;
        next.bind(&address.into())?;
        listeners.push(listen(next)?);
    }
    Ok((address, listeners))
}

fn socket(config: &config::Listener) -> io::Result<Socket> {
    let domain = Domain::for_address(config.listen);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    // Connections of the process before this one, still in TIME_WAIT, are no reason not to start.
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit it. Left alone, the kernel gives each stalled client up to 4 MB.
    socket.set_send_buffer_size(config.send_buffer_bytes)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn listen(socket: Socket) -> io::Result<TcpListener> {
    socket.listen(BACKLOG.into())?;
    Ok(socket.into())
}
