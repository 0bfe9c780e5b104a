//! What the kernel says of this process.

use std::fs;

use rustix::param::page_size;

/// Resident memory that belongs to no file, in bytes; 0 where the kernel does not say.
pub fn memory_bytes() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut pages = statm.split_whitespace().map(str::parse::<u64>);
    // Size of the program, resident, and of that shared with files: proc(5).
    match (pages.nth(1), pages.next()) {
        (Some(Ok(resident)), Some(Ok(shared))) => {
            resident.saturating_sub(shared) * page_size() as u64
        }
        _ => 0,
    }
}
