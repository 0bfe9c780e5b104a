//! Look-ups of names, on threads of their own.
//!
//! The operating system's look-up blocks, cannot be given up, and takes half a minute where a name server is silent. So it takes no
//! thread of the runtime's pool, where reads of the disk would wait behind it. The calls to one host share one look-up.

use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, ToSocketAddrs as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

/// The look-ups of one client under way at once, each on its thread: a client has few hosts, and more hang only where names are bad.
const LOOKUPS_MAX: usize = 32;
/// The longest wait for a look-up: a name server that works answers within a second. One that takes longer goes on, for later calls.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// The stack of a look-up's thread, in bytes. The libraries of the operating system need some ten thousand.
const LOOKUP_STACK_BYTES: usize = 512 * 1024;

/// The end of a look-up. The kind stands for the error, which cannot be cloned.
type Found = Result<Vec<SocketAddr>, io::ErrorKind>;

/// A look-up has no end in time, or may not begin because too many have none.
#[derive(Debug, thiserror::Error)]
#[error("the look-up of the host name takes too long")]
pub(super) struct SlowLookup;

/// The look-ups of one client. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Lookups {
    running: Arc<Mutex<HashMap<String, NameLookup>>>,
    find: fn(&str) -> io::Result<Vec<SocketAddr>>,
}

#[derive(Debug)]
struct NameLookup {
    since: Instant,
    waiting: Vec<oneshot::Sender<Found>>,
}

impl Lookups {
    pub(super) fn new() -> Self {
        Self::with(|name| Ok((name, 0).to_socket_addrs()?.collect()))
    }

    fn with(find: fn(&str) -> io::Result<Vec<SocketAddr>>) -> Self {
        Self {
            running: Arc::default(),
            find,
        }
    }

    /// The addresses of a name. Cancel safe: after a drop the look-up goes on.
    pub(super) async fn addresses(&self, name: &str) -> io::Result<Vec<SocketAddr>> {
        let found = tokio::time::timeout(LOOKUP_TIMEOUT, self.join(name)?).await;
        match found {
            Ok(Ok(found)) => found.map_err(io::Error::from),
            // The look-up's thread ended in a panic.
            Ok(Err(_)) => Err(io::ErrorKind::Other.into()),
            Err(_) => Err(io::Error::other(SlowLookup)),
        }
    }

    /// Joins the look-up of this name that is under way, or begins one.
    fn join(&self, name: &str) -> io::Result<oneshot::Receiver<Found>> {
        let (tell, told) = oneshot::channel();
        let mut running = self.lock();
        if let Some(lookup) = running.get_mut(name) {
            if lookup.since.elapsed() >= LOOKUP_TIMEOUT {
                return Err(io::Error::other(SlowLookup));
            }
            lookup.waiting.push(tell);
            return Ok(told);
        }
        if running.len() >= LOOKUPS_MAX {
            return Err(io::Error::other(SlowLookup));
        }
        let (lookups, own) = (self.clone(), name.to_owned());
        std::thread::Builder::new()
            .name("look-up".into())
            .stack_size(LOOKUP_STACK_BYTES)
            .spawn(move || lookups.run(own))?;
        let lookup = NameLookup {
            since: Instant::now(),
            waiting: vec![tell],
        };
        running.insert(name.to_owned(), lookup);
        Ok(told)
    }

    /// Looks a name up, and tells all who wait. Blocks.
    fn run(self, name: String) {
        let found = (self.find)(&name).map_err(|error| error.kind());
        let ended = self.lock().remove(&name);
        for waits in ended.into_iter().flat_map(|lookup| lookup.waiting) {
            // Its call has ended.
            let _ = waits.send(found.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, NameLookup>> {
        // A panic of the lock's holder leaves the map of plain values whole.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;

    static BEGUN: AtomicUsize = AtomicUsize::new(0);

    fn address() -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], 0))
    }

    /// Names that begin with `dead` hang for ever.
    fn find(name: &str) -> io::Result<Vec<SocketAddr>> {
        if name == "none" {
            return Err(io::ErrorKind::NotFound.into());
        }
        if name == "dead" {
            BEGUN.fetch_add(1, SeqCst);
        }
        if name.starts_with("dead") {
            loop {
                std::thread::park();
            }
        }
        Ok(vec![address()])
    }

    #[tokio::test(start_paused = true)]
    async fn names_that_hang_hold_up_no_other_and_each_has_one_look_up() {
        let lookups = Lookups::with(find);
        let dead = futures_util::future::join_all((0..100).map(|_| lookups.addresses("dead")));
        for end in dead.await {
            assert!(end.unwrap_err().get_ref().unwrap().is::<SlowLookup>());
        }
        assert!(BEGUN.load(SeqCst) <= 1);
        assert!(lookups.join("good").unwrap().await.is_ok());
        let none = lookups.join("none").unwrap().await;
        assert_eq!(none, Ok(Err(io::ErrorKind::NotFound)));
    }

    #[tokio::test]
    async fn no_more_look_ups_than_allowed_are_under_way_and_their_ends_make_room() {
        let lookups = Lookups::with(find);
        for number in 1..LOOKUPS_MAX {
            lookups.join(&format!("dead{number}")).unwrap();
        }
        for _ in 0..2 * LOOKUPS_MAX {
            let found = lookups.addresses("good").await.unwrap();
            assert_eq!(found, [address()]);
        }
        lookups.join("dead0").unwrap();
        assert!(lookups.addresses("good").await.is_err());
    }
}
