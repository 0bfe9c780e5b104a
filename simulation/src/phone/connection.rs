//! One WebSocket of a phone, over the simulated network.

use std::{fmt, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _, stream::SplitStream};
use loadtest::{SdkCore, SdkForm, SdkRequest, SdkResponse};
use serde_json::Value;
use tokio::{
    sync::mpsc::{UnboundedSender, unbounded_channel},
    task::JoinSet,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, Message, protocol::WebSocketConfig},
};

use super::super::network::{End, Network};

/// The longest time until the verdict.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// A Go core drops the connection at a larger frame.
const FRAME_BYTES_MAX: usize = 1 << 20;
/// Verdicts after which an SDK does not come back: the token is not valid, or not any more.
const FINAL_CODES: std::ops::RangeInclusive<i64> = 1501..=1507;

/// Why a connection ended, or never began.
#[derive(Debug)]
pub(super) enum Lost {
    /// The connection was cut, closed, or never came about.
    Gone(String),
    /// The verdict was no. The app does not come back.
    Refused(i64),
    /// Another connection took its place.
    Kicked,
    /// The gateway was silent for too long.
    Silent,
    /// The app's process died.
    Died,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone(why) => f.write_str(why),
            Self::Refused(code) => write!(f, "refused with {code}"),
            Self::Kicked => f.write_str("kicked"),
            Self::Silent => f.write_str("silence"),
            Self::Died => f.write_str("death"),
        }
    }
}

impl Lost {
    /// A verdict that is not yes.
    fn refused(verdict: &[u8]) -> Self {
        let read: Value = serde_json::from_slice(verdict).unwrap_or_default();
        match read["errCode"].as_i64() {
            Some(code) if FINAL_CODES.contains(&code) => Self::Refused(code),
            _ => Self::Gone(format!("the verdict {}", String::from_utf8_lossy(verdict))),
        }
    }
}

impl From<tungstenite::Error> for Lost {
    fn from(error: tungstenite::Error) -> Self {
        match error {
            tungstenite::Error::Http(answer) => {
                Self::refused(answer.body().as_deref().unwrap_or_default())
            }
            error => Self::Gone(error.to_string()),
        }
    }
}

/// An input from the gateway.
pub(super) enum Heard {
    Frame(SdkResponse),
    /// The sign of life that the core needs.
    Life,
    /// A sign of life that it does not need.
    Nothing,
    /// The gateway broke a rule.
    Fault(String),
}

/// An open connection. Its frames leave while it reads.
pub(super) struct Connection {
    form: SdkForm,
    heard: SplitStream<WebSocketStream<End>>,
    said: UnboundedSender<Message>,
    _writing: JoinSet<()>,
}

impl Connection {
    /// Connects, and waits for the verdict.
    pub(super) async fn open(
        network: &Network,
        device: usize,
        query: &str,
        form: SdkForm,
    ) -> Result<Self, Lost> {
        let url = format!("ws://gateway/?{query}");
        let config = WebSocketConfig::default()
            .write_buffer_size(0)
            .max_message_size(Some(FRAME_BYTES_MAX))
            .max_frame_size(Some(FRAME_BYTES_MAX));
        let open = async {
            let stream = network.connect(device).await;
            let stream = stream.map_err(|error| Lost::Gone(error.to_string()))?;
            let opened = client_async_with_config(url, stream, Some(config)).await;
            let mut socket = opened?.0;
            if form.core == SdkCore::JavaScript {
                let first = socket.next().await;
                let first = first.ok_or_else(|| Lost::Gone("no verdict".into()))??;
                let verdict: Value =
                    serde_json::from_slice(&first.clone().into_data()).unwrap_or_default();
                if !first.is_text() || verdict["errCode"] != 0 {
                    return Err(Lost::refused(&first.into_data()));
                }
            }
            Ok(socket)
        };
        let socket = timeout(OPEN_TIMEOUT, open).await;
        let socket = socket.unwrap_or(Err(Lost::Silent))?;
        let (mut sink, heard) = socket.split();
        let (said, mut saying) = unbounded_channel();
        let mut writing = JoinSet::new();
        writing.spawn_local(async move {
            while let Some(message) = saying.recv().await {
                if sink.send(message).await.is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            form,
            heard,
            said,
            _writing: writing,
        })
    }

    /// Sends a request.
    pub(super) fn ask(&self, request: &SdkRequest<'_>) {
        let frame = self.form.encode(request);
        let frame = frame.expect("it is written into memory");
        self.say(Message::Binary(frame.into()));
    }

    pub(super) fn ping(&self) {
        self.say(match self.form.core {
            SdkCore::Go => Message::Ping("phone".into()),
            SdkCore::JavaScript => Message::text(r#"{"type":"ping"}"#),
        });
    }

    fn say(&self, message: Message) {
        // Where nobody writes any more, the reader learns of the end.
        let _ = self.said.send(message);
    }

    /// The next thing that comes. A ping is answered with the call after it: a core answers from its read loop, before it has
    /// stored what came. Cancel safe.
    pub(super) async fn hear(&mut self) -> Result<Heard, Lost> {
        let message = self.heard.next().await;
        let message = message.ok_or_else(|| Lost::Gone("the stream's end".into()))??;
        Ok(match message {
            Message::Binary(frame) => match self.form.decode(&frame) {
                Ok(response) => Heard::Frame(response),
                Err(fault) => Heard::Fault(fault),
            },
            Message::Ping(_) | Message::Pong(_) => match self.form.core {
                SdkCore::Go => Heard::Life,
                SdkCore::JavaScript => Heard::Nothing,
            },
            Message::Close(close) => return Err(Lost::Gone(format!("{close:?}"))),
            Message::Text(text)
                if self.form.core == SdkCore::JavaScript && text.contains("\"pong\"") =>
            {
                Heard::Life
            }
            // A Go core reads no more after a text.
            Message::Text(text) => Heard::Fault(format!("the text {text}")),
            Message::Frame(_) => unreachable!("it is never read"),
        })
    }
}
