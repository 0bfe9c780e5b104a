//! A cable between two gateways, which a test cuts and mends.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

/// Passes bytes to one address until it is cut.
#[derive(Clone)]
pub(crate) struct Cable {
    near: SocketAddr,
    state: Arc<Mutex<CableState>>,
}

#[derive(Default)]
struct CableState {
    /// `None`: it is cut, or leads nowhere yet.
    target: Option<SocketAddr>,
    open: Vec<TcpStream>,
}

impl Cable {
    /// A cable that leads nowhere yet.
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let cable = Self {
            near: listener.local_addr().unwrap(),
            state: Arc::default(),
        };
        let held = cable.clone();
        // The thread ends with the process of the tests.
        std::thread::spawn(move || {
            for near in listener.incoming() {
                held.join(near.unwrap());
            }
        });
        cable
    }

    /// The end to dial.
    pub(crate) fn near(&self) -> SocketAddr {
        self.near
    }

    /// Leads to this address from now on.
    pub(crate) fn mend(&self, target: SocketAddr) {
        self.state.lock().unwrap().target = Some(target);
    }

    /// Cuts all connections, and refuses others.
    pub(crate) fn cut(&self) {
        let mut state = self.state.lock().unwrap();
        state.target = None;
        for end in state.open.drain(..) {
            // The end may have gone.
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    fn join(&self, near: TcpStream) {
        let mut state = self.state.lock().unwrap();
        let Some(Ok(far)) = state.target.map(TcpStream::connect) else {
            return;
        };
        let copies = |end: &TcpStream| (end.try_clone().unwrap(), end.try_clone().unwrap());
        let ((near_reader, near_held), (far_reader, far_held)) = (copies(&near), copies(&far));
        state.open.extend([near_held, far_held]);
        std::thread::spawn(move || pass(near_reader, far));
        std::thread::spawn(move || pass(far_reader, near));
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut bytes)
        && to.write_all(&bytes[..count]).is_ok()
    {}
    // The other direction may have ended.
    let _ = to.shutdown(Shutdown::Both);
}
