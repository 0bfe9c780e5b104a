//! The envelope around each request and answer: its number, whose it is, and its data. In gob or JSON, with or without gzip. Pure.

use std::io::{Read as _, Write as _};

use bytes::Bytes;
use flate2::{Compression, read::GzDecoder, write::GzEncoder};

use super::{FRAME_BYTES_MAX, gob, json};

/// The most bytes of a request once it is inflated. Requests have some KB; a bomb of 64 KiB would have 64 MB.
const INFLATED_BYTES_MAX: usize = 4 * FRAME_BYTES_MAX;

/// A level above it costs more time and saves nothing on messages of some hundred bytes.
const LEVEL: u32 = 1;

/// The bytes are no envelope of this form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// A client's request.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Request {
    /// OpenIM's number of the request.
    pub(super) number: i32,
    /// The user who asks.
    pub(super) send_id: Box<str>,
    /// Made by the client; for a log.
    pub(super) operation_id: Box<str>,
    /// Made by the client; the answer repeats it.
    pub(super) increment: Box<str>,
    /// The request itself, in protobuf.
    pub(super) data: Bytes,
}

/// An answer, or a message that nobody asked for.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Response<'a> {
    /// The number of the request, or of the kind of message.
    pub(super) number: i32,
    /// 0: no error.
    pub(super) error_code: i32,
    /// The error.
    pub(super) error_text: &'a str,
    /// The one of the request; else empty.
    pub(super) increment: &'a str,
    /// The one of the request. Go cores need one in each message.
    pub(super) operation_id: &'a str,
    /// The answer itself, in protobuf.
    pub(super) data: &'a [u8],
}

/// The form of a connection's envelopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Go's gob encoding: the Go cores.
    Gob,
    /// JSON: the JavaScript SDK.
    Json,
}

/// The encoding of a connection's envelopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Encoding {
    pub(super) form: Form,
    /// True if both sides compress each envelope.
    pub(super) is_gzip: bool,
}

impl Encoding {
    /// Decodes a request.
    pub(super) fn decode(self, message: Bytes) -> Result<Request, Malformed> {
        let message = if self.is_gzip {
            inflate(&message)?
        } else {
            message
        };
        match self.form {
            Form::Gob => gob::decode(&message),
            Form::Json => json::decode(&message),
        }
    }

    /// Encodes an answer.
    pub(super) fn encode(self, response: &Response<'_>) -> Bytes {
        let message = match self.form {
            Form::Gob => gob::encode(response),
            Form::Json => json::encode(response),
        };
        if self.is_gzip {
            deflate(&message)
        } else {
            message
        }
    }
}

fn inflate(message: &[u8]) -> Result<Bytes, Malformed> {
    let mut inflated = Vec::new();
    let mut bounded = GzDecoder::new(message).take(INFLATED_BYTES_MAX as u64 + 1);
    bounded.read_to_end(&mut inflated).map_err(|_| Malformed)?;
    if inflated.len() > INFLATED_BYTES_MAX {
        return Err(Malformed);
    }
    Ok(inflated.into())
}

fn deflate(message: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(LEVEL));
    encoder
        .write_all(message)
        .and_then(|()| encoder.finish())
        .expect("a Vec takes every byte")
        .into()
}
