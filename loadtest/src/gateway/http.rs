//! One kept HTTP connection to a port of the gateway: one request, one answer, and so on.
//!
//! The code is written by hand, because the rig shares the machine with the measured server. With hyper's connection a
//! message takes the rig 1.3 times as long (docs/measured.md#the-clients-of-the-rig).

use std::io::{self, Write};

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use towncrier_client::{Carrier, Trust};

use super::GatewayAccess;

/// Longer than the gateway's own `admin.request_timeout`, so that the gateway answers first.
const ANSWER_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(35);
/// A batch of 100,000 receivers has an answer of about 150 bytes each.
const ANSWER_BYTES_MAX: usize = 32 << 20;

/// The connection. It is opened when needed.
#[derive(Debug)]
pub(super) struct Http {
    /// HOST:PORT.
    authority: String,
    /// The host name in the server's certificate; `None`: plain text.
    secure_host: Option<String>,
    trust: Trust,
    token: String,
    stream: Option<Carrier<TcpStream>>,
    request: Vec<u8>,
    answer: Vec<u8>,
    body: Vec<u8>,
}

/// The JSON of an answer.
#[derive(Debug, Deserialize)]
pub(super) struct AnswerBody<'a> {
    #[serde(rename = "errCode")]
    pub(super) code: i64,
    #[serde(rename = "errMsg", default)]
    pub(super) text: String,
    #[serde(borrow, default)]
    pub(super) data: Option<&'a RawValue>,
}

impl Http {
    /// A connection to the admin port of the gateway of this number, with the administrator's token if there is one yet.
    pub(super) fn new(access: &GatewayAccess, number: usize) -> Self {
        let admin = &access.gateway(number).admin;
        Self::to(admin, access.trust.clone(), &access.admin_token)
    }

    /// A connection to the port of a URL, http://, https://, ws:// or wss://.
    pub(super) fn to(url: &str, trust: Trust, token: &str) -> Self {
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let is_secure = ["https", "wss"].contains(&scheme);
        let authority = rest.split('/').next().unwrap_or_default();
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port),
            _ if is_secure => (authority, "443"),
            _ => (authority, "80"),
        };
        // The URL's spelling of an IPv6 address has brackets, but the address has none.
        let name = host.trim_start_matches('[').trim_end_matches(']');
        Self {
            authority: format!("{host}:{port}"),
            secure_host: is_secure.then(|| name.to_owned()),
            trust,
            token: token.to_owned(),
            stream: None,
            request: Vec::new(),
            answer: Vec::new(),
            body: Vec::new(),
        }
    }

    /// Later requests have this token.
    pub(super) fn set_token(&mut self, token: String) {
        self.token = token;
    }

    /// The complete answer of the admin API, or an error if the outcome of the request is unknown.
    pub(super) async fn post(&mut self, path: &str, body: &str) -> io::Result<AnswerBody<'_>> {
        let answer = self.ask(path, body).await?;
        serde_json::from_slice(answer).map_err(|_| unreadable())
    }

    /// The body of the answer, or an error if the outcome of the request is unknown.
    pub(super) async fn ask(&mut self, path: &str, body: &str) -> io::Result<&[u8]> {
        self.request.clear();
        write!(
            self.request,
            "POST {path} HTTP/1.1\r\nhost: {}\r\ntoken: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.authority,
            self.token,
            body.len()
        )?;
        let exchanged = timeout(ANSWER_TIMEOUT, self.exchange()).await;
        if let Err(error) = exchanged.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            self.stream = None;
            return Err(error);
        }
        Ok(&self.body)
    }

    /// Returns once the whole answer's body is in `body`.
    async fn exchange(&mut self) -> io::Result<()> {
        if self.stream.is_none() {
            let stream = TcpStream::connect(&self.authority).await?;
            stream.set_nodelay(true)?;
            self.stream = Some(match &self.secure_host {
                Some(host) => Carrier::secure(stream, host, &self.trust).await?,
                None => Carrier::Plain(stream),
            });
        }
        let stream = self.stream.as_mut().expect("it was just made");
        stream.write_all(&self.request).await?;
        stream.flush().await?;
        self.answer.clear();
        while stream.read_buf(&mut self.answer).await? > 0 {
            if let Some(is_last) = open_answer(&self.answer, &mut self.body)? {
                if is_last {
                    self.stream = None;
                }
                return Ok(());
            }
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// Takes the body out of an answer. `None`: more bytes must come. Otherwise true if the connection ends with this answer.
fn open_answer(answer: &[u8], body: &mut Vec<u8>) -> io::Result<Option<bool>> {
    body.clear();
    let Some((head, rest)) = split(answer, b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(head).map_err(|_| unreadable())?;
    let header = |name: &str| {
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    };
    let is_whole = match header("content-length") {
        Some(length) => {
            let length: usize = length.parse().map_err(|_| unreadable())?;
            body.extend_from_slice(&rest[..length.min(rest.len())]);
            rest.len() >= length
        }
        // Large answers come in chunks.
        None if header("transfer-encoding") == Some("chunked") => open_chunks(rest, body)?,
        None => return Err(unreadable()),
    };
    if answer.len() > ANSWER_BYTES_MAX {
        return Err(unreadable());
    }
    let is_last = header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    Ok(is_whole.then_some(is_last))
}

/// RFC 9112, section 7.1. Returns true if the last chunk was there.
fn open_chunks(mut rest: &[u8], body: &mut Vec<u8>) -> io::Result<bool> {
    while let Some((size, chunk)) = split(rest, b"\r\n") {
        let size = std::str::from_utf8(size).ok();
        let size = size.and_then(|size| usize::from_str_radix(size, 16).ok());
        let size = size.ok_or_else(unreadable)?;
        if chunk.len() < size.saturating_add(2) {
            return Ok(false);
        }
        if size == 0 {
            return Ok(true);
        }
        body.extend_from_slice(&chunk[..size]);
        rest = &chunk[size + 2..];
    }
    Ok(false)
}

fn split<'a>(bytes: &'a [u8], at: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let begin = bytes.windows(at.len()).position(|window| window == at)?;
    Some((&bytes[..begin], &bytes[begin + at.len()..]))
}

fn unreadable() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the answer is not the admin API's",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_only_with_its_last_byte() {
        let plain = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\n{  }";
        let chunked =
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n{  \r\n1\r\n}\r\n0\r\n\r\n";
        let mut body = Vec::new();
        for (answer, ends) in [(&plain[..], true), (&chunked[..], false)] {
            for bytes in 0..answer.len() {
                assert_eq!(open_answer(&answer[..bytes], &mut body).unwrap(), None);
            }
            assert_eq!(open_answer(answer, &mut body).unwrap(), Some(ends));
            assert_eq!(body, b"{  }");
        }
        assert!(open_answer(b"HTTP/1.1 200 OK\r\n\r\n", &mut body).is_err());
    }
}
