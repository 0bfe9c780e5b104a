//! The bytes on the wire: always whole frames in the right order, for every size of write, and for every event while a
//! frame is half written.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context as Cx, Poll, Waker},
};

use prost::Message as _;
use tokio::io::ReadBuf;

use super::{
    super::{outbox::WRITE_BYTES_MAX, socket::TURN_READ_BYTES, task::TURN_STEPS},
    fixture::{Heard, frames},
    *,
};
use crate::protocol::towncrier_v1::proto::ClientFrame;

/// A socket whose other end takes as many bytes as the test allows, and gives one byte at a time.
#[derive(Clone, Default)]
struct Wire(Rc<RefCell<WireState>>);

#[derive(Default)]
struct WireState {
    input: VecDeque<u8>,
    is_input_over: bool,
    output: Vec<u8>,
    is_output_over: bool,
    /// The number of bytes that it still takes, and the number per write.
    allowance: usize,
    step: usize,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Wire {
    fn say(&self, bytes: &[u8]) {
        let mut wire = self.0.borrow_mut();
        wire.input.extend(bytes);
        wire.reader.take().into_iter().for_each(Waker::wake);
    }

    fn half_close(&self) {
        let mut wire = self.0.borrow_mut();
        wire.is_input_over = true;
        wire.reader.take().into_iter().for_each(Waker::wake);
    }

    fn allow(&self, bytes: usize, step: usize) {
        let mut wire = self.0.borrow_mut();
        (wire.allowance, wire.step) = (bytes, step);
        wire.writer.take().into_iter().for_each(Waker::wake);
    }

    fn heard(&self) -> Vec<Heard> {
        frames(&std::mem::take(&mut self.0.borrow_mut().output))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Cx<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut wire = self.0.borrow_mut();
        match wire.input.pop_front() {
            Some(byte) => buffer.put_slice(&[byte]),
            None if wire.is_input_over => {}
            None => {
                wire.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Cx<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Cx<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut wire = self.0.borrow_mut();
        let all = slices.iter().flat_map(|slice| slice.iter());
        let taken: Vec<u8> = all.take(wire.allowance.min(wire.step)).copied().collect();
        if taken.is_empty() {
            wire.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        assert!(!wire.is_output_over, "nothing is written after the end");
        wire.allowance -= taken.len();
        wire.output.extend(&taken);
        Poll::Ready(Ok(taken.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Cx<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Cx<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().is_output_over = true;
        Poll::Ready(Ok(()))
    }
}

/// A client's frame.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    towncrier_websocket::frame::masked(first, payload, [1, 2, 3, 4])
}

fn say(body: client_frame::Body) -> Vec<u8> {
    let payload = ClientFrame { body: Some(body) }.encode_to_vec();
    let (begin, end) = payload.split_at(payload.len().min(125));
    match end.chunks(125).collect::<Vec<_>>()[..] {
        [] => masked(0x82, begin),
        [ref middle @ .., last] => {
            let mut bytes = masked(0x02, begin);
            middle
                .iter()
                .for_each(|part| bytes.extend(masked(0x00, part)));
            bytes.extend(masked(0x80, last));
            bytes
        }
    }
}

impl Bench {
    /// A live session of a new user over a wire.
    async fn wire(&mut self) -> (String, Wire, JoinHandle<()>) {
        let (user, wire, task) = self.begin_wire().await;
        let heard = wire.heard();
        assert!(
            matches!(
                heard[..],
                [
                    Heard::Body(Body::Connected(_)),
                    Heard::Body(Body::CaughtUp(_))
                ]
            ),
            "{heard:?}"
        );
        (user, wire, task)
    }

    /// A session over a wire; the first frames for it wait there.
    async fn begin_wire(&mut self) -> (String, Wire, JoinHandle<()>) {
        let user = format!("u{}", self.connections.len());
        let wire = Wire::default();
        wire.allow(usize::MAX, usize::MAX);
        let id = ConnectionId(self.connections.len() as u64);
        let deadline = self.context.now().plus(Duration::from_secs(10));
        // The first bytes of the client's `Connect` came together with its handshake.
        let mut connect = say(client_frame::Body::Connect(
            self.world.connect(&user, Platform::Web),
        ));
        let later = connect.split_off(connect.len() / 2);
        let (handle, task) = open(
            Rc::clone(&self.context),
            id,
            Box::new(TowncrierV1),
            wire.clone(),
            connect,
            deadline,
            self.world.arrival(),
        );
        self.connections.push(handle);
        let task = spawn_local(task);
        wire.say(&later);
        rest().await;
        (user, wire, task)
    }
}

/// One turn of all ready tasks. For a task of the thread; the test's own future has fewer turns.
async fn turn() {
    let mut had_its = false;
    std::future::poll_fn(|cx| {
        cx.waker().wake_by_ref();
        if std::mem::replace(&mut had_its, true) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await
}

#[test]
fn whoever_says_and_takes_much_does_so_a_turn_at_a_time() {
    run(async {
        let mut bench = Bench::new();
        bench.world.send("u0", &[b'x'; 60_000]);
        bench.world.send("u0", b"short");
        let (_, wire, _) = bench.begin_wire().await;
        wire.heard();
        let fetch = |after_seq| {
            say(client_frame::Body::Fetch(Fetch {
                request_id: 1,
                after_seq,
                limit: 500,
            }))
        };
        // Some answers are whole after every turn, and one takes several turns.
        let floods = [
            (masked(0x89, &[]), 10_000, true),
            (say(ack(0)), 10_000, true),
            (fetch(1), 10_000, true),
            (fetch(0), 100, false),
        ];
        let observer = spawn_local(async move {
            for (frame, count, is_whole) in floods {
                wire.say(&frame.repeat(count));
                loop {
                    let before = wire.0.borrow().input.len();
                    turn().await;
                    let left = wire.0.borrow().input.len();
                    assert!(before - left <= TURN_READ_BYTES);
                    let output = std::mem::take(&mut wire.0.borrow_mut().output);
                    assert!(output.len() <= 2 * WRITE_BYTES_MAX);
                    if is_whole {
                        let heard = frames(&output);
                        let is_answer =
                            |heard: &&Heard| matches!(heard, Heard::Body(Body::Fetched(_)));
                        assert!(heard.iter().filter(is_answer).count() <= TURN_STEPS);
                    }
                    // The last frames may have been read and still wait for their turn.
                    if left == 0 && output.is_empty() {
                        break;
                    }
                }
            }
        });
        observer.await.unwrap();
    });
}

/// An event while a push is half written.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Incident {
    Pings,
    Close,
    Violation,
    LogOut,
    Drain,
    Stall,
    HalfClose,
}

#[test]
fn a_write_that_stops_anywhere_leaves_whole_frames_whatever_happens_meanwhile() {
    use Incident::*;
    run(async {
        const CONTENT: [u8; 130] = [b'x'; 130];
        let mut bench = Bench::new();
        let (user, wire, _) = bench.wire().await;
        bench.world.send(&user, &CONTENT);
        bench.hand_out();
        rest().await;
        let push = wire.0.borrow().output.len();
        assert!((150..250).contains(&push), "{push}");
        for incident in [Pings, Close, Violation, LogOut, Drain, Stall, HalfClose] {
            // Three bytes more, because the ids that follow are longer.
            for at in 0..push + 3 {
                for step in [1, usize::MAX] {
                    half_written(&mut bench, &CONTENT, incident, at, step).await;
                }
            }
        }
    });
}

async fn half_written(
    bench: &mut Bench,
    content: &[u8],
    incident: Incident,
    at: usize,
    step: usize,
) {
    let (user, wire, task) = bench.wire().await;
    wire.allow(at, step);
    bench.world.send(&user, content);
    bench.hand_out();
    rest().await;
    let written = wire.0.borrow().output.len();
    let is_begun = written > 0;
    let is_whole = bench
        .connections
        .last()
        .is_some_and(|c| c.borrow().outbox.is_empty());
    match incident {
        Incident::Pings => {
            let nonce = client_frame::Body::Ping(Ping { nonce: 7 });
            wire.say(&[masked(0x89, b"1"), masked(0x89, b""), say(nonce)].concat());
        }
        // The gateway ignores everything that a client sends after its close.
        Incident::Close => wire.say(&[masked(0x88, &[0x0f, 0xa0]), masked(0x89, b"late")].concat()),
        Incident::Violation => wire.say(&[0x82, 0x00]),
        Incident::LogOut => {
            let id = UserId::new(&user).unwrap();
            assert_eq!(bench.world.registry.log_out(&id, Platform::Web), 1);
            bench.hand_out();
        }
        Incident::Drain => bench
            .connections
            .last()
            .unwrap()
            .borrow_mut()
            .drain(Duration::from_secs(1)),
        Incident::Stall => {
            advance(bench.context.session.stall_timeout).await;
            let last = bench.connections.last().unwrap();
            last.borrow_mut().tick(bench.context.now());
        }
        Incident::HalfClose => wire.half_close(),
    }
    rest().await;
    let so_far = wire.0.borrow().output.len();
    assert!(is_whole || so_far == written, "nothing gets past the gate");
    wire.allow(usize::MAX, step);
    rest().await;
    let context = format!("{incident:?} at {at} by {step}");
    if incident == Incident::HalfClose {
        assert!(task.is_finished(), "{context}");
        assert_eq!(wire.0.borrow().output.len(), written, "{context}");
        return;
    }
    let is_over = wire.0.borrow().is_output_over;
    let mut heard = wire.heard().into_iter();
    // After the client's close, and after a stall, our close frame replaces the frames that were not begun.
    let is_dropped = !is_begun && matches!(incident, Incident::Close | Incident::Stall);
    if !is_dropped {
        let first = heard.next();
        let Some(Heard::Body(Body::Push(push))) = first else {
            panic!("{first:?}, {context}")
        };
        assert_eq!(push.messages[0].content, content, "{context}");
    }
    let rest: Vec<_> = heard.collect();
    let is_as_expected = match (incident, &rest[..]) {
        (
            Incident::Pings,
            [
                Heard::Pong(one),
                Heard::Pong(two),
                Heard::Body(Body::Pong(three)),
            ],
        ) => one == b"1" && two.is_empty() && three.nonce == 7,
        (Incident::Close, [Heard::Close(Some(4000))]) => true,
        (Incident::Violation, [Heard::Close(Some(1002))]) => true,
        (Incident::LogOut, [Heard::Body(Body::Kicked(_)), Heard::Close(Some(4410))]) => true,
        (Incident::Drain, [Heard::Body(Body::Draining(_)), Heard::Close(Some(4503))]) => true,
        (Incident::Stall, [Heard::Close(Some(4502))]) => !is_whole,
        (Incident::Stall, []) => is_whole,
        _ => false,
    };
    assert!(is_as_expected, "{rest:?}, {context}");
    let is_closed = matches!(rest.last(), Some(Heard::Close(_)));
    assert_eq!(is_over, is_closed, "{context}");
    wire.half_close();
    task.await.unwrap();
}

#[test]
fn whatever_the_socket_takes_frames_are_whole_and_in_order() {
    let seed = std::env::var("TOWNCRIER_SEED")
        .map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("TOWNCRIER_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    run(async move {
        let small = OutboxLimits {
            frames_max: 8,
            bytes_max: 2048,
        };
        let mut bench = Bench::with(&config::Sessions::default(), small);
        for _ in 0..100 {
            let (user, wire, task) = bench.wire().await;
            let (mut sent, mut pings) = (0_u64, Vec::new());
            for _ in 0..rng.usize(..100) {
                match rng.u8(..6) {
                    0 | 1 => {
                        bench.world.send(&user, &vec![b'x'; rng.usize(..600)]);
                        bench.hand_out();
                        sent += 1;
                    }
                    2 => {
                        let payload = vec![rng.u8(..); rng.usize(..=125)];
                        wire.say(&masked(0x89, &payload));
                        pings.push(payload);
                    }
                    3 => wire.allow(rng.usize(..300), rng.usize(1..100)),
                    4 => wire.allow(rng.usize(..3), 1),
                    _ => rest().await,
                }
            }
            // Once the socket has taken everything, the client has got exactly the frames that it asked for.
            wire.allow(usize::MAX, rng.usize(1..1000));
            rest().await;
            wire.say(&masked(0x88, &[]));
            rest().await;
            let (mut seqs, mut pongs) = (Vec::new(), Vec::new());
            let mut heard = wire.heard();
            assert_eq!(heard.pop(), Some(Heard::Close(None)));
            for frame in heard {
                match frame {
                    Heard::Body(Body::Push(push)) => {
                        seqs.extend(push.messages.into_iter().map(|m| m.seq));
                    }
                    Heard::Pong(payload) => pongs.push(payload),
                    frame => panic!("{frame:?}"),
                }
            }
            assert_eq!(seqs, (1..=sent).collect::<Vec<_>>());
            assert_eq!(pongs, pings);
            wire.half_close();
            task.await.unwrap();
        }
    });
}

#[test]
fn a_close_is_answered_once_and_the_connection_ends_when_the_client_does() {
    run(async {
        let mut bench = Bench::new();
        let (_, wire, task) = bench.wire().await;
        let close = masked(
            0x88,
            &[&1001_u16.to_be_bytes(), "going away".as_bytes()].concat(),
        );
        wire.say(&[&close[..], &close, b"and anything else"].concat());
        rest().await;
        assert_eq!(wire.heard(), [Heard::Close(Some(1001))]);
        assert!(wire.0.borrow().is_output_over, "our direction has ended");
        assert_eq!(bench.world.registry.sessions(), 0);
        assert!(!task.is_finished(), "what the client still says is read");
        wire.half_close();
        task.await.unwrap();
    });
}
