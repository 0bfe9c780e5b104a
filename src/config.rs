//! The configuration: one section a room, each with its defaults.
//!
//! `config/towncrier.toml` lists every key with unit and meaning; a test holds it equal to the defaults here.
//! A [`Config`] that came out of [`Sources::load`] has passed every check: nothing past that point looks again.
//!
//! - `sources.rs`: file, then environment, then flags
//! - `check.rs`: the limits that types cannot say
//! - `secrets.rs`: `secrets.toml`, written at the first start
//! - `duration.rs`: durations as text

mod check;
mod duration;
mod secrets;
mod sources;

pub use check::Invalid;
pub use secrets::{SECRETS_FILE, SecretsError};
pub use sources::{ENVIRONMENT_PREFIX, LoadError, Sources};

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// Everything the file can say.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The client port.
    pub listener: Listener,
    /// The admin port.
    pub admin: Admin,
    /// The log.
    pub log: Log,
    /// Secrets and tokens.
    pub auth: Auth,
    /// Login policy and heartbeats.
    pub sessions: Sessions,
    /// Window and resends.
    pub delivery: Delivery,
    /// Going down.
    pub drain: Drain,
}

/// The client port and its limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listener {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// PEM file of the port's certificate, with those that lead to a known one; empty: plain text.
    pub tls_certificate: PathBuf,
    /// PEM file of its private key.
    pub tls_key: PathBuf,
    /// Threads that hold the sessions; 0: one per core.
    pub reactors: usize,
    /// From accepting a connection to its `Connect` frame.
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    /// From accepting a connection to its whole HTTP request; never later than `connect_timeout`.
    #[serde(with = "duration")]
    pub upgrade_timeout: Duration,
    /// Connections without a session at once, in one reactor; for one more the oldest is cut off.
    pub handshakes_max: usize,
    /// Of them from one address (IPv6: one /64), in one reactor; 0: no limit.
    pub handshakes_per_address_max: usize,
    /// Handshakes a second in the whole process; more are answered 503. 0: no limit.
    pub handshakes_per_second_max: u32,
    /// Different guessed tokens a minute from one address; then its handshakes are answered 429. 0: no limit.
    pub bad_tokens_per_minute_max: u32,
    /// Memory, the kernel's for sockets included, above which handshakes are answered 503; 0: three quarters of what the
    /// container or the machine has.
    pub memory_bytes_max: u64,
    /// Connections at once in the whole process; more are answered 503.
    pub connections_max: usize,
    /// Send buffer of a client's socket in the kernel.
    pub send_buffer_bytes: usize,
    /// Frames waiting for one client's socket.
    pub outbox_frames_max: usize,
    /// Bytes waiting for one client's socket.
    pub outbox_bytes_max: usize,
    /// How long a socket may take no byte before its connection is closed with 4502.
    #[serde(with = "duration")]
    pub stall_timeout: Duration,
    /// Origins a browser may come from, e.g. `https://oa.example`; empty: any.
    pub origins: Vec<String>,
    /// The inbox page at `/`.
    pub inbox: bool,
    /// Retired: it has no effect. Configuration files that set it are still read.
    pub demo: bool,
}

/// The admin port.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Where the admin API listens.
    pub listen: SocketAddr,
    /// PEM file of the port's certificate, with those that lead to a known one; empty: plain text.
    pub tls_certificate: PathBuf,
    /// PEM file of its private key.
    pub tls_key: PathBuf,
    /// Users whose tokens may call it.
    pub user_ids: Vec<String>,
    /// Largest request body.
    pub body_bytes_max: usize,
    /// Most receivers of one batch.
    pub batch_max: usize,
    /// Connections at once; for one more the longest idle is closed.
    pub connections_max: usize,
    /// From the end of one request to the whole head of the next.
    #[serde(with = "duration")]
    pub idle_timeout: Duration,
    /// How long a request may take, its body included.
    #[serde(with = "duration")]
    pub request_timeout: Duration,
}

/// The log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// The data directory.
    pub dir: PathBuf,
    /// How long messages are kept.
    #[serde(with = "duration")]
    pub retention: Duration,
    /// How many bytes of segments are kept; 0: no bound.
    pub retention_bytes: u64,
    /// Size at which a new segment begins.
    pub segment_bytes: u64,
    /// Shortest life of an idempotency key, also beyond its message's.
    #[serde(with = "duration")]
    pub idempotency_retention: Duration,
    /// How often sled catches up with the segments.
    #[serde(with = "duration")]
    pub checkpoint_interval: Duration,
    /// Appends waiting for the writer; more are refused.
    pub queue_max: usize,
    /// Memory for sled's cache.
    pub cache_bytes: u64,
    /// The format that new segments are written in, 1 to [`LOG_FORMAT`].
    pub format: u8,
}

/// The newest format of segments that this version reads and writes:
///
/// | format | new in it |
/// |---|---|
/// | 1 | |
/// | 2 | records of the newest token of each user and platform |
pub const LOG_FORMAT: u8 = 2;

/// Secrets and tokens. The empty secrets are filled from the secrets file: [`Config::read_or_create_secrets`]. No print shows one.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// What `/auth/user_token` asks for.
    #[serde(serialize_with = "secrets::mask")]
    pub secret: String,
    /// Signs tokens.
    #[serde(serialize_with = "secrets::mask")]
    pub token_key: String,
    /// Still verifies tokens, during a rotation.
    #[serde(serialize_with = "secrets::mask")]
    pub token_key_previous: String,
    /// Where secrets that are not given above are read; empty: `secrets.toml` in the data directory, written when missing.
    pub secrets_file: PathBuf,
    /// How long a token is good.
    #[serde(with = "duration")]
    pub token_lifetime: Duration,
}

/// Sessions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sessions {
    /// Who replaces whom: 0–5.
    pub policy: u8,
    /// Connected sessions of one user at once.
    pub per_user_max: usize,
    /// A client says something at least this often.
    #[serde(with = "duration")]
    pub heartbeat: Duration,
}

/// Delivery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Delivery {
    /// Unacked messages per session; read from the log, about 256 KiB of them.
    pub window: u32,
    /// No ack for this long: send again. Doubles to 60 s.
    #[serde(with = "duration")]
    pub resend_after: Duration,
    /// Largest `content`.
    pub message_bytes_max: usize,
    /// Where a session that was never seen begins.
    pub new_session: NewSession,
}

/// Where a session that was never seen begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NewSession {
    /// Before the first retained message.
    Backlog,
    /// After the newest.
    Head,
}

/// Going down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Drain {
    /// Over this time sessions are told to come back.
    #[serde(with = "duration")]
    pub period: Duration,
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 10001)),
            tls_certificate: PathBuf::new(),
            tls_key: PathBuf::new(),
            reactors: 0,
            connect_timeout: Duration::from_secs(10),
            upgrade_timeout: Duration::from_secs(5),
            handshakes_max: 1024,
            handshakes_per_address_max: 512,
            handshakes_per_second_max: 5000,
            bad_tokens_per_minute_max: 600,
            memory_bytes_max: 0,
            connections_max: 1_200_000,
            send_buffer_bytes: 65_536,
            outbox_frames_max: 512,
            outbox_bytes_max: 256 * 1024,
            stall_timeout: Duration::from_secs(20),
            origins: Vec::new(),
            inbox: true,
            demo: false,
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 10000)),
            tls_certificate: PathBuf::new(),
            tls_key: PathBuf::new(),
            user_ids: vec!["openIM123456".into()],
            body_bytes_max: 1024 * 1024,
            batch_max: 10_000,
            connections_max: 1024,
            idle_timeout: Duration::from_secs(60),
            request_timeout: Duration::from_secs(30),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            dir: "./data".into(),
            retention: Duration::from_secs(30 * 24 * 3600),
            retention_bytes: 0,
            segment_bytes: 64 * 1024 * 1024,
            idempotency_retention: Duration::from_secs(7 * 24 * 3600),
            checkpoint_interval: Duration::from_secs(10),
            queue_max: 65_536,
            cache_bytes: 64 * 1024 * 1024,
            format: LOG_FORMAT,
        }
    }
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            secret: String::new(),
            token_key: String::new(),
            token_key_previous: String::new(),
            secrets_file: PathBuf::new(),
            token_lifetime: Duration::from_secs(90 * 24 * 3600),
        }
    }
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            policy: 1,
            per_user_max: 32,
            heartbeat: Duration::from_secs(30),
        }
    }
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            window: 256,
            resend_after: Duration::from_secs(5),
            message_bytes_max: 48 * 1024,
            new_session: NewSession::Backlog,
        }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            period: Duration::from_secs(3),
        }
    }
}

impl std::fmt::Debug for Auth {
    /// Never prints a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth")
            .field("secrets_file", &self.secrets_file)
            .field("token_lifetime", &self.token_lifetime)
            .finish_non_exhaustive()
    }
}
