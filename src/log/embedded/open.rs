//! The embedded log: one data directory, one writer and one keeper. Writer and keeper each have a thread of their own.

use std::{
    fs::{DirBuilder, File, TryLockError},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use tokio::sync::oneshot;

use super::{
    Damage, LogError, OpenError,
    core::{Core, Lifetimes},
    disk::{Disk, RealDisk, is_short_of_space},
    epoch,
    keeper::Keeper,
    lock::lock,
    queue::{WorkSender, queue},
    reads::{READS_WAITING_MAX, WaitingReads},
    record::{Position, ROWS_SINCE},
    recovery, scrub,
    spread::Spreads,
    state::{Claim, MemoryHome, Reached, SledHome, State, StateError, StoreHome},
    time_mark::TimeMark,
    watermark::Watermark,
    writer::Writer,
};
use crate::{
    clock::Clock,
    config,
    ids::Epoch,
    metrics::{ByKind, Metrics},
    threads::{self, Watched},
};

/// The folder of the segments, within the data directory.
pub(super) const SEGMENTS: &str = "log";
/// The lock file. The process that holds the data directory keeps it locked.
pub(super) const LOCK: &str = "lock";
/// The folder of the segments until a restore is complete. A gateway does not start beside it.
pub(super) const RESTORING: &str = "log.restoring";
/// The file that says that a restored log needs erasures first. A gateway does not start beside it.
pub(super) const ERASING: &str = "log.erasing";
/// The folder of the state store, within the data directory.
pub(super) const STATE: &str = "state";
/// The folder of a state store that was set aside.
pub(super) const STATE_ASIDE: &str = "state.set-aside";

/// A log in a data directory, held by this process alone.
pub struct EmbeddedLog {
    pub(super) core: Arc<Core>,
    /// The writer's queue; `None` once the log is closing.
    pub(super) writer: Mutex<Option<WorkSender>>,
    /// The keeper ends when this is dropped. The keeper holds the last sender but one.
    stop: Mutex<Option<oneshot::Sender<()>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// The threads without which a gateway cannot go on, for its watch.
    watched: Mutex<Vec<Watched>>,
    pub(super) aside: Aside,
    /// The format of new segments.
    pub(super) format: u8,
    /// The reads that were given to `aside` and have not ended.
    pub(super) reads: Arc<WaitingReads>,
    /// The data directory.
    pub(super) dir: PathBuf,
    /// The locked file. It is held as long as the log exists, so that no second process opens the directory.
    lock: Option<File>,
}

/// The directories of a log.
pub struct Directories {
    /// The data directory.
    pub root: Arc<dyn Disk>,
    /// The folder with the segments and the watermark.
    pub segments: Arc<dyn Disk>,
    /// The folder of the state store.
    pub state: Box<dyn StoreHome>,
}

/// A function that runs a job on a thread where it may wait for the disk without making others wait.
pub type Aside = fn(Box<dyn FnOnce() + Send>);

/// The futures that must run for a log to work. They sometimes block, so each has a thread of its own.
pub struct Workers {
    /// `None` for a log whose only segment is damaged: there is no segment to append to, and the log refuses appends
    /// anyway.
    writer: Option<Writer>,
    pub(super) keeper: Keeper,
    /// The keeper ends when the sender of this is dropped.
    stopped: oneshot::Receiver<()>,
    /// The position up to which the scrub reads.
    scrubbed: Option<Position>,
}

impl Workers {
    /// The writer and the keeper, for a caller that gives them no threads. Both end after [`EmbeddedLog::close`]. A log whose
    /// only segment is damaged has no writer.
    pub fn into_futures(
        self,
    ) -> (
        Option<impl Future<Output = ()> + use<>>,
        impl Future<Output = ()> + use<>,
    ) {
        let writer = self.writer.map(Writer::run);
        (writer, self.keeper.run(self.stopped))
    }
}

impl EmbeddedLog {
    /// Opens the log in `config.dir`, or makes it. Returns when every message that was accepted before can be read.
    ///
    /// Reads that need the disk run on a blocking thread of the runtime in which they are asked for.
    pub fn open(
        config: &config::Log,
        clock: Arc<Clock>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, OpenError> {
        Self::open_without(&[RESTORING, ERASING], config, clock, metrics)
    }

    /// Opens a log that was just restored, for its erasures.
    pub(super) fn open_to_erase(
        config: &config::Log,
        clock: Arc<Clock>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, OpenError> {
        Self::open_without(&[RESTORING], config, clock, metrics)
    }

    /// Opens the log in a directory that has none of these files.
    fn open_without(
        files: &[&str],
        config: &config::Log,
        clock: Arc<Clock>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, OpenError> {
        let io = |error| io_failed(&config.dir, error);
        // The directory will hold the messages of all users, so no other account of the machine may read it.
        let mut directory = DirBuilder::new();
        directory.recursive(true).mode(0o700);
        directory.create(&config.dir).map_err(io)?;
        let lock = lock_directory(&config.dir)?;
        if files.iter().any(|file| config.dir.join(file).exists()) {
            return Err(OpenError::Restoring(config.dir.display().to_string()));
        }
        let directories = Directories {
            root: RealDisk::open(&config.dir).map(Arc::new).map_err(io)?,
            segments: RealDisk::open(&config.dir.join(SEGMENTS))
                .map(Arc::new)
                .map_err(io)?,
            state: Box::new(SledHome {
                dir: config.dir.join(STATE),
                cache_bytes: config.cache_bytes,
            }),
        };
        let aside: Aside = |job| drop(tokio::task::spawn_blocking(job));
        let (mut log, workers) = Self::open_in(&directories, config, clock, metrics, aside)?;
        log.lock = Some(lock);
        log.start(workers).map_err(io)?;
        Ok(log)
    }

    /// Opens a log in the caller's directories, which no other process uses. No worker runs yet.
    pub fn open_in(
        directories: &Directories,
        config: &config::Log,
        clock: Arc<Clock>,
        metrics: Arc<Metrics>,
        aside: Aside,
    ) -> Result<(Self, Workers), OpenError> {
        let open = |home: &dyn StoreHome| {
            let (clock, metrics) = (clock.clone(), metrics.clone());
            Self::open_with(directories, home, config, clock, metrics, aside)
        };
        match open(&*directories.state) {
            Err(error) if error.is_of_state() && is_short_of_space(&*directories.segments) => {
                tracing::warn!(
                    %error,
                    "the disk is full: the state is rebuilt in memory, and stays there until the next start"
                );
                // The store on the disk is set aside, because it would miss everything that retention forgets from now on.
                let set_aside = directories.state.set_aside();
                set_aside.map_err(|error| io_failed(&config.dir, error))?;
                open(&MemoryHome::default())
            }
            opened => opened,
        }
    }

    fn open_with(
        directories: &Directories,
        home: &dyn StoreHome,
        config: &config::Log,
        clock: Arc<Clock>,
        metrics: Arc<Metrics>,
        aside: Aside,
    ) -> Result<(Self, Workers), OpenError> {
        let io = |error| io_failed(&config.dir, error);
        let disk = directories.segments.clone();
        let epoch = epoch::read_or_create(&*directories.root, &config.dir)?;
        let mut watermark = Watermark::open(&*disk).map_err(io)?;
        let synced = watermark.marks().synced;
        let has_rows = config.format >= ROWS_SINCE;
        let (state, reached) = open_state(home, epoch.number, has_rows, synced, &config.dir)?;
        let (time_mark, last_time) = TimeMark::open(&*directories.root).map_err(io)?;
        let core = Arc::new(Core::new(
            (epoch.number, epoch.base),
            Lifetimes::of(config),
            disk,
            state,
            clock,
            metrics,
        ));
        recovery::replay(&core, reached, &mut watermark, config.format)?;
        let newest_ms = core.segments.all().last().map(|last| last.created_ms);
        core.clock.resume(last_time, newest_ms.unwrap_or_default());
        let spreads = complete(&core, has_rows);
        let spreads = spreads.map_err(|error| state_failed(&config.dir, &error))?;
        let (sender, receiver) = queue(config.queue_max);
        let (stop, stopped) = oneshot::channel();
        let (writer_pulse, writer_watched) = threads::watched("log-writer");
        let (keeper_pulse, keeper_watched) = threads::watched("log-keeper");
        let marks = (watermark, time_mark);
        let keeper = Keeper::new(
            core.clone(),
            sender.uncounted(),
            marks,
            config,
            keeper_pulse,
        );
        let active = core.segments.all().last().cloned();
        let mut watched = vec![keeper_watched];
        let writer = active.map(|active| {
            watched.push(writer_watched);
            let core = core.clone();
            Writer::new(core, receiver, active, spreads, config, writer_pulse)
        });
        let workers = Workers {
            writer,
            keeper,
            stopped,
            scrubbed: reached.map(|reached| reached.position),
        };
        let reads = WaitingReads::new(READS_WAITING_MAX, core.metrics.reads_waiting.clone());
        let log = Self {
            core,
            writer: Mutex::new(Some(sender)),
            stop: Mutex::new(Some(stop)),
            threads: Mutex::default(),
            watched: Mutex::new(watched),
            aside,
            format: config.format,
            reads,
            dir: config.dir.clone(),
            lock: None,
        };
        Ok((log, workers))
    }

    /// Gives each worker its thread.
    pub(super) fn start(&self, workers: Workers) -> io::Result<()> {
        let Workers {
            writer,
            keeper,
            stopped,
            scrubbed,
        } = workers;
        let keeper = spawn("log-keeper", move || {
            // A lower priority helps, but the thread works without it.
            let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 5);
            keeper.run(stopped)
        })?;
        let writer = writer
            .map(|writer| spawn("log-writer", || writer.run()))
            .transpose()?;
        // The threads are listed in the order in which they end.
        lock(&self.threads).extend([Some(keeper), writer].into_iter().flatten());
        let core = Arc::downgrade(&self.core);
        // The scrub ends by itself.
        spawn("log-scrub", move || scrub::run(core, scrubbed)).map(drop)
    }

    /// Returns the threads without which the log cannot go on. A second call returns nothing.
    pub fn take_watched(&self) -> Vec<Watched> {
        std::mem::take(&mut lock(&self.watched))
    }

    /// Refuses appends from now on, finishes the accepted ones, makes a checkpoint, and ends the threads. Blocks. Returns
    /// false if one of the threads had panicked.
    pub fn close(&self) -> bool {
        self.core.backups.stop();
        drop(lock(&self.writer).take());
        drop(lock(&self.stop).take());
        let threads: Vec<_> = lock(&self.threads).drain(..).collect();
        let ended = threads.into_iter().map(JoinHandle::join);
        ended.filter(Result::is_err).count() == 0
    }

    /// The damaged positions found so far, the oldest 100 of them.
    pub fn damages(&self) -> Vec<Damage> {
        self.core.damages()
    }

    /// Entries retained and not acked by any session.
    pub fn pending(&self) -> ByKind<u64> {
        self.core.state.pending()
    }

    /// True while a message to everyone is not spread to its end.
    pub fn is_spreading(&self) -> Result<bool, LogError> {
        Ok(self.core.is_spreading()?)
    }
}

impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        self.close();
    }
}

fn io_failed(dir: &Path, error: io::Error) -> OpenError {
    OpenError::Io {
        dir: dir.display().to_string(),
        error,
    }
}

fn state_failed(dir: &Path, error: &StateError) -> OpenError {
    tracing::error!(%error, "the state store cannot be opened");
    OpenError::State(dir.display().to_string())
}

/// Opens the state store, and returns how much of the log it contains. A store of another log is set aside. `None`: the store is
/// empty.
fn open_state(
    home: &dyn StoreHome,
    epoch: Epoch,
    has_conversations: bool,
    synced: Position,
    dir: &Path,
) -> Result<(State, Option<Reached>), OpenError> {
    let failed = |error| state_failed(dir, &error);
    let (mut state, is_believed) = recovery::open_state(home).map_err(failed)?;
    let set_aside =
        |why: &str| recovery::set_aside(home, &why).map_err(|error| io_failed(dir, error));
    let reopened = || match recovery::open_state(home) {
        Ok((state, _)) => Ok(state),
        Err(error) => Err(failed(error)),
    };
    let claim = if is_believed {
        state.reached(epoch).map_err(failed)?
    } else {
        Claim::None
    };
    let reached = match claim {
        Claim::Reached(reached)
            if has_conversations && !state.is_complete(reached).map_err(failed)? =>
        {
            drop(state);
            let why = "it lacks conversations or read marks: another version wrote it, or log.format was held back";
            set_aside(why)?;
            state = reopened()?;
            None
        }
        // The store was begun and not finished. Some of its rows may be there without the rows that belong to them.
        Claim::Reached(reached) if reached.position == Position::NONE => {
            drop(state);
            set_aside("its rebuilding was not finished")?;
            state = reopened()?;
            None
        }
        Claim::Reached(reached) => Some(reached),
        // The store is empty.
        Claim::None if !is_believed || synced == Position::NONE => None,
        // The store's rows belong to another log, or the store is not ours.
        Claim::None | Claim::OfAnotherLog => {
            drop(state);
            set_aside("it does not belong to these segments")?;
            state = reopened()?;
            None
        }
    };
    state.has_conversations = has_conversations;
    if reached.is_none() {
        state.begin(epoch).map_err(failed)?;
    }
    Ok((state, reached))
}

/// Completes the replayed state: users who wait for a number, messages to everyone that go on, and the claim that the store has
/// all of it.
fn complete(core: &Core, has_rows: bool) -> Result<Spreads, StateError> {
    core.state.are_logged();
    // Before its first message to everyone a log has no numbers.
    if has_rows && core.state.users.highest() > 0 {
        core.state.start_numbering()?;
    }
    let spreads = Spreads::resume(core, has_rows)?;
    // On a full disk the store is not written until there is space again.
    if core.check_writable().is_ok() && core.check_space().is_ok() {
        // The replayed records need not be replayed again. A new store names its log from the beginning. The store may
        // take the cursors too, because they came from the segments.
        core.state.conclude(core.epoch, core.reached())?;
    }
    Ok(spreads)
}

/// Starts a thread with a runtime that has timers, for one future.
fn spawn<F: Future<Output = ()>>(
    name: &str,
    run: impl FnOnce() -> F + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    std::thread::Builder::new()
        .name(name.into())
        .spawn(move || runtime.block_on(run()))
}

/// True if a process holds the data directory now. Changes nothing.
pub fn is_in_use(dir: &Path) -> Result<bool, OpenError> {
    if !dir.join(LOCK).exists() {
        return Ok(false);
    }
    match lock_directory(dir) {
        Ok(_) => Ok(false),
        Err(OpenError::InUse(_)) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Locks the directory for this process, until the file is dropped or the process ends in any way.
pub(super) fn lock_directory(dir: &Path) -> Result<File, OpenError> {
    let io = |error| io_failed(dir, error);
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(dir.join(LOCK))
        .map_err(io)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(dir.display().to_string())),
        Err(TryLockError::Error(error)) => Err(io(error)),
    }
}
