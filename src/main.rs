//! The binary: everything is in the library, where tests and benches reach it.

use std::process::ExitCode;

fn main() -> anyhow::Result<ExitCode> {
    towncrier::cli::run()
}
