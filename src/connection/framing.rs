//! RFC 6455 as a server reads it: bytes to whole messages, however the stream cuts them; and the control frames we send.
//!
//! Promises: each rule that a client can break is checked as soon as the bytes that break it are there, so nothing is
//! waited for that would be refused; memory follows what has come and not what a length announces, and ends at one
//! message of 64 KiB. Idle it holds no buffer. Leaves to others: what a message means, and the stream.
//!
//! Our own and not tungstenite's, which cannot say whether a close reason or a text was not UTF-8 (1007, 1003), takes
//! lengths that are longer than they need to be, reads a refused frame to its end before it refuses, and keeps 128 bytes
//! of buffer and as many of state for each idle connection.

use bytes::{BufMut, Bytes, BytesMut};

use crate::wire::{
    close::Close,
    frame::{FRAME_BYTES_MAX, Frame},
};

/// First two bytes, a length of eight, a mask of four.
const HEADER_BYTES_MAX: usize = 14;
/// Section 5.5: the payload of a control frame.
const CONTROL_BYTES_MAX: usize = 125;

const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// What a client says to the server as such.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// The payload of a binary message, in however many fragments it came.
    Binary(Bytes),
    /// To be answered by [`pong`] with the same payload.
    Ping(Bytes),
    /// A sign of life.
    Pong,
    /// To be answered by [`closed`]. Nothing that follows counts.
    Close(Option<u16>),
}

/// A reader of one connection.
#[derive(Debug, Default)]
pub(super) struct Framing {
    header: [u8; HEADER_BYTES_MAX],
    header_bytes: u8,
    /// Of the frame whose header is complete, as far as it has come and still masked.
    payload: Vec<u8>,
    /// The fragments so far of a message whose last one has not come.
    message: Option<Vec<u8>>,
}

/// What a whole header says.
struct Header {
    opcode: u8,
    is_final: bool,
    length: usize,
    mask: [u8; 4],
}

impl Framing {
    /// Takes the next message out of `input`; `None` when all of it is used up. After an error or a close frame nothing
    /// more can be read.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Result<Option<Message>, Close> {
        while let Some(header) = self.header(input)? {
            let missing = header.length - self.payload.len();
            let (part, rest) = input.split_at(missing.min(input.len()));
            self.payload.extend_from_slice(part);
            *input = rest;
            if self.payload.len() < header.length {
                break;
            }
            self.header_bytes = 0;
            let mut payload = std::mem::take(&mut self.payload);
            unmask(&mut payload, header.mask);
            let message = match header.opcode {
                CLOSE => Some(Message::Close(read_close(&payload)?)),
                PING => Some(Message::Ping(payload.into())),
                PONG => Some(Message::Pong),
                _ => self.join(payload, header.is_final),
            };
            if message.is_some() {
                return Ok(message);
            }
        }
        Ok(None)
    }

    /// The header of the current frame, as soon as it is whole.
    fn header(&mut self, input: &mut &[u8]) -> Result<Option<Header>, Close> {
        loop {
            let header = &self.header[..self.header_bytes.into()];
            let header = Header::read(header, self.message.as_deref())?;
            if header.is_some() {
                return Ok(header);
            }
            let Some((byte, rest)) = input.split_first() else {
                return Ok(None);
            };
            self.header[usize::from(self.header_bytes)] = *byte;
            self.header_bytes += 1;
            *input = rest;
        }
    }

    /// Puts a fragment behind those before it; the message, when it was the last.
    fn join(&mut self, payload: Vec<u8>, is_final: bool) -> Option<Message> {
        let message = match self.message.take() {
            None => payload,
            Some(mut message) => {
                message.extend_from_slice(&payload);
                message
            }
        };
        if is_final {
            return Some(Message::Binary(message.into()));
        }
        self.message = Some(message);
        None
    }
}

impl Header {
    /// Reads section 5.2's header; `None` while bytes are missing. `begun`: the fragments of the unfinished message.
    fn read(bytes: &[u8], begun: Option<&[u8]>) -> Result<Option<Self>, Close> {
        let Some((first, bytes)) = bytes.split_first() else {
            return Ok(None);
        };
        let is_final = first & 0x80 != 0;
        let opcode = first & 0x0f;
        let is_control = opcode >= CLOSE;
        if first & 0x70 != 0 {
            return Err(Close::NotWebSocket("a reserved bit is set"));
        }
        match (opcode, begun) {
            (0, None) => return Err(Close::NotWebSocket("a continuation of nothing")),
            (1 | 2, Some(_)) => return Err(Close::NotWebSocket("a message within a message")),
            (1, None) => return Err(Close::TextFrame),
            (0, Some(_)) | (2, None) | (CLOSE | PING | PONG, _) => {}
            _ => return Err(Close::NotWebSocket("a reserved opcode")),
        }
        if is_control && !is_final {
            return Err(Close::NotWebSocket("a control frame in fragments"));
        }
        let Some((second, bytes)) = bytes.split_first() else {
            return Ok(None);
        };
        if second & 0x80 == 0 {
            return Err(Close::NotWebSocket("a frame without a mask"));
        }
        let length = second & 0x7f;
        if is_control && usize::from(length) > CONTROL_BYTES_MAX {
            return Err(Close::NotWebSocket("a control frame above 125 bytes"));
        }
        let (length, least, bytes) = match length {
            126 => match bytes.split_first_chunk() {
                Some((length, bytes)) => (u16::from_be_bytes(*length).into(), 126, bytes),
                None => return Ok(None),
            },
            127 => match bytes.split_first_chunk() {
                Some((length, bytes)) => (u64::from_be_bytes(*length), 1 << 16, bytes),
                None => return Ok(None),
            },
            _ => (u64::from(length), 0, bytes),
        };
        if length < least {
            return Err(Close::NotWebSocket("a length in more bytes than it needs"));
        }
        let before = begun.filter(|_| !is_control).map_or(0, <[u8]>::len);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > FRAME_BYTES_MAX - before {
            return Err(Close::TooLarge);
        }
        Ok(bytes.first_chunk().map(|mask| Self {
            opcode,
            is_final,
            length,
            mask: *mask,
        }))
    }
}

/// Section 5.3; masking again takes it off.
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    for part in payload.chunks_mut(mask.len()) {
        for (byte, mask) in part.iter_mut().zip(mask) {
            *byte ^= mask;
        }
    }
}

/// Sections 5.5.1 and 7.4: a code that may be sent, and a reason in UTF-8; or nothing at all.
fn read_close(payload: &[u8]) -> Result<Option<u16>, Close> {
    if payload.is_empty() {
        return Ok(None);
    }
    let Some((code, reason)) = payload.split_first_chunk() else {
        return Err(Close::NotWebSocket("a close frame of one byte"));
    };
    let code = u16::from_be_bytes(*code);
    // Besides the RFC's own, 1012 to 1014 are registered. 1004 to 1006 and 1015 never stand in a frame.
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Close::NotWebSocket("a close code that may not be sent"));
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(Close::NotUtf8);
    }
    Ok(Some(code))
}

/// Closes, and says why.
pub(super) fn close(close: Close) -> Frame {
    control(CLOSE, &close.code().to_be_bytes(), close.text().as_bytes())
}

/// The answer to a close frame.
pub(super) fn closed(code: Option<u16>) -> Frame {
    let code = code.map(u16::to_be_bytes);
    control(CLOSE, code.as_ref().map_or(&[], |code| &code[..]), &[])
}

/// The answer to a ping.
pub(super) fn pong(payload: &[u8]) -> Frame {
    control(PONG, payload, &[])
}

fn control(opcode: u8, payload: &[u8], more: &[u8]) -> Frame {
    const FIN: u8 = 0x80;
    let length = payload.len() + more.len();
    assert!(length <= CONTROL_BYTES_MAX, "reasons are at most 123 bytes");
    let mut frame = BytesMut::with_capacity(2 + length);
    frame.put_u8(FIN | opcode);
    frame.put_u8(length as u8);
    frame.put_slice(payload);
    frame.put_slice(more);
    Frame {
        head: frame.freeze(),
        body: Bytes::new(),
    }
}

#[cfg(test)]
mod tests;
