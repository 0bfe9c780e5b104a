//! The thread `webhooks` and its runtime. They are their own, so that no receiver delays a session, the writer or a send.

use std::{
    io,
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::watch;

use super::{
    courier::HookReceiver,
    room::{HookSources, OpenedHooks, WebhooksRoom},
};
use crate::{
    config::Config,
    log::LogError,
    threads::{Watched, watched},
};

/// The threads that read the log for this one, and look names up. One read is under way at a time, and a slow look-up must not
/// hold it up.
const READ_THREADS: usize = 2;
/// The time in which the log answers at the start. The log was just read.
const WEBHOOKS_OPEN_TIMEOUT: Duration = Duration::from_secs(30);

/// Why the thread does not start.
#[derive(Debug, thiserror::Error)]
pub enum WebhooksError {
    /// The operating system gives no thread, or no runtime.
    #[error("webhooks get no thread: {0}")]
    Thread(#[from] io::Error),
    /// The log does not say how far the receiver was told.
    #[error("webhooks cannot read the log: {0}")]
    Log(#[from] LogError),
    /// The log did not answer in time.
    #[error("webhooks cannot read the log: it does not answer")]
    Late,
}

/// The running thread.
pub struct WebhooksThread {
    halt: watch::Sender<bool>,
    handle: JoinHandle<()>,
}

impl WebhooksThread {
    /// Starts the thread. When it returns, each message that is accepted from now on is told. Blocks while the log is read.
    pub(super) fn start(
        config: &Config,
        sources: HookSources,
        receiver: Arc<dyn HookReceiver>,
    ) -> Result<(Self, OpenedHooks, Watched), WebhooksError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(READ_THREADS)
            .build()?;
        let (halt, halted) = watch::channel(false);
        let (pulse, watched) = watched("webhooks");
        let (opened, is_open) = mpsc::sync_channel(1);
        let config = config.clone();
        let work = move || {
            let work = async move {
                let opening = WebhooksRoom::open(&config, sources, receiver).await;
                let room = match opening {
                    Ok(room) => {
                        // The gateway waits for it.
                        let _ = opened.send(Ok(room.opened()));
                        room
                    }
                    Err(error) => {
                        let _ = opened.send(Err(error));
                        return;
                    }
                };
                room.run(&pulse, halted).await;
            };
            runtime.block_on(work);
        };
        let handle = std::thread::Builder::new()
            .name("webhooks".into())
            .spawn(work)?;
        let opened = match is_open.recv_timeout(WEBHOOKS_OPEN_TIMEOUT) {
            Ok(opened) => opened?,
            Err(_) => return Err(WebhooksError::Late),
        };
        Ok((Self { halt, handle }, opened, watched))
    }

    /// Says that the thread has to end.
    pub fn halt(&self) {
        // A thread that ended by itself takes no orders.
        let _ = self.halt.send(true);
    }

    /// Waits until the thread has ended, for little more than a second after [`halt`](Self::halt). Returns false if it panicked.
    pub fn join(self) -> bool {
        self.halt();
        self.handle.join().is_ok()
    }
}
