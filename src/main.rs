//! The binary: everything is in the library, where tests and benches reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    towncrier::cli::run().unwrap_or_else(|error| {
        eprintln!("towncrier: {error:#}");
        ExitCode::FAILURE
    })
}
