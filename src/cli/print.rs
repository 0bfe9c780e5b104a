//! The output of `listen`: lines for people, or one JSON object a line. Only messages, read marks and gaps go to stdout.

use std::io::{self, Stdout, Write, stderr, stdout};

use serde::Serialize;
use serde_json::{Value, value::RawValue};
use towncrier_client::{
    KnownConversation, Status,
    proto::{Message, ReadMark, gap},
};

/// Writes to stdout.
pub(super) struct Printer {
    out: io::BufWriter<Stdout>,
    is_json: bool,
}

/// A message as JSON, in OpenIM's spelling.
#[derive(Serialize)]
struct MessageLine<'a> {
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
    seq: u64,
    #[serde(rename = "serverMsgID")]
    server_msg_id: &'a str,
    #[serde(rename = "clientMsgID")]
    client_msg_id: &'a str,
    #[serde(rename = "sendID")]
    send_id: &'a str,
    #[serde(rename = "recvID")]
    recv_id: &'a str,
    #[serde(rename = "groupID")]
    group_id: &'a str,
    #[serde(rename = "senderPlatformID")]
    sender_platform_id: i32,
    #[serde(rename = "senderNickname")]
    sender_nickname: &'a str,
    #[serde(rename = "senderFaceURL")]
    sender_face_url: &'a str,
    #[serde(rename = "sessionType")]
    session_type: i32,
    #[serde(rename = "contentType")]
    content_type: i32,
    content: &'a RawValue,
    #[serde(rename = "sendTime")]
    send_time: i64,
    #[serde(rename = "createTime")]
    create_time: i64,
    #[serde(rename = "conversationID")]
    conversation_id: &'a str,
    #[serde(rename = "conversationSeq")]
    conversation_seq: u64,
    ex: &'a str,
}

/// A read mark as JSON.
#[derive(Serialize)]
struct MarkLine<'a> {
    #[serde(rename = "conversationID")]
    conversation_id: &'a str,
    #[serde(rename = "conversationSeq")]
    conversation_seq: u64,
    unread: u64,
}

impl Printer {
    pub(super) fn new(is_json: bool) -> Self {
        Self {
            out: io::BufWriter::new(stdout()),
            is_json,
        }
    }

    /// Prints a message. `epoch` is the log's epoch; `None` means an online-only message, which no log holds.
    pub(super) fn message(&mut self, epoch: Option<u64>, message: &Message) -> io::Result<()> {
        if self.is_json {
            return self.json_message(epoch, message);
        }
        let content = String::from_utf8_lossy(&message.content);
        let fields: Value = serde_json::from_str(&content).unwrap_or_default();
        let field = |name: &str| fields[name].as_str().unwrap_or_default();
        let text = match (
            message.content_type,
            field("notificationName"),
            field("text"),
        ) {
            (1400, title, text) => format!("{title}: {text}"),
            (101, _, text) => text.into(),
            (content_type, ..) => format!("[{content_type}] {content}"),
        };
        let sender = if message.sender_nickname.is_empty() {
            &message.send_id
        } else {
            &message.sender_nickname
        };
        let seq = epoch.map_or_else(|| "online".into(), |_| format!("#{}", message.seq));
        // Control characters in another user's text must not reach the terminal.
        let line = format!("{seq} {sender} | {text}").replace(char::is_control, " ");
        writeln!(self.out, "{line}")
    }

    fn json_message(&mut self, epoch: Option<u64>, message: &Message) -> io::Result<()> {
        let content = serde_json::from_slice(&message.content).map_err(io::Error::from)?;
        let line = MessageLine {
            event: if epoch.is_some() {
                "message"
            } else {
                "online_only"
            },
            epoch: epoch.map(|epoch| format!("{epoch:016x}")),
            seq: message.seq,
            server_msg_id: &message.server_msg_id,
            client_msg_id: &message.client_msg_id,
            send_id: &message.send_id,
            recv_id: &message.recv_id,
            group_id: &message.group_id,
            sender_platform_id: message.sender_platform_id,
            sender_nickname: &message.sender_nickname,
            sender_face_url: &message.sender_face_url,
            session_type: message.session_type,
            content_type: message.content_type,
            content,
            send_time: message.send_time,
            create_time: message.create_time,
            conversation_id: &message.conversation_id,
            conversation_seq: message.conversation_seq,
            ex: &message.ex,
        };
        // The content is kept as it was sent, so it may hold line breaks between its tokens. Within a JSON text they mean
        // nothing.
        let line = serde_json::to_string(&line).map_err(io::Error::from)?;
        writeln!(self.out, "{}", line.replace(['\n', '\r'], " "))
    }

    /// Prints new read marks, with the unread messages above them, in one line.
    pub(super) fn marks(
        &mut self,
        marks: &[ReadMark],
        conversations: &[KnownConversation],
    ) -> io::Result<()> {
        let lines = marks.iter().map(|mark| {
            let is_its = |row: &&KnownConversation| row.conversation_id == mark.conversation_id;
            MarkLine {
                conversation_id: &mark.conversation_id,
                conversation_seq: mark.conversation_seq,
                unread: conversations
                    .iter()
                    .find(is_its)
                    .map_or(0, |row| row.unread),
            }
        });
        if self.is_json {
            let lines: Vec<_> = lines.collect();
            let line = serde_json::json!({"event": "marks", "marks": lines});
            return writeln!(self.out, "{line}");
        }
        let line = |mark: MarkLine<'_>| {
            let MarkLine {
                conversation_id,
                conversation_seq,
                unread,
            } = mark;
            format!("{conversation_id} up to {conversation_seq}, {unread} unread")
        };
        let lines: Vec<_> = lines.map(line).collect();
        // A conversation's id holds ids that other users chose.
        let line = format!("read: {}", lines.join("; ")).replace(char::is_control, " ");
        writeln!(self.out, "{line}")
    }

    /// Prints a gap: messages that will not come.
    pub(super) fn gap(&mut self, from: u64, to: u64, reason: gap::Reason) -> io::Result<()> {
        let reason = reason.as_str_name();
        if self.is_json {
            let line =
                serde_json::json!({"event": "gap", "fromSeq": from, "toSeq": to, "reason": reason});
            return writeln!(self.out, "{line}");
        }
        match to.checked_sub(from) {
            Some(_) => writeln!(self.out, "messages {from} to {to} will not come: {reason}"),
            None => writeln!(self.out, "another log begins: {reason}"),
        }
    }

    /// Prints the state of the connection to stderr.
    pub(super) fn status(&self, status: &Status) {
        let line = match status {
            Status::Connected(connected) => {
                format!(
                    "connected as {}, head {}",
                    connected.user_id, connected.head
                )
            }
            Status::CaughtUp { seq } => format!("caught up to {seq}"),
            Status::Reconnecting { after, lost } => format!("{lost}; reconnecting in {after:.1?}"),
        };
        // Messages still land when nobody reads stderr.
        let _ = writeln!(stderr(), "{line}");
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
