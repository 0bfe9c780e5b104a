//! The lock on a plain value. It can be taken even after an earlier holder panicked.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes the lock, also after a panic of its holder. Use it for values that no panic leaves half changed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
