//! `towncrier` and `towncrier serve`: the gateway, until a signal ends it.

use std::{
    io::{self, IsTerminal, stdout},
    process::ExitCode,
    thread,
};

use anyhow::Context;
use tokio::{runtime::Handle, sync::oneshot, time::sleep};

use super::{
    LAST_LINES,
    signals::{Signals, outlive_others},
    supervisor,
};
use crate::{
    config::Config,
    door::raise_limit,
    gateway::{self, Gateway},
    lines::Lines,
    log::cluster::secrets::make_secrets,
};

/// Exit code after a second signal. Accepted messages are on disk, but clients were not told to return.
const EXIT_CUT_SHORT: u8 = 130;
/// Exit code after a thread ended by itself, or after the drain hung. sysexits.h calls it an internal error. A supervisor
/// starts the gateway again.
const EXIT_BROKEN: u8 = 70;

/// The line of the stderr log for a secrets file that its group may use.
pub(super) const SHARED_SECRETS: &str = "the secrets file may be used by its group: each of its members can make a token \
    for anybody. Kubernetes mounts files like that; elsewhere, chmod 600 it";

/// Serves until SIGTERM or SIGINT, or until a thread ends by itself, then drains. A second signal, or a drain that hangs, ends
/// the process at once.
pub(super) fn run(mut config: Config, lines: &Lines) -> anyhow::Result<ExitCode> {
    let store = config.log.store.url().map(str::to_owned);
    let store = store.filter(|_| config.has_secrets_in_store());
    let is_first_start = store.is_none() && !config.secrets_path().exists();
    let is_shared = match store {
        Some(url) => {
            make_secrets(&url, &mut config)?;
            false
        }
        None => config.read_or_create_secrets()?,
    };
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
        let mut signals = Signals::that_end_a_server()?;
        outlive_others()?;
        // The start may read the log for minutes, so a signal ends it as well.
        let gateway = tokio::select! {
            started = start(config)? => started.context("the start panicked")??,
            () = signals.next() => {
                tracing::info!("ended before the start was complete: every accepted message is on disk");
                lines.flush(LAST_LINES);
                std::process::exit(0)
            }
        };
        let (client, admin) = (gateway.client_addr(), gateway.admin_addr());
        gateway.count_dropped_lines(lines);
        // The port for REST calls alone, if there is one.
        let calls = gateway.calls_addr();
        let api = calls.map_or_else(String::new, |address| format!(" api={address}"));
        tracing::info!(ws = %client, admin = %admin, api = calls.map(tracing::field::display), "listening");
        // As with the stderr log, the gateway does not wait for a reader. The line above says the same there.
        Lines::start("stdout", stdout(), |_| ())?
            .push(format!("listening ws={client} admin={admin}{api}\n").as_bytes());
        if is_first_start && stdout().is_terminal() {
            lines.push(hints().as_bytes());
        }
        supervisor::say_ready();
        let failed = tokio::select! {
            () = signals.next() => false,
            // The watch has logged the reason.
            _ = gateway.failed() => true,
            never = supervisor::feed_watchdog(|| gateway.is_well()) => match never {},
        };
        supervisor::say_stopping();
        let deadline = gateway.drain_deadline();
        let code = tokio::select! {
            drained = gateway.drain() => {
                if let Err(error) = &drained {
                    tracing::error!(%error, "the drain ended with an error");
                }
                let is_well = drained.is_ok() && !failed;
                return Ok(if is_well { ExitCode::SUCCESS } else { EXIT_BROKEN.into() });
            }
            () = signals.next() => {
                tracing::warn!("a second signal: ending at once");
                EXIT_CUT_SHORT
            }
            () = sleep(deadline) => {
                tracing::error!(?deadline, "the drain does not come to its end: ending at once");
                EXIT_BROKEN
            }
        };
        // A return would wait for the threads.
        lines.flush(LAST_LINES);
        std::process::exit(code.into())
    })
}

/// Starts the gateway on a thread of its own, so that this thread hears signals meanwhile. Call it in a runtime.
fn start(config: Config) -> io::Result<oneshot::Receiver<Result<Gateway, gateway::Error>>> {
    let (sender, started) = oneshot::channel();
    let runtime = Handle::current();
    thread::Builder::new().name("start".into()).spawn(move || {
        let _entered = runtime.enter();
        // The receiver is gone when the process ends.
        let _ = sender.send(Gateway::start(config));
    })?;
    Ok(started)
}

/// Commands to try next, for someone who sees the gateway for the first time.
fn hints() -> String {
    // The name with which this process was called, so that the commands work in the same shell.
    let program = std::env::args()
        .next()
        .unwrap_or_else(|| "towncrier".into());
    format!(
        "Try, in other terminals:\n  \
         {program} listen --user alice --platform web\n  \
         {program} send --to alice --text 'Hello, Alice'\n  \
         {program} token --user alice --link\n"
    )
}
