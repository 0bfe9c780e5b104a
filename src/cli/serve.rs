//! `towncrier` and `towncrier serve`: the gateway, until a signal ends it.

use std::{
    io::{IsTerminal, Write, stdout},
    process::ExitCode,
};

use anyhow::Context;

use super::signals::Signals;
use crate::{admission::raise_limit, config::Config, gateway::Gateway};

/// Exit code after a second signal: what was accepted is on disk, but clients were not told to come back.
const EXIT_CUT_SHORT: u8 = 130;

/// Said of a secrets file that its group may use.
pub(super) const SHARED_SECRETS: &str = "the secrets file may be used by its group: each of its members can make a token \
    for anybody. Kubernetes mounts files like that; elsewhere, chmod 600 it";

/// Serves until SIGTERM or SIGINT, then drains. A second signal ends the process at once.
pub(super) fn run(mut config: Config) -> anyhow::Result<ExitCode> {
    let is_first_start = !config.secrets_path().exists();
    let is_shared = config.read_or_create_secrets()?;
    if is_shared {
        let path = config.secrets_path();
        tracing::warn!(path = %path.display(), "{SHARED_SECRETS}");
    }
    if config.listener.demo {
        tracing::warn!(
            "listener.demo has no effect: the inbox signs nobody in without a token; \
             `towncrier token --user NAME --link` prints an address with one"
        );
    }
    raise_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut signals = Signals::new()?;
        let gateway = Gateway::start(config)?;
        let (client, admin) = (gateway.client_addr(), gateway.admin_addr());
        writeln!(stdout(), "listening ws={client} admin={admin}")
            .context("stdout cannot be written")?;
        if is_first_start && stdout().is_terminal() {
            print_hints();
        }
        signals.next().await;
        tokio::select! {
            () = gateway.drain() => Ok(ExitCode::SUCCESS),
            () = signals.next() => {
                tracing::warn!("a second signal: ending at once");
                std::process::exit(EXIT_CUT_SHORT.into())
            }
        }
    })
}

/// What to try next, for whoever sees the gateway for the first time.
fn print_hints() {
    // As this process was called, so that the commands work where it was called.
    let program = std::env::args()
        .next()
        .unwrap_or_else(|| "towncrier".into());
    eprintln!("Try, in other terminals:");
    eprintln!("  {program} listen --user alice --platform web");
    eprintln!("  {program} send --to alice --text 'Hello, Alice'");
    eprintln!("  {program} token --user alice --link");
}
