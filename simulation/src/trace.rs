//! The events of a run: hashed, so that two runs can be compared bit for bit, and printed on request.
//!
//! A run has a thread of its own, so its trace, its faults and its first violation belong to the thread.

use std::{
    cell::{Cell, RefCell},
    fmt::{self, Write},
    panic,
    sync::Once,
};

use tokio::time::Instant;

thread_local! {
    static TRACE: RefCell<Option<Trace>> = const { RefCell::new(None) };
    static VIOLATION: RefCell<Option<String>> = const { RefCell::new(None) };
    static IS_RUNNING: Cell<bool> = const { Cell::new(false) };
}

struct Trace {
    began: Instant,
    hash: Fnv,
    is_printed: bool,
}

/// FNV-1a: fast enough for lines, and the same everywhere.
struct Fnv(u64);

impl Write for Fnv {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}

/// Begins the thread's trace. From now on every panic on it is a violation, also one that a task's runtime catches.
pub(super) fn begin(is_printed: bool) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if IS_RUNNING.get() {
                violated("panic", format_args!("{info}"));
            } else {
                before(info);
            }
        }));
    });
    let trace = Trace {
        began: Instant::now(),
        hash: Fnv(0xcbf2_9ce4_8422_2325),
        is_printed,
    };
    TRACE.set(Some(trace));
    VIOLATION.set(None);
    IS_RUNNING.set(true);
}

/// Ends the trace. Returns the hash of all events, and the first broken promise.
pub(super) fn end() -> (u64, Option<String>) {
    IS_RUNNING.set(false);
    let hash = TRACE.take().map_or(0, |trace| trace.hash.0);
    (hash, VIOLATION.take())
}

/// Records an event.
pub(super) fn note(what: fmt::Arguments<'_>) {
    TRACE.with_borrow_mut(|trace| {
        let Some(trace) = trace else { return };
        let at = trace.began.elapsed();
        // A write into a hash does not fail.
        let _ = writeln!(trace.hash, "{} {what}", at.as_micros());
        if trace.is_printed {
            eprintln!("{:>9.3}s {what}", at.as_secs_f64());
        }
    });
}

/// Records a broken promise. Only the first one counts, because later ones may be its consequences.
pub(super) fn violated(promise: &str, how: fmt::Arguments<'_>) {
    note(format_args!("VIOLATION {promise}: {how}"));
    VIOLATION.with_borrow_mut(|first| {
        first.get_or_insert_with(|| format!("{promise}: {how}"));
    });
}

/// True if a promise is broken.
pub(super) fn is_violated() -> bool {
    VIOLATION.with_borrow(Option::is_some)
}
