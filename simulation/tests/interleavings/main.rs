//! Threads of the program in thousands of orders, under shuttle. Shuttle runs threads as coroutines and tries many orders of the
//! steps between taking a lock and releasing it. A failure prints its schedule, for `shuttle::replay`.
//!
//! Shuttle's locks replace the real ones, so the files under test are compiled here once more, as modules of this test. They name
//! the library as `crate`.

#![expect(clippy::unwrap_used, reason = "a failure here is the test's")]

mod reactor_mailbox;
mod registry_places;

use towncrier::{config, ids, message, metrics, registry};
