//! The envelope around each request and answer: its number, whose it is, and its data. Pure.

use bytes::Bytes;

/// The bytes are no envelope of this form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// A client's request.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct ClientRequest {
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
