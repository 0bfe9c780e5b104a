//! The body of a request on the client port: of a known length, or in chunks (RFC 9112 sections 6 and 7).
//!
//! Promises: memory follows the bytes that came, and a body has a bound. Bytes behind the body stay for the next request. A
//! body whose end is not certain is refused. Leaves to others: the deadline.

use std::{future::poll_fn, io, mem};

use axum::http::{
    HeaderMap, Request, Version,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
};
use tokio::io::AsyncRead;

use super::upgrade::poll_piece;

/// The largest body of a call. A list of 2,000 ids of some 30 bytes takes about as much. Before its
/// token is known, anybody may send one.
pub(super) const BODY_BYTES_MAX: usize = 64 * 1024;
/// The bytes that are read and dropped of a larger body. A connection that is closed with unread bytes is reset, and the caller
/// sees the reset instead of the answer.
const DROPPED_BYTES_MAX: usize = 1024 * 1024;
/// The longest line between two chunks. It has a number, and extensions that nobody uses.
const LINE_BYTES_MAX: usize = 256;
/// The most lines behind the last chunk.
const TRAILERS_MAX: usize = 16;

/// Why a body cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyFault {
    /// The client is gone.
    Gone,
    /// Its length is not known for certain, or its chunks are broken.
    Malformed,
    /// More than [`BODY_BYTES_MAX`].
    TooLarge,
}

impl From<io::Error> for BodyFault {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// The announced length of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Bytes(u64),
    Chunks,
}

/// Reads the body of `request`. `bytes` were read behind its head; in the end it holds the bytes behind the body. Not cancel safe:
/// a drop loses a part of the body.
pub(super) async fn read<S: AsyncRead + Unpin>(
    request: &Request<()>,
    stream: &mut S,
    bytes: &mut Vec<u8>,
) -> Result<Vec<u8>, BodyFault> {
    match length(request)? {
        Length::Chunks => read_chunks(stream, bytes).await,
        Length::Bytes(length) if length > BODY_BYTES_MAX as u64 => {
            discard(stream, bytes, length).await?;
            Err(BodyFault::TooLarge)
        }
        Length::Bytes(length) => take(stream, bytes, length as usize).await,
    }
}

fn length(request: &Request<()>) -> Result<Length, BodyFault> {
    let headers = request.headers();
    let coding = single(headers, TRANSFER_ENCODING)?;
    let length = single(headers, CONTENT_LENGTH)?;
    match (coding, length) {
        (None, None) => Ok(Length::Bytes(0)),
        // RFC 9112 section 6.1: with both, a proxy in between may have seen another end.
        (Some(coding), None)
            if coding.eq_ignore_ascii_case("chunked") && request.version() == Version::HTTP_11 =>
        {
            Ok(Length::Chunks)
        }
        (None, Some(length)) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
            let length = length.parse().map_err(|_| BodyFault::Malformed)?;
            Ok(Length::Bytes(length))
        }
        _ => Err(BodyFault::Malformed),
    }
}

/// The header's value. Several values are refused.
fn single(headers: &HeaderMap, name: axum::http::HeaderName) -> Result<Option<&str>, BodyFault> {
    let mut values = headers.get_all(name).into_iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    match (value.to_str(), values.next()) {
        (Ok(value), None) => Ok(Some(value.trim())),
        _ => Err(BodyFault::Malformed),
    }
}

async fn read_chunks<S: AsyncRead + Unpin>(
    stream: &mut S,
    bytes: &mut Vec<u8>,
) -> Result<Vec<u8>, BodyFault> {
    let mut body = Vec::new();
    loop {
        let line = take_line(stream, bytes).await?;
        let size = chunk_size(&line).ok_or(BodyFault::Malformed)?;
        if size == 0 {
            break;
        }
        if size > BODY_BYTES_MAX - body.len() {
            return Err(BodyFault::TooLarge);
        }
        body.extend(take(stream, bytes, size).await?);
        if !take_line(stream, bytes).await?.is_empty() {
            return Err(BodyFault::Malformed);
        }
    }
    for _ in 0..=TRAILERS_MAX {
        if take_line(stream, bytes).await?.is_empty() {
            return Ok(body);
        }
    }
    Err(BodyFault::Malformed)
}

/// The size in the line before a chunk: hexadecimal digits, then extensions.
fn chunk_size(line: &[u8]) -> Option<usize> {
    let line = std::str::from_utf8(line).ok()?;
    let digits = line.split(';').next()?.trim_end();
    // `from_str_radix` would take a sign.
    let are_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    are_digits
        .then(|| usize::from_str_radix(digits, 16).ok())
        .flatten()
}

/// Takes a line off the front, without its end.
async fn take_line<S: AsyncRead + Unpin>(
    stream: &mut S,
    bytes: &mut Vec<u8>,
) -> Result<Vec<u8>, BodyFault> {
    loop {
        if let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let rest = bytes.split_off(end + 1);
            let mut line = mem::replace(bytes, rest);
            line.pop();
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            return Ok(line);
        }
        if bytes.len() > LINE_BYTES_MAX {
            return Err(BodyFault::Malformed);
        }
        more(stream, bytes).await?;
    }
}

/// Takes so many bytes off the front.
async fn take<S: AsyncRead + Unpin>(
    stream: &mut S,
    bytes: &mut Vec<u8>,
    count: usize,
) -> Result<Vec<u8>, BodyFault> {
    while bytes.len() < count {
        more(stream, bytes).await?;
    }
    let rest = bytes.split_off(count);
    Ok(mem::replace(bytes, rest))
}

/// Reads and drops a body that is too large, up to a bound.
async fn discard<S: AsyncRead + Unpin>(
    stream: &mut S,
    bytes: &mut Vec<u8>,
    length: u64,
) -> Result<(), BodyFault> {
    let mut left = length.min(DROPPED_BYTES_MAX as u64);
    loop {
        left = left.saturating_sub(bytes.len() as u64);
        bytes.clear();
        if left == 0 {
            return Ok(());
        }
        more(stream, bytes).await?;
    }
}

async fn more<S: AsyncRead + Unpin>(stream: &mut S, bytes: &mut Vec<u8>) -> Result<(), BodyFault> {
    match poll_fn(|cx| poll_piece(stream, cx, bytes)).await? {
        0 => Err(BodyFault::Gone),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body of a request with these headers, and the bytes behind it. The first byte of `sent` was read with the head.
    fn body(headers: &[(&str, &str)], sent: &[u8]) -> Result<(Vec<u8>, Vec<u8>), BodyFault> {
        let mut request = Request::builder().method("POST");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        let (early, mut late) = sent.split_at(sent.len().min(1));
        let mut bytes = early.to_vec();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let body = runtime.block_on(read(&request, &mut late, &mut bytes))?;
        bytes.extend_from_slice(late);
        Ok((body, bytes))
    }

    const CHUNKED: (&str, &str) = ("transfer-encoding", "chunked");

    #[test]
    fn a_body_ends_where_its_length_says() {
        let read = body(&[("content-length", "4")], b"bodyPOST /");
        assert_eq!(read, Ok((b"body".to_vec(), b"POST /".to_vec())));
        assert_eq!(body(&[], b"POST /"), Ok((vec![], b"POST /".to_vec())));
        assert_eq!(
            body(&[("content-length", "5")], b"body"),
            Err(BodyFault::Gone)
        );
    }

    #[test]
    fn chunks_are_joined_and_their_extensions_and_trailers_dropped() {
        let sent = b"2\r\nbo\r\n2;x=y\r\ndy\r\n0\r\nT: v\r\n\r\nPOST /";
        let expected = Ok((b"body".to_vec(), b"POST /".to_vec()));
        assert_eq!(body(&[CHUNKED], sent), expected);
        for broken in [
            &b"x\r\n"[..],
            b"+2\r\nbo\r\n",
            b"2\r\nbody\r\n",
            b"\r\n\r\n-",
        ] {
            let read = body(&[CHUNKED], broken);
            // No digits at all are a last chunk of nothing in no grammar, so they must not end the body.
            assert!(read.is_err(), "{broken:?} {read:?}");
        }
        let endless = [b"0\r\n".to_vec(), b"a: b\r\n".repeat(TRAILERS_MAX + 2)].concat();
        assert_eq!(body(&[CHUNKED], &endless), Err(BodyFault::Malformed));
        let long = b"0".repeat(2 * 1024);
        assert_eq!(body(&[CHUNKED], &long), Err(BodyFault::Malformed));
    }

    #[test]
    fn a_body_whose_end_is_not_certain_is_refused() {
        for headers in [
            &[CHUNKED, ("content-length", "4")][..],
            &[("content-length", "4"), ("content-length", "5")],
            &[("content-length", "+4")],
            &[("content-length", "")],
            &[("transfer-encoding", "gzip, chunked")],
        ] {
            assert_eq!(body(headers, b"body"), Err(BodyFault::Malformed));
        }
    }

    #[test]
    fn a_body_above_64_kib_is_read_and_refused() {
        let (limit, more) = (BODY_BYTES_MAX, BODY_BYTES_MAX + 1);
        let length =
            |count: usize| body(&[("content-length", &count.to_string())], &vec![0; count]);
        assert_eq!(length(limit).unwrap().0.len(), limit);
        assert_eq!(length(more), Err(BodyFault::TooLarge));
        let chunk = |count: usize| {
            let sent = [format!("{count:x}\r\n").into_bytes(), vec![0; count]].concat();
            body(&[CHUNKED], &sent)
        };
        assert_eq!(chunk(more), Err(BodyFault::TooLarge));
        let endless = body(
            &[("content-length", "99999999999")],
            &vec![0; 2 * DROPPED_BYTES_MAX],
        );
        assert_eq!(endless, Err(BodyFault::TooLarge));
    }
}
