//! Reads the public keys of a company's own login from their place: a file or an address.
//!
//! Promises: the keys in force are those of the last good look. A file is looked at every two seconds. An address is asked every
//! `auth.jwks_interval`, and once more when a token names an unknown key, but never twice within `LOOK_PAUSE`. A look at an
//! address ends within `LOOK_TIMEOUT`, and its answer is bounded. After a look that failed the keys from before stay. Leaves to
//! others: which tokens are good (`token`).
//!
//! - `source.rs`: the place of the keys

mod source;

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};

pub use self::source::{KeySource, KeySourceFault};
use crate::{metrics::Metrics, token::LoginKeys};

/// The time between two looks at a file.
const FILE_INTERVAL: Duration = Duration::from_secs(2);
/// The least time between two looks. Anybody may send tokens that name unknown keys, and the login server must not feel it.
const LOOK_PAUSE: Duration = Duration::from_secs(2);
/// The deadline of a look at an address.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// Keeps the keys those of their place. Never returns. Cancel safe: a drop leaves the keys as they are.
pub async fn follow(mut source: KeySource, keys: Arc<LoginKeys>, metrics: Arc<Metrics>) {
    let interval = source.interval();
    let mut said = None;
    loop {
        let begun = Instant::now();
        let number = keys.begin_look();
        let looked = source.look().await;
        match &looked {
            Ok(None) => {}
            Ok(Some(_)) => metrics.login_keys.read.increment(1),
            Err(_) => metrics.login_keys.failed.increment(1),
        }
        let is_good = looked.is_ok();
        match looked {
            Ok(None) => said = None,
            Ok(Some(set)) => {
                said = None;
                let passed_over = set.passed_over();
                metrics.login_keys.usable.set(set.len() as f64);
                if set.is_empty() {
                    tracing::error!(
                        ?passed_over,
                        "the company's login has no usable key: none of its tokens is good"
                    );
                } else {
                    tracing::info!(keys = ?set, ?passed_over, "the keys of the company's login are in force");
                }
                keys.replace(set);
            }
            Err(fault) => {
                let text = fault.to_string();
                if said.as_ref() != Some(&text) {
                    tracing::error!(error = %text, "the keys of the company's login cannot be read: those from before stay");
                }
                said = Some(text);
            }
        }
        keys.end_look(number, is_good);
        tokio::select! {
            () = sleep_until(begun + interval) => {}
            () = keys.wanted() => sleep_until(begun + LOOK_PAUSE).await,
        }
    }
}
