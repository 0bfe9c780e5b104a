//! One WebSocket to a gateway, as an SDK opens it, and the verdict on it.

use std::{fmt, io, time::Duration};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, Message, Utf8Bytes, client::IntoClientRequest, protocol::WebSocketConfig},
};
use towncrier_client::{Carrier, Network, Trust};

use super::{
    SdkCore, SdkForm,
    messages::{SdkRequest, SdkResponse},
    store::SdkFault,
};

/// The longest time from the first SYN to the verdict, and for a frame to leave; the same as for the gateway's own client.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
const SEND_TIMEOUT: Duration = Duration::from_secs(20);
/// A Go core drops the connection at a larger frame, as it is on the wire.
const FRAME_BYTES_MAX: usize = 1 << 20;
/// The buffer is small: a connection keeps it for life, and a rig has many connections.
const READ_BUFFER_BYTES: usize = 4096;
/// Verdicts after which an SDK does not come back: the token is not valid (any more).
const FINAL_CODES: std::ops::RangeInclusive<i64> = 1501..=1507;

/// Why a connection ended, or never began.
#[derive(Debug)]
pub(super) enum SdkLost {
    /// The connection was cut, or never came about.
    Io(io::Error),
    /// The verdict was no.
    Refused { code: i64, text: String },
    /// Another connection took this one's place.
    Kicked,
    /// The server closed the connection, or cut it.
    Closed,
    /// The server was silent for too long.
    Silent,
    /// The server broke the protocol.
    Misled(SdkFault),
}

impl SdkLost {
    /// The server sent this, which the protocol forbids.
    pub(super) fn misled(what: impl Into<String>) -> Self {
        Self::Misled(SdkFault(what.into()))
    }

    /// True if an SDK comes back by itself.
    pub(super) fn may_come_back(&self) -> bool {
        match self {
            Self::Refused { code, .. } => !FINAL_CODES.contains(code),
            Self::Kicked => false,
            _ => true,
        }
    }
}

impl fmt::Display for SdkLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Refused { code, text } => write!(f, "refused with {code} {text}"),
            Self::Kicked => f.write_str("kicked"),
            Self::Closed => f.write_str("the connection was closed"),
            Self::Silent => f.write_str("the server is silent"),
            Self::Misled(SdkFault(what)) => {
                write!(f, "the server sent what is not OpenIM's: {what}")
            }
        }
    }
}

impl From<SdkFault> for SdkLost {
    fn from(fault: SdkFault) -> Self {
        Self::Misled(fault)
    }
}

impl From<tungstenite::Error> for SdkLost {
    fn from(error: tungstenite::Error) -> Self {
        use tungstenite::{Error, error::ProtocolError};
        match error {
            Error::Io(error) => Self::Io(error),
            Error::Http(answer) => {
                let body = answer.body().as_deref().unwrap_or_default();
                match serde_json::from_slice::<SdkVerdict>(body) {
                    Ok(SdkVerdict { code, text }) => Self::Refused { code, text },
                    Err(_) => Self::Refused {
                        code: answer.status().as_u16().into(),
                        text: "of HTTP".to_owned(),
                    },
                }
            }
            Error::Protocol(
                ProtocolError::ResetWithoutClosingHandshake | ProtocolError::HandshakeIncomplete,
            )
            | Error::ConnectionClosed
            | Error::AlreadyClosed => Self::Closed,
            other => Self::Misled(SdkFault(other.to_string())),
        }
    }
}

/// The verdict on a connection, as text or as the body of an HTTP answer.
#[derive(Debug, Deserialize)]
struct SdkVerdict {
    #[serde(rename = "errCode")]
    code: i64,
    #[serde(rename = "errMsg", default)]
    text: String,
}

/// An input from the server.
#[derive(Debug)]
pub(super) enum SdkHeard {
    Frame(SdkResponse),
    /// The answer to the connection's last ping.
    Pong,
}

/// An open connection.
#[derive(Debug)]
pub(super) struct SdkConnection {
    socket: WebSocketStream<Carrier<TcpStream>>,
    form: SdkForm,
}

impl SdkConnection {
    /// Connects, and waits for the verdict. Cancel safe: a drop closes the connection.
    pub(super) async fn open(
        network: &impl Network<Stream = TcpStream>,
        trust: &Trust,
        url: &str,
        form: SdkForm,
    ) -> Result<Self, SdkLost> {
        let request = url.into_client_request()?;
        let is_secure = request.uri().scheme_str() == Some("wss");
        let host = request.uri().host().unwrap_or_default();
        // The URL's spelling of an IPv6 address has brackets, but the address has none.
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let port = request.uri().port_u16();
        let port = port.unwrap_or(if is_secure { 443 } else { 80 });
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(FRAME_BYTES_MAX))
            .max_frame_size(Some(FRAME_BYTES_MAX));
        let open = async {
            let stream = network.connect(&host, port).await.map_err(SdkLost::Io)?;
            let stream = match is_secure {
                false => Carrier::Plain(stream),
                true => Carrier::secure(stream, &host, trust)
                    .await
                    .map_err(SdkLost::Io)?,
            };
            let (socket, _) = client_async_with_config(request, stream, Some(config)).await?;
            let mut connection = Self { socket, form };
            if form.core == SdkCore::JavaScript {
                connection.hear_verdict().await?;
            }
            Ok(connection)
        };
        timeout(OPEN_TIMEOUT, open)
            .await
            .unwrap_or(Err(SdkLost::Silent))
    }

    async fn hear_verdict(&mut self) -> Result<(), SdkLost> {
        let first = self.socket.next().await.ok_or(SdkLost::Closed)??;
        let Message::Text(text) = first else {
            return Err(SdkLost::misled("a first frame that is no verdict"));
        };
        match serde_json::from_str(&text) {
            Ok(SdkVerdict { code: 0, .. }) => Ok(()),
            Ok(SdkVerdict { code, text }) => Err(SdkLost::Refused { code, text }),
            Err(_) => Err(SdkLost::misled("a first frame that is no verdict")),
        }
    }

    /// Sends a request. Not cancel safe: a frame may be left half written.
    pub(super) async fn ask(&mut self, request: &SdkRequest<'_>) -> Result<(), SdkLost> {
        let frame = self.form.encode(request).map_err(SdkLost::Io)?;
        self.send(Message::Binary(frame.into())).await
    }

    /// Sends the SDK's ping: a control ping of a Go core, a text of the JavaScript SDK. Not cancel safe, as [`Self::ask`].
    pub(super) async fn ping(&mut self) -> Result<(), SdkLost> {
        let ping = match self.form.core {
            SdkCore::Go => Message::Ping(Bytes::from_static(b"loadtest")),
            SdkCore::JavaScript => Message::Text(Utf8Bytes::from_static(r#"{"type":"ping"}"#)),
        };
        self.send(ping).await
    }

    async fn send(&mut self, message: Message) -> Result<(), SdkLost> {
        let sent = timeout(SEND_TIMEOUT, self.socket.send(message)).await;
        sent.map_err(|_| SdkLost::Silent)?.map_err(SdkLost::from)
    }

    /// The next frame. The pong to a ping leaves with the call that comes after: everything that this connection gave
    /// before has landed by then. Cancel safe.
    pub(super) async fn hear(&mut self) -> Result<SdkHeard, SdkLost> {
        loop {
            match self.socket.next().await.ok_or(SdkLost::Closed)?? {
                Message::Binary(frame) => {
                    let response = self.form.decode(&frame);
                    return Ok(SdkHeard::Frame(response.map_err(SdkFault)?));
                }
                Message::Text(text) => match (self.form.core, is_pong(&text)) {
                    (SdkCore::JavaScript, true) => return Ok(SdkHeard::Pong),
                    // A Go core reads no more after a text.
                    _ => return Err(SdkLost::misled("a text frame")),
                },
                Message::Pong(_) if self.form.core == SdkCore::Go => return Ok(SdkHeard::Pong),
                Message::Close(_) => return Err(SdkLost::Closed),
                // tungstenite answers pings.
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }
}

fn is_pong(text: &str) -> bool {
    #[derive(Deserialize)]
    struct TypedText<'a> {
        r#type: &'a str,
    }
    serde_json::from_str(text).is_ok_and(|typed: TypedText<'_>| typed.r#type == "pong")
}
