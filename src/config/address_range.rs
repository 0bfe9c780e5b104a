//! A network of IP addresses, such as `10.0.0.0/8`, as text in a setting.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

/// The bits of an IPv6 address. An IPv4 address counts as its IPv4-mapped IPv6 address.
const BITS: u8 = 128;
/// The bits that every IPv4-mapped IPv6 address has in common.
const MAPPED_BITS: u8 = 96;

/// All addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AddressRange {
    address: IpAddr,
    /// The number of the bits, in the form of the address.
    bits: u8,
}

impl AddressRange {
    /// True if the address is one of this network's, however it is written.
    pub fn contains(self, ip: IpAddr) -> bool {
        let bits = match self.address {
            IpAddr::V4(_) => self.bits + MAPPED_BITS,
            IpAddr::V6(_) => self.bits,
        };
        let differing = as_bits(self.address) ^ as_bits(ip);
        differing.checked_shr((BITS - bits).into()).unwrap_or(0) == 0
    }
}

/// The bits of the IPv6 form.
fn as_bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// The text names no network.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no network such as 10.0.0.0/8, fd00::/8 or 192.0.2.7")]
pub struct NoAddressRange(String);

impl FromStr for AddressRange {
    type Err = NoAddressRange;

    fn from_str(text: &str) -> Result<Self, NoAddressRange> {
        let read = || {
            let (address, bits) = match text.split_once('/') {
                Some((address, bits)) => (address, Some(bits)),
                None => (text, None),
            };
            let address: IpAddr = address.parse().ok()?;
            let most = if address.is_ipv4() {
                BITS - MAPPED_BITS
            } else {
                BITS
            };
            let bits = bits.map_or(Ok(most), str::parse).ok()?;
            (bits <= most).then_some(Self { address, bits })
        };
        read().ok_or_else(|| NoAddressRange(text.into()))
    }
}

impl TryFrom<String> for AddressRange {
    type Error = NoAddressRange;

    fn try_from(text: String) -> Result<Self, NoAddressRange> {
        text.parse()
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl From<AddressRange> for String {
    fn from(network: AddressRange) -> Self {
        network.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_the_addresses_that_begin_with_its_bits() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("192.0.2.0/31", "::ffff:192.0.2.1", "192.0.2.2"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("2001:db8::1", "2001:db8::1", "2001:db8::2"),
            ("0.0.0.0/0", "203.0.113.9", "2001:db8::1"),
            ("::/0", "2001:db8::1", "none"),
        ] {
            let network: AddressRange = network.parse().unwrap();
            assert!(network.contains(inside.parse().unwrap()), "{network}");
            if let Ok(outside) = outside.parse() {
                assert!(!network.contains(outside), "{network}");
            }
            assert_eq!(
                network.to_string().parse::<AddressRange>().unwrap(),
                network
            );
        }
    }

    #[test]
    fn other_text_is_no_network_and_the_error_shows_one() {
        for text in [
            "",
            "proxy",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "10.0.0/8",
            "/8",
        ] {
            let said = text.parse::<AddressRange>().unwrap_err().to_string();
            assert!(said.contains("10.0.0.0/8"), "{said}");
        }
    }
}
