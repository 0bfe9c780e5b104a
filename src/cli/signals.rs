//! The signals that ask a process to end, and the signals that must not end the gateway.

use std::task::Poll;

use anyhow::Context;
use rustix::process::Signal as Number;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Catches signals from the moment it is made.
pub(super) struct Signals(Vec<Signal>);

impl Signals {
    /// For the gateway: SIGTERM and SIGINT.
    pub(super) fn that_end_a_server() -> anyhow::Result<Self> {
        Self::catch([SignalKind::terminate(), SignalKind::interrupt()])
    }

    /// For a command that runs in a terminal: also SIGHUP, the end of the terminal.
    pub(super) fn that_end_a_command() -> anyhow::Result<Self> {
        let terminal = SignalKind::hangup();
        Self::catch([SignalKind::terminate(), SignalKind::interrupt(), terminal])
    }

    /// Resolves at the next signal. Cancel safe.
    pub(super) async fn next(&mut self) {
        let Self(signals) = self;
        std::future::poll_fn(|cx| {
            let has_come = signals
                .iter_mut()
                .any(|signal| signal.poll_recv(cx).is_ready());
            if has_come {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    fn catch(kinds: impl IntoIterator<Item = SignalKind>) -> anyhow::Result<Self> {
        let signals = kinds.into_iter().map(signal).collect::<Result<_, _>>();
        Ok(Self(signals.context("no signal handler can be installed")?))
    }
}

/// From now on these signals no longer end the process, as they would by default: SIGHUP, SIGUSR1 and SIGUSR2, which log
/// rotation, `systemctl reload` and closed terminals send (certificates are read anew without them), and SIGXFSZ, which
/// comes with a write beyond a limit of file sizes (the write fails, and sends are refused). Call it in a runtime.
pub(super) fn outlive_others() -> anyhow::Result<()> {
    let sent = [
        SignalKind::hangup(),
        SignalKind::user_defined1(),
        SignalKind::user_defined2(),
    ];
    let mut sent = Signals::catch(sent)?;
    // The handler stays installed when the `Signals` are dropped.
    Signals::catch([SignalKind::from_raw(Number::XFSZ.as_raw())])?;
    tokio::spawn(async move {
        loop {
            sent.next().await;
            tracing::info!(
                "this signal has no effect: certificates are reloaded without it, other settings need a restart"
            );
        }
    });
    Ok(())
}
