//! The source addresses of a process's connections, if the gateway is on this machine's loopback: 127.0.0.2 and on,
//! 127.0.1.2 for the next process.
//!
//! One address has about 28,000 ports for one destination. Each connection asks for a port by number, which costs the
//! kernel no search (`IP_BIND_ADDRESS_NO_PORT` is for the same, but nothing safe in the build sets it), and takes the next
//! port if that one is in use.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::OwnedFd,
    sync::atomic::{AtomicU32, Ordering},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use tokio::net::{TcpSocket, TcpStream};
use towncrier_client::{Network, Tcp};

/// Above most of the ports that other programs listen on.
const PORTS: std::ops::Range<u32> = 20_000..65_000;
/// The addresses of each process: 20,000 connections take 100 ports of each.
const ADDRESSES: u32 = 200;
/// If this many ports in a row are in use, something else is wrong.
const TRIES: u32 = 1000;

/// The addresses of one process, each used in turn.
#[derive(Debug)]
pub(crate) struct SourceAddresses {
    first: u32,
    next: AtomicU32,
}

impl SourceAddresses {
    /// No two processes share an address.
    pub(crate) fn of(ordinal: u8) -> Self {
        Self {
            first: Ipv4Addr::new(127, 0, ordinal, 2).into(),
            next: AtomicU32::new(0),
        }
    }

    fn next(&self) -> SocketAddrV4 {
        let at = self.next.fetch_add(1, Ordering::Relaxed);
        // A port is used again as late as possible, because the connection before may still be closing.
        let address = Ipv4Addr::from(self.first + at % ADDRESSES);
        let port = PORTS.start + at / ADDRESSES % (PORTS.end - PORTS.start);
        SocketAddrV4::new(address, u16::try_from(port).expect("ports are below 65536"))
    }

    /// A connected, non-blocking socket. On the loopback it is connected at once.
    pub(crate) fn connect_now(&self, to: SocketAddrV4) -> io::Result<OwnedFd> {
        for _ in 0..TRIES {
            match connect_from(self.next(), to).map_err(io::Error::from) {
                Err(error) if is_taken(&error) => {}
                connected => return connected,
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }
}

impl Network for &SourceAddresses {
    type Stream = TcpStream;

    async fn connect(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let address = host.parse::<Ipv4Addr>().ok().filter(Ipv4Addr::is_loopback);
        let Some(address) = address else {
            return Tcp.connect(host, port).await;
        };
        for _ in 0..TRIES {
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            let connected = match socket.bind(self.next().into()) {
                Ok(()) => socket.connect((address, port).into()).await,
                Err(error) => Err(error),
            };
            match connected {
                Err(error) if is_taken(&error) => {}
                Err(error) => return Err(error),
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }
}

/// True if the port is in use, alone or together with this destination.
fn is_taken(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrInUse, AddrNotAvailable};
    matches!(error.kind(), AddrInUse | AddrNotAvailable)
}

fn connect_from(source: SocketAddrV4, to: SocketAddrV4) -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &source)?;
    rustix::net::connect(&socket, &to)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    Ok(socket)
}
