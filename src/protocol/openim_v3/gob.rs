//! The part of Go's gob encoding that OpenIM's envelopes use. Each WebSocket message is a stream of its own: the definition of one
//! struct type, and one value of it. Pure.
//!
//! Source: the documentation of Go's package `encoding/gob`.

use bytes::{BufMut, Bytes, BytesMut};

use super::envelope::{Malformed, Request, Response};

/// The most fields of a request's type. OpenIM's has six.
const FIELDS_MAX: usize = 32;

/// The id of the answers' type. Gob keeps lower numbers for itself.
const TYPE_ID: i64 = 65;

/// Gob's numbers of the types of fields.
const INT: i64 = 2;
const BYTES: i64 = 5;
const STRING: i64 = 6;

/// The fields of an answer, in their order, with the numbers of their types.
const RESPONSE_FIELDS: [(&str, i64); 6] = [
    ("ReqIdentifier", INT),
    ("ErrCode", INT),
    ("ErrMsg", STRING),
    ("MsgIncr", STRING),
    ("OperationID", STRING),
    ("Data", BYTES),
];

/// Decodes a request. Its fields are found by their names.
pub(super) fn decode(message: &Bytes) -> Result<Request, Malformed> {
    let mut rest = Input(message.clone());
    let mut definition: Option<(i64, Vec<(Bytes, i64)>)> = None;
    let mut request = None;
    while !rest.0.is_empty() {
        let mut part = Input(rest.bytes()?);
        let id = part.int()?;
        if id < 0 {
            let fields = part.definition()?;
            if definition.replace((-id, fields)).is_some() {
                return Err(Malformed);
            }
            continue;
        }
        let (defined, fields) = definition.as_ref().ok_or(Malformed)?;
        if id != *defined || request.is_some() {
            return Err(Malformed);
        }
        request = Some(part.request(fields)?);
    }
    request.ok_or(Malformed)
}

/// Encodes an answer.
pub(super) fn encode(response: &Response<'_>) -> Bytes {
    let mut value = BytesMut::new();
    put_int(&mut value, TYPE_ID);
    // The number of the last field written, from 1. Fields with the value zero are left out.
    let mut last = 0;
    let mut field = |value: &mut BytesMut, number: u64| {
        put_uint(value, number - last);
        last = number;
    };
    for (number, int) in [(1, response.number), (2, response.error_code)] {
        if int != 0 {
            field(&mut value, number);
            put_int(&mut value, int.into());
        }
    }
    let texts = [
        (3, response.error_text),
        (4, response.increment),
        (5, response.operation_id),
    ];
    for (number, text) in texts {
        if !text.is_empty() {
            field(&mut value, number);
            put_bytes(&mut value, text.as_bytes());
        }
    }
    if !response.data.is_empty() {
        field(&mut value, 6);
        put_bytes(&mut value, response.data);
    }
    put_uint(&mut value, 0);
    let mut message = definition();
    put_bytes(&mut message, &value);
    message.freeze()
}

/// The definition of the answers' type.
fn definition() -> BytesMut {
    let mut body = BytesMut::new();
    put_int(&mut body, -TYPE_ID);
    // The third kind of a type is a struct; its first field is what all types have in common: a name and an id.
    for delta in [3, 1, 1] {
        put_uint(&mut body, delta);
    }
    put_bytes(&mut body, b"Resp");
    put_uint(&mut body, 1);
    put_int(&mut body, TYPE_ID);
    put_uint(&mut body, 0);
    // Its second field is the list of fields.
    put_uint(&mut body, 1);
    put_uint(&mut body, RESPONSE_FIELDS.len() as u64);
    for (name, kind) in RESPONSE_FIELDS {
        put_uint(&mut body, 1);
        put_bytes(&mut body, name.as_bytes());
        put_uint(&mut body, 1);
        put_int(&mut body, kind);
        put_uint(&mut body, 0);
    }
    put_uint(&mut body, 0);
    put_uint(&mut body, 0);
    let mut message = BytesMut::new();
    put_bytes(&mut message, &body);
    message
}

/// Below 128 one byte; else the number of bytes, negated, and the bytes, the highest first.
fn put_uint(out: &mut BytesMut, value: u64) {
    if value < 128 {
        return out.put_u8(value as u8);
    }
    let bytes = value.to_be_bytes();
    let from = value.leading_zeros() as usize / 8;
    out.put_u8((from as u8).wrapping_sub(bytes.len() as u8));
    out.put_slice(&bytes[from..]);
}

/// The sign is in the lowest bit.
fn put_int(out: &mut BytesMut, value: i64) {
    put_uint(out, ((value << 1) ^ (value >> 63)) as u64);
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_uint(out, bytes.len() as u64);
    out.put_slice(bytes);
}

/// The bytes that are still to be read.
struct Input(Bytes);

impl Input {
    fn take(&mut self, count: usize) -> Result<Bytes, Malformed> {
        if count > self.0.len() {
            return Err(Malformed);
        }
        Ok(self.0.split_to(count))
    }

    fn uint(&mut self) -> Result<u64, Malformed> {
        let first = self.take(1)?[0];
        if first < 128 {
            return Ok(first.into());
        }
        let count = usize::from(first.wrapping_neg());
        if count > size_of::<u64>() {
            return Err(Malformed);
        }
        let bytes = self.take(count)?;
        Ok(bytes
            .iter()
            .fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    fn int(&mut self) -> Result<i64, Malformed> {
        let bits = self.uint()?;
        let value = (bits >> 1) as i64;
        Ok(if bits & 1 == 0 { value } else { !value })
    }

    fn bytes(&mut self) -> Result<Bytes, Malformed> {
        let count = self.uint()?;
        self.take(usize::try_from(count).map_err(|_| Malformed)?)
    }

    /// Reads a number that can only be this one.
    fn expect(&mut self, value: u64) -> Result<(), Malformed> {
        if self.uint()? == value {
            Ok(())
        } else {
            Err(Malformed)
        }
    }

    /// The names and types of a struct's fields.
    fn definition(&mut self) -> Result<Vec<(Bytes, i64)>, Malformed> {
        self.expect(3)?;
        self.expect(1)?;
        // The name of the type may be missing.
        let mut delta = self.uint()?;
        if delta == 1 {
            self.bytes()?;
            delta = self.uint()?;
            if delta == 1 {
                self.int()?;
                delta = self.uint()?;
            }
        } else if delta == 2 {
            self.int()?;
            delta = self.uint()?;
        }
        if delta != 0 {
            return Err(Malformed);
        }
        self.expect(1)?;
        let count = self.uint()? as usize;
        if count > FIELDS_MAX {
            return Err(Malformed);
        }
        let mut fields = Vec::with_capacity(count);
        for _ in 0..count {
            self.expect(1)?;
            let name = self.bytes()?;
            self.expect(1)?;
            fields.push((name, self.int()?));
            self.expect(0)?;
        }
        self.expect(0)?;
        self.expect(0)?;
        Ok(fields)
    }

    fn request(&mut self, fields: &[(Bytes, i64)]) -> Result<Request, Malformed> {
        let mut request = Request::default();
        let mut number: usize = 0;
        loop {
            let delta = self.uint()?;
            if delta == 0 {
                break;
            }
            number = usize::try_from(delta)
                .ok()
                .and_then(|delta| number.checked_add(delta))
                .ok_or(Malformed)?;
            let (name, kind) = fields.get(number - 1).ok_or(Malformed)?;
            match *kind {
                INT => {
                    let value = self.int()?;
                    if &name[..] == b"ReqIdentifier" {
                        request.number = i32::try_from(value).map_err(|_| Malformed)?;
                    }
                }
                STRING | BYTES => {
                    let value = self.bytes()?;
                    match &name[..] {
                        b"SendID" => request.send_id = text(&value)?,
                        b"OperationID" => request.operation_id = text(&value)?,
                        b"MsgIncr" => request.increment = text(&value)?,
                        b"Data" => request.data = value,
                        _ => {}
                    }
                }
                _ => return Err(Malformed),
            }
        }
        if self.0.is_empty() {
            Ok(request)
        } else {
            Err(Malformed)
        }
    }
}

fn text(bytes: &[u8]) -> Result<Box<str>, Malformed> {
    str::from_utf8(bytes).map(Box::from).map_err(|_| Malformed)
}
