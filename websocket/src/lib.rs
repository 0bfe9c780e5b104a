//! RFC 6455 without I/O: bytes in, messages and bytes out, for the server's side and the client's, the handshake included.
//! Section numbers in this crate are the RFC's.
//!
//! Promises: each rule that the other side can break is checked as soon as the bytes that break it are there, so nothing is
//! waited for that would be refused; memory follows what has come and not what a length announces, and ends at one message.
//! An idle reader is 64 bytes and holds no buffer. Leaves to others: streams, deadlines, and what a message means.
//!
//! `tokio-websockets` is as strict, and 0.13 holds a stream of its own with 8.2 KiB of buffer for each idle connection, where
//! the whole session takes less than 2 KiB. tungstenite keeps 256 bytes, takes lengths that are longer than they need to be,
//! reads a refused frame to its end before it refuses, and cannot say whether a close's text was not UTF-8 (1007). So the
//! frames are ours; tungstenite parses the HTTP of a handshake, and is the tests' second opinion.
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
pub use reader::{Message, Reader, Rules, Side};
