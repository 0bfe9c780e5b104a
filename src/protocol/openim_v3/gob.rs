//! The part of Go's gob encoding that OpenIM's envelopes use. Each WebSocket message is a stream of its own: the definition of one
//! struct type, and one value of it. Pure.
//!
//! Source: the documentation of Go's package `encoding/gob`.

use bytes::{BufMut, Bytes, BytesMut};

use super::envelope::{ClientRequest, Malformed, Response};

/// The most fields of a request's type. OpenIM's has six.
const FIELDS_MAX: usize = 32;

/// The lowest id of a type that a program defines.
const FIRST_ID: i64 = 64;
/// The id of the answers' type.
const TYPE_ID: i64 = 65;

/// Gob's numbers of the types of fields. Values of the types up to [`FLOAT`] are one number each.
const BOOL: i64 = 1;
const INT: i64 = 2;
const FLOAT: i64 = 4;
const BYTES: i64 = 5;
const STRING: i64 = 6;

/// The definition of the answers' type, which is the same in every answer: its length, the id 65 as a definition's, and a struct
/// with the name `Resp`, the id 65 and six fields, each with its name and the number of its type.
const DEFINITION: &[u8] = b"\x60\xff\x81\x03\x01\x01\x04Resp\x01\xff\x82\x00\x01\x06\
    \x01\x0dReqIdentifier\x01\x04\x00\
    \x01\x07ErrCode\x01\x04\x00\
    \x01\x06ErrMsg\x01\x0c\x00\
    \x01\x07MsgIncr\x01\x0c\x00\
    \x01\x0bOperationID\x01\x0c\x00\
    \x01\x04Data\x01\x0a\x00\
    \x00\x00";

/// The end of a value.
const END: u8 = 0;

/// Decodes a request. Its fields are found by their names.
pub(super) fn decode(message: &Bytes) -> Result<ClientRequest, Malformed> {
    let mut rest = Input(message.clone());
    let mut definition: Option<(i64, Vec<(Bytes, i64)>)> = None;
    let mut request = None;
    while !rest.0.is_empty() {
        let mut part = Input(rest.bytes()?);
        let id = part.int()?;
        if id < 0 {
            let defined = id.checked_neg().filter(|id| *id >= FIRST_ID);
            let fields = part.definition()?;
            let before = definition.replace((defined.ok_or(Malformed)?, fields));
            if before.is_some() || !part.0.is_empty() {
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
    let mut whole = begin_with(response, 0);
    whole.put_u8(END);
    whole.freeze()
}

/// The beginning of an envelope. Its data is the data of `response` and `shared_bytes` more bytes. [`end`] follows.
pub(super) fn begin(response: &Response<'_>, shared_bytes: usize) -> Bytes {
    begin_with(response, shared_bytes).freeze()
}

/// The end of an envelope whose data ends with `shared`.
pub(super) fn end(shared: &[u8]) -> Bytes {
    let mut end = BytesMut::with_capacity(shared.len() + 1);
    end.put_slice(shared);
    end.put_u8(END);
    end.freeze()
}

/// The number of bytes with which an [`end`] of this length was made.
pub(super) fn shared_bytes(end_bytes: usize) -> usize {
    end_bytes - 1
}

fn begin_with(response: &Response<'_>, shared_bytes: usize) -> BytesMut {
    let mut value = BytesMut::with_capacity(256 + response.data.len());
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
    let data_bytes = response.data.len() + shared_bytes;
    if data_bytes > 0 {
        field(&mut value, 6);
        put_uint(&mut value, data_bytes as u64);
        value.put_slice(response.data);
    }
    let value_bytes = value.len() + shared_bytes + 1;
    let mut message = BytesMut::with_capacity(DEFINITION.len() + 9 + value_bytes);
    message.put_slice(DEFINITION);
    put_uint(&mut message, value_bytes as u64);
    message.put_slice(&value);
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

    fn request(&mut self, fields: &[(Bytes, i64)]) -> Result<ClientRequest, Malformed> {
        let mut request = ClientRequest::default();
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
                BOOL..=FLOAT => {
                    self.uint()?;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream of one type with these fields, and one value of it.
    fn stream(id: i64, fields: &[(&str, i64)], value: &[u8]) -> Bytes {
        let mut definition = BytesMut::new();
        put_int(&mut definition, -id);
        definition.put_slice(&[3, 1, 1]);
        put_bytes(&mut definition, b"GeneralWsReq");
        definition.put_u8(1);
        put_int(&mut definition, id);
        definition.put_slice(&[0, 1, fields.len() as u8]);
        for (name, kind) in fields {
            definition.put_u8(1);
            put_bytes(&mut definition, name.as_bytes());
            definition.put_u8(1);
            put_int(&mut definition, *kind);
            definition.put_u8(0);
        }
        definition.put_slice(&[0, 0]);
        let mut begin = BytesMut::new();
        put_int(&mut begin, id);
        begin.put_slice(value);
        let mut stream = BytesMut::new();
        put_bytes(&mut stream, &definition);
        put_bytes(&mut stream, &begin);
        stream.freeze()
    }

    /// The fields of a client, in its order.
    const FIELDS: [(&str, i64); 6] = [
        ("ReqIdentifier", INT),
        ("Token", STRING),
        ("SendID", STRING),
        ("OperationID", STRING),
        ("MsgIncr", STRING),
        ("Data", BYTES),
    ];
    /// The number 1001, no token, the user u1, the operation o, the increment 7, and the data.
    const VALUE: &[u8] = b"\x01\xfe\x07\xd2\x02\x02u1\x01\x01o\x01\x017\x01\x03\x0a\x01x\x00";

    fn request() -> ClientRequest {
        ClientRequest {
            number: 1001,
            send_id: "u1".into(),
            operation_id: "o".into(),
            increment: "7".into(),
            data: Bytes::from_static(b"\x0a\x01x"),
        }
    }

    #[test]
    fn a_clients_request_is_read_whatever_the_id_of_its_type() {
        for id in [64, 65, 66, 300, 1 << 40] {
            assert_eq!(decode(&stream(id, &FIELDS, VALUE)), Ok(request()), "{id}");
        }
    }

    /// The stream of the documentation of Go's package: `type Point struct { X, Y int }`, and the value 22, 33.
    #[test]
    fn the_example_of_gos_documentation_is_read() {
        let definition = b"\x1f\xff\x81\x03\x01\x01\x05Point\x01\xff\x82\x00\x01\x02\x01\x01X\x01\x04\x00\x01\x01Y\x01\x04\x00\x00\x00";
        let value = b"\x07\xff\x82\x01\x2c\x01\x42\x00";
        let example: Bytes = [&definition[..], value].concat().into();
        assert_eq!(decode(&example), Ok(ClientRequest::default()));
        let mut ours = BytesMut::new();
        let values = [
            (7, &b"\x07"[..]),
            (256, b"\xfe\x01\x00"),
            (127, b"\x7f"),
            (128, b"\xff\x80"),
        ];
        for (value, bytes) in values {
            ours.clear();
            put_uint(&mut ours, value);
            assert_eq!(&ours[..], bytes);
        }
        ours.clear();
        put_int(&mut ours, -129);
        assert_eq!(&ours[..], b"\xfe\x01\x01");
    }

    #[test]
    fn fields_may_come_in_any_order_be_left_out_or_be_unknown() {
        let fields = [
            ("Data", BYTES),
            ("More", BOOL),
            ("Level", FLOAT),
            ("SendID", STRING),
            ("ReqIdentifier", INT),
        ];
        let value = b"\x02\x01\x01\xfe\x01\x40\x01\x02u1\x01\xfe\x07\xd2\x00";
        let found = ClientRequest {
            number: 1001,
            send_id: "u1".into(),
            ..ClientRequest::default()
        };
        assert_eq!(decode(&stream(65, &fields, value)), Ok(found));
        assert_eq!(
            decode(&stream(65, &FIELDS, &[0])),
            Ok(ClientRequest::default())
        );
    }

    #[test]
    fn a_stream_that_is_cut_anywhere_is_malformed() {
        let whole = stream(65, &FIELDS, VALUE);
        for end in 0..whole.len() {
            assert_eq!(decode(&whole.slice(..end)), Err(Malformed), "{end}");
        }
    }

    /// Each byte in turn takes every value. No stream panics, and none has text or data beyond its own bytes.
    #[test]
    fn a_stream_that_lies_anywhere_is_bounded() {
        let whole = stream(65, &FIELDS, VALUE);
        for at in 0..whole.len() {
            for byte in 0..=u8::MAX {
                let mut lying = whole.to_vec();
                lying[at] = byte;
                // The longest number, and the lowest one.
                for tail in [&[][..], &[0xff; 8], &[0xf8, 0xff]] {
                    let mut lying = lying.clone();
                    lying.splice(at + 1..at + 1, tail.iter().copied());
                    if let Ok(request) = decode(&lying.into()) {
                        assert!(request.data.len() <= whole.len() + 8);
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_not_one_definition_and_one_value_is_malformed() {
        let whole = stream(65, &FIELDS, VALUE);
        let definition = usize::from(whole[0]) + 1;
        let twice: Bytes = whole.repeat(2).into();
        let no_definition = whole.slice(definition..);
        let two_values: Bytes = [&whole[..], &whole[definition..]].concat().into();
        let many: Vec<_> = (0..=FIELDS_MAX).map(|_| ("A", INT)).collect();
        for bad in [
            Bytes::new(),
            whole.slice(..definition),
            twice,
            no_definition,
            two_values,
            stream(63, &FIELDS, VALUE),
            stream(65, &many, &[0]),
            // A field of an unknown type, a field too many, a number beyond 32 bits, text that is not UTF-8.
            stream(65, &[("ReqIdentifier", 40)], &[1, 1, 0]),
            stream(65, &FIELDS, &[7, 1, 0]),
            stream(65, &FIELDS, b"\x01\xfb\x02\x00\x00\x00\x00\x00"),
            stream(65, &FIELDS, b"\x03\x02\xff\xff\x00"),
            stream(65, &FIELDS, b"\x00\x00"),
        ] {
            assert_eq!(decode(&bad), Err(Malformed), "{bad:?}");
        }
    }

    #[test]
    fn an_answer_is_a_constant_definition_and_its_value() {
        assert_eq!(DEFINITION.len(), 97);
        let response = Response {
            number: 1001,
            increment: "7",
            operation_id: "o",
            data: b"x",
            ..Response::default()
        };
        let value = b"\x10\xff\x82\x01\xfe\x07\xd2\x03\x017\x01\x01o\x01\x01x\x00";
        assert_eq!(encode(&response), [DEFINITION, value].concat());
        // The names and types that we write can be read back by name.
        let read = decode(&encode(&response));
        let expected = ClientRequest {
            number: 1001,
            operation_id: "o".into(),
            increment: "7".into(),
            data: Bytes::from_static(b"x"),
            ..ClientRequest::default()
        };
        assert_eq!(read, Ok(expected));
        let refused = Response {
            number: 1003,
            error_code: 1002,
            error_text: "no",
            ..Response::default()
        };
        let value = b"\x0f\xff\x82\x01\xfe\x07\xd6\x01\xfe\x07\xd4\x01\x02no\x00";
        assert_eq!(encode(&refused), [DEFINITION, value].concat());
    }
}
