//! A queue for lines to stderr and stdout, so that nobody waits for their reader: a bounded buffer, and one thread that
//! writes.
//!
//! Promises: [`Lines::push`] always returns at once, even if a pipe is full or closed, a disk has no space, or a terminal
//! is gone. Text without room, and text that cannot be written, is dropped in whole lines and counted. The thread reports
//! the count as soon as a write succeeds again. It survives every error and panic of its sink. Leaves to others: the form
//! of a line.

use std::{
    io::{self, ErrorKind, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use metrics::Counter;
use tracing_subscriber::fmt::MakeWriter;

/// The most bytes that may wait: the lines of some 20,000 connections that end at once. Memory is used only while the
/// reader is behind.
const WAITING_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The capacity that a buffer keeps after its text was written.
const KEPT_BYTES: usize = 64 * 1024;
/// The pause between two attempts at a sink that takes nothing now: a non-blocking terminal or pipe whose reader is behind.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// The producers' end of the queue. Clones share the queue.
#[derive(Clone)]
pub struct Lines(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    /// Notified when there is text, or a count to report.
    has_news: Condvar,
    /// Notified when all text was written or dropped.
    is_idle: Condvar,
}

#[derive(Default)]
struct Queue {
    text: Vec<u8>,
    /// True while the thread writes text that it took.
    is_writing: bool,
    /// Lines dropped so far.
    dropped: u64,
    /// The dropped lines that were reported.
    said: u64,
    counter: Option<Counter>,
}

impl Queue {
    fn drop_lines(&mut self, lines: u64) {
        self.dropped += lines;
        if let Some(counter) = &self.counter {
            counter.increment(lines);
        }
    }
}

impl Lines {
    /// Starts the thread. The thread calls `say_dropped` with a number of lost lines; it may push a line about them.
    pub fn start(
        thread: &str,
        sink: impl Write + Send + 'static,
        say_dropped: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            has_news: Condvar::new(),
            is_idle: Condvar::new(),
        });
        let writer = LineWriter {
            shared: Arc::clone(&shared),
            sink,
            is_cut: false,
        };
        thread::Builder::new()
            .name(thread.into())
            .spawn(move || writer.run(say_dropped))?;
        Ok(Self(shared))
    }

    /// Queues text that ends with a line break. Never waits for the reader; text without room is dropped and counted.
    pub fn push(&self, text: &[u8]) {
        let mut queue = self.0.lock();
        if queue.text.len() + text.len() > WAITING_BYTES_MAX {
            queue.drop_lines(lines_of(text));
        } else {
            queue.text.extend_from_slice(text);
        }
        drop(queue);
        self.0.has_news.notify_one();
    }

    /// Returns when all text pushed before is written or dropped, or after `patience`.
    pub fn flush(&self, patience: Duration) {
        let is_busy = |queue: &mut Queue| queue.is_writing || !queue.text.is_empty();
        let waited = self
            .0
            .is_idle
            .wait_timeout_while(self.0.lock(), patience, is_busy);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Counts dropped lines with this counter, including earlier ones.
    pub fn count_with(&self, counter: Counter) {
        let mut queue = self.0.lock();
        counter.increment(queue.dropped);
        queue.counter = Some(counter);
    }
}

impl Write for &Lines {
    /// `tracing_subscriber` writes each event with one call.
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.push(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // The lock guards plain values, which no panic leaves half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for text, and swaps it for the empty `taken`. If `is_well`, a count that is not reported yet also ends the
    /// wait, and is returned.
    fn take(&self, taken: &mut Vec<u8>, is_well: bool) -> u64 {
        let mut queue = self.lock();
        queue.is_writing = false;
        if queue.text.is_empty() {
            self.is_idle.notify_all();
        }
        let is_quiet =
            |queue: &mut Queue| queue.text.is_empty() && !(is_well && queue.dropped > queue.said);
        queue = self
            .has_news
            .wait_while(queue, is_quiet)
            .unwrap_or_else(PoisonError::into_inner);
        taken.shrink_to(KEPT_BYTES);
        std::mem::swap(taken, &mut queue.text);
        queue.is_writing = true;
        if !is_well {
            return 0;
        }
        let unsaid = queue.dropped - queue.said;
        queue.said = queue.dropped;
        unsaid
    }
}

/// The state of the thread.
struct LineWriter<S> {
    shared: Arc<Shared>,
    sink: S,
    /// True if the last line was written only in part.
    is_cut: bool,
}

impl<S: Write> LineWriter<S> {
    fn run(mut self, say_dropped: impl Fn(u64)) {
        let mut text = Vec::new();
        let mut is_well = true;
        loop {
            let dropped = self.shared.take(&mut text, is_well);
            if dropped > 0 {
                // The queue is empty here, so this line finds room.
                let _ = catch_unwind(AssertUnwindSafe(|| say_dropped(dropped)));
            }
            is_well = self.write(&text);
            text.clear();
        }
    }

    /// Writes the text, and counts the lines that it could not write. Returns true if there were none.
    fn write(&mut self, text: &[u8]) -> bool {
        let mut written = 0;
        let outcome = catch_unwind(AssertUnwindSafe(|| self.try_write(text, &mut written)));
        self.is_cut = match written {
            0 => self.is_cut,
            written => text[written - 1] != b'\n',
        };
        let is_well = matches!(outcome, Ok(Ok(())));
        if !is_well {
            self.shared.lock().drop_lines(lines_of(&text[written..]));
        }
        is_well
    }

    fn try_write(&mut self, text: &[u8], written: &mut usize) -> io::Result<()> {
        if self.is_cut && !text.is_empty() {
            self.write_some(b"\n")?;
            self.is_cut = false;
        }
        while *written < text.len() {
            *written += self.write_some(&text[*written..])?;
        }
        self.sink.flush()
    }

    /// Waits while the sink has no room. Returns the number of bytes that it took, at least one.
    fn write_some(&mut self, text: &[u8]) -> io::Result<usize> {
        loop {
            match self.sink.write(text) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY_PAUSE),
                Err(error) => return Err(error),
            }
        }
    }
}

fn lines_of(text: &[u8]) -> u64 {
    text.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Far longer than any step takes.
    const DEADLINE: Duration = Duration::from_secs(30);

    /// A sink that waits for an instruction at each write, and obeys it.
    struct Told {
        entered: Sender<()>,
        orders: Receiver<Order>,
        written: Sender<Vec<u8>>,
    }

    enum Order {
        Take,
        TakePart(usize),
        Fail(ErrorKind),
        Panic,
    }

    impl Write for Told {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.entered.send(()).expect("heard");
            let count = match self.orders.recv().expect("an order") {
                Order::Take => text.len(),
                Order::TakePart(count) => count,
                Order::Fail(kind) => return Err(kind.into()),
                Order::Panic => panic!("planted"),
            };
            self.written.send(text[..count].to_vec()).expect("heard");
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Bench {
        lines: Lines,
        entered: Receiver<()>,
        orders: Sender<Order>,
        written: Receiver<Vec<u8>>,
        said: Receiver<u64>,
    }

    fn bench() -> Bench {
        let (enter, entered) = channel();
        let (orders, take_orders) = channel();
        let (write, written) = channel();
        let (say, said) = channel();
        let sink = Told {
            entered: enter,
            orders: take_orders,
            written: write,
        };
        let lines = Lines::start("lines", sink, move |dropped| {
            say.send(dropped).expect("heard");
        });
        Bench {
            lines: lines.expect("a thread"),
            entered,
            orders,
            written,
            said,
        }
    }

    impl Bench {
        fn order(&self, orders: impl IntoIterator<Item = Order>) {
            orders
                .into_iter()
                .for_each(|order| self.orders.send(order).expect("heard"));
        }

        fn written(&self) -> String {
            let written = self.written.recv_timeout(DEADLINE).expect("a write");
            String::from_utf8(written).expect("text")
        }

        fn said(&self) -> u64 {
            self.said.recv_timeout(DEADLINE).expect("a count")
        }
    }

    #[test]
    fn a_sink_that_blocks_holds_nobody_up_and_what_finds_no_room_is_counted_and_said() {
        let bench = bench();
        let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
        let fits = WAITING_BYTES_MAX / line.len();
        bench.lines.push(b"in hand\n");
        bench.entered.recv_timeout(DEADLINE).expect("a write");
        for _ in 0..fits + 7 {
            bench.lines.push(&line);
        }
        bench.order([Order::Take, Order::Take, Order::Take]);
        assert_eq!(bench.written(), "in hand\n");
        assert_eq!(bench.said(), 7);
        assert_eq!(bench.written().len(), fits * line.len());
        bench.lines.push(b"afterwards\n");
        assert_eq!(bench.written(), "afterwards\n");
    }

    #[test]
    fn the_thread_outlives_errors_and_panics_of_its_sink() {
        for order in [
            Order::Fail(ErrorKind::StorageFull),
            Order::Fail(ErrorKind::BrokenPipe),
            Order::Panic,
        ] {
            let bench = bench();
            bench.lines.push(b"lost\nlost\n");
            bench.order([order]);
            bench.lines.flush(DEADLINE);
            bench.order([Order::Take]);
            bench.lines.push(b"kept\n");
            assert_eq!(bench.written(), "kept\n");
            assert_eq!(bench.said(), 2);
        }
    }

    #[test]
    fn a_line_cut_by_an_error_is_ended_before_the_next() {
        let bench = bench();
        bench.lines.push(b"whole\nin part\n");
        bench.order([Order::TakePart(8), Order::Fail(ErrorKind::StorageFull)]);
        bench.lines.flush(DEADLINE);
        bench.order([Order::Take, Order::Take]);
        bench.lines.push(b"next\n");
        let written: Vec<_> = (0..3).map(|_| bench.written()).collect();
        assert_eq!(written, ["whole\nin", "\n", "next\n"]);
        assert_eq!(bench.said(), 1);
    }

    #[test]
    fn a_sink_without_room_for_now_and_one_that_is_interrupted_lose_nothing() {
        let bench = bench();
        bench.order([
            Order::Fail(ErrorKind::WouldBlock),
            Order::Fail(ErrorKind::Interrupted),
            Order::TakePart(2),
            Order::Take,
        ]);
        bench.lines.push(b"line\n");
        assert_eq!([bench.written(), bench.written()], ["li", "ne\n"]);
        bench.lines.flush(DEADLINE);
        assert!(bench.said.try_recv().is_err());
    }

    #[test]
    fn a_flush_returns_when_all_is_written_and_by_its_deadline_when_not() {
        let bench = bench();
        bench.lines.push(b"stuck\n");
        bench.lines.flush(Duration::from_millis(1));
        assert!(bench.written.try_recv().is_err());
        bench.order([Order::Take]);
        bench.lines.flush(DEADLINE);
        assert_eq!(bench.written.try_recv().expect("written"), b"stuck\n");
    }

    #[test]
    fn the_counter_counts_what_was_dropped_before_it_came_as_well() {
        let bench = bench();
        let count = Arc::new(Count::default());
        bench.lines.push(b"lost\n");
        bench.order([Order::Fail(ErrorKind::StorageFull)]);
        bench.lines.flush(DEADLINE);
        bench
            .lines
            .count_with(Counter::from_arc(Arc::clone(&count)));
        bench.lines.push(b"lost\n");
        bench.order([Order::Fail(ErrorKind::StorageFull)]);
        bench.lines.flush(DEADLINE);
        assert_eq!(*count.0.lock().unwrap(), 2);
    }

    #[derive(Default)]
    struct Count(Mutex<u64>);

    impl metrics::CounterFn for Count {
        fn increment(&self, value: u64) {
            *self.0.lock().unwrap() += value;
        }

        fn absolute(&self, value: u64) {
            *self.0.lock().unwrap() = value;
        }
    }
}
