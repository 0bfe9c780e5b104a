//! One connection to a broker, over TCP or in the messages of a WebSocket: bytes in, packets out, and back.

use std::{io, time::Duration};

use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Message,
        client::IntoClientRequest,
        http::{HeaderValue, header},
        protocol::WebSocketConfig,
    },
};
use towncrier_client::Network;

use super::{
    packet::{ClientPacket, Heard, PACKET_BYTES_MAX, decode},
    url::Url,
};

/// The longest time from the first SYN to the end of the upgrade, and for packets to leave; the same as for a gateway's
/// client.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
const SEND_TIMEOUT: Duration = Duration::from_secs(20);
/// The buffer is small: a connection keeps it for life, and a rig has many connections.
const READ_BUFFER_BYTES: usize = 4096;
/// WebSocket messages taken at once before the acks for them leave.
const MESSAGES_AT_ONCE: usize = 16;

#[derive(Debug)]
pub(super) struct MqttConnection {
    carrier: MqttCarrier,
    /// The received bytes, and the number of them that were taken.
    heard: Vec<u8>,
    taken: usize,
    /// The bytes that leave with the next flush.
    said: Vec<u8>,
}

#[derive(Debug)]
enum MqttCarrier {
    Tcp(TcpStream),
    WebSocket(Box<WebSocketStream<TcpStream>>),
}

impl MqttConnection {
    pub(super) async fn open(
        network: &impl Network<Stream = TcpStream>,
        url: &Url,
    ) -> io::Result<Self> {
        let open = async {
            let stream = network.connect(&url.host, url.port).await?;
            let carrier = match url.websocket() {
                None => MqttCarrier::Tcp(stream),
                Some(url) => MqttCarrier::WebSocket(Box::new(upgrade(&url, stream).await?)),
            };
            Ok(Self {
                carrier,
                heard: Vec::new(),
                taken: 0,
                said: Vec::new(),
            })
        };
        timeout(OPEN_TIMEOUT, open).await?
    }

    /// Adds a packet that leaves with the next [`Self::flush`].
    pub(super) fn say(&mut self, packet: ClientPacket<'_>) {
        packet.encode(&mut self.said);
    }

    /// Sends the added packets, if there are any. Not cancel safe: a packet may be left half written.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        if self.said.is_empty() {
            return Ok(());
        }
        let sending = async {
            match &mut self.carrier {
                MqttCarrier::Tcp(stream) => {
                    stream.write_all(&self.said).await?;
                    self.said.clear();
                    Ok(())
                }
                MqttCarrier::WebSocket(socket) => {
                    let bytes = std::mem::take(&mut self.said);
                    let sent = socket.send(Message::Binary(bytes.into())).await;
                    sent.map_err(io::Error::other)
                }
            }
        };
        timeout(SEND_TIMEOUT, sending).await?
    }

    /// Waits until bytes come, and takes them and all that came with them. Cancel safe.
    pub(super) async fn hear(&mut self) -> io::Result<()> {
        self.heard.drain(..self.taken);
        self.taken = 0;
        match &mut self.carrier {
            MqttCarrier::Tcp(stream) => {
                self.heard.reserve(READ_BUFFER_BYTES);
                match stream.read_buf(&mut self.heard).await? {
                    0 => Err(gone()),
                    _ => Ok(()),
                }
            }
            MqttCarrier::WebSocket(socket) => {
                let mut next = Some(socket.next().await);
                let mut messages = 0;
                while let Some(message) = next {
                    match message.ok_or_else(gone)?.map_err(io::Error::other)? {
                        Message::Binary(bytes) => self.heard.extend_from_slice(&bytes),
                        Message::Close(_) => return Err(gone()),
                        // tungstenite answers pings.
                        _ => {}
                    }
                    messages += 1;
                    next = match messages {
                        ..MESSAGES_AT_ONCE => socket.next().now_or_never(),
                        _ => None,
                    };
                }
                Ok(())
            }
        }
    }

    /// The next received packet. `None`: its rest has still to come.
    pub(super) fn next(&mut self) -> io::Result<Option<Heard<'_>>> {
        let decoded = decode(&self.heard[self.taken..]);
        let decoded = decoded.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(decoded.map(|(heard, used)| {
            self.taken += used;
            heard
        }))
    }
}

async fn upgrade(url: &str, stream: TcpStream) -> io::Result<WebSocketStream<TcpStream>> {
    let mut request = url.into_client_request().map_err(io::Error::other)?;
    request.headers_mut().insert(
        header::SEC_WEBSOCKET_PROTOCOL,
        HeaderValue::from_static("mqtt"),
    );
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_message_size(Some(PACKET_BYTES_MAX))
        .max_frame_size(Some(PACKET_BYTES_MAX));
    let upgraded = client_async_with_config(request, stream, Some(config)).await;
    Ok(upgraded.map_err(io::Error::other)?.0)
}

fn gone() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the broker ended the connection",
    )
}
