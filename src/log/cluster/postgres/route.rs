//! The address of this host in the direction of the store: the other gateways share the store, so they most likely reach it.

use std::net::{IpAddr, ToSocketAddrs as _, UdpSocket};

use tokio_postgres::config::Host;

/// The address from which connections to the servers of this URL go out; `None` where a socket of this machine leads to them, or no route.
/// Blocks while names are looked up, and sends nothing.
pub fn own_address(url: &str) -> Option<IpAddr> {
    let config: tokio_postgres::Config = url.parse().ok()?;
    let hosts = config.get_hosts().iter().filter_map(|host| match host {
        Host::Tcp(name) => Some(name),
        Host::Unix(_) => None,
    });
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let mut servers = hosts.filter_map(|name| (name.as_str(), port).to_socket_addrs().ok()?.next());
    servers.find_map(|server| {
        let any = if server.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let socket = UdpSocket::bind(any).ok()?;
        // A connected datagram socket has the address that the kernel's routes name. No datagram is sent.
        socket.connect(server).ok()?;
        Some(socket.local_addr().ok()?.ip())
    })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn the_address_towards_a_server_of_this_host_is_its_loopback() {
        let address = own_address("postgres://u@127.0.0.1:6432/d");
        assert_eq!(address, Some(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(own_address("postgres://u@%2Ftmp/d"), None);
    }
}
