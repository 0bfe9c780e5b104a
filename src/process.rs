//! Facts that the kernel tells about this process.

use std::{fs, io, time::Duration};

use rustix::param::{clock_ticks_per_second, page_size};

/// Resident memory that belongs to no file, in bytes; 0 if the kernel does not tell it.
pub fn memory_bytes() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut pages = statm.split_whitespace().map(str::parse::<u64>);
    // The program's size, its resident part, and the part shared with files: proc(5).
    match (pages.nth(1), pages.next()) {
        (Some(Ok(resident)), Some(Ok(shared))) => {
            resident.saturating_sub(shared) * page_size() as u64
        }
        _ => 0,
    }
}

/// The number of open file descriptors; 0 if the kernel does not tell it.
pub fn open_descriptors() -> u64 {
    fs::read_dir("/proc/self/fd").map_or(0, |open| open.count() as u64)
}

/// The processor time that a thread of this process has used so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadTime {
    /// The kernel's thread id.
    pub id: u32,
    /// The first 15 bytes of its name.
    pub name: String,
    /// User and system time, in steps of 10 ms.
    pub cpu: Duration,
}

/// Every thread of this process.
pub fn threads() -> io::Result<Vec<ThreadTime>> {
    let mut threads = Vec::new();
    for entry in fs::read_dir("/proc/self/task")? {
        // A thread that has ended in the meantime is left out.
        if let Ok(stat) = fs::read_to_string(entry?.path().join("stat")) {
            let thread = thread(&stat, clock_ticks_per_second());
            threads.push(thread.ok_or_else(|| io::Error::other("an unknown form of /proc"))?);
        }
    }
    Ok(threads)
}

/// Parses a line of proc_pid_stat(5).
fn thread(stat: &str, ticks_per_second: u64) -> Option<ThreadTime> {
    let (id, rest) = stat.split_once(" (")?;
    // A name may hold any character, also brackets.
    let (name, rest) = rest.rsplit_once(") ")?;
    // utime and stime are fields 14 and 15; the rest begins with the third.
    let mut fields = rest
        .split(' ')
        .skip(11)
        .map(|field| field.parse::<u64>().ok());
    let ticks = fields.next()?? + fields.next()??;
    Some(ThreadTime {
        id: id.parse().ok()?,
        name: name.to_owned(),
        cpu: Duration::from_millis(ticks * 1000 / ticks_per_second),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_read_whatever_its_name() {
        let stat =
            "4711 (a) S (b) S 1 4711 4711 0 -1 4194560 21 0 0 0 150 25 0 0 20 0 8 0 99 1 2\n";
        let read = thread(stat, 100).unwrap();
        assert_eq!((read.id, &*read.name), (4711, "a) S (b"));
        assert_eq!(read.cpu, Duration::from_millis(1750));
        assert_eq!(thread("4711 (a) S 1 2", 100), None);
    }

    #[test]
    fn the_kernel_says_what_this_thread_used() {
        let own = rustix::thread::gettid().as_raw_nonzero().get() as u32;
        // A list that is read while other threads end may lack some.
        let used = || loop {
            let mut threads = threads().unwrap().into_iter();
            if let Some(thread) = threads.find(|thread| thread.id == own) {
                return thread.cpu;
            }
        };
        let before = used();
        // The kernel counts in ticks.
        while used() == before {}
    }
}
