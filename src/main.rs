//! The binary: everything is in the library, where tests and benches reach it.

use std::process::ExitCode;

/// Gives back what a burst left, by a thread of its own. glibc keeps it: an arena for each thread, with holes. Measured by
/// `memory` in `tests/scenarios`: `docs/measured.md#sessions`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    towncrier::cli::run()
}
