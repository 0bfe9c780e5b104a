//! Why a call has no answer.

use std::{error::Error, io, time::Duration};

use hyper_util::client::legacy;

use super::{addresses::NoPublicAddress, lookups::SlowLookup};

/// Why a call has no answer. Unless it says otherwise, the server may have done all that the request asked for. No text holds
/// a URL, a header or a body.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CallError {
    /// The whole answer did not come within the deadline of the call.
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The host has no address. The server has not been reached.
    #[error("the host name was not found")]
    Resolve,
    /// The look-up of the host's addresses takes too long. The server has not been reached.
    #[error("{SlowLookup}")]
    SlowLookup,
    /// The URL leads into a private network, and the caller forbids this. The server has not been reached.
    #[error("{NoPublicAddress}")]
    PrivateAddress,
    /// No connection was made. The server has not been reached.
    #[error("no connection: {0}")]
    Connect(io::ErrorKind),
    /// The server's certificate is not trusted, or the two ends share no version of TLS. The server has seen no request.
    #[error("TLS: {0}")]
    Tls(rustls::Error),
    /// The connection ended before the whole answer had come, or the server does not speak HTTP.
    #[error("the connection ended before the answer")]
    Cut,
}

impl CallError {
    /// The fact behind an error of the client.
    pub(super) fn of(error: &legacy::Error) -> Self {
        let is_connect = error.is_connect();
        let mut kind = None;
        for cause in causes(error) {
            if cause.is::<NoPublicAddress>() {
                return Self::PrivateAddress;
            }
            if cause.is::<SlowLookup>() {
                return Self::SlowLookup;
            }
            if let Some(error) = cause.downcast_ref::<rustls::Error>() {
                return Self::Tls(error.clone());
            }
            if let Some(error) = cause.downcast_ref::<io::Error>() {
                kind = Some(error.kind());
            }
        }
        match kind {
            _ if !is_connect => Self::Cut,
            // The library has no kind for a name that does not resolve, and says it by the first cause only.
            _ if causes(error).any(|cause| cause.to_string() == "dns error") => Self::Resolve,
            kind => Self::Connect(kind.unwrap_or(io::ErrorKind::Other)),
        }
    }
}

/// An error, and the errors that caused it. The standard library's `source` leaves out the error inside an [`io::Error`].
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        match inner {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}
