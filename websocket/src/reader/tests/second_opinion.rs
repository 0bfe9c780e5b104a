//! tungstenite as a second opinion: each side reads what the other one says.

use super::*;

/// The same messages in tungstenite's types and in ours.
type Talk = (Vec<tungstenite::Message>, Vec<Received>);

fn talk(rng: &mut fastrand::Rng) -> Talk {
    let mut talk = Talk::default();
    for _ in 0..200 {
        let is_ping = rng.bool();
        let length = rng.usize(..if is_ping { 126 } else { 2000 });
        let payload: Bytes = (0..length).map(|_| rng.u8(..)).collect();
        let (theirs, ours) = match is_ping {
            true => (
                tungstenite::Message::Ping(payload.clone()),
                Received::Ping(payload),
            ),
            false => (
                tungstenite::Message::Binary(payload.clone()),
                Received::Binary(payload),
            ),
        };
        talk.0.push(theirs);
        talk.1.push(ours);
    }
    talk
}

fn seeded() -> fastrand::Rng {
    let seed = std::env::var("TOWNCRIER_SEED")
        .map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("TOWNCRIER_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

#[test]
fn what_tungstenite_sends_is_read_as_it_was_said() {
    use tungstenite::protocol::{Role, WebSocket};
    let mut rng = seeded();
    for (role, rules) in [(Role::Client, CLIENT), (Role::Server, SERVER)] {
        let (theirs, expected) = talk(&mut rng);
        let mut socket = WebSocket::from_raw_socket(std::io::Cursor::new(Vec::new()), role, None);
        theirs
            .into_iter()
            .for_each(|message| socket.send(message).unwrap());
        let bytes = socket.into_inner().into_inner();
        let mut pieces = Vec::new();
        let mut left = &bytes[..];
        while !left.is_empty() {
            let (piece, rest) = left.split_at(rng.usize(1..=left.len().min(700)));
            pieces.push(piece);
            left = rest;
        }
        assert_eq!(read_by(&rules, pieces), (expected, None));
    }
}

/// Bytes to read. tungstenite answers pings meanwhile, and its answers go nowhere.
struct OneWay<'a>(&'a [u8]);

impl std::io::Read for OneWay<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl std::io::Write for OneWay<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_we_write_is_read_by_tungstenite_as_it_was_said() {
    use tungstenite::protocol::{Role, WebSocket};
    let mut rng = seeded();
    for role in [Role::Server, Role::Client] {
        let (expected, ours) = talk(&mut rng);
        let mut bytes = Vec::new();
        for message in &ours {
            let (first, payload) = match message {
                Received::Binary(payload) => (FIN | BINARY, payload),
                Received::Ping(payload) => (FIN | PING, payload),
                other => panic!("{other:?}"),
            };
            bytes.extend(match role {
                Role::Server => masked(first, payload, rng.u32(..).to_be_bytes()),
                Role::Client => unmasked(first, payload),
            });
        }
        let mut socket = WebSocket::from_raw_socket(OneWay(&bytes), role, None);
        for message in expected {
            assert_eq!(socket.read().unwrap(), message);
        }
    }
}
