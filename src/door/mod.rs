//! The doors of the gateway: the two ports, and the connections that may come in.
//!
//! Promises: each connection is counted from its first moment until its task ends. A full client port cuts off its oldest
//! arrival. A full admin port cuts off the connection that has waited longest for its caller. No session, and no admin
//! request that a handler works on, is cut off to make room. Leaves to others: the handlers of the admin API (`admin`), and the
//! connections of admitted clients (`ClientHost`).
//!
//! - `listener.rs`: sockets that share a port; `accept.rs`: the accept loop of either port
//! - `tls.rs`: certificates that may be replaced
//! - `admission/`: which clients may come in; `proxy.rs`: the client behind a proxy
//! - `client_port.rs`: from a TCP connection to a WebSocket; `upgrade.rs`: the HTTP in between;
//!   `site.rs`: the inbox page; `rest.rs`: the REST calls of OpenIM's SDKs; `body.rs`: the body of a request;
//!   `response.rs`: an answer as bytes
//! - `admin_port.rs`: HTTP/1 for the admin API; `admin_connections.rs`: which connection is cut off when the port is full

mod accept;
mod admin_connections;
mod admin_port;
mod admission;
mod body;
mod client_port;
mod listener;
mod proxy;
mod response;
mod rest;
mod site;
pub mod tls;
mod upgrade;

pub(crate) use self::{
    accept::accept,
    admin_port::Api,
    admission::Debt,
    client_port::{Admitted, ClientHost, ClientPort, Entrance},
    listener::BACKLOG,
    rest::{Rest, Stranger},
};
pub use self::{
    accept::{ClientSource, Stream},
    admin_port::Server,
    admission::{
        Admission, Arrival, Lobby, Permit, SOCKET_BYTES, Shares, TooFew, memory_bytes_max_for,
        new_sessions_bytes_max, raise_limit,
    },
    listener::{BindError, Port},
    proxy::named_by,
};
