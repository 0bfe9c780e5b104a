//! One HTTP server: POST requests, one after the other on each connection.

use std::{
    cell::Cell,
    io,
    net::Ipv4Addr,
    ops::Range,
    rc::Rc,
    time::{Duration, Instant},
};

use clap::ValueEnum;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, spawn_local},
    time::sleep,
};

use super::CallBooks;

/// Above a batch of webhooks, which ends with the event that reaches 1 MiB.
const CALL_BYTES_MAX: usize = 4 << 20;

/// The conduct of a callee.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Conduct {
    /// The gateway has no address to call.
    None,
    /// Answers 200 at once.
    Ok,
    /// Answers 200 after the delay.
    Slow,
    /// Answers 503 at once.
    Failing,
    /// Takes connections and never answers.
    Dead,
}

/// The calls that came.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CallsSeen {
    /// All calls so far.
    pub(crate) calls: u64,
    /// The most calls at once.
    pub(crate) at_once: u32,
    under_way: u32,
    first: Option<Instant>,
    last: Option<Instant>,
}

/// A server on a free port. Dropping it closes the port.
#[derive(Debug)]
pub(crate) struct Callee {
    conduct: Conduct,
    url: String,
    seen: Rc<Cell<CallsSeen>>,
    away: Rc<Cell<Option<Instant>>>,
    listening: JoinHandle<()>,
}

/// The work on one connection.
struct CallerLine {
    stream: TcpStream,
    /// The bytes that came and were not taken yet.
    bytes: Vec<u8>,
    conduct: Conduct,
    delay: Duration,
    seen: Rc<Cell<CallsSeen>>,
    /// Until this time each call ends with its connection and without an answer.
    away: Rc<Cell<Option<Instant>>>,
}

/// A call that is under way until this is dropped.
struct OpenCall<'a>(&'a Cell<CallsSeen>);

impl CallsSeen {
    /// Calls a second, between the first one and the last one.
    pub(crate) fn a_second(&self) -> f64 {
        let took = self.first.zip(self.last).map(|(first, last)| last - first);
        let seconds = took.unwrap_or_default().as_secs_f64();
        if seconds > 0.0 {
            (self.calls - 1) as f64 / seconds
        } else {
            0.0
        }
    }
}

impl Callee {
    /// Listens on this machine, and tells `books` of each call.
    pub(crate) async fn listen(
        conduct: Conduct,
        delay: Duration,
        books: Rc<dyn CallBooks>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("http://{}/", listener.local_addr()?);
        let seen = Rc::new(Cell::new(CallsSeen::default()));
        let shared = Rc::clone(&seen);
        let away = Rc::new(Cell::new(None));
        let until = Rc::clone(&away);
        let listening = spawn_local(async move {
            // A gateway opens some tens of connections.
            while let Ok((stream, _)) = listener.accept().await {
                let connection = CallerLine {
                    stream,
                    bytes: Vec::new(),
                    conduct,
                    delay,
                    seen: Rc::clone(&shared),
                    away: Rc::clone(&until),
                };
                let books = Rc::clone(&books);
                // The gateway may end a connection at any time, and repeats a call that has no answer.
                spawn_local(async move { drop(connection.serve(&*books).await) });
            }
        });
        Ok(Self {
            conduct,
            url,
            seen,
            away,
            listening,
        })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// True if it answers each call at once, so that nothing waits for it in the end.
    pub(crate) fn is_well(&self) -> bool {
        self.conduct == Conduct::Ok
    }

    /// Goes away until this time: each call ends with its connection and without an answer.
    pub(crate) fn leave_until(&self, until: Instant) {
        self.away.set(Some(until));
    }

    /// Counts from now on. Calls under way go on.
    pub(crate) fn forget(&self) {
        let under_way = self.seen.get().under_way;
        self.seen.set(CallsSeen {
            at_once: under_way,
            under_way,
            ..CallsSeen::default()
        });
    }

    pub(crate) fn seen(&self) -> CallsSeen {
        self.seen.get()
    }
}

impl Drop for Callee {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl CallerLine {
    async fn serve(mut self, books: &dyn CallBooks) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        let is_taken = matches!(self.conduct, Conduct::Ok | Conduct::Slow);
        let answer: &[u8] = match is_taken {
            true => b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            false => b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n",
        };
        while let Some(body) = self.request().await? {
            let open = OpenCall::begin(&self.seen);
            if self.away.get().is_some_and(|until| Instant::now() < until) {
                return Ok(());
            }
            books.call(&self.bytes[body.clone()], is_taken);
            self.bytes.drain(..body.end);
            match self.conduct {
                Conduct::Slow => sleep(self.delay).await,
                Conduct::Dead => {
                    // The gateway's patience ends the connection.
                    let mut nothing = [0; 1024];
                    while self.stream.read(&mut nothing).await? > 0 {}
                    return Ok(());
                }
                Conduct::None | Conduct::Ok | Conduct::Failing => {}
            }
            drop(open);
            self.stream.write_all(answer).await?;
        }
        Ok(())
    }

    /// Waits until a whole request is in `bytes`, and returns the place of its body. `None`: the connection has ended.
    async fn request(&mut self) -> io::Result<Option<Range<usize>>> {
        loop {
            if let Some(body) = body_of(&self.bytes)? {
                return Ok(Some(body));
            }
            if self.stream.read_buf(&mut self.bytes).await? == 0 {
                return Ok(None);
            }
        }
    }
}

impl<'a> OpenCall<'a> {
    fn begin(seen: &'a Cell<CallsSeen>) -> Self {
        let now = Instant::now();
        let mut calls = seen.get();
        calls.calls += 1;
        calls.under_way += 1;
        calls.at_once = calls.at_once.max(calls.under_way);
        calls.first.get_or_insert(now);
        calls.last = Some(now);
        seen.set(calls);
        Self(seen)
    }
}

impl Drop for OpenCall<'_> {
    fn drop(&mut self) {
        let mut calls = self.0.get();
        calls.under_way -= 1;
        self.0.set(calls);
    }
}

/// The place of the body of the first request. `None`: more bytes must come.
fn body_of(bytes: &[u8]) -> io::Result<Option<Range<usize>>> {
    const END: &[u8] = b"\r\n\r\n";
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "no POST with a length");
    if bytes.len() > CALL_BYTES_MAX {
        return Err(broken());
    }
    let Some(end) = bytes.windows(END.len()).position(|window| window == END) else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| broken())?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim())
    });
    let length: usize = length
        .and_then(|length| length.parse().ok())
        .ok_or_else(broken)?;
    let begin = end + END.len();
    let end = begin.checked_add(length).ok_or_else(broken)?;
    Ok((bytes.len() >= end).then_some(begin..end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_whole_only_with_its_last_byte() {
        let request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}POST";
        let whole = request.len() - 4;
        for bytes in 0..whole {
            assert_eq!(body_of(&request[..bytes]).unwrap(), None);
        }
        assert_eq!(body_of(request).unwrap(), Some(whole - 2..whole));
        assert!(body_of(b"POST / HTTP/1.1\r\nHost: a\r\n\r\n").is_err());
    }
}
