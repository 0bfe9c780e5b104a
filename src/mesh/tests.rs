//! Meshes over the loopback interface: proofs, order, lost links, overflow.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::*;
use crate::{ids::UserId, metrics::Metrics, threads};

/// Longer than any wait of a mesh.
const SOON: Duration = Duration::from_secs(20);
const A: GatewayId = GatewayId(1);
const B: GatewayId = GatewayId(2);

/// An event of an ear.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Frame(GatewayId, FleetFrame),
    Missed(GatewayId, FramesMissed),
}

struct Ear(Sender<Heard>);

impl MeshEar for Ear {
    fn hear(&self, from: GatewayId, frame: FleetFrame) {
        // The test may be over.
        let _ = self.0.send(Heard::Frame(from, frame));
    }

    fn missed(&self, from: GatewayId, why: FramesMissed) {
        let _ = self.0.send(Heard::Missed(from, why));
    }
}

/// A gateway's mesh, as its fleet sees it.
struct Node {
    mesh: Mesh,
    view: watch::Sender<MeshView>,
    heard: Receiver<Heard>,
    metrics: Metrics,
    address: SocketAddr,
}

impl Node {
    fn start(me: GatewayId, secret: u8, limits: MeshLimits) -> Self {
        let port = MeshPort::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = port.address();
        let others = Vec::new();
        let (view, follower) = watch::channel(MeshView { me, others });
        let (sender, heard) = mpsc::channel();
        let metrics = Metrics::new();
        let parts = (
            Arc::new(Ear(sender)) as Arc<dyn MeshEar>,
            metrics.mesh.clone(),
        );
        let (pulse, _watched) = threads::watched("mesh");
        let secret = MeshSecret::new(&[secret; 32]);
        let mesh = Mesh::start(port, secret, limits, follower, parts, pulse).unwrap();
        Self {
            mesh,
            view,
            heard,
            metrics,
            address,
        }
    }

    /// Makes another gateway known, at this address.
    fn meet(&self, other: GatewayId, address: SocketAddr) {
        self.view
            .send_modify(|view| view.others = vec![(other, address.to_string())]);
    }

    fn next(&self) -> Heard {
        self.heard.recv_timeout(SOON).unwrap()
    }

    /// Waits until a condition holds that no event tells.
    fn until(&self, mut is_so: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + SOON;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "{}", self.metrics.render());
            std::thread::yield_now();
        }
    }

    fn has(&self, metric: &str) -> bool {
        let metrics = self.metrics.render();
        metrics.lines().any(|line| line == metric)
    }
}

fn frame(text: &str) -> FleetFrame {
    FleetFrame::OnlineOnly {
        body: Bytes::from(text.to_owned()),
        users: vec![UserId::new("anna").unwrap()],
    }
}

/// Passes the bytes of one gateway to another, until it is cut.
struct Cable {
    address: SocketAddr,
    passing: Receiver<[TcpStream; 2]>,
}

impl Cable {
    fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, passing) = mpsc::channel();
        // The thread ends with the test's process.
        std::thread::spawn(move || {
            for near in listener.incoming() {
                let near = near.unwrap();
                let far = TcpStream::connect(target).unwrap();
                let pair = || [near.try_clone().unwrap(), far.try_clone().unwrap()];
                if sender.send(pair()).is_err() {
                    return;
                }
                let [near_reader, far_writer] = pair();
                std::thread::spawn(move || pass(near_reader, far_writer));
                std::thread::spawn(move || pass(far, near));
            }
        });
        Self { address, passing }
    }

    /// Cuts the connection that was made next.
    fn cut(&self) {
        for end in self.passing.recv_timeout(SOON).unwrap() {
            // The end may have gone.
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut bytes)
        && to.write_all(&bytes[..count]).is_ok()
    {}
    let _ = to.shutdown(Shutdown::Both);
}

#[test]
fn frames_come_once_in_their_order_after_both_ends_have_proven_the_secret() {
    let limits = MeshLimits::default();
    let (a, b) = (Node::start(A, 1, limits), Node::start(B, 1, limits));
    a.meet(B, b.address);
    assert_eq!(b.next(), Heard::Missed(A, FramesMissed::BeforeLink));
    a.until(|a| a.has("towncrier_mesh_links{direction=\"out\"} 1"));
    assert_eq!(a.mesh.links().missing(), [B], "one direction is not enough");
    let teller = a.mesh.links();
    for text in ["one", "two", "three"] {
        teller.tell(B, frame(text));
    }
    for text in ["one", "two", "three"] {
        assert_eq!(b.next(), Heard::Frame(A, frame(text)));
    }
    b.meet(A, a.address);
    assert_eq!(a.next(), Heard::Missed(B, FramesMissed::BeforeLink));
    a.until(|a| a.mesh.links().missing().is_empty());
    assert!(b.mesh.stop());
    assert_eq!(a.next(), Heard::Missed(B, FramesMissed::AfterLink));
    a.until(|a| a.mesh.links().missing() == [B]);
    assert!(a.mesh.stop());
}

#[test]
fn a_gateway_with_another_secret_is_refused_and_no_frame_reaches_it() {
    let limits = MeshLimits::default();
    let (a, b) = (Node::start(A, 1, limits), Node::start(B, 2, limits));
    a.meet(B, b.address);
    b.until(|b| b.has("towncrier_mesh_refused_total 1"));
    a.mesh.links().tell(B, frame("secret"));
    a.until(|a| a.has("towncrier_mesh_frames_dropped_total 1"));
    assert_eq!(b.heard.try_recv(), Err(mpsc::TryRecvError::Empty));
    assert_eq!(a.mesh.links().missing(), [B]);
}

#[test]
fn a_gateway_that_is_not_the_one_meant_is_refused() {
    let limits = MeshLimits::default();
    let (a, b) = (Node::start(A, 1, limits), Node::start(B, 1, limits));
    a.meet(GatewayId(3), b.address);
    b.until(|b| b.has("towncrier_mesh_refused_total 1"));
    a.meet(B, b.address);
    assert_eq!(b.next(), Heard::Missed(A, FramesMissed::BeforeLink));
}

#[test]
fn who_proves_nothing_is_refused_in_time() {
    let b = Node::start(B, 1, MeshLimits::default());
    let mut silent = TcpStream::connect(b.address).unwrap();
    silent.set_read_timeout(Some(SOON)).unwrap();
    assert_eq!(
        silent.read(&mut [0]).unwrap(),
        0,
        "the port closes the connection"
    );
    b.until(|b| b.has("towncrier_mesh_refused_total 1"));
}

#[test]
fn a_cut_link_is_told_and_dialed_again() {
    let limits = MeshLimits::default();
    let (a, b) = (Node::start(A, 1, limits), Node::start(B, 1, limits));
    let cable = Cable::to(b.address);
    a.meet(B, cable.address);
    for _ in 0..3 {
        assert_eq!(b.next(), Heard::Missed(A, FramesMissed::BeforeLink));
        cable.cut();
        assert_eq!(b.next(), Heard::Missed(A, FramesMissed::AfterLink));
    }
    assert_eq!(b.next(), Heard::Missed(A, FramesMissed::BeforeLink));
}

#[test]
fn a_link_without_room_tells_its_receiver_that_frames_are_missing() {
    let limits = MeshLimits {
        frames_max: 2,
        ..MeshLimits::default()
    };
    let (a, b) = (Node::start(A, 1, limits), Node::start(B, 1, limits));
    a.meet(B, b.address);
    assert_eq!(b.next(), Heard::Missed(A, FramesMissed::BeforeLink));
    let teller = a.mesh.links();
    let deadline = Instant::now() + SOON;
    loop {
        teller.tell(B, frame("many"));
        match b.heard.recv_timeout(Duration::ZERO) {
            Ok(Heard::Frame(..)) | Err(RecvTimeoutError::Timeout) => {}
            Ok(heard) => {
                assert_eq!(heard, Heard::Missed(A, FramesMissed::InLink));
                break;
            }
            Err(error) => panic!("{error}"),
        }
        assert!(Instant::now() < deadline, "nothing was missing");
    }
}
