//! The links between the gateways of one log: where this gateway listens, and under which address the others dial it.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// The links between the gateways of one log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MeshSettings {
    /// The address at which the other gateways reach this one.
    pub listen: SocketAddr,
    /// The host or host:port under which they dial it; empty: that of `listen`, or this host's address in the direction of the
    /// store.
    pub advertise: String,
}

impl Default for MeshSettings {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::UNSPECIFIED, 10003).into(),
            advertise: String::new(),
        }
    }
}

impl MeshSettings {
    /// The host and port under which the others dial, if they are configured. `port`: the real port of `listen`.
    pub fn advertised(&self, port: u16) -> Option<String> {
        let advertise = self.advertise.as_str();
        if advertise.is_empty() {
            return None;
        }
        Some(if has_port(advertise) {
            advertise.to_owned()
        } else {
            format!("{advertise}:{port}")
        })
    }

    /// True for an address that can be dialed.
    pub(super) fn is_valid(&self) -> bool {
        let is_odd = |c: char| c.is_whitespace() || c.is_control() || c == '/';
        let advertise = self.advertise.as_str();
        // An IPv6 address stands in brackets.
        let is_bare = !advertise.starts_with('[') && advertise.matches(':').count() > 1;
        !advertise.contains(is_odd) && !is_bare
    }
}

/// True for `host:port` and `[address]:port`.
fn has_port(address: &str) -> bool {
    let port = address
        .rsplit_once(':')
        .map(|(_, port)| port.parse::<u16>());
    port.is_some_and(|port| port.is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advertised_host_gets_the_port_of_the_listener_unless_it_has_one() {
        for (advertise, address) in [
            ("", None),
            ("10.0.0.7", Some("10.0.0.7:7")),
            ("gw-1.push", Some("gw-1.push:7")),
            ("gw-1.push:9", Some("gw-1.push:9")),
            ("[fd00::1]", Some("[fd00::1]:7")),
            ("[fd00::1]:9", Some("[fd00::1]:9")),
        ] {
            let settings = MeshSettings {
                advertise: advertise.to_owned(),
                ..MeshSettings::default()
            };
            assert!(settings.is_valid(), "{advertise}");
            assert_eq!(settings.advertised(7).as_deref(), address);
        }
        for advertise in ["fd00::1", "http://gw-1", "gw 1"] {
            let settings = MeshSettings {
                advertise: advertise.to_owned(),
                ..MeshSettings::default()
            };
            assert!(!settings.is_valid(), "{advertise}");
        }
    }
}
