//! Go's gob, as far as an envelope needs it: structs of integers, strings and bytes.
//!
//! A frame is a stream of its own: a message that defines the struct's type, then a message with its value.

use super::messages::{SdkRequest, SdkResponse};

/// Built-in type ids.
const INT: i64 = 2;
const BYTES: i64 = 5;
const STRING: i64 = 6;
/// The id of the request's type. Go gives 65 to the first struct of a program.
const REQUEST: i64 = 65;
/// The request's fields, in their order.
const REQUEST_FIELDS: [(&str, i64); 6] = [
    ("ReqIdentifier", INT),
    ("Token", STRING),
    ("SendID", STRING),
    ("OperationID", STRING),
    ("MsgIncr", STRING),
    ("Data", BYTES),
];

/// The names of an answer's fields.
const NAMES: [&str; 6] = [
    "ReqIdentifier",
    "ErrCode",
    "ErrMsg",
    "MsgIncr",
    "OperationID",
    "Data",
];

/// The bytes are no gob of this subset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GobFault(pub(super) &'static str);

/// Encodes a request: both messages of its stream.
pub(super) fn encode(request: &SdkRequest<'_>) -> Vec<u8> {
    let mut stream = Vec::new();
    message(&mut stream, &definition());
    let mut value = Vec::new();
    signed(&mut value, REQUEST);
    let texts = ["", request.send_id, request.operation_id, request.msg_incr];
    let mut last = 0;
    let mut field = |value: &mut Vec<u8>, number: u64| {
        unsigned(value, number - last);
        last = number;
    };
    if request.number != 0 {
        field(&mut value, 1);
        signed(&mut value, request.number);
    }
    let texts = texts.into_iter().map(str::as_bytes);
    for (number, bytes) in (2..).zip(texts.chain([request.data])) {
        // A field without content is left out.
        if !bytes.is_empty() {
            field(&mut value, number);
            counted(&mut value, bytes);
        }
    }
    value.push(0);
    message(&mut stream, &value);
    stream
}

/// The message that defines the request's type.
fn definition() -> Vec<u8> {
    let mut body = Vec::new();
    signed(&mut body, -REQUEST);
    // The wire type's third field: a struct. Its first field has the name and the id, its second the fields.
    body.extend([3, 1, 1]);
    counted(&mut body, b"Req");
    body.push(1);
    signed(&mut body, REQUEST);
    body.extend([0, 1]);
    unsigned(&mut body, REQUEST_FIELDS.len() as u64);
    for (name, id) in REQUEST_FIELDS {
        body.push(1);
        counted(&mut body, name.as_bytes());
        body.push(1);
        signed(&mut body, id);
        body.push(0);
    }
    body.extend([0, 0]);
    body
}

fn message(stream: &mut Vec<u8>, body: &[u8]) {
    counted(stream, body);
}

fn counted(bytes: &mut Vec<u8>, content: &[u8]) {
    unsigned(bytes, content.len() as u64);
    bytes.extend_from_slice(content);
}

fn unsigned(bytes: &mut Vec<u8>, number: u64) {
    if number < 128 {
        bytes.push(number as u8);
        return;
    }
    let length = 8 - number.leading_zeros() as usize / 8;
    bytes.push((256 - length) as u8);
    bytes.extend_from_slice(&number.to_be_bytes()[8 - length..]);
}

fn signed(bytes: &mut Vec<u8>, number: i64) {
    let shifted = (number as u64) << 1;
    unsigned(bytes, if number < 0 { !shifted } else { shifted });
}

/// Decodes an answer or a push. Its fields are known by their names.
pub(super) fn decode(stream: &[u8]) -> Result<SdkResponse, GobFault> {
    let mut stream = GobCursor(stream);
    let mut defined: Option<(i64, Vec<(&str, i64)>)> = None;
    while !stream.0.is_empty() {
        let mut body = GobCursor(stream.counted()?);
        let id = body.signed()?;
        if id < 0 {
            defined = Some((-id, body.fields()?));
            continue;
        }
        let fields = match &defined {
            Some((known, fields)) if *known == id => fields,
            _ => return Err(GobFault("a value of an undefined type")),
        };
        let response = body.response(fields)?;
        return match stream.0.is_empty() {
            true => Ok(response),
            false => Err(GobFault("bytes behind the value")),
        };
    }
    Err(GobFault("no value"))
}

/// The bytes that are still to be read.
struct GobCursor<'a>(&'a [u8]);

impl<'a> GobCursor<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], GobFault> {
        let taken = self.0.split_at_checked(length);
        let (taken, rest) = taken.ok_or(GobFault("the end comes too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn unsigned(&mut self) -> Result<u64, GobFault> {
        let first = self.take(1)?[0];
        if first < 128 {
            return Ok(first.into());
        }
        let length = 256 - usize::from(first);
        if length > 8 {
            return Err(GobFault("a number of more than 8 bytes"));
        }
        let bytes = self.take(length)?.iter();
        Ok(bytes.fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn signed(&mut self) -> Result<i64, GobFault> {
        let number = self.unsigned()?;
        let shifted = (number >> 1) as i64;
        Ok(if number & 1 == 1 { !shifted } else { shifted })
    }

    fn counted(&mut self) -> Result<&'a [u8], GobFault> {
        let length = self.unsigned()?;
        self.take(usize::try_from(length).map_err(|_| GobFault("a length above memory"))?)
    }

    fn text(&mut self) -> Result<&'a str, GobFault> {
        std::str::from_utf8(self.counted()?).map_err(|_| GobFault("a text that is not UTF-8"))
    }

    /// Reads the number before a field, relative to the last field's. `None`: the struct ends.
    fn next_field(&mut self, last: &mut u64) -> Result<Option<u64>, GobFault> {
        let delta = self.unsigned()?;
        *last = last.checked_add(delta).ok_or(GobFault("a field too far"))?;
        Ok((delta != 0).then_some(*last))
    }

    /// The names and type ids of the fields in a definition's rest.
    fn fields(&mut self) -> Result<Vec<(&'a str, i64)>, GobFault> {
        let mut fields = Vec::new();
        let mut last = 0;
        while let Some(field) = self.next_field(&mut last)? {
            if field != 3 {
                return Err(GobFault("a type that is no struct"));
            }
            let mut last = 0;
            while let Some(field) = self.next_field(&mut last)? {
                match field {
                    1 => {
                        self.name_and_id()?;
                    }
                    2 => {
                        for _ in 0..self.unsigned()? {
                            fields.push(self.name_and_id()?);
                        }
                    }
                    _ => return Err(GobFault("an unknown part of a type")),
                }
            }
        }
        match self.0.is_empty() {
            true => Ok(fields),
            false => Err(GobFault("bytes behind the type")),
        }
    }

    /// A struct of a name and a type id.
    fn name_and_id(&mut self) -> Result<(&'a str, i64), GobFault> {
        let (mut name, mut id, mut last) = ("", 0, 0);
        while let Some(field) = self.next_field(&mut last)? {
            match field {
                1 => name = self.text()?,
                2 => id = self.signed()?,
                _ => return Err(GobFault("an unknown part of a field")),
            }
        }
        Ok((name, id))
    }

    fn response(&mut self, fields: &[(&str, i64)]) -> Result<SdkResponse, GobFault> {
        let mut response = SdkResponse::default();
        let mut last = 0;
        while let Some(number) = self.next_field(&mut last)? {
            let field = fields.get(number as usize - 1);
            match *field.ok_or(GobFault("a field that the type has not"))? {
                ("ReqIdentifier", INT) => response.number = self.signed()?,
                ("ErrCode", INT) => response.error = self.signed()?,
                ("ErrMsg", STRING) => response.text = self.text()?.to_owned(),
                ("MsgIncr", STRING) => response.msg_incr = self.text()?.to_owned(),
                ("OperationID", STRING) => response.operation_id = self.text()?.to_owned(),
                ("Data", BYTES) => response.data = self.counted()?.to_vec(),
                (name, _) if NAMES.contains(&name) => {
                    return Err(GobFault("a field of an unexpected type"));
                }
                // As in Go, a field that the receiver has not is passed over.
                (_, INT) => {
                    self.signed()?;
                }
                (_, BYTES | STRING) => {
                    self.counted()?;
                }
                _ => return Err(GobFault("a field of an unknown type")),
            }
        }
        match self.0.is_empty() {
            true => Ok(response),
            false => Err(GobFault("bytes behind the last field")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A definition of a server's own: another id, another order of the fields.
    fn definition_of(id: i64, fields: &[(&str, i64)]) -> Vec<u8> {
        let mut body = Vec::new();
        signed(&mut body, -id);
        body.extend([3, 1, 1]);
        counted(&mut body, b"Resp");
        body.push(1);
        signed(&mut body, id);
        body.extend([0, 1]);
        unsigned(&mut body, fields.len() as u64);
        for (name, id) in fields {
            body.push(1);
            counted(&mut body, name.as_bytes());
            body.push(1);
            signed(&mut body, *id);
            body.push(0);
        }
        body.extend([0, 0]);
        body
    }

    #[test]
    fn numbers_have_the_bytes_that_go_writes() {
        // From the documentation of Go's encoding/gob.
        for (number, bytes) in [
            (7, &[7][..]),
            (256, &[0xfe, 1, 0]),
            (127, &[127]),
            (128, &[0xff, 128]),
        ] {
            let mut encoded = Vec::new();
            unsigned(&mut encoded, number);
            assert_eq!(encoded, bytes);
            assert_eq!(GobCursor(bytes).unsigned(), Ok(number));
        }
        for (number, bytes) in [
            (-129, &[0xfe, 1, 1][..]),
            (-65, &[0xff, 129]),
            (65, &[0xff, 130]),
            (-1, &[1]),
        ] {
            let mut encoded = Vec::new();
            signed(&mut encoded, number);
            assert_eq!(encoded, bytes);
            assert_eq!(GobCursor(bytes).signed(), Ok(number));
        }
        for number in [i64::MIN, i64::MAX, 0] {
            let mut encoded = Vec::new();
            signed(&mut encoded, number);
            assert_eq!(GobCursor(&encoded).signed(), Ok(number));
        }
    }

    #[test]
    fn a_request_is_a_type_and_a_value_without_its_empty_fields() {
        let request = SdkRequest {
            number: 1001,
            send_id: "u1",
            operation_id: "op",
            msg_incr: "u1_1",
            data: b"\x0a\x02u1",
        };
        let stream = encode(&request);
        let mut stream = GobCursor(&stream);
        let mut definition = GobCursor(stream.counted().unwrap());
        assert_eq!(definition.signed(), Ok(-REQUEST));
        assert_eq!(definition.fields().unwrap(), REQUEST_FIELDS);
        let value = stream.counted().unwrap();
        assert_eq!(
            value,
            // The empty token is left out, so the third field is two behind the first.
            b"\xff\x82\x01\xfe\x07\xd2\x02\x02u1\x01\x02op\x01\x04u1_1\x01\x04\x0a\x02u1\x00"
        );
        assert!(stream.0.is_empty());
    }

    #[test]
    fn an_answer_is_known_by_names_whatever_their_order_and_the_id() {
        let fields = [
            ("Data", BYTES),
            ("MsgIncr", STRING),
            ("ErrMsg", STRING),
            ("ReqIdentifier", INT),
            ("ErrCode", INT),
        ];
        let mut stream = Vec::new();
        message(&mut stream, &definition_of(81, &fields));
        let mut value = Vec::new();
        signed(&mut value, 81);
        value.extend(b"\x01\x03abc\x02\x02no");
        value.push(1);
        signed(&mut value, 2001);
        value.push(1);
        signed(&mut value, -3);
        value.push(0);
        message(&mut stream, &value);
        let response = decode(&stream).unwrap();
        let expected = SdkResponse {
            number: 2001,
            error: -3,
            text: "no".to_owned(),
            data: b"abc".to_vec(),
            ..SdkResponse::default()
        };
        assert_eq!(response, expected);
        for length in 0..stream.len() {
            assert!(decode(&stream[..length]).is_err(), "{length}");
        }
        stream.push(0);
        assert!(decode(&stream).is_err());
    }

    #[test]
    fn lying_lengths_and_types_are_refused() {
        let mut unknown = Vec::new();
        message(&mut unknown, &[130, 0]);
        let mut wrong_type = Vec::new();
        message(
            &mut wrong_type,
            &definition_of(65, &[("ReqIdentifier", STRING)]),
        );
        message(&mut wrong_type, b"\xff\x82\x01\x01x\x00");
        for stream in [
            &[0xf7, 1][..],
            &[0xf8, 255, 255, 255, 255, 255, 255, 255, 255],
            &unknown,
            &wrong_type,
        ] {
            assert!(decode(stream).is_err(), "{stream:?}");
        }
    }
}
