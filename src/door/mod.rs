//! The doors of the gateway: the two ports, and the connections that may come in.
//!
//! - `listener.rs`: sockets that share a port
//! - `tls.rs`: certificates that may be replaced
//! - `admission/`: which clients may come in
//! - `client_port.rs`: from a TCP connection to a WebSocket; `upgrade.rs`: the HTTP in between; `site.rs`: the inbox page
//! - `admin_port.rs`: HTTP/1 for the admin API; `crowd.rs`: which connection is cut off when the port is full

mod admin_port;
mod admission;
mod client_port;
mod crowd;
mod listener;
mod site;
pub mod tls;
mod upgrade;

pub(crate) use self::{
    admin_port::Api,
    client_port::{Door, Listener, accept},
    listener::BACKLOG,
    site::Site,
};
pub use self::{
    admin_port::Server,
    admission::{
        Admission, Arrival, Lobby, SOCKET_BYTES, Shares, TooFew, memory_bytes_max_for,
        new_sessions_bytes_max, raise_limit,
    },
    listener::{BindError, Port},
};
