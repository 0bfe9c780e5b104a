//! One WebSocket to the gateway: frames in, frames out, and the reason of its end.
//!
//! Its buffers are small, because a program may hold very many connections.

use std::{io, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt, SinkExt, StreamExt};
use prost::Message as _;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        self,
        client::IntoClientRequest,
        error::ProtocolError,
        http::{HeaderValue, header},
        protocol::{Message as Envelope, WebSocketConfig},
    },
};

use crate::{
    backoff,
    carrier::Carrier,
    landing::Misled,
    network::{Network, Tcp},
    proto::{ClientFrame, ServerFrame, client_frame, server_frame},
    trust::Trust,
};

/// The WebSocket subprotocol that the client offers.
pub const SUBPROTOCOL: &str = "towncrier.v1";
/// The longest time from the first SYN to the end of the upgrade.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// A server counts as gone when it takes none of a client's few bytes for this long.
const SEND_TIMEOUT: Duration = Duration::from_secs(20);
/// The server coalesces up to 64 KiB, and one message always fits such a frame. The rest is room for framing.
const FRAME_BYTES_MAX: usize = 128 * 1024;
/// tungstenite allocates this buffer at once. Its default of 128 KiB is too much for 100,000 connections.
const READ_BUFFER_BYTES: usize = 4096;

/// Why a connection ended, or never began.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// The URL is not valid. Another attempt will not help.
    #[error("{0}: expected ws://HOST[:PORT]/ws, or wss://")]
    Url(String),
    /// There was no TCP connection, or it was cut.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server answered the upgrade with an HTTP status.
    #[error("the handshake was answered with HTTP {status}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The delay of its `Retry-After`, if it had one.
        retry_after: Option<Duration>,
    },
    /// The server closed the connection.
    #[error("closed with {code}{}{text}", if text.is_empty() { "" } else { ": " })]
    Closed {
        /// Close code; 1005 if the frame had none.
        code: u16,
        /// Close text.
        text: String,
    },
    /// The connection ended without a close frame.
    #[error("the connection was cut")]
    Cut,
    /// The server was silent for too long.
    #[error("the server is silent")]
    Silent,
    /// The server's bytes do not follow this protocol.
    #[error("the server sent what is not towncrier.v1: {0}")]
    Garbled(&'static str),
    /// The server sent a frame that the protocol forbids.
    #[error(transparent)]
    Misled(#[from] Misled),
}

impl Lost {
    /// True if a client may return by itself.
    pub fn may_come_back(&self) -> bool {
        match self {
            Self::Closed { code, .. } => backoff::may_come_back(*code),
            Self::Refused { status, .. } => !matches!(status, 401 | 403),
            Self::Url(_) => false,
            _ => true,
        }
    }

    /// The wait that the server asked for.
    pub fn asked_delay(&self) -> Option<Duration> {
        match self {
            Self::Closed { code, text } => backoff::asked_delay(*code, text),
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// An open WebSocket to the gateway.
#[derive(Debug)]
pub struct ClientConnection<T = TcpStream> {
    socket: WebSocketStream<Carrier<T>>,
    /// Code and text of the server's close frame, once it was read. A later send fails with it.
    closed: Option<(u16, String)>,
}

impl ClientConnection {
    /// Connects to `url`, e.g. `ws://127.0.0.1:10001/ws`, within 10 s. Over `wss://` it trusts the certificates that this
    /// machine trusts. Cancel safe: a drop closes the connection.
    pub async fn open(url: &str) -> Result<Self, Lost> {
        Self::open_over(&Tcp, url).await
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> ClientConnection<T> {
    /// The same over any network. Cancel safe, too.
    pub async fn open_over(network: &impl Network<Stream = T>, url: &str) -> Result<Self, Lost> {
        Self::open_trusting(network, url, &Trust::default()).await
    }

    /// The same, but over `wss://` it trusts `trust`. Cancel safe, too.
    pub async fn open_trusting(
        network: &impl Network<Stream = T>,
        url: &str,
        trust: &Trust,
    ) -> Result<Self, Lost> {
        let bad_url = || Lost::Url(url.to_owned());
        let mut request = url.into_client_request().map_err(|_| bad_url())?;
        let (is_secure, default_port) = match request.uri().scheme_str() {
            Some("ws") => (false, 80),
            Some("wss") => (true, 443),
            _ => return Err(bad_url()),
        };
        let host = request.uri().host().ok_or_else(bad_url)?;
        // The URL's spelling of an IPv6 address has brackets, but the address has none.
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let port = request.uri().port_u16().unwrap_or(default_port);
        if is_secure && ServerName::try_from(host.as_str()).is_err() {
            return Err(bad_url());
        }
        request.headers_mut().insert(
            header::SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(SUBPROTOCOL),
        );
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(FRAME_BYTES_MAX))
            .max_frame_size(Some(FRAME_BYTES_MAX));
        let open = async {
            let stream = network.connect(&host, port).await?;
            let stream = match is_secure {
                true => Carrier::secure(stream, &host, trust).await?,
                false => Carrier::Plain(stream),
            };
            let (socket, _) = client_async_with_config(request, stream, Some(config))
                .await
                .map_err(lost)?;
            Ok(Self {
                socket,
                closed: None,
            })
        };
        timeout(OPEN_TIMEOUT, open)
            .await
            .unwrap_or(Err(Lost::Silent))
    }

    /// Sends one frame. Not cancel safe: a frame may be left half written.
    pub async fn send(&mut self, body: client_frame::Body) -> Result<(), Lost> {
        let bytes = ClientFrame { body: Some(body) }.encode_to_vec();
        self.send_envelope(Envelope::Binary(bytes.into())).await
    }

    /// Sends any WebSocket message, even one that the protocol forbids. Not cancel safe: it may be left half written.
    pub async fn send_envelope(&mut self, envelope: Envelope) -> Result<(), Lost> {
        let sending = self.socket.send(envelope);
        let sent = timeout(SEND_TIMEOUT, sending).await;
        let sent = sent.map_err(|_| Lost::Silent)?;
        sent.map_err(|error| match self.closed.clone() {
            Some((code, text)) => Lost::Closed { code, text },
            None => lost(error),
        })
    }

    /// The next frame. Frames of unknown kind are skipped. Cancel safe.
    pub async fn receive(&mut self) -> Result<server_frame::Body, Lost> {
        loop {
            let envelope = self.socket.next().await.ok_or(Lost::Cut)?.map_err(lost)?;
            let opened = open_envelope(envelope).inspect_err(|lost| {
                if let Lost::Closed { code, text } = lost {
                    self.closed = Some((*code, text.clone()));
                }
            });
            if let Some(body) = opened? {
                return Ok(body);
            }
        }
    }

    /// The next frame, if it has already arrived.
    pub fn receive_now(&mut self) -> Option<Result<server_frame::Body, Lost>> {
        self.receive().now_or_never()
    }

    /// Sends a close and waits a moment for the answer. Frames that still arrive are dropped. Cancel safe: a
    /// drop cuts the connection.
    pub async fn close(mut self) {
        let goodbye = async {
            self.socket.close(None).await?;
            while self.socket.next().await.transpose()?.is_some() {}
            Ok::<(), tungstenite::Error>(())
        };
        // The socket is dropped after both outcomes.
        let _ = timeout(Duration::from_secs(1), goodbye).await;
    }
}

/// The frame in a WebSocket message; `None` if it holds no frame.
fn open_envelope(envelope: Envelope) -> Result<Option<server_frame::Body>, Lost> {
    match envelope {
        Envelope::Binary(bytes) => decode(bytes),
        Envelope::Close(frame) => Err(frame.map_or(
            Lost::Closed {
                code: 1005,
                text: String::new(),
            },
            |frame| Lost::Closed {
                code: frame.code.into(),
                text: frame.reason.to_string(),
            },
        )),
        Envelope::Text(_) => Err(Lost::Garbled("a text frame")),
        // tungstenite answers pings by itself.
        Envelope::Ping(_) | Envelope::Pong(_) | Envelope::Frame(_) => Ok(None),
    }
}

fn decode(bytes: Bytes) -> Result<Option<server_frame::Body>, Lost> {
    let frame = ServerFrame::decode(bytes).map_err(|_| Lost::Garbled("an undecodable frame"))?;
    Ok(frame.body)
}

fn lost(error: tungstenite::Error) -> Lost {
    match error {
        tungstenite::Error::Io(error) => Lost::Io(error),
        tungstenite::Error::Http(response) => Lost::Refused {
            status: response.status().as_u16(),
            retry_after: response
                .headers()
                .get(header::RETRY_AFTER)
                .and_then(|value| value.to_str().ok()?.trim().parse().ok())
                .map(Duration::from_secs),
        },
        tungstenite::Error::Capacity(_) => Lost::Garbled("a frame above 128 KiB"),
        tungstenite::Error::Protocol(
            ProtocolError::ResetWithoutClosingHandshake | ProtocolError::HandshakeIncomplete,
        )
        | tungstenite::Error::ConnectionClosed
        | tungstenite::Error::AlreadyClosed => Lost::Cut,
        _ => Lost::Garbled("broken WebSocket framing"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    #[tokio::test]
    async fn a_handshake_that_is_cut_off_is_a_cut() {
        for answer in ["", "HTTP/1.1 101 Switching Pro"] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("ws://{}/ws", listener.local_addr().unwrap());
            let server = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                // The server reads the whole request, because unread bytes would reset the connection.
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(stream.read_u8().await.unwrap());
                }
                stream.write_all(answer.as_bytes()).await.unwrap();
            };
            let (opened, ()) = tokio::join!(ClientConnection::open(&url), server);
            assert!(matches!(opened, Err(Lost::Cut)), "{answer:?}: {opened:?}");
        }
    }
}
