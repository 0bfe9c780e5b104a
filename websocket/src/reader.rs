//! Reads whole messages from bytes, for every way in which the stream splits them.

use bytes::Bytes;

use crate::{
    close::{self, Close, Violation},
    frame::{
        BINARY, CLOSE, CONTINUATION, CONTROL_BYTES_MAX, FIN, HEADER_BYTES_MAX, PING, PONG, TEXT,
        unmask,
    },
};

/// One side of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The side that opened the connection. It masks each frame.
    Client,
    /// The side that accepted the connection. It masks no frame.
    Server,
}

/// The bounds of what one side may send.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// The side that is read.
    pub from: Side,
    /// True if text messages are allowed. Otherwise their first byte is a violation.
    pub takes_text: bool,
    /// The largest message, the sum of its fragments.
    pub message_bytes_max: usize,
}

/// A message or a control frame of the other side.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// The payload of a binary message, joined from its fragments.
    Binary(Bytes),
    /// The payload of a text message, joined from its fragments. It is UTF-8.
    Text(Bytes),
    /// Answer it with a pong that has the same payload.
    Ping(Bytes),
    /// The answer to a ping, with its payload; or a sign of life without a ping.
    Pong(Bytes),
    /// Answer it with a close that has the same code. Nothing after it counts.
    Close(Option<Close>),
}

/// The reader of one connection. Between two messages it holds no buffer.
#[derive(Debug, Default)]
pub struct Reader {
    header: [u8; HEADER_BYTES_MAX],
    header_bytes: u8,
    /// `message` is a text.
    is_text: bool,
    /// The payload of the frame whose header is complete: the bytes so far, still masked.
    payload: Vec<u8>,
    /// The fragments so far of an unfinished message.
    message: Option<Vec<u8>>,
}

/// The content of a whole header.
struct FrameHeader {
    opcode: u8,
    is_final: bool,
    length: usize,
    /// A server's mask is zero, which masks nothing.
    mask: [u8; 4],
}

impl Reader {
    /// Takes the next message from `input`; `None` when all of it is used. After an error or a close nothing more can be
    /// read. The rules must be the same at each call.
    pub fn next(
        &mut self,
        input: &mut &[u8],
        rules: &Rules,
    ) -> Result<Option<Received>, Violation> {
        while let Some(header) = self.header(input, rules)? {
            let missing = header.length - self.payload.len();
            let (part, rest) = input.split_at(missing.min(input.len()));
            self.payload.extend_from_slice(part);
            *input = rest;
            if self.payload.len() < header.length {
                break;
            }
            self.header_bytes = 0;
            let mut payload = std::mem::take(&mut self.payload);
            if rules.from == Side::Client {
                unmask(&mut payload, header.mask);
            }
            let message = match header.opcode {
                CLOSE => Some(Received::Close(close::read(&payload)?)),
                PING => Some(Received::Ping(payload.into())),
                PONG => Some(Received::Pong(payload.into())),
                _ => self.join(payload, &header)?,
            };
            if message.is_some() {
                return Ok(message);
            }
        }
        Ok(None)
    }

    /// The header of the current frame, as soon as it is complete.
    fn header(
        &mut self,
        input: &mut &[u8],
        rules: &Rules,
    ) -> Result<Option<FrameHeader>, Violation> {
        loop {
            let header = &self.header[..self.header_bytes.into()];
            let header = FrameHeader::read(header, self.message.as_deref(), rules)?;
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

    /// Appends a fragment. Returns the message if the fragment was the last.
    fn join(
        &mut self,
        payload: Vec<u8>,
        header: &FrameHeader,
    ) -> Result<Option<Received>, Violation> {
        let message = match self.message.take() {
            None => {
                self.is_text = header.opcode == TEXT;
                payload
            }
            Some(mut message) => {
                message.extend_from_slice(&payload);
                message
            }
        };
        if !header.is_final {
            self.message = Some(message);
            return Ok(None);
        }
        if !self.is_text {
            return Ok(Some(Received::Binary(message.into())));
        }
        if str::from_utf8(&message).is_err() {
            return Err(Violation::NotUtf8);
        }
        Ok(Some(Received::Text(message.into())))
    }
}

impl FrameHeader {
    /// Reads section 5.2's header; `None` while bytes are missing. Each rule is checked as soon as the bytes that break it
    /// are there. `begun`: the fragments of the unfinished message.
    fn read(bytes: &[u8], begun: Option<&[u8]>, rules: &Rules) -> Result<Option<Self>, Violation> {
        let Some((first, bytes)) = bytes.split_first() else {
            return Ok(None);
        };
        let is_final = first & FIN != 0;
        let opcode = first & 0x0f;
        let is_control = opcode >= CLOSE;
        if first & 0x70 != 0 {
            return Err(Violation::Framing("a reserved bit is set"));
        }
        match (opcode, begun) {
            (CONTINUATION, None) => return Err(Violation::Framing("a continuation of nothing")),
            (TEXT | BINARY, Some(_)) => {
                return Err(Violation::Framing("a message within a message"));
            }
            (TEXT, None) if !rules.takes_text => return Err(Violation::Text),
            (CONTINUATION, Some(_)) | (TEXT | BINARY, None) | (CLOSE | PING | PONG, _) => {}
            _ => return Err(Violation::Framing("a reserved opcode")),
        }
        if is_control && !is_final {
            return Err(Violation::Framing("a control frame in fragments"));
        }
        let Some((second, bytes)) = bytes.split_first() else {
            return Ok(None);
        };
        match (rules.from, second & 0x80 != 0) {
            (Side::Client, false) => return Err(Violation::Framing("a frame without a mask")),
            (Side::Server, true) => return Err(Violation::Framing("a server's frame with a mask")),
            (Side::Client, true) | (Side::Server, false) => {}
        }
        let length = second & 0x7f;
        if is_control && usize::from(length) > CONTROL_BYTES_MAX {
            return Err(Violation::Framing("a control frame above 125 bytes"));
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
            return Err(Violation::Framing("a length in more bytes than it needs"));
        }
        let before = begun.filter(|_| !is_control).map_or(0, <[u8]>::len);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > rules.message_bytes_max - before {
            return Err(Violation::TooLarge);
        }
        let mask = match rules.from {
            Side::Client => bytes.first_chunk().copied(),
            Side::Server => Some([0; 4]),
        };
        Ok(mask.map(|mask| Self {
            opcode,
            is_final,
            length,
            mask,
        }))
    }
}

#[cfg(test)]
mod tests;
