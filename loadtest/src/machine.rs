//! The circumstances of a number: the command, the commit, the machine, and the time that its disk takes to sync.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::FileExt as _,
    path::Path,
    process::Command,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::meter::{Quantiles, quantiles_of};

/// Enough for a p99 of a kind, in well under a second on most disks.
const SYNCS: usize = 200;
/// The interval of a [`SyncWatch`]'s syncs. It must not become a load of its own.
const WATCH_PERIOD: Duration = Duration::from_millis(20);

#[derive(Debug, Serialize)]
pub(crate) struct MachineFacts {
    pub(crate) command: String,
    pub(crate) commit: String,
    pub(crate) kernel: String,
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_bytes: u64,
    /// Runnable threads of all programs, the mean of the minute before.
    pub(crate) load: f64,
    /// The time of 4 KiB appended and `fdatasync`ed on the disk of the gateway's data; absent if that is on another
    /// machine.
    pub(crate) sync: Option<Quantiles>,
}

impl MachineFacts {
    /// The circumstances of this command, which keeps its data in `dir`.
    pub(crate) fn look(command: String, dir: Option<&Path>) -> io::Result<Self> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
        let meminfo = fs::read_to_string("/proc/meminfo")?;
        let after = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let memory =
            after(&meminfo, "MemTotal").and_then(|text| text.split(' ').next()?.parse().ok());
        let load = fs::read_to_string("/proc/loadavg")?;
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        Ok(Self {
            command,
            commit: commit(),
            // The rest names the machine's owner.
            kernel: kernel
                .trim()
                .split('-')
                .next()
                .unwrap_or_default()
                .to_owned(),
            processor: after(&cpuinfo, "model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism()?.get(),
            memory_bytes: memory.unwrap_or(0) * 1024_u64,
            load: load
                .split(' ')
                .next()
                .and_then(|load| load.parse().ok())
                .unwrap_or(0.0),
            sync: dir.map(sync_time).transpose()?,
        })
    }
}

/// The commit of the sources here. A change outside documents and kept runs makes it dirty.
fn commit() -> String {
    let git = |words: &[&str]| Command::new("git").args(words).output();
    let head = git(&["rev-parse", "--short=12", "HEAD"]).ok();
    let Some(head) = head.filter(|head| head.status.success()) else {
        return "unknown".to_owned();
    };
    let mut commit = String::from_utf8_lossy(&head.stdout).trim().to_owned();
    let kept = [":/", ":(top,exclude)docs", ":(top,exclude)loadtest/runs"];
    let changed = git(&[&["diff", "--quiet", "HEAD", "--"], &kept[..]].concat());
    if changed.is_ok_and(|changed| !changed.status.success()) {
        commit += "-dirty";
    }
    commit
}

fn sync_time(dir: &Path) -> io::Result<Quantiles> {
    let path = dir.join("sync-time");
    let mut file = File::create(&path)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let began = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        times.push(began.elapsed());
    }
    fs::remove_file(path)?;
    Ok(quantiles_of(&times))
}

/// Syncs 4 KiB of its own again and again while messages flow, and counts every moment at which a sync was due. Without
/// that, a watcher that does one sync after the other would count a stall of a second as one slow sync of many. Dropping it
/// ends it.
#[derive(Debug)]
pub(crate) struct SyncWatch {
    /// Nothing is ever sent; dropping it is the signal to end.
    over: Sender<()>,
    thread: JoinHandle<io::Result<Vec<Duration>>>,
}

impl SyncWatch {
    pub(crate) fn begin(dir: &Path) -> io::Result<Self> {
        let (over, until) = channel();
        let dir = dir.to_owned();
        let thread = thread::Builder::new()
            .name("sync-watch".into())
            .spawn(move || watch(&dir, &until))?;
        Ok(Self { over, thread })
    }

    /// The times, each from the moment at which the sync was due.
    pub(crate) fn end(self) -> io::Result<Quantiles> {
        let Self { over, thread } = self;
        drop(over);
        Ok(quantiles_of(&thread.join().expect("it does not panic")?))
    }
}

fn watch(dir: &Path, until: &Receiver<()>) -> io::Result<Vec<Duration>> {
    let path = dir.join("sync-watch");
    let file = File::create(&path)?;
    // The file disappears when it is closed.
    fs::remove_file(path)?;
    let mut times = Vec::new();
    let mut due = Instant::now();
    loop {
        let rest = due.saturating_duration_since(Instant::now());
        if until.recv_timeout(rest) != Err(RecvTimeoutError::Timeout) {
            return Ok(times);
        }
        let began = Instant::now();
        file.write_all_at(&[7; 4096], 0)?;
        file.sync_data()?;
        // One sync serves all that were due when it began, as a group commit does.
        while due <= began {
            times.push(due.elapsed());
            due += WATCH_PERIOD;
        }
    }
}
