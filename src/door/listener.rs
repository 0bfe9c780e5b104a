//! Listening sockets that share one port, so that the kernel spreads connections over the reactors.
//!
//! The port is shared within this process only. The first socket is bound before it allows sharing; this fails if another
//! process listens already, for instance a second gateway. In the other order, two gateways would each get half of the
//! clients.
//!
//! From then on clients wait in the kernel's queues for the reactors to start, while the queues have room, and for at most
//! 10 s of a client's patience. So a client that comes while a gateway reads its log after a crash need not return after a
//! delay.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::config;

/// Connections of one listener that wait to be accepted, at most. The kernel takes the smaller of this and
/// `net.core.somaxconn`.
pub(crate) const BACKLOG: u16 = 65_535;

/// A port that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("{setting}: cannot listen on {address}: {source}")]
pub struct BindError {
    /// The setting that names the address.
    setting: &'static str,
    address: SocketAddr,
    source: io::Error,
}

/// The bound client port; [`crate::reactor::Reactors`] serve it.
pub struct Port {
    pub(crate) address: SocketAddr,
    /// One for each reactor.
    pub(crate) listeners: Vec<TcpListener>,
    /// The port for REST calls alone, if there is one: its address, and a listener for each reactor.
    pub(crate) calls: Option<(SocketAddr, Vec<TcpListener>)>,
}

impl Port {
    /// Binds the port, with a socket for each of so many reactors.
    ///
    /// # Errors
    /// [`BindError`], also if another process listens there.
    pub fn bind(config: &config::Listener, reactors: usize) -> Result<Self, BindError> {
        let (address, listeners) = bind(config, reactors).map_err(|source| BindError {
            setting: "listener.listen",
            address: config.listen,
            source,
        })?;
        Ok(Self {
            address,
            listeners,
            calls: None,
        })
    }

    /// Binds a second port at `listen`, for REST calls alone.
    ///
    /// # Errors
    /// [`BindError`], also if another process listens there.
    pub fn with_calls(
        self,
        config: &config::Listener,
        listen: SocketAddr,
    ) -> Result<Self, BindError> {
        let config = config::Listener {
            listen,
            ..config.clone()
        };
        let calls = bind(&config, self.listeners.len()).map_err(|source| BindError {
            setting: "openim.api_listen",
            address: listen,
            source,
        })?;
        Ok(Self {
            calls: Some(calls),
            ..self
        })
    }
}

/// Binds `count` listeners. With port 0 the first one finds a free port, and the others share it. Fails with `AddrInUse` if
/// another process listens on the port, shared or not.
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

/// Binds the admin port.
pub(super) fn bind_admin(config: &config::Admin) -> Result<(TcpListener, SocketAddr), BindError> {
    let bind = || {
        let listener = TcpListener::bind(config.listen)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bind().map_err(|source| BindError {
        setting: "admin.listen",
        address: config.listen,
        source,
    })
}

fn socket(config: &config::Listener) -> io::Result<Socket> {
    let domain = Domain::for_address(config.listen);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    // Connections of an earlier process in TIME_WAIT must not prevent the start.
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit this size. By default the kernel gives each stalled client up to 4 MB.
    socket.set_send_buffer_size(config.send_buffer_bytes)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn listen(socket: Socket) -> io::Result<TcpListener> {
    socket.listen(BACKLOG.into())?;
    Ok(socket.into())
}
