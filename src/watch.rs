//! A watch over the threads that the gateway needs: the log's writer and keeper, the reactors, the admin port.
//!
//! Each of them holds a [`Pulse`] while it runs. The process looks at all pulses once a second. A pulse that is gone means
//! that the thread ended, by a panic or by itself; the gateway then drains and ends with an error. A thread with a loop
//! beats its pulse in every round; if the beats stop, `/healthz` names the thread. The watch counts looks and not time, so
//! a paused process finds no thread late. Threads that the gateway can miss are not watched: the scrub ends by itself, and
//! the certificates' task and the log lines' writer catch their own panics.

use std::{
    fmt,
    mem::discriminant,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval};

/// The interval between two looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// A thread with a loop has stalled when this many looks in a row saw no beat. The slowest loop takes 5 s, and a machine
/// that swaps stops a thread for seconds.
const LOOKS_WITHOUT_BEAT_MAX: u64 = 30;

/// The thread's end of the watch. Dropping it says that the thread has ended.
#[derive(Debug)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// Says that the thread began another round.
    pub fn beat(&self) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// A thread as the watch sees it.
#[derive(Debug)]
pub struct Watched {
    name: String,
    beats: Weak<AtomicU64>,
    /// The number of beats at the last look. 0: no beat so far; some threads never beat.
    seen: u64,
    looks_without_beat: u64,
}

/// Makes the two ends for a new thread: the thread holds the pulse, the watch holds the other.
pub fn watched(name: impl Into<String>) -> (Pulse, Watched) {
    let beats = Arc::new(AtomicU64::new(0));
    let watched = Watched {
        name: name.into(),
        beats: Arc::downgrade(&beats),
        seen: 0,
        looks_without_beat: 0,
    };
    (Pulse(beats), watched)
}

impl Watched {
    fn look(&mut self) -> Option<Unwell> {
        let Some(beats) = self.beats.upgrade() else {
            return Some(Unwell::Ended(self.name.clone()));
        };
        let beats = beats.load(Relaxed);
        if beats != self.seen || beats == 0 {
            (self.seen, self.looks_without_beat) = (beats, 0);
            return None;
        }
        self.looks_without_beat += 1;
        (self.looks_without_beat >= LOOKS_WITHOUT_BEAT_MAX)
            .then(|| Unwell::Stalled(self.name.clone(), self.looks_without_beat))
    }
}

/// The fault of a thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unwell {
    /// The thread ended without an order. The process has to be restarted.
    Ended(String),
    /// The thread has not beaten for this many looks. It may recover.
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
    found: Option<Unwell>,
}

impl Watch {
    /// Watches these threads as well.
    pub fn add(&self, threads: impl IntoIterator<Item = Watched>) {
        self.lock().threads.extend(threads);
    }

    /// `Err` with the fault that the last look found. The fault of an ended thread stays.
    pub fn check(&self) -> Result<(), Unwell> {
        self.lock().found.clone().map_or(Ok(()), Err)
    }

    /// Looks once a second, and returns when a thread has ended. Cancel safe.
    pub async fn ended(&self) -> Unwell {
        let mut look = interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            if let Some(ended @ Unwell::Ended(_)) = self.look() {
                return ended;
            }
        }
    }

    fn look(&self) -> Option<Unwell> {
        let mut looks = self.lock();
        let found: Vec<_> = looks.threads.iter_mut().filter_map(Watched::look).collect();
        let has_ended = |unwell: &&Unwell| matches!(unwell, Unwell::Ended(_));
        let gravest = found.iter().find(has_ended).or(found.first()).cloned();
        if let Some(unwell) = &gravest
            && looks.found.as_ref().map(discriminant) != Some(discriminant(unwell))
        {
            // Logged once while the fault lasts.
            tracing::error!("{unwell}");
        }
        looks.found.clone_from(&gravest);
        gravest
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
        assert_eq!(watch.look(), None);
        let panics = std::thread::spawn(move || {
            let _pulse = pulse;
            panic!("planted");
        });
        assert!(panics.join().is_err());
        assert_eq!(watch.check(), Ok(()), "nobody has looked");
        let ended = Unwell::Ended("log-writer".into());
        assert_eq!(watch.look(), Some(ended.clone()));
        assert_eq!(watch.check(), Err(ended));
    }

    #[test]
    fn a_thread_that_stops_to_beat_is_named_until_it_beats_again() {
        let watch = Watch::default();
        let (pulse, thread) = watched("reactor-0");
        watch.add([thread]);
        pulse.beat();
        for _ in 0..LOOKS_WITHOUT_BEAT_MAX {
            assert_eq!(watch.look(), None);
        }
        let stalled = watch.look().expect("stalled");
        assert_eq!(
            stalled.to_string(),
            "the thread reactor-0 has not moved for 30s"
        );
        assert_eq!(watch.check(), Err(stalled));
        pulse.beat();
        assert_eq!(watch.look(), None);
        assert_eq!(watch.check(), Ok(()));
    }

    #[test]
    fn a_thread_without_a_rhythm_never_stalls() {
        let watch = Watch::default();
        let (_pulse, thread) = watched("log-writer");
        watch.add([thread]);
        for _ in 0..=2 * LOOKS_WITHOUT_BEAT_MAX {
            assert_eq!(watch.look(), None);
        }
    }
}
