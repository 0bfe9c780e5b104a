//! Frames to write: section 5.2's header, and the control frames of a server.

use bytes::{BufMut, Bytes, BytesMut};

/// Set in the first byte of a message's last frame.
pub const FIN: u8 = 0x80;
/// The opcode of a fragment that continues a message.
pub const CONTINUATION: u8 = 0x0;
/// The opcode of a text message.
pub const TEXT: u8 = 0x1;
/// The opcode of a binary message.
pub const BINARY: u8 = 0x2;
/// The opcode of a close. It and the opcodes above it are control frames.
pub const CLOSE: u8 = 0x8;
/// The opcode of a ping.
pub const PING: u8 = 0x9;
/// The opcode of a pong.
pub const PONG: u8 = 0xa;

/// The largest header: two bytes, a length of eight, a mask of four.
pub(crate) const HEADER_BYTES_MAX: usize = 14;
/// Section 5.5: the largest payload of a control frame.
pub(crate) const CONTROL_BYTES_MAX: usize = 125;

/// One whole frame of a server, header included, ready to write: `head` then `body`. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Frame {
    /// The header and the beginning of the payload; all of the frame when `body` is empty.
    pub head: Bytes,
    /// The rest of the payload, which other frames may share.
    pub body: Bytes,
}

impl Frame {
    /// The number of bytes on the wire.
    pub fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// True if there are no bytes, which is never true for a frame.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Writes a frame's header. `first` is the opcode, with [`FIN`] for a last frame; `payload` is the number of bytes that
/// follow. The length takes as few bytes as possible. A client gives the mask of its payload, a server gives none.
pub fn put_header(out: &mut impl BufMut, first: u8, payload: usize, mask: Option<[u8; 4]>) {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    out.put_u8(first);
    match payload {
        0..126 => out.put_u8(masked | payload as u8),
        126..65536 => {
            out.put_u8(masked | 126);
            out.put_u16(payload as u16);
        }
        _ => {
            out.put_u8(masked | 127);
            out.put_u64(payload as u64);
        }
    }
    if let Some(mask) = mask {
        out.put_slice(&mask);
    }
}

/// A client's whole frame: header, mask, and the payload masked with it.
pub fn masked(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADER_BYTES_MAX + payload.len());
    put_header(&mut frame, first, payload.len(), Some(mask));
    let start = frame.len();
    frame.extend_from_slice(payload);
    unmask(&mut frame[start..], mask);
    frame
}

/// A server's close frame.
///
/// # Panics
/// If `text` is longer than 123 bytes (section 5.5).
pub fn close(code: u16, text: &str) -> Frame {
    control(CLOSE, &code.to_be_bytes(), text.as_bytes())
}

/// A server's answer to a client's close, with the code that the client gave.
pub fn closed(code: Option<u16>) -> Frame {
    let code = code.map(u16::to_be_bytes);
    control(CLOSE, code.as_ref().map_or(&[], |code| &code[..]), &[])
}

/// A server's ping.
pub fn ping(payload: &[u8]) -> Frame {
    control(PING, payload, &[])
}

/// A server's answer to a ping with this payload.
pub fn pong(payload: &[u8]) -> Frame {
    control(PONG, payload, &[])
}

fn control(opcode: u8, payload: &[u8], more: &[u8]) -> Frame {
    let length = payload.len() + more.len();
    assert!(
        length <= CONTROL_BYTES_MAX,
        "a control frame holds 125 bytes"
    );
    let mut frame = BytesMut::with_capacity(2 + length);
    put_header(&mut frame, FIN | opcode, length, None);
    frame.put_slice(payload);
    frame.put_slice(more);
    Frame {
        head: frame.freeze(),
        body: Bytes::new(),
    }
}

/// Section 5.3. Masks as well, because masking twice gives the original.
pub(crate) fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    for part in payload.chunks_mut(mask.len()) {
        for (byte, mask) in part.iter_mut().zip(mask) {
            *byte ^= mask;
        }
    }
}
