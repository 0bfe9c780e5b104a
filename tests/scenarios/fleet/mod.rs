//! Several gateways on one PostgreSQL server.
//!
//! - `presence.rs`: who is online, and which login replaces which

mod presence;

use crate::support::{Gateway, postgres::Postgres};

/// Starts this many gateways on one server; `None`, with a line that says so, where PostgreSQL is not installed.
async fn gateways<const COUNT: usize>() -> Option<(Postgres, [Gateway; COUNT])> {
    let server = Postgres::start().await?;
    let store = format!("log.store={}", server.url());
    // Tokens of one are good at all.
    let key = format!("auth.token_key={:032x}", fastrand::u128(..));
    let mut gateways = Vec::new();
    for _ in 0..COUNT {
        gateways.push(Gateway::start(&[&store, &key]).await);
    }
    let gateways = gateways.try_into();
    Some((server, gateways.unwrap_or_else(|_| unreachable!())))
}
