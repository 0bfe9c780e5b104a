//! RFC 6455 without I/O: bytes in, messages and bytes out, for the server's side and the client's, the handshake included.
//! Section numbers in this crate are the RFC's.
//!
//! Promises: a rule that the other side breaks is checked as soon as the bytes that break it are there, so the reader never
//! waits for bytes that it would refuse. Memory follows the bytes that have come and not an announced length, and is at
//! most one message. An idle reader is 64 bytes and holds no buffer. Leaves to others: streams, deadlines, and the meaning
//! of a message.
//!
//! `tokio-websockets` is as strict, but 0.13 holds a stream of its own with 8.2 KiB of buffer for each idle connection,
//! while our whole session takes less than 2 KiB. tungstenite keeps 256 bytes, accepts lengths that are longer than
//! necessary, reads a refused frame to its end before it refuses, and cannot tell that a close's text was not UTF-8 (1007).
//! So the frames are ours. tungstenite parses the HTTP of a handshake, and the tests compare our reader with it.
//!
//! - `reader.rs`: bytes to messages
//! - `frame.rs`: messages to bytes
//! - `close.rs`: closes and violations, with their codes
//! - `handshake.rs`: the HTTP before it

mod close;
pub mod frame;
pub mod handshake;
mod reader;

pub use close::{CLOSE_TEXT_BYTES_MAX, Close, Violation};
pub use frame::Frame;
pub use reader::{Reader, Received, Rules, Side};
