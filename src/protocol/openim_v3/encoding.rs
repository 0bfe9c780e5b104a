//! The encodings of envelopes: gob or JSON, with or without gzip, whole or with an end that receivers share. Pure.

use bytes::Bytes;

use super::{
    envelope::{ClientRequest, Malformed, Response},
    gob, gzip, json,
};

/// The most bytes of a request once it is inflated: it has some KB. A frame of 64 KiB could inflate to 64 MiB.
const INFLATED_BYTES_MAX: usize = 256 * 1024;

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

/// An encoding in which an envelope is put together of a beginning, which belongs to one receiver, and an end, which all share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    Gob,
    /// The beginning is one member and the end is another.
    GobGzip,
    Json,
}

impl Encoding {
    /// Decodes a request.
    pub(super) fn decode(self, message: Bytes) -> Result<ClientRequest, Malformed> {
        let message = if self.is_gzip {
            gzip::inflate(&message, INFLATED_BYTES_MAX).map_err(|_| Malformed)?
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
            gzip::member(&message)
        } else {
            message
        }
    }

    /// The way in which receivers share the end of an envelope. `None`: they do not. No SDK speaks JSON with gzip.
    pub(super) fn sharing(self) -> Option<Sharing> {
        match (self.form, self.is_gzip) {
            (Form::Gob, false) => Some(Sharing::Gob),
            (Form::Gob, true) => Some(Sharing::GobGzip),
            (Form::Json, false) => Some(Sharing::Json),
            (Form::Json, true) => None,
        }
    }
}

impl Sharing {
    /// The name of the shared end: [`Message::encoding`](crate::message::Message::encoding).
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gob => "openim.v3.gob",
            Self::GobGzip => "openim.v3.gob+gzip",
            Self::Json => "openim.v3.json",
        }
    }

    /// The bytes of a beginning's data are a multiple of this.
    pub(super) fn step(self) -> usize {
        match self {
            Self::Gob | Self::GobGzip => 1,
            Self::Json => 3,
        }
    }

    /// The end of an envelope whose data ends with `shared`.
    pub(super) fn end(self, shared: &[u8]) -> Bytes {
        match self {
            Self::Gob => gob::end(shared),
            Self::GobGzip => gzip::member(&gob::end(shared)),
            Self::Json => json::end(shared),
        }
    }

    /// The bytes of the data at the end of an envelope.
    pub(super) fn shared_bytes(self, end: &[u8]) -> usize {
        match self {
            Self::Gob => gob::shared_bytes(end.len()),
            Self::GobGzip => gob::shared_bytes(gzip::text_bytes(end)),
            Self::Json => json::shared_bytes(end),
        }
    }

    /// The beginning of an envelope. Its data is the data of `response` and as many shared bytes more.
    pub(super) fn begin(self, response: &Response<'_>, shared_bytes: usize) -> Bytes {
        match self {
            Self::Gob => gob::begin(response, shared_bytes),
            Self::GobGzip => gzip::stored(&gob::begin(response, shared_bytes)),
            Self::Json => json::begin(response),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_of_two_parts_is_the_same_as_a_whole_one() {
        for sharing in [Sharing::Gob, Sharing::GobGzip, Sharing::Json] {
            for (own, shared) in [(0, 1), (3, 0), (30, 100), (129, 70_000)] {
                let data: Vec<u8> = (0..own + shared).map(|at| (at % 251) as u8).collect();
                let response = |data| Response {
                    number: 2001,
                    operation_id: "push",
                    data,
                    ..Response::default()
                };
                let end = sharing.end(&data[own..]);
                assert_eq!(sharing.shared_bytes(&end), shared);
                let begin = sharing.begin(&response(&data[..own]), shared);
                let mut message: Bytes = [begin, end].concat().into();
                let form = match sharing {
                    Sharing::Gob | Sharing::GobGzip => Form::Gob,
                    Sharing::Json => Form::Json,
                };
                if sharing == Sharing::GobGzip {
                    message = gzip::inflate(&message, 100_000).unwrap();
                }
                let encoding = Encoding {
                    form,
                    is_gzip: false,
                };
                assert_eq!(message, encoding.encode(&response(&data)), "{sharing:?}");
            }
        }
    }

    #[test]
    fn a_request_that_inflates_to_too_much_is_refused() {
        let encoding = Encoding {
            form: Form::Json,
            is_gzip: true,
        };
        let request = |bytes: usize| {
            let json = format!(
                r#"{{"reqIdentifier":1001,"sendID":"u"{}}}"#,
                " ".repeat(bytes)
            );
            encoding.decode(gzip::member(json.as_bytes()))
        };
        assert!(request(INFLATED_BYTES_MAX - 100).is_ok());
        assert_eq!(request(INFLATED_BYTES_MAX), Err(Malformed));
    }
}
