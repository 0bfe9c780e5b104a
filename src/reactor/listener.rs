//! Listening sockets that share one port, so that the kernel spreads connections over the reactors.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::config;

/// Connections that wait to be accepted. The kernel takes the smaller of this and `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;

/// Binds `count` listeners. With port 0 the first one finds a free port, and the others share it.
pub(super) fn bind(
    config: &config::Listener,
    count: usize,
) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    let first = listen(config, config.listen)?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..count {
        listeners.push(listen(config, address)?);
    }
    Ok((address, listeners))
}

fn listen(config: &config::Listener, address: SocketAddr) -> io::Result<TcpListener> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // Accepted sockets inherit it. Left alone, the kernel gives each stalled client up to 4 MB.
    socket.set_send_buffer_size(config.send_buffer_bytes)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
