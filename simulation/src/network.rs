//! A network that delays, stalls, cuts and loses: byte streams between devices and the gateway.
//!
//! The bytes of one connection keep their order, as with TCP. Between connections there is no order. A half-open connection
//! swallows all bytes written to it, and tells neither end. Bytes that a process writes after its death are never sent.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io,
    net::IpAddr,
    pin::Pin,
    rc::{Rc, Weak},
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use fastrand::Rng;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
    time::{Instant, Sleep, sleep, sleep_until},
};

use super::{process::Life, trace::note};
use towncrier::door::ClientSource;

/// The longest delay of a byte on a healthy network, in ms.
const DELAY_MS_MAX: u64 = 80;

/// An end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Device,
    Gateway,
}

/// All connections. Cheap to clone; clones are the same network.
#[derive(Clone)]
pub(super) struct Network(Rc<RefCell<Net>>);

struct Net {
    random: Rng,
    /// The bytes that one direction of a connection holds on their way: the sockets' buffers and the link.
    way_bytes_max: usize,
    /// The listeners of the running gateway; empty: nothing listens.
    doors: Vec<Rc<Door>>,
    /// The process of the running gateway.
    life: Option<Arc<Life>>,
    links: Vec<(usize, Weak<RefCell<Link>>)>,
    /// The end of each device's outage. Until then the device has no network.
    outages: Vec<Option<Instant>>,
}

/// One reactor's listener.
struct Door {
    waiting: RefCell<VecDeque<(End, usize)>>,
    knocked: Notify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Whole,
    /// Swallows all bytes.
    HalfOpen,
    /// The machine at the other end has forgotten the connection. A write is answered with a reset.
    Forgotten,
    Reset,
}

struct Link {
    fate: Fate,
    /// The directions from the device, and to it.
    ways: [Way; 2],
}

struct Way {
    chunks: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    /// The time at which the end of the stream arrives.
    end: Option<Instant>,
    /// No byte arrives before this time.
    stalled_until: Instant,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Way {
    fn new() -> Self {
        Self {
            chunks: VecDeque::new(),
            bytes: 0,
            end: None,
            stalled_until: Instant::now(),
            reader: None,
            writer: None,
        }
    }

    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()]
            .into_iter()
            .flatten()
        {
            waker.wake();
        }
    }
}

/// One end of a connection.
pub(super) struct End {
    link: Rc<RefCell<Link>>,
    side: Side,
    network: Network,
    /// The gateway's process, at the gateway's end.
    life: Option<Arc<Life>>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Network {
    pub(super) fn new(random: Rng, devices: usize, way_bytes_max: usize) -> Self {
        Self(Rc::new(RefCell::new(Net {
            random,
            way_bytes_max,
            doors: Vec::new(),
            life: None,
            links: Vec::new(),
            outages: vec![None; devices],
        })))
    }

    /// The gateway listens, once for each reactor. The connections of an earlier gateway are forgotten.
    pub(super) fn listen(
        &self,
        reactors: usize,
        life: Arc<Life>,
    ) -> Vec<impl ClientSource + use<>> {
        for link in self.links(None) {
            let fate = &mut link.borrow_mut().fate;
            if *fate == Fate::HalfOpen {
                *fate = Fate::Forgotten;
            }
        }
        let door = || {
            Rc::new(Door {
                waiting: RefCell::default(),
                knocked: Notify::new(),
            })
        };
        let doors: Vec<_> = (0..reactors).map(|_| door()).collect();
        let net = &mut *self.0.borrow_mut();
        net.doors.clone_from(&doors);
        net.life = Some(life);
        doors.into_iter().map(Doorway).collect()
    }

    /// Ends the listening. With `is_silent` the machine is gone, so connections end without a goodbye.
    pub(super) fn hang_up(&self, is_silent: bool) {
        self.0.borrow_mut().doors.clear();
        if is_silent {
            self.half_open(None);
        }
    }

    /// A device connects.
    pub(super) async fn connect(&self, device: usize) -> io::Result<End> {
        let until = self.0.borrow().outages[device];
        if let Some(until) = until.filter(|until| *until > Instant::now()) {
            sleep_until(until).await;
            return Err(io::ErrorKind::HostUnreachable.into());
        }
        let delay = self.delay();
        sleep(delay).await;
        let (door, life) = {
            let net = &mut *self.0.borrow_mut();
            let Some(count) = Some(net.doors.len()).filter(|count| *count > 0) else {
                return Err(io::ErrorKind::ConnectionRefused.into());
            };
            (
                net.doors[net.random.usize(..count)].clone(),
                net.life.clone(),
            )
        };
        let link = Rc::new(RefCell::new(Link {
            fate: Fate::Whole,
            ways: [Way::new(), Way::new()],
        }));
        let mut net = self.0.borrow_mut();
        net.links.retain(|(_, link)| link.strong_count() > 0);
        net.links.push((device, Rc::downgrade(&link)));
        drop(net);
        let end = |side, life| End {
            link: link.clone(),
            side,
            network: self.clone(),
            life,
            timer: None,
        };
        door.waiting
            .borrow_mut()
            .push_back((end(Side::Gateway, life), device));
        door.knocked.notify_one();
        Ok(end(Side::Device, None))
    }

    /// Cuts a device's connections. Both ends are told at once.
    pub(super) fn cut(&self, device: usize) {
        for link in self.links(Some(device)) {
            reset(&mut link.borrow_mut());
        }
    }

    /// From now on a device's connections, or all, swallow all bytes.
    pub(super) fn half_open(&self, device: Option<usize>) {
        for link in self.links(device) {
            let link = &mut *link.borrow_mut();
            if link.fate == Fate::Whole {
                link.fate = Fate::HalfOpen;
            }
        }
    }

    /// The bytes that `side` writes do not arrive for some time.
    pub(super) fn stall(&self, device: usize, side: Side, time: Duration) {
        for link in self.links(Some(device)) {
            link.borrow_mut().ways[side as usize].stalled_until = Instant::now() + time;
        }
    }

    /// A device has no network for some time: its connections are half-open, and new ones time out.
    pub(super) fn outage(&self, device: usize, time: Duration) {
        self.half_open(Some(device));
        self.0.borrow_mut().outages[device] = Some(Instant::now() + time);
    }

    /// Ends all faults. Half-open connections stay half-open.
    pub(super) fn heal(&self) {
        self.0.borrow_mut().outages.fill(None);
        for link in self.links(None) {
            let link = &mut *link.borrow_mut();
            for way in &mut link.ways {
                way.stalled_until = Instant::now();
                way.wake();
            }
        }
    }

    fn links(&self, device: Option<usize>) -> Vec<Rc<RefCell<Link>>> {
        let net = self.0.borrow();
        let of_device = net
            .links
            .iter()
            .filter(|(owner, _)| device.is_none_or(|device| device == *owner));
        of_device.filter_map(|(_, link)| link.upgrade()).collect()
    }

    fn delay(&self) -> Duration {
        let random = &mut self.0.borrow_mut().random;
        // Delays are mostly short, sometimes long.
        let most = if random.u8(..8) == 0 { DELAY_MS_MAX } else { 4 };
        Duration::from_millis(random.u64(..=most))
    }

    /// The part of `count` bytes that is taken at once.
    fn part(&self, count: usize) -> usize {
        let random = &mut self.0.borrow_mut().random;
        match random.u8(..8) {
            0 => random.usize(1..=count),
            _ => count,
        }
    }
}

fn reset(link: &mut Link) {
    link.fate = Fate::Reset;
    link.ways.iter_mut().for_each(Way::wake);
}

struct Doorway(Rc<Door>);

impl ClientSource for Doorway {
    type Stream = End;

    async fn accept(&self) -> io::Result<(End, IpAddr)> {
        loop {
            if let Some((end, device)) = self.0.waiting.borrow_mut().pop_front() {
                return Ok((end, IpAddr::from([10, 0, 0, device as u8])));
            }
            self.0.knocked.notified().await;
        }
    }
}

impl End {
    fn is_dead(&self) -> bool {
        self.life.as_ref().is_some_and(|life| life.is_dead())
    }

    fn write(&self, cx: &Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.is_dead() {
            return Poll::Pending;
        }
        let link = &mut *self.link.borrow_mut();
        if link.fate == Fate::Forgotten && self.side == Side::Device {
            reset(link);
        }
        let way = &mut link.ways[self.side as usize];
        if link.fate == Fate::Reset || way.end.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
        let room = self.network.0.borrow().way_bytes_max;
        let room = room.saturating_sub(way.bytes).min(wanted);
        if wanted == 0 {
            return Poll::Ready(Ok(0));
        }
        if room == 0 {
            way.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = self.network.part(room);
        let bytes = slices.iter().flat_map(|slice| slice.iter().copied());
        let arrives = Instant::now() + self.network.delay();
        let arrives = way
            .chunks
            .back()
            .map_or(arrives, |(last, _)| arrives.max(*last));
        way.chunks.push_back((arrives, bytes.take(count).collect()));
        way.bytes += count;
        if let Some(reader) = way.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(count))
    }

    /// Waits until `due`.
    fn wait(&mut self, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if timer.deadline() != due {
            timer.as_mut().reset(due);
        }
        timer.as_mut().poll(cx)
    }
}

impl AsyncRead for End {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        if me.is_dead() {
            return Poll::Pending;
        }
        loop {
            let due = {
                let link = &mut *me.link.borrow_mut();
                let way = &mut link.ways[1 - me.side as usize];
                match link.fate {
                    Fate::Reset => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                    Fate::HalfOpen | Fate::Forgotten => {
                        way.reader = Some(cx.waker().clone());
                        return Poll::Pending;
                    }
                    Fate::Whole => {}
                }
                let first = way.chunks.front().map(|(due, _)| *due).or(way.end);
                let Some(due) = first.map(|due| due.max(way.stalled_until)) else {
                    way.reader = Some(cx.waker().clone());
                    return Poll::Pending;
                };
                if due <= Instant::now() {
                    let Some((_, chunk)) = way.chunks.front_mut() else {
                        return Poll::Ready(Ok(()));
                    };
                    let count = me.network.part(chunk.len().min(buffer.remaining()));
                    buffer.put_slice(&chunk[..count]);
                    chunk.drain(..count);
                    if chunk.is_empty() {
                        way.chunks.pop_front();
                    }
                    way.bytes -= count;
                    if let Some(writer) = way.writer.take() {
                        writer.wake();
                    }
                    return Poll::Ready(Ok(()));
                }
                // A cut must wake a reader that waits for bytes on their way.
                way.reader = Some(cx.waker().clone());
                due
            };
            ready!(me.wait(cx, due));
        }
    }
}

impl AsyncWrite for End {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_dead() {
            let way = &mut self.link.borrow_mut().ways[self.side as usize];
            way.end.get_or_insert_with(|| {
                let last = way
                    .chunks
                    .back()
                    .map_or_else(Instant::now, |(last, _)| *last);
                last + self.network.delay()
            });
            way.wake();
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        note(format_args!("an end at the {:?} is gone", self.side));
        let link = &mut *self.link.borrow_mut();
        if link.fate != Fate::Whole {
            return;
        }
        // A close with unread bytes resets the connection. The other end then loses the bytes that it had not read.
        let has_unread = !link.ways[1 - self.side as usize].chunks.is_empty();
        if has_unread || self.network.part(8) < 8 {
            return reset(link);
        }
        let delay = self.network.delay();
        let way = &mut link.ways[self.side as usize];
        let last = way
            .chunks
            .back()
            .map_or_else(Instant::now, |(last, _)| *last);
        way.end.get_or_insert(last + delay);
        way.wake();
        // No one reads the bytes that the other end still writes.
        link.ways[1 - self.side as usize]
            .end
            .get_or_insert_with(Instant::now);
        link.ways[1 - self.side as usize].wake();
    }
}
