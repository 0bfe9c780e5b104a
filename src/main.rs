//! The binary. All code is in the library, where tests and benches reach it.

use std::process::ExitCode;

/// Returns memory to the kernel after a burst, with a thread of its own. glibc keeps it: it has an arena for each thread,
/// with holes. Measured by `memory` in `tests/scenarios`: `docs/measured.md#sessions`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    towncrier::cli::run()
}
