//! Several gateways on one PostgreSQL server.
//!
//! - `links.rs`: a message lands live wherever it was accepted, and whatever is cut or killed in between
//! - `presence.rs`: who is online, and which login replaces which
//! - `turn.rs`: vendor push and webhooks run at one of them

mod links;
mod presence;
mod turn;

use crate::support::{Gateway, postgres::Postgres};

/// Starts this many gateways on one server; `None`, with a line that says so, where PostgreSQL is not installed.
async fn gateways<const COUNT: usize>() -> Option<(Postgres, [Gateway; COUNT])> {
    gateways_with(&[]).await
}

/// The same with these settings.
async fn gateways_with<const COUNT: usize>(
    settings: &[&str],
) -> Option<(Postgres, [Gateway; COUNT])> {
    let server = Postgres::start().await?;
    let store = format!("log.store={}", server.url());
    // Tokens of one are good at all.
    let key = format!("auth.token_key={:032x}", fastrand::u128(..));
    let settings = [&[&*store, &key, "mesh.listen=127.0.0.1:0"], settings].concat();
    let mut gateways = Vec::new();
    for _ in 0..COUNT {
        gateways.push(Gateway::start(&settings).await);
    }
    let gateways = gateways.try_into();
    Some((server, gateways.unwrap_or_else(|_| unreachable!())))
}
