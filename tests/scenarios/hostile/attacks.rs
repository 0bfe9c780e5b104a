//! Hostile clients, one kind after the other, and first of all none. They run on a thread of their own, at a limited rate,
//! and with a lower priority than all others, because they share the gateway's cores. With cores of their own they could do
//! more; that is only a question of their number.

use std::{cell::Cell, io, net::SocketAddr, pin::Pin, rc::Rc, thread::JoinHandle, time::Duration};

use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    sync::oneshot,
    task::{LocalSet, spawn_local},
    time::{Instant, sleep_until, timeout},
};
use towncrier::protocol::towncrier_v1::proto::{
    Ack, ClientFrame, Connect, Fetch, client_frame::Body,
};
use towncrier_websocket::frame::masked;

/// The number of loopback addresses that they come from, from 127.0.0.16 on. Honest clients come from 127.0.0.1.
const ADDRESSES: u64 = 16;
/// The frames in one write of a flood.
pub(super) const FRAMES_AT_ONCE: usize = 1000;
/// A client whose write is not taken for this long opens a new connection.
const IMPATIENCE: Duration = Duration::from_millis(200);

type Work = Pin<Box<dyn Future<Output = io::Result<()>>>>;

/// One kind of attack.
pub(super) struct Attack {
    pub(super) name: &'static str,
    /// True if it needs a port with TLS.
    pub(super) needs_tls: bool,
    /// The number of clients at a time.
    pub(super) clients: usize,
    /// The most actions of all clients together in a second.
    pub(super) per_second: u32,
    /// The labels under which the gateway counts them, each at least once.
    pub(super) ends: &'static [&'static str],
    /// Runs one client to its end; another one follows.
    run: fn(Rc<Ground>, usize) -> Work,
}

/// The attacked gateway.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) clients: SocketAddr,
    /// Tokens of users with a large backlog: one for each client that logs in.
    pub(super) tokens: Vec<String>,
}

/// The state that all clients of an attack share.
struct Ground {
    target: Target,
    interval: Duration,
    due: Cell<Instant>,
    done: Cell<u64>,
}

/// An attack under way.
pub(super) struct Assault {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Tally>,
}

/// The result of an attack.
pub(super) struct Tally {
    pub(super) per_second: f64,
    /// The processor time, as a share of one core.
    pub(super) cpu_share: f64,
}

/// All attacks.
pub(super) const ATTACKS: [Attack; 16] = [
    Attack {
        name: "none: another program, 3 ms in 10",
        needs_tls: false,
        clients: 1,
        per_second: 100,
        ends: &[],
        run: |ground, _| Box::pin(use_processor(ground)),
    },
    Attack {
        name: "TCP: silence, 2,000 at a time",
        needs_tls: false,
        clients: 2000,
        per_second: 1000,
        ends: &["handshake"],
        run: |ground, _| Box::pin(hold(ground, b"")),
    },
    Attack {
        name: "TLS: half a ClientHello, 2,000 at a time",
        needs_tls: true,
        clients: 2000,
        per_second: 1000,
        ends: &["tls"],
        run: |ground, _| {
            Box::pin(hold(
                ground,
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            ))
        },
    },
    Attack {
        name: "upgrade: a byte at a time, 500 at a time",
        needs_tls: false,
        clients: 500,
        per_second: 5000,
        ends: &["handshake"],
        run: |ground, _| Box::pin(drip(ground, false)),
    },
    Attack {
        name: "Connect: a byte at a time, 500 at a time",
        needs_tls: false,
        clients: 500,
        per_second: 5000,
        ends: &["4508"],
        run: |ground, _| Box::pin(drip(ground, true)),
    },
    Attack {
        name: "pings, 1,000 a write",
        needs_tls: false,
        clients: 50,
        per_second: 100,
        ends: &[],
        run: |ground, n| Box::pin(flood(ground, n, Vec::new(), frame(0x89, b""), true)),
    },
    Attack {
        name: "unknown bytes in a frame",
        needs_tls: false,
        clients: 20,
        per_second: 300,
        ends: &["4400"],
        run: |ground, _| Box::pin(say_once(ground, "", frame(0x82, &[0xff; 40]))),
    },
    Attack {
        name: "fragments of 1 byte, 1,000 a write",
        needs_tls: false,
        clients: 50,
        per_second: 100,
        ends: &["1009"],
        run: |ground, n| {
            Box::pin(flood(
                ground,
                n,
                frame(2, &[0; 63_000]),
                frame(0, b"a"),
                true,
            ))
        },
    },
    Attack {
        name: "old acks, 1,000 a write",
        needs_tls: false,
        clients: 50,
        per_second: 100,
        ends: &[],
        run: |ground, n| {
            let ack = said(Body::Ack(Ack { seq: 0 }));
            Box::pin(flood(ground, n, Vec::new(), ack, true))
        },
    },
    Attack {
        name: "Fetch of 500, read",
        needs_tls: false,
        clients: 50,
        per_second: 300,
        ends: &[],
        run: |ground, n| Box::pin(fetch(ground, n, 1, true)),
    },
    Attack {
        name: "Fetch of 500, 100 a write, never read",
        needs_tls: false,
        clients: 50,
        per_second: 100,
        ends: &[],
        run: |ground, n| Box::pin(fetch(ground, n, 100, false)),
    },
    Attack {
        name: "a large backlog, never read",
        needs_tls: false,
        clients: 50,
        per_second: 50,
        ends: &[],
        run: |ground, n| Box::pin(ignore_backlog(ground, n)),
    },
    Attack {
        name: "headers of 40 KiB",
        needs_tls: false,
        clients: 20,
        per_second: 300,
        ends: &["handshake"],
        run: |ground, _| Box::pin(swell(ground)),
    },
    Attack {
        name: "8,000 silent sockets",
        needs_tls: false,
        clients: 8000,
        per_second: 4000,
        ends: &["handshake"],
        run: |ground, _| Box::pin(hold(ground, b"GET /ws HTTP/1.1\r\n")),
    },
    Attack {
        name: "guessed tokens",
        needs_tls: false,
        clients: 20,
        per_second: 500,
        ends: &["4401", "bad_tokens"],
        run: |ground, _| {
            let guess = format!("a.guessed.{}", fastrand::u64(..));
            Box::pin(say_once(ground, "", hello(&guess)))
        },
    },
    Attack {
        name: "permessage-deflate, offered and used",
        needs_tls: false,
        clients: 20,
        per_second: 200,
        ends: &["1002"],
        run: |ground, _| {
            const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
            // RFC 7692 section 7.2.3.1: "Hello", compressed.
            let hello = frame(0xc2, &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]);
            Box::pin(say_once(ground, OFFER, hello))
        },
    },
];

impl Assault {
    /// Begins an attack with a share of its rate and number.
    pub(super) fn begin(attack: &Attack, target: &Target, share: f64) -> Self {
        let (stop, stopped) = oneshot::channel();
        let target = target.clone();
        let run = attack.run;
        let clients = (attack.clients as f64 * share).ceil() as usize;
        let interval = Duration::from_secs(1).div_f64(f64::from(attack.per_second) * share);
        let thread = std::thread::spawn(move || {
            // On Linux this changes only the calling thread.
            rustix::process::setpriority_process(None, 10).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let begin = Instant::now();
            let ground = Rc::new(Ground {
                target,
                interval,
                due: Cell::new(begin),
                done: Cell::new(0),
            });
            let local = LocalSet::new();
            local.block_on(&runtime, async {
                for number in 0..clients {
                    let ground = Rc::clone(&ground);
                    spawn_local(async move {
                        loop {
                            // After a cut, a refusal or an answer the next client comes.
                            let _ = run(Rc::clone(&ground), number).await;
                        }
                    });
                }
                let _ = stopped.await;
            });
            let lasted = begin.elapsed().as_secs_f64();
            let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
            Tally {
                per_second: ground.done.get() as f64 / lasted,
                cpu_share: (used.tv_sec as f64 + used.tv_nsec as f64 / 1e9) / lasted,
            }
        });
        Self { stop, thread }
    }

    /// Ends the attack and cuts all of its connections.
    pub(super) async fn end(self) -> Tally {
        let _ = self.stop.send(());
        let thread = self.thread;
        let ended = tokio::task::spawn_blocking(move || thread.join().unwrap());
        ended.await.unwrap()
    }
}

impl Ground {
    /// Waits for the turn of the next action. Missed actions are not made up for.
    async fn pace(&self) {
        let due = self.due.get().max(Instant::now() - self.interval);
        self.due.set(due + self.interval);
        sleep_until(due).await;
        self.done.set(self.done.get() + 1);
    }

    async fn dial(&self, receive_bytes: Option<u32>) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        if let Some(bytes) = receive_bytes {
            socket.set_recv_buffer_size(bytes)?;
        }
        let address = 16 + (self.done.get() % ADDRESSES) as u8;
        socket.bind(([127, 0, 0, address], 0).into())?;
        socket.connect(self.target.clients).await
    }

    /// An upgraded connection.
    async fn upgrade(&self, receive_bytes: Option<u32>, header: &str) -> io::Result<TcpStream> {
        let mut stream = self.dial(receive_bytes).await?;
        stream.write_all(request(header).as_bytes()).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await?);
        }
        let answer = String::from_utf8_lossy(&answer).to_lowercase();
        assert!(!answer.contains("sec-websocket-extensions"), "{answer}");
        if answer.starts_with("http/1.1 101") {
            return Ok(stream);
        }
        Err(io::ErrorKind::ConnectionRefused.into())
    }

    async fn log_in(&self, number: usize, receive_bytes: Option<u32>) -> io::Result<TcpStream> {
        let mut stream = self.upgrade(receive_bytes, "").await?;
        let hello = hello(&self.target.tokens[number % self.target.tokens.len()]);
        stream.write_all(&hello).await?;
        Ok(stream)
    }
}

/// Only uses processor time of the gateway's cores, as every attack does.
async fn use_processor(ground: Rc<Ground>) -> io::Result<()> {
    ground.pace().await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(3) {
        std::hint::spin_loop();
    }
    Ok(())
}

/// Sends these bytes and holds the connection until it is cut off.
async fn hold(ground: Rc<Ground>, said: &[u8]) -> io::Result<()> {
    ground.pace().await;
    let mut stream = ground.dial(None).await?;
    stream.write_all(said).await?;
    stream.read_u8().await.map(drop)
}

/// Sends a valid request so slowly that it never ends.
async fn drip(ground: Rc<Ground>, is_upgraded: bool) -> io::Result<()> {
    ground.pace().await;
    let (mut stream, said) = if is_upgraded {
        (ground.upgrade(None, "").await?, hello(&"x".repeat(1000)))
    } else {
        (ground.dial(None).await?, request("").into_bytes())
    };
    for byte in said {
        ground.pace().await;
        stream.write_u8(byte).await?;
    }
    stream.read_u8().await.map(drop)
}

/// Sends one message on an upgraded connection, and reads to the end.
async fn say_once(ground: Rc<Ground>, header: &str, said: Vec<u8>) -> io::Result<()> {
    ground.pace().await;
    let mut stream = ground.upgrade(None, header).await?;
    stream.write_all(&said).await?;
    stream.read_to_end(&mut Vec::new()).await.map(drop)
}

async fn swell(ground: Rc<Ground>) -> io::Result<()> {
    ground.pace().await;
    let mut stream = ground.dial(None).await?;
    let cookie = format!("Cookie: {}\r\n", "x".repeat(40 * 1024));
    stream.write_all(request(&cookie).as_bytes()).await?;
    stream.read_to_end(&mut Vec::new()).await.map(drop)
}

/// A session that sends `first` and then repeats one message.
async fn flood(
    ground: Rc<Ground>,
    number: usize,
    first: Vec<u8>,
    again: Vec<u8>,
    reads: bool,
) -> io::Result<()> {
    ground.pace().await;
    let stream = ground.log_in(number, None).await?;
    let (mut from, mut to) = stream.into_split();
    if reads {
        spawn_local(async move { tokio::io::copy(&mut from, &mut tokio::io::sink()).await });
    }
    to.write_all(&first).await?;
    let again = again.repeat(FRAMES_AT_ONCE);
    loop {
        ground.pace().await;
        timeout(IMPATIENCE, to.write_all(&again)).await??;
    }
}

async fn fetch(ground: Rc<Ground>, number: usize, at_once: usize, reads: bool) -> io::Result<()> {
    ground.pace().await;
    let stream = ground.log_in(number, None).await?;
    let (mut from, mut to) = stream.into_split();
    // Dropped at the end and not earlier, because a connection that is not read has to stay open.
    let _unread = if reads {
        spawn_local(async move { tokio::io::copy(&mut from, &mut tokio::io::sink()).await });
        None
    } else {
        Some(from)
    };
    let fetch = said(Body::Fetch(Fetch {
        request_id: 1,
        after_seq: 0,
        limit: 500,
    }));
    let fetches = fetch.repeat(at_once);
    loop {
        ground.pace().await;
        timeout(IMPATIENCE, to.write_all(&fetches)).await??;
    }
}

/// Reads as little of its backlog as the kernel allows, and reconnects for more.
async fn ignore_backlog(ground: Rc<Ground>, number: usize) -> io::Result<()> {
    ground.pace().await;
    let stream = ground.log_in(number, Some(4096)).await?;
    ground.pace().await;
    drop(stream);
    Ok(())
}

fn request(header: &str) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{header}\r\n"
    )
}

fn hello(token: &str) -> Vec<u8> {
    said(Body::Connect(Connect {
        token: token.into(),
        ..Connect::default()
    }))
}

fn said(body: Body) -> Vec<u8> {
    frame(0x82, &ClientFrame { body: Some(body) }.encode_to_vec())
}

/// A frame with a mask of zeros, which masks nothing.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    masked(first, payload, [0; 4])
}
