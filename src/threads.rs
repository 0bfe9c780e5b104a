//! A watch over the threads that the gateway needs: the log's writer and keeper, the reactors, the admin port.
//!
//! Each of these threads holds a [`Pulse`] while it runs. A *turn* is the work from one wait to the next. The thread beats
//! its pulse at the begin of each turn, and marks the pulse as resting before it waits for work. A thread that never marks
//! it has to beat at short intervals.
//!
//! The process looks at all pulses once a second. A pulse that is gone means that its thread ended, by a panic or by
//! itself: the gateway then drains and ends with an error. `/healthz` names a thread that many looks in a row find in the
//! same turn. The watch counts looks and not time, so after a pause of the whole process no thread seems late.
//!
//! Threads that the gateway can do without are not watched: the scrub ends by itself, and the certificates' task and the
//! writer of the stderr log catch their own panics.

use std::{
    fmt,
    mem::{Discriminant, discriminant},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval};

/// The interval between two looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// A thread has stalled when this many looks in a row saw it in the same turn. The slowest loop takes 5 s, and a machine
/// that swaps stops a thread for seconds.
const LOOKS_IN_TURN_MAX: u64 = 30;

/// The thread's end of the watch. Dropping it says that the thread has ended. A new thread is in its first turn.
///
/// The number counts turns and rests. It is odd in a turn, and even while the thread rests. Only this end writes it, so a
/// load and a store do for an addition.
#[derive(Debug)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// Says that the thread began another turn.
    pub fn beat(&self) {
        self.0.store((self.0.load(Relaxed) + 1) | 1, Relaxed);
    }

    /// Says that the thread waits for work, for however long. It beats when it has some.
    pub fn rest(&self) {
        self.0.store((self.0.load(Relaxed) + 1) & !1, Relaxed);
    }
}

/// A thread as the watch sees it.
#[derive(Debug)]
pub struct Watched {
    name: String,
    turn: Weak<AtomicU64>,
    /// The turn at the last look.
    seen: u64,
    /// The number of looks that saw this turn again.
    looks_in_turn: u64,
    /// The fault at the last look, which is logged once while it lasts.
    logged: Option<Discriminant<Unwell>>,
}

/// Makes the two ends for a new thread: the thread holds the pulse, the watch holds the other.
pub fn watched(name: impl Into<String>) -> (Pulse, Watched) {
    let turn = Arc::new(AtomicU64::new(1));
    let watched = Watched {
        name: name.into(),
        turn: Arc::downgrade(&turn),
        seen: 0,
        looks_in_turn: 0,
        logged: None,
    };
    (Pulse(turn), watched)
}

impl Watched {
    fn look(&mut self) -> Option<Unwell> {
        let fault = self.fault();
        let kind = fault.as_ref().map(discriminant);
        if let Some(unwell) = &fault
            && self.logged != kind
        {
            tracing::error!("{unwell}");
        }
        self.logged = kind;
        fault
    }

    fn fault(&mut self) -> Option<Unwell> {
        let Some(turn) = self.turn.upgrade() else {
            return Some(Unwell::Ended(self.name.clone()));
        };
        let turn = turn.load(Relaxed);
        let rests = turn.is_multiple_of(2);
        if rests || turn != self.seen {
            (self.seen, self.looks_in_turn) = (turn, 0);
            return None;
        }
        self.looks_in_turn += 1;
        (self.looks_in_turn >= LOOKS_IN_TURN_MAX)
            .then(|| Unwell::Stalled(self.name.clone(), self.looks_in_turn))
    }
}

/// The fault of a thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unwell {
    /// The thread ended without an order. The process has to be restarted.
    Ended(String),
    /// The thread has been in the same turn for this many looks. It may recover.
    Stalled(String, u64),
}

impl fmt::Display for Unwell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(thread) => write!(
                f,
                "the thread {thread} has ended: the gateway drains and ends, start it again"
            ),
            Self::Stalled(thread, looks) => write!(
                f,
                "the thread {thread} has not moved for {:?}",
                LOOK_INTERVAL * u32::try_from(*looks).unwrap_or(u32::MAX)
            ),
        }
    }
}

/// All watched threads, and the result of the last look.
#[derive(Debug, Default)]
pub struct Watch(Mutex<Looks>);

#[derive(Debug, Default)]
struct Looks {
    threads: Vec<Watched>,
    found: Vec<Unwell>,
}

impl Watch {
    /// Watches these threads as well.
    pub fn add(&self, threads: impl IntoIterator<Item = Watched>) {
        self.lock().threads.extend(threads);
    }

    /// `Err` with the faults that the last look found, a line for each. The fault of an ended thread stays.
    pub fn check(&self) -> Result<(), String> {
        let faults: Vec<_> = self.lock().found.iter().map(Unwell::to_string).collect();
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults.join("\n"))
        }
    }

    /// Looks once a second, and returns when a thread has ended. Cancel safe.
    pub async fn ended(&self) -> Unwell {
        let mut look = interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            let has_ended = |unwell: &Unwell| matches!(unwell, Unwell::Ended(_));
            if let Some(ended) = self.look().into_iter().find(has_ended) {
                return ended;
            }
        }
    }

    fn look(&self) -> Vec<Unwell> {
        let mut looks = self.lock();
        looks.found = looks.threads.iter_mut().filter_map(Watched::look).collect();
        looks.found.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Looks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_panics_is_found_and_stays_found() {
        let watch = Watch::default();
        let (pulse, thread) = watched("log-writer");
        let (_others, other) = watched("admin");
        watch.add([other, thread]);
        assert_eq!(watch.look(), []);
        let panics = std::thread::spawn(move || {
            let _pulse = pulse;
            panic!("planted");
        });
        assert!(panics.join().is_err());
        assert_eq!(watch.check(), Ok(()), "nobody has looked");
        let ended = Unwell::Ended("log-writer".into());
        assert_eq!(watch.look(), std::slice::from_ref(&ended));
        assert_eq!(watch.check(), Err(ended.to_string()));
    }

    #[test]
    fn a_thread_that_stops_to_beat_is_named_until_it_beats_again() {
        let watch = Watch::default();
        let (pulse, thread) = watched("reactor-0");
        watch.add([thread]);
        pulse.beat();
        stalls(&watch, "the thread reactor-0 has not moved for 30s");
        pulse.beat();
        assert_eq!(watch.look(), []);
        assert_eq!(watch.check(), Ok(()));
    }

    /// Nothing is found at the first looks; then this is.
    #[track_caller]
    fn stalls(watch: &Watch, fault: &str) {
        for _ in 0..LOOKS_IN_TURN_MAX {
            assert_eq!(watch.look(), []);
        }
        watch.look();
        assert_eq!(watch.check(), Err(fault.into()));
    }

    #[test]
    fn a_thread_that_never_beat_is_named_as_well() {
        let watch = Watch::default();
        let (_pulse, thread) = watched("reactor-0");
        watch.add([thread]);
        stalls(&watch, "the thread reactor-0 has not moved for 30s");
    }

    #[test]
    fn a_thread_that_rests_never_stalls_and_one_in_a_turn_does() {
        let watch = Watch::default();
        let (pulse, thread) = watched("log-writer");
        watch.add([thread]);
        for rests in 1..4 {
            // To rest twice is to rest.
            (0..rests).for_each(|_| pulse.rest());
            for _ in 0..=2 * LOOKS_IN_TURN_MAX {
                assert_eq!(watch.look(), []);
            }
            pulse.beat();
            stalls(&watch, "the thread log-writer has not moved for 30s");
        }
        pulse.rest();
        watch.look();
        assert_eq!(watch.check(), Ok(()));
    }

    #[test]
    fn all_threads_that_stalled_are_named() {
        let watch = Watch::default();
        let (_writer, writer) = watched("log-writer");
        let (_keeper, keeper) = watched("log-keeper");
        watch.add([writer, keeper]);
        stalls(
            &watch,
            "the thread log-writer has not moved for 30s\nthe thread log-keeper has not moved for 30s",
        );
    }
}
