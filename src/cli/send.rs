//! `towncrier send`: a message through the admin API.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use serde_json::{json, value::RawValue};
use towncrier_client::admin::{BatchCount, BatchReceivers, SendFields};

use super::admin::{AdminApi, TrustArguments};
use crate::{
    config::{Config, Role},
    ids::Platform,
};

/// The content type of an OA notification.
const NOTICE: i32 = 1400;
/// Session types: a conversation of two, and notifications.
const SINGLE: i32 = 1;
const NOTIFICATION: i32 = 4;

/// Sends a message through the admin API.
#[derive(Debug, Args)]
pub(super) struct SendCommand {
    #[command(flatten)]
    whom: Whom,
    #[command(flatten)]
    what: What,
    /// The title of a notice.
    #[arg(long, default_value = "Notice", conflicts_with = "content")]
    title: String,
    /// The content's type: 101–114 or 1400.
    #[arg(long, default_value_t = NOTICE, value_name = "NUMBER")]
    content_type: i32,
    /// The user in whose name it is sent; default: the first of admin.user_ids with the role send.
    #[arg(long, value_name = "USER")]
    from: Option<String>,
    /// The sender's name as shown.
    #[arg(long, default_value = "Towncrier", value_name = "NAME")]
    nickname: String,
    /// Your own id for the message: a repeated send with the same id is one message.
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "CLIENT_MSG_ID"
    )]
    id: String,
    /// Push only to sessions that are online now; nothing is stored.
    #[arg(long)]
    online_only: bool,
    /// The admin API; default: the configured gateway's.
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    #[command(flatten)]
    trust: TrustArguments,
    /// Print one JSON object for each receiver.
    #[arg(long)]
    json: bool,
}

/// The receivers.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Whom {
    /// A receiver; repeat it for several.
    #[arg(long, value_name = "USER")]
    to: Vec<String>,
    /// Send to every user that the gateway knows.
    #[arg(long)]
    to_all: bool,
}

/// The content.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct What {
    /// The text of a notice.
    #[arg(long)]
    text: Option<String>,
    /// The whole content as a JSON object, sent unchanged.
    #[arg(long, value_name = "JSON")]
    content: Option<String>,
}

impl SendCommand {
    pub(super) async fn run(&self, config: Config) -> anyhow::Result<ExitCode> {
        let admin = AdminApi::new(config, self.admin.as_deref(), &self.trust.read()?)?;
        let user = admin.administrator(Role::Send)?;
        let token = admin.token(user, Platform::Admin).await?;
        let message = self.message(user)?;
        if let ([receiver], false) = (&self.whom.to[..], self.whom.to_all) {
            let sent = admin.client.send(&token, &message, receiver).await?;
            self.print(receiver, &sent.server_msg_id, sent.send_time);
            return Ok(ExitCode::SUCCESS);
        }
        let receivers = if self.whom.to_all {
            BatchReceivers::Everyone
        } else {
            BatchReceivers::List(&self.whom.to)
        };
        let batch = admin.client.send_batch(&token, &message, receivers).await?;
        for result in batch.results.unwrap_or_default() {
            self.print(
                &result.recv_id,
                &result.sent.server_msg_id,
                result.sent.send_time,
            );
        }
        if let Some(BatchCount {
            receivers_total,
            sent,
        }) = batch.count
        {
            let receivers = format!("{receivers_total} users");
            self.print(&receivers, &sent.server_msg_id, sent.send_time);
        }
        let failed = batch.failed.unwrap_or_default();
        failed
            .iter()
            .for_each(|receiver| eprintln!("not sent to {receiver:?}: no such user can be"));
        Ok(if failed.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    fn message(&self, admin: &str) -> anyhow::Result<SendFields> {
        let notice = || {
            json!({
                "notificationName": self.title,
                "notificationFaceURL": "",
                "notificationType": 1,
                "text": self.what.text,
                "externalUrl": "",
                "mixType": 0,
            })
            .to_string()
        };
        let content = RawValue::from_string(self.what.content.clone().unwrap_or_else(notice));
        Ok(SendFields {
            operation_id: "towncrier send".into(),
            send_id: self.from.clone().unwrap_or_else(|| admin.into()),
            client_msg_id: self.id.clone(),
            sender_nickname: self.nickname.clone(),
            sender_face_url: String::new(),
            session_type: if self.content_type == NOTICE {
                NOTIFICATION
            } else {
                SINGLE
            },
            content_type: self.content_type,
            content: content.context("--content is not JSON")?,
            is_online_only: self.online_only,
        })
    }

    fn print(&self, receiver: &str, server_msg_id: &str, send_time: i64) {
        if self.json {
            println!(
                "{}",
                json!({"recvID": receiver, "serverMsgID": server_msg_id, "sendTime": send_time})
            );
        } else {
            println!("accepted {server_msg_id} for {receiver}");
        }
    }
}
