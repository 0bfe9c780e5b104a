//! OpenIM v3's protocol, as its SDKs speak it to a gateway: another protocol for a gateway's sessions.
//!
//! Everything here is the client's side, written from the protocol's facts alone. So it shares no code with the gateway's
//! side, and neither can hide a fault of the other.
//!
//! - `session.rs`: one session: it connects, lands, lets its pongs go, and reconnects as an SDK does
//! - `store.rs`: the rules by which an SDK takes messages, and asks for those that it misses
//! - `connection.rs`: one WebSocket, and the verdict on it
//! - `messages.rs`: requests and answers, and the data inside of them
//! - `envelope.rs`, `gob.rs`: their bytes in each form
//! - `tests.rs`: sessions against a small server

mod connection;
mod envelope;
mod gob;
mod messages;
mod session;
mod store;
#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

pub use self::messages::{SdkRequest, SdkResponse};
pub(super) use self::session::run;

/// The form of the frames. It tells which SDK speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SdkForm {
    /// The SDK that speaks.
    pub core: SdkCore,
    /// True: each frame is gzipped, in both directions.
    pub is_gzipped: bool,
}

/// The two cores of the SDKs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SdkCore {
    /// The Go core of phones. It speaks gob, and has a store that sorts and sifts.
    Go,
    /// The JavaScript SDK. It speaks JSON, and tells what comes as it comes.
    JavaScript,
}

/// The text names no form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoSdkForm;

impl fmt::Display for NoSdkForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected gob, gob+gzip, json or json+gzip")
    }
}

impl Default for SdkForm {
    /// The form of phones.
    fn default() -> Self {
        Self {
            core: SdkCore::Go,
            is_gzipped: true,
        }
    }
}

impl FromStr for SdkForm {
    type Err = NoSdkForm;

    fn from_str(text: &str) -> Result<Self, NoSdkForm> {
        let (name, is_gzipped) = match text.strip_suffix("+gzip") {
            Some(name) => (name, true),
            None => (text, false),
        };
        let core = match name {
            "gob" => SdkCore::Go,
            "json" => SdkCore::JavaScript,
            _ => return Err(NoSdkForm),
        };
        Ok(Self { core, is_gzipped })
    }
}
