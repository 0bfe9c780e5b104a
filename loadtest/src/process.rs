//! The resources that a process has used so far, from `/proc`.

use std::{
    cell::RefCell,
    fs, io,
    ops::AddAssign,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::{
    task::{JoinHandle, spawn_local},
    time::sleep,
};

/// The interval of looks at a process's memory over a run of minutes.
const MEMORY_LOOK: Duration = Duration::from_secs(60);

/// One reading of a process.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// User and system time, in steps of 10 ms.
    pub(crate) cpu: Duration,
    /// Resident memory now, bytes.
    pub(crate) rss: u64,
    /// The highest resident memory so far, bytes.
    pub(crate) rss_peak: u64,
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.cpu += other.cpu;
        self.rss += other.rss;
        self.rss_peak += other.rss_peak;
    }
}

/// A process's resident memory in bytes, by the seconds since a begin.
#[derive(Debug, Default)]
pub(crate) struct MemoryCourse(Rc<RefCell<Vec<(u64, u64)>>>);

impl MemoryCourse {
    /// Looks at the process now and then, until the returned task is aborted.
    pub(crate) fn follow(&self, process_id: u32, began: Instant) -> JoinHandle<()> {
        let course = Rc::clone(&self.0);
        spawn_local(async move {
            while let Ok(usage) = usage(process_id) {
                let second = began.elapsed().as_secs();
                course.borrow_mut().push((second, usage.rss));
                sleep(MEMORY_LOOK).await;
            }
        })
    }

    /// All looks so far.
    pub(crate) fn take(&self) -> Vec<(u64, u64)> {
        self.0.take()
    }
}

/// Reads the resources of a process by its id.
pub(crate) fn usage(id: u32) -> io::Result<Usage> {
    let broken = || io::Error::other("an unknown form of /proc");
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    // The name in brackets may hold any character; utime and stime are fields 14 and 15 of the line.
    let (_, rest) = stat.rsplit_once(") ").ok_or_else(broken)?;
    let ticks = rest
        .split(' ')
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().unwrap_or_default());
    let per_second = rustix::param::clock_ticks_per_second();
    let cpu = Duration::from_millis(ticks.sum::<u64>() * 1000 / per_second);
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let field = |name| kib(&status, name).ok_or_else(broken);
    Ok(Usage {
        cpu,
        rss: field("VmRSS:")?,
        rss_peak: field("VmHWM:")?,
    })
}

/// The ids of the processes that this one has started and that run.
pub(crate) fn children(of: u32) -> io::Result<Vec<u32>> {
    let ids = fs::read_dir("/proc")?.filter_map(|entry| {
        let id = entry.ok()?.file_name().to_str()?.parse().ok()?;
        // A process may end meanwhile.
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let (_, rest) = stat.rsplit_once(") ")?;
        let parent: u32 = rest.split(' ').nth(1)?.parse().ok()?;
        (parent == of).then_some(id)
    });
    Ok(ids.collect())
}

/// The whole machine's kernel memory in slabs, bytes.
pub(crate) fn slab() -> io::Result<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo")?;
    kib(&meminfo, "Slab:").ok_or_else(|| io::Error::other("an unknown form of /proc/meminfo"))
}

fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib * 1024)
}
