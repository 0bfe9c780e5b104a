//! The configuration: one section a room, each with its defaults.
//!
//! `config/towncrier.toml` lists every key with unit and meaning. A test holds it equal to the defaults here. A [`Config`]
//! from [`Sources::load`] has passed every check, so no later code checks it again.
//!
//! - `sources.rs`: file, then environment, then flags
//! - `check.rs`: the limits that types cannot express; `check_auth.rs`: those of secrets and tokens
//! - `secrets.rs`: `secrets.toml`, written at the first start; `mask.rs`: secrets as they are printed
//! - `push.rs`: the section of vendor push; `vendors.rs`: those of the vendors; `check_vendors.rs`: their limits
//! - `webpush_key.rs`: the key of Web Push
//! - `webhooks.rs`: the section of webhooks
//! - `store.rs`: where the log is; `mesh.rs`: the section of the links between gateways
//! - `duration.rs`: durations as text; `address.rs`: an address that may be absent; `address_range.rs`: a network of addresses

mod address;
mod address_range;
mod check;
mod check_auth;
mod check_vendors;
mod duration;
mod mask;
mod mesh;
mod push;
mod secrets;
mod sources;
mod store;
mod vendors;
mod webhooks;
mod webpush_key;

pub use address_range::{AddressRange, NoAddressRange};
pub use check::Invalid;
pub use mesh::MeshSettings;
pub use push::{DeviceClass, OTHER_TITLE, Push, Titles};
pub use secrets::{SECRETS_FILE, SecretsError};
pub use sources::{ENVIRONMENT_PREFIX, LoadError, Sources};
pub use store::StoreAddress;
pub use vendors::{ApnsKeys, FcmKeys, GetuiKeys, HttpKeys, JpushKeys, WebPushKeys};
pub use webhooks::{BeforeSend, EventKind, OnFailure, Webhooks};
pub use webpush_key::{WEBPUSH_KEY_FILE, WebPushKey};

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// All keys of the configuration file.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The client port.
    pub listener: Listener,
    /// The admin port.
    pub admin: Admin,
    /// The log.
    pub log: Log,
    /// The store of a log that is not embedded.
    pub store: LogStore,
    /// The links to the other gateways of a log that is not embedded.
    pub mesh: MeshSettings,
    /// Secrets and tokens.
    pub auth: Auth,
    /// Login policy and heartbeats.
    pub sessions: Sessions,
    /// Window and resends.
    pub delivery: Delivery,
    /// Clients of OpenIM v3.
    pub openim: OpenIm,
    /// Vendor push.
    pub push: Push,
    /// Events for another system.
    pub webhooks: Webhooks,
    /// The drain at shutdown.
    pub drain: Drain,
}

/// The client port and its limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listener {
    /// The address at which clients connect.
    pub listen: SocketAddr,
    /// PEM file of the port's certificate, with the intermediate certificates; empty: plain text.
    pub tls_certificate: PathBuf,
    /// PEM file of its private key.
    pub tls_key: PathBuf,
    /// The number of threads that hold the sessions; 0: one per core.
    pub reactors: usize,
    /// The longest time from accepting a connection to its `Connect` frame.
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    /// The longest time from accepting a connection to its whole HTTP request; never later than `connect_timeout`.
    #[serde(with = "duration")]
    pub upgrade_timeout: Duration,
    /// Arrivals at once in one reactor: connections without a session, from the accept to the answer to `Connect`. For one more,
    /// the oldest is cut off.
    pub handshakes_max: usize,
    /// Arrivals at once from one address (IPv6: one /64), in one reactor; 0: no limit.
    pub handshakes_per_address_max: usize,
    /// Handshakes a second in the whole process. Further handshakes are answered 503. 0: no limit.
    pub handshakes_per_second_max: u32,
    /// Different bad tokens a minute from one address. Further handshakes from there are answered 429. 0: no limit.
    pub bad_tokens_per_minute_max: u32,
    /// Memory, the kernel's for sockets included. Above it, handshakes are answered 503. 0: three quarters of the memory of
    /// the container or the machine.
    pub memory_bytes_max: u64,
    /// Connections at once in the whole process. Further handshakes are answered 503.
    pub connections_max: usize,
    /// The send buffer of a client's socket in the kernel.
    pub send_buffer_bytes: usize,
    /// The most frames that wait for one client's socket.
    pub outbox_frames_max: usize,
    /// The most bytes that wait for one client's socket.
    pub outbox_bytes_max: usize,
    /// A connection is closed with 4502 when its socket takes no byte, or its outbox stays full, for this long.
    #[serde(with = "duration")]
    pub stall_timeout: Duration,
    /// Proxies that are believed when they name the address of their client; the same for the admin port.
    pub trusted_proxies: Vec<AddressRange>,
    /// True if these proxies send the PROXY protocol before everything else.
    pub proxy_protocol: bool,
    /// Origins that a browser may come from, e.g. `https://oa.example`; empty: any.
    pub origins: Vec<String>,
    /// True if the inbox page is served at `/`.
    pub inbox: bool,
    /// Retired; it has no effect. Configuration files that set it are still accepted.
    pub demo: bool,
}

/// The admin port.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// The address at which the admin API listens.
    pub listen: SocketAddr,
    /// PEM file of the port's certificate, with the intermediate certificates; empty: plain text.
    pub tls_certificate: PathBuf,
    /// PEM file of its private key.
    pub tls_key: PathBuf,
    /// Users whose tokens may call the admin API.
    pub user_ids: Vec<String>,
    /// The most messages a second of each of these users, one for each receiver; 0: no limit.
    pub sends_per_second_max: u32,
    /// The roles of some of these users. A user who is not named here has all.
    pub roles: BTreeMap<String, Vec<Role>>,
    /// Largest request body.
    pub body_bytes_max: usize,
    /// The most receivers of one batch.
    pub batch_max: usize,
    /// Connections at once. For one more, the connection that has been idle longest is closed.
    pub connections_max: usize,
    /// The longest time from the end of one request to the whole header of the next.
    #[serde(with = "duration")]
    pub idle_timeout: Duration,
    /// The longest time in which a request's body may arrive, and then the longest time in which it may be done.
    #[serde(with = "duration")]
    pub request_timeout: Duration,
}

/// A part of an administrator's power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// To send messages.
    Send,
    /// To see where messages and users are, and the console.
    Read,
    /// To change what belongs to users, and the gateway's state.
    Operate,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Send, Self::Read, Self::Operate];

    /// Its name, as the configuration spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Read => "read",
            Self::Operate => "operate",
        }
    }
}

/// The log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// Where the log is: in the data directory, or on the PostgreSQL servers of a URL.
    pub store: StoreAddress,
    /// The data directory.
    pub dir: PathBuf,
    /// The time for which messages are kept.
    #[serde(with = "duration")]
    pub retention: Duration,
    /// The most bytes of segments that are kept; 0: no bound.
    pub retention_bytes: u64,
    /// The size at which a new segment begins.
    pub segment_bytes: u64,
    /// The shortest life of an idempotency key. It may outlive its message.
    #[serde(with = "duration")]
    pub idempotency_retention: Duration,
    /// The interval at which cursors go into the segments. A checkpoint, which writes changed rows to sled, comes every sixth
    /// time.
    #[serde(with = "duration")]
    pub checkpoint_interval: Duration,
    /// The most appends that wait for the writer. Further appends are refused.
    pub queue_max: usize,
    /// Memory for sled's cache.
    pub cache_bytes: u64,
    /// The format in which new segments are written, 1 to [`LOG_FORMAT`].
    pub format: u8,
}

/// The store of a log that is not embedded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogStore {
    /// The longest time to the answer of a caller while the store hangs.
    #[serde(with = "duration")]
    pub answer_within: Duration,
    /// The copies that keep a message once it is accepted. 1: the primary's disk; 2: a synchronous standby has it as well. While the
    /// servers do not keep so many, the gateway is not ready.
    pub copies: u8,
}

impl Default for LogStore {
    fn default() -> Self {
        Self {
            answer_within: Duration::from_secs(5),
            copies: 1,
        }
    }
}

/// The newest format of segments that this version reads and writes:
///
/// | format | new in it |
/// |---|---|
/// | 1 | |
/// | 2 | records of the newest token of each user and platform |
/// | 3 | rows of tables; the optional fields of an entry |
/// | 4 | erasures of users |
pub const LOG_FORMAT: u8 = 4;

/// Secrets and tokens. [`Config::read_or_create_secrets`] fills the empty secrets from the secrets file. No print shows a
/// secret.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// The secret that a caller of `/auth/user_token` has to send.
    #[serde(serialize_with = "mask::mask")]
    pub secret: String,
    /// The key that signs tokens.
    #[serde(serialize_with = "mask::mask")]
    pub token_key: String,
    /// The old key, which still verifies tokens during a rotation.
    #[serde(serialize_with = "mask::mask")]
    pub token_key_previous: String,
    /// The file that holds the secrets not given above; empty: `secrets.toml` in the data directory, written if it is
    /// missing.
    pub secrets_file: PathBuf,
    /// The time for which a token is valid.
    #[serde(with = "duration")]
    pub token_lifetime: Duration,
    /// The file with the public keys of a company's own login, a JSON Web Key Set; empty: none.
    pub jwks_file: PathBuf,
    /// The address of such a set; empty: none. One of the two.
    pub jwks_url: String,
    /// The time between two looks at the address.
    #[serde(with = "duration")]
    pub jwks_interval: Duration,
    /// The `iss` that tokens of that login must have; empty: any.
    pub issuer: String,
    /// The `aud` that they must have; empty: any.
    pub audience: String,
    /// The names of their claims.
    pub claims: ClaimNames,
}

/// The names of the claims in tokens of a company's own login. An empty one means OpenIM's names.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClaimNames {
    /// The claim that names the user.
    pub user: String,
    /// The claim that names the platform, by name or number.
    pub platform: String,
}

impl Auth {
    /// True if tokens of a company's own login are accepted.
    pub fn has_login_keys(&self) -> bool {
        !self.jwks_file.as_os_str().is_empty() || !self.jwks_url.is_empty()
    }
}

/// Sessions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sessions {
    /// The login policy, 0–5.
    pub policy: u8,
    /// The most sessions of one user that are connected at once.
    pub per_user_max: usize,
    /// A client has to send something at least this often.
    #[serde(with = "duration")]
    pub heartbeat: Duration,
}

/// Delivery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Delivery {
    /// The most unacked messages of a session. For messages read from the log, the bound is also about 256 KiB.
    pub window: u32,
    /// After this long without an ack messages are sent again. Doubles up to 60 s.
    #[serde(with = "duration")]
    pub resend_after: Duration,
    /// The largest `content`.
    pub message_bytes_max: usize,
    /// The point of the inbox where a session without a stored cursor begins.
    pub new_session: NewSession,
}

/// The point of the inbox where a session without a stored cursor begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NewSession {
    /// Before the first retained message.
    Backlog,
    /// After the newest message.
    Head,
}

/// Clients of OpenIM v3, which use its SDKs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OpenIm {
    /// True if the client port serves them.
    pub enabled: bool,
    /// A second address for the REST calls of the SDKs alone; `None` (empty in the file): only the client port serves them.
    #[serde(with = "address")]
    pub api_listen: Option<SocketAddr>,
    /// The answer to a message that a user sends from an app.
    pub user_sends: UserSends,
}

/// The answer to a message that a user sends from an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserSends {
    /// An error, which the SDK gives to the app.
    Refuse,
}

/// The drain at shutdown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Drain {
    /// The period over which sessions are told to return later.
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
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
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
            sends_per_second_max: 0,
            roles: BTreeMap::new(),
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
            store: StoreAddress::default(),
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
            jwks_file: PathBuf::new(),
            jwks_url: String::new(),
            jwks_interval: Duration::from_secs(300),
            issuer: String::new(),
            audience: String::new(),
            claims: ClaimNames::default(),
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

impl Default for OpenIm {
    fn default() -> Self {
        Self {
            enabled: true,
            api_listen: None,
            user_sends: UserSends::Refuse,
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
