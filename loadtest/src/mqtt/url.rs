//! The address of a broker: `mqtt://HOST[:PORT]`, or `mqtt+ws://HOST[:PORT][/PATH]` for MQTT in WebSocket messages.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use tokio_tungstenite::tungstenite::http::Uri;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Url {
    /// The host, without the brackets of an IPv6 address.
    pub(super) host: String,
    pub(super) port: u16,
    /// The path of the WebSocket; `None`: plain TCP.
    pub(super) path: Option<String>,
}

/// The text is not the URL of a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoUrl;

impl fmt::Display for NoUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected mqtt://HOST[:PORT] or mqtt+ws://HOST[:PORT][/PATH]")
    }
}

impl std::error::Error for NoUrl {}

impl FromStr for Url {
    type Err = NoUrl;

    fn from_str(text: &str) -> Result<Self, NoUrl> {
        let uri: Uri = text.parse().map_err(|_| NoUrl)?;
        let host = uri.host().ok_or(NoUrl)?;
        let (port, path) = match (uri.scheme_str(), uri.path()) {
            (Some("mqtt"), "" | "/") => (1883, None),
            (Some("mqtt+ws"), path) => (80, Some(path.to_owned())),
            _ => return Err(NoUrl),
        };
        // These parts would have no effect, so they are refused.
        let has_more = uri.query().is_some()
            || uri
                .authority()
                .is_some_and(|all| all.as_str().contains('@'));
        if has_more || host.is_empty() {
            return Err(NoUrl);
        }
        Ok(Self {
            host: host
                .trim_start_matches('[')
                .trim_end_matches(']')
                .to_owned(),
            port: uri.port_u16().unwrap_or(port),
            path,
        })
    }
}

impl Url {
    /// The URL for the WebSocket's upgrade.
    pub(super) fn websocket(&self) -> Option<String> {
        let path = self.path.as_ref()?;
        Some(match self.host.contains(':') {
            true => format!("ws://[{}]:{}{path}", self.host, self.port),
            false => format!("ws://{}:{}{path}", self.host, self.port),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_host_port_and_path_or_is_refused() {
        let plain = |text: &str| {
            let url: Url = text.parse().unwrap();
            assert_eq!(url.websocket(), None);
            (url.host, url.port)
        };
        assert_eq!(plain("mqtt://broker"), ("broker".to_owned(), 1883));
        assert_eq!(plain("mqtt://[::1]:99/"), ("::1".to_owned(), 99));
        let websocket = |text: &str| text.parse::<Url>().unwrap().websocket().unwrap();
        assert_eq!(websocket("mqtt+ws://broker"), "ws://broker:80/");
        assert_eq!(websocket("mqtt+ws://[::1]:99/mqtt"), "ws://[::1]:99/mqtt");
        for text in [
            "",
            "broker",
            "ws://broker",
            "mqtts://broker",
            "mqtt://broker/path",
            "mqtt://me:secret@broker",
            "mqtt+ws://broker/mqtt?token=1",
            "mqtt://",
        ] {
            assert_eq!(text.parse::<Url>(), Err(NoUrl), "{text}");
        }
    }
}
