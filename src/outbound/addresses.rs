//! Which addresses a name may resolve to.
//!
//! A URL that a user gave must not lead into the operator's own network. Names are therefore checked by the addresses that the
//! connection really uses, after the look-up, and not by a look-up of their own.

use std::{
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
    vec,
};

use hyper_util::client::legacy::connect::dns::Name;
use tower_service::Service;

use super::lookups::Lookups;

/// The addresses that calls may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// All, for a URL that the operator configured.
    Anywhere,
    /// Only addresses of the public internet, for a URL that a user gave.
    Public,
}

impl Reach {
    pub(super) fn allows(self, address: IpAddr) -> bool {
        match self {
            Self::Anywhere => true,
            Self::Public => is_public(address),
        }
    }
}

/// A name has only addresses that the calls may not reach.
#[derive(Debug, thiserror::Error)]
#[error("the host has no public address")]
pub(super) struct NoPublicAddress;

/// Looks names up, and leaves out addresses that may not be reached.
#[derive(Debug, Clone)]
pub(super) struct Resolver {
    reach: Reach,
    lookups: Lookups,
}

impl Resolver {
    pub(super) fn new(reach: Reach) -> Self {
        Self {
            reach,
            lookups: Lookups::new(),
        }
    }
}

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (reach, lookups) = (self.reach, self.lookups.clone());
        Box::pin(async move {
            let found = lookups.addresses(name.as_str()).await?.into_iter();
            let (allowed, refused): (Vec<_>, Vec<_>) =
                found.partition(|address| reach.allows(address.ip()));
            if allowed.is_empty() && !refused.is_empty() {
                return Err(io::Error::other(NoPublicAddress));
            }
            Ok(allowed.into_iter())
        })
    }
}

/// True for an address of the public internet: none of the special registries of IANA (RFC 6890 and its updates).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = match (a, b, c) {
        // This network, private use, loopback, and from multicast on.
        (0 | 10 | 127 | 224.., ..) => true,
        // Shared by the customers of a provider.
        (100, 64..=127, _) => true,
        (169, 254, _) | (172, 16..=31, _) | (192, 168, _) => true,
        // Protocol assignments, documentation, the old 6to4 relays, benchmarks.
        (192, 0, 0 | 2) | (192, 88, 99) | (198, 18 | 19, _) | (198, 51, 100) | (203, 0, 113) => {
            true
        }
        _ => false,
    };
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(inner) = address.to_ipv4_mapped() {
        return is_public_v4(inner);
    }
    let of_pair = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        // NAT64 and 6to4 carry an IPv4 address.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => of_pair(high, low),
        [0x2002, high, low, ..] => of_pair(high, low),
        // Protocol assignments (Teredo among them) and documentation.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_the_own_network_is_no_public_one() {
        for private in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "192.0.0.8",
            "192.0.2.1",
            "198.19.0.1",
            "203.0.113.9",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2001::1",
            "2001:db8::1",
            "2002:c0a8:101::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "ff02::1",
        ] {
            let address = private.parse().unwrap();
            assert!(!Reach::Public.allows(address), "{private}");
            assert!(Reach::Anywhere.allows(address), "{private}");
        }
    }

    #[test]
    fn an_address_of_the_internet_is_a_public_one() {
        for public in [
            "1.1.1.1",
            "100.128.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.20.0.1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2002:808:808::1",
            "2606:4700::1111",
            "2a00:1450:4001::200e",
        ] {
            assert!(Reach::Public.allows(public.parse().unwrap()), "{public}");
        }
    }
}
