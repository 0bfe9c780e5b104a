//! `towncrier listen`: a real client. A pushed message first lands in a store on disk, and is then printed once.
//!
//! A message is noted as shown after it was printed. If the process is killed between these two steps, the next run prints
//! the message again; the store still holds it once. With `--mark-read` the user has then read the message, on all
//! platforms.

use std::{collections::BTreeMap, io, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Args;
use tokio::sync::Notify;
use towncrier_client::{
    Client, ClientEvent, DiskStore, Ended, Options, ReadState, StoreError, proto::Message,
};

use super::{
    admin::{AdminApi, TrustArguments, reachable, secure},
    print::Printer,
    signals::Signals,
};
use crate::{config::Config, ids::Platform};

/// The number of messages printed between two notes, when a run begins with messages that were not shown.
const UNSHOWN_AT_ONCE: usize = 1000;

/// Receives a user's messages: lands them in a local store, prints each once.
#[derive(Debug, Args)]
pub(super) struct ListenCommand {
    /// The user whose messages are received.
    #[arg(long)]
    user: String,
    /// The platform, by name or number: web, ios, android …
    #[arg(long, default_value = "web")]
    platform: Platform,
    /// The device's id, where the login policy allows several devices.
    #[arg(long, default_value = "", hide_default_value = true)]
    device: String,
    /// The client port; default: the configured gateway's.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// A token for the user; default: a new one from the admin API.
    #[arg(long)]
    token: Option<String>,
    /// The admin API; default: the configured gateway's.
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    #[command(flatten)]
    trust: TrustArguments,
    /// The store's file; default: a file for this user, platform and device in ./inboxes.
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
    /// Mark each message as read once it is printed.
    #[arg(long)]
    mark_read: bool,
}

impl ListenCommand {
    pub(super) async fn run(&self, config: Config) -> anyhow::Result<ExitCode> {
        let url = self.url.clone();
        let url = url.unwrap_or_else(|| {
            let scheme = secure("ws", &config.listener.tls_certificate);
            format!("{scheme}://{}/ws", reachable(config.listener.listen))
        });
        let trust = self.trust.read()?;
        let store = DiskStore::open(&self.store_path())?;
        let token = match &self.token {
            Some(token) => token.clone(),
            None => {
                AdminApi::new(config, self.admin.as_deref(), &trust)?
                    .token(&self.user, self.platform)
                    .await?
            }
        };
        let mut signals = Signals::that_end_a_command()?;
        let name = concat!("towncrier-listen/", env!("CARGO_PKG_VERSION")).into();
        let options = Options {
            url,
            token,
            device_id: self.device.clone(),
            name,
        };
        let mut client = Client::new(options, store.clone()).trusting(trust);
        let mut shown = Shown {
            printer: Printer::new(self.json),
            store,
            marking: self.mark_read.then(|| client.read_state()),
        };
        shown.print_unshown()?;
        let (failed, mut failure) = (Notify::new(), None);
        let ended = client
            .run(
                |event| {
                    if failure.is_none()
                        && let Err(error) = shown.event(event)
                    {
                        failure = Some(error);
                        failed.notify_one();
                    }
                },
                async {
                    tokio::select! {
                        () = signals.next() => {}
                        () = failed.notified() => {}
                    }
                },
            )
            .await;
        match (failure, ended) {
            // The reader of our output has closed it, so the work is done.
            (Some(error), _) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
            (Some(error), _) => Err(error),
            (None, Ended::Stopped) => Ok(ExitCode::SUCCESS),
            (None, ended) => Err(ended).context("the gateway will not have this client back"),
        }
    }

    fn store_path(&self) -> PathBuf {
        let parts = [&self.user, self.platform.name(), &self.device].map(safe);
        self.store
            .clone()
            .unwrap_or_else(|| PathBuf::from("inboxes").join(format!("{}.redb", parts.join("-"))))
    }
}

/// The messages that were printed, and the store's note of them.
struct Shown {
    printer: Printer,
    store: DiskStore,
    /// Takes the marks for printed messages, if they are to be marked as read.
    marking: Option<ReadState<DiskStore>>,
}

impl Shown {
    fn print_unshown(&mut self) -> anyhow::Result<()> {
        loop {
            let unshown = self.store.unshown(UNSHOWN_AT_ONCE)?;
            for (epoch, message) in &unshown {
                self.printer.message(Some(*epoch), message)?;
            }
            self.printer.flush()?;
            self.mark_read(unshown.iter().map(|(_, message)| message))?;
            for same_log in unshown.chunk_by(|(left, _), (right, _)| left == right) {
                self.store.mark_shown(
                    same_log[0].0,
                    same_log.iter().map(|(_, message)| message.seq),
                )?;
            }
            if unshown.len() < UNSHOWN_AT_ONCE {
                return Ok(());
            }
        }
    }

    /// Marks before the note that they were shown, so that a kill in between loses no mark.
    fn mark_read<'a>(&self, messages: impl Iterator<Item = &'a Message>) -> Result<(), StoreError> {
        let Some(marking) = &self.marking else {
            return Ok(());
        };
        let mut newest = BTreeMap::new();
        for message in messages {
            let seq = newest.entry(&*message.conversation_id).or_default();
            *seq = message.conversation_seq.max(*seq);
        }
        newest
            .into_iter()
            .try_for_each(|(conversation, seq)| marking.mark_read(conversation, seq))
    }

    fn event(&mut self, event: ClientEvent) -> anyhow::Result<()> {
        match event {
            ClientEvent::Landed { epoch, messages } => {
                for message in &messages {
                    self.printer.message(Some(epoch), message)?;
                }
                self.printer.flush()?;
                self.mark_read(messages.iter())?;
                self.store
                    .mark_shown(epoch, messages.iter().map(|message| message.seq))?;
            }
            ClientEvent::OnlineOnly(message) => self.printer.message(None, &message)?,
            ClientEvent::Conversations { changed, marks } => {
                if !marks.is_empty() {
                    self.printer.marks(&marks, &changed)?;
                }
            }
            ClientEvent::Gap {
                from_seq,
                to_seq,
                reason,
            } => self.printer.gap(from_seq, to_seq, reason)?,
            ClientEvent::Status(status) => self.printer.status(&status),
        }
        Ok(self.printer.flush()?)
    }
}

/// A file name that no two different texts share.
fn safe(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"_.@".contains(&byte);
    let encode = |byte| {
        if keep(byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02x}")
        }
    };
    text.bytes().map(encode).collect()
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_user_id_leaves_the_folder_or_shares_a_file() {
        assert_eq!(safe("18712345678"), "18712345678");
        assert_eq!(safe("../a/b"), "..%2fa%2fb");
        assert_ne!(safe("a-b"), safe("a%2db"));
    }
}
