//! One reactor's life: a runtime, a listener, a mailbox, a sweep, until it is told to drain or to stop.

use std::{cell::Cell, future::pending, io, net, rc::Rc, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    runtime::{Builder, LocalOptions, LocalRuntime},
    sync::watch,
    task::spawn_local,
    time::Instant,
};
use tracing::error;

use super::{
    Parts, Stage,
    drain::drain,
    host::ReactorHost,
    mailbox::ReactorMailbox,
    sweep::{self, sweep},
    table::ConnectionTable,
    turns,
};
use crate::{
    connection::Context,
    door::{ClientPort, ClientSource, accept},
    threads::Pulse,
};

/// The threads that read the log's disk for one reactor; further reads wait. They are enough to keep a disk busy.
const DISK_THREADS: usize = 4;
/// The tasks that have their turn before the runtime polls sockets, timers and other threads. With tokio's 61, a push would
/// wait for as many connections that each say as much as a turn allows: 10 ms and more.
const TASKS_IN_A_ROW: u32 = 16;
/// The longest time for which a disk read may delay the end of the thread.
pub const DISK_GRACE: Duration = Duration::from_secs(1);

pub(super) struct Reactor {
    number: u16,
    listener: net::TcpListener,
    /// The listener for REST calls alone.
    calls: Option<net::TcpListener>,
    parts: Parts,
    stage: watch::Receiver<Stage>,
    pulse: Pulse,
}

impl Reactor {
    pub(super) fn new(
        number: u16,
        (listener, calls): (net::TcpListener, Option<net::TcpListener>),
        parts: Parts,
        stage: watch::Receiver<Stage>,
        pulse: Pulse,
    ) -> Self {
        Self {
            number,
            listener,
            calls,
            parts,
            stage,
            pulse,
        }
    }

    /// Reports the result of its start, then serves until the stage ends it. Its return cuts the connections that are left.
    pub(super) fn run(self, say_started: impl FnOnce(io::Result<()>)) {
        let runtime = match runtime() {
            Ok(runtime) => runtime,
            Err(error) => return say_started(Err(error)),
        };
        say_started(Ok(()));
        let Self {
            number,
            listener,
            calls,
            parts,
            stage,
            pulse,
        } = self;
        let served = runtime.block_on(async {
            let listener = TcpListener::from_std(listener)?;
            let calls = calls.map(TcpListener::from_std).transpose()?;
            spawn_local(turns::watch(Arc::clone(&parts.metrics), pulse));
            serve_ports(number, (listener, calls), parts, stage).await
        });
        if let Err(error) = served {
            error!(reactor = number, %error, "a reactor thread ends with an error");
        }
        runtime.shutdown_timeout(DISK_GRACE);
    }
}

fn runtime() -> io::Result<LocalRuntime> {
    Builder::new_current_thread()
        .enable_all()
        .event_interval(TASKS_IN_A_ROW)
        .global_queue_interval(TASKS_IN_A_ROW)
        .max_blocking_threads(DISK_THREADS)
        .build_local(LocalOptions::default())
}

/// Serves until the stage ends it, with tasks on the calling thread. An error is a panic of one of its tasks. Not cancel safe:
/// its tasks go on without it, until their runtime ends.
pub async fn serve(
    number: u16,
    listener: impl ClientSource + 'static,
    parts: Parts,
    stage: watch::Receiver<Stage>,
) -> io::Result<()> {
    serve_ports(number, (listener, None), parts, stage).await
}

/// The same, with a listener for REST calls alone beside the first.
async fn serve_ports<L: ClientSource + 'static>(
    number: u16,
    (listener, calls): (L, Option<L>),
    parts: Parts,
    mut stage: watch::Receiver<Stage>,
) -> io::Result<()> {
    let table = Rc::new(ConnectionTable::new(number));
    let mailbox = Arc::new(ReactorMailbox::new(
        parts.mailbox,
        Arc::clone(&parts.metrics),
    ));
    let period = sweep::period(&parts);
    let context = Rc::new(Context {
        delivery: Arc::clone(&parts.delivery),
        registry: Arc::clone(&parts.registry),
        metrics: Arc::clone(&parts.metrics),
        mailbox: mailbox.clone(),
        session: parts.session,
        outbox: parts.outbox(),
        started: Instant::now(),
        stood_still: Cell::default(),
        no_device: "".into(),
    });
    let host = ReactorHost {
        context: Rc::clone(&context),
        table: Rc::clone(&table),
        stage: stage.clone(),
    };
    let port = ClientPort::new(parts.entrance, host);
    let mut accepting = spawn_local(async move {
        let calls_port = port.for_calls();
        let calls = async {
            match &calls {
                Some(listener) => accept(listener, &calls_port).await,
                None => pending().await,
            }
        };
        tokio::select! {
            never = accept(&listener, &port) => never,
            never = calls => never,
        }
    });
    let handing = Rc::clone(&table);
    let mut handing = spawn_local(async move { handing.hand_out(&mailbox).await });
    let mut sweeping = spawn_local(sweep(context, Rc::clone(&table), period));
    // None of the three returns by itself, so an error is a panic. It ends the thread, and so the gateway.
    let period = tokio::select! {
        biased;
        next = stage.wait_for(|stage| *stage != Stage::Serving) => match next.map(|stage| *stage) {
            Ok(Stage::Draining(period)) => period,
            _ => return Ok(()),
        },
        Err(error) = &mut accepting => return Err(io::Error::other(error)),
        Err(error) = &mut handing => return Err(io::Error::other(error)),
        Err(error) = &mut sweeping => return Err(io::Error::other(error)),
    };
    // The listener is closed once the aborted task has ended.
    accepting.abort();
    let _ = accepting.await;
    tokio::select! {
        biased;
        () = drain(table, period) => Ok(()),
        _ = stage.wait_for(|stage| *stage == Stage::Stopping) => Ok(()),
        Err(error) = &mut handing => Err(io::Error::other(error)),
        Err(error) = &mut sweeping => Err(io::Error::other(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::{
            Barrier,
            atomic::{AtomicUsize, Ordering::SeqCst},
        },
        task::Poll,
    };

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::UnixStream,
    };

    use super::*;

    #[test]
    fn a_socket_waits_for_a_few_tasks_only() {
        let turns = Rc::new(Cell::new(0));
        let counted = Rc::clone(&turns);
        runtime().unwrap().block_on(async {
            let (mut ours, mut theirs) = UnixStream::pair().unwrap();
            theirs.write_all(b"x").await.unwrap();
            let busy = spawn_local(poll_fn(move |cx| {
                counted.set(counted.get() + 1);
                cx.waker().wake_by_ref();
                Poll::<()>::Pending
            }));
            ours.read_exact(&mut [0]).await.unwrap();
            busy.abort();
        });
        assert!((1..=TASKS_IN_A_ROW).contains(&turns.get()), "{turns:?}");
    }

    /// Each job waits for as many as may run at once, so the later jobs have time to begin if nothing keeps them.
    #[test]
    fn a_read_of_the_disk_too_many_waits_for_another_to_end() {
        let together = Arc::new(Barrier::new(DISK_THREADS));
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        runtime().unwrap().block_on(async {
            let jobs = (0..DISK_THREADS * 5).map(|_| {
                let (together, running, most) = (together.clone(), running.clone(), most.clone());
                tokio::task::spawn_blocking(move || {
                    most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                    together.wait();
                    running.fetch_sub(1, SeqCst);
                })
            });
            for job in jobs.collect::<Vec<_>>() {
                job.await.unwrap();
            }
        });
        assert_eq!(most.load(SeqCst), DISK_THREADS);
    }
}
