//! The secrets of a gateway whose log is in a store. The store keeps those that are not configured, so another gateway needs the
//! store's URL and nothing else.
//!
//! The first gateway offers the files of its data directory, if it has some from a time without a store, and random secrets
//! otherwise. From then on the files have no effect.

use std::{io, panic::resume_unwind};

use super::{engine::EngineError, postgres::PostgresEngine};
use crate::config::{Config, SecretsError, WebPushKey};

/// The name of `auth.secret` and `auth.token_key`, together.
const AUTH: &str = "auth";
/// The name of the key of Web Push.
const WEBPUSH: &str = "webpush";

/// Why the secrets of a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreSecretsError {
    /// The store does not give them.
    #[error("the secrets of log.store cannot be read: {0}")]
    Engine(#[from] EngineError),
    /// No gateway ran on the store yet.
    #[error(
        "the store has no secrets yet: start a gateway once, or give auth.secret and auth.token_key"
    )]
    Missing,
    /// The secrets have not the right form.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    /// The thread that asks could not be started.
    #[error("the operating system gives no thread: {0}")]
    Thread(#[from] io::Error),
}

/// Asks the store on a thread of its own, because the caller may be in a runtime. Blocks.
fn ask<T: Send>(
    url: &str,
    ask: impl AsyncFnOnce(&PostgresEngine) -> Result<T, EngineError> + Send,
) -> Result<T, StoreSecretsError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let work = move || {
        runtime.block_on(async {
            let engine = PostgresEngine::connect(url).await?;
            ask(&engine).await
        })
    };
    let asked = std::thread::scope(|scope| {
        let asking = std::thread::Builder::new();
        let asking = asking.spawn_scoped(scope, work)?;
        Ok::<_, io::Error>(asking.join().unwrap_or_else(|panic| resume_unwind(panic)))
    });
    Ok(asked??)
}

/// Fills the secrets that are not configured from the store. The first gateway makes them. Blocks.
pub fn make_secrets(url: &str, config: &mut Config) -> Result<(), StoreSecretsError> {
    let offered = config.offered_secrets()?;
    let kept = ask(url, async |store| store.keep_secret(AUTH, &offered).await)?;
    Ok(config.take_secrets(&kept)?)
}

/// Fills the secrets that are not configured from a store that has some. Blocks.
pub fn read_secrets(url: &str, config: &mut Config) -> Result<(), StoreSecretsError> {
    let kept = ask(url, async |store| store.secret(AUTH).await)?;
    Ok(config.take_secrets(&kept.ok_or(StoreSecretsError::Missing)?)?)
}

/// The key of Web Push of a store; `None` if Web Push is not in use. The first gateway makes it. Blocks.
pub fn webpush_key(url: &str, config: &Config) -> Result<Option<WebPushKey>, StoreSecretsError> {
    let Some(offered) = config.offered_webpush_key()? else {
        return Ok(None);
    };
    let kept = ask(url, async |store| {
        store.keep_secret(WEBPUSH, &offered).await
    })?;
    Ok(Some(
        WebPushKey::from_pem(&kept).ok_or(SecretsError::InStore)?,
    ))
}
