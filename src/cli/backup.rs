//! `towncrier log backup` and `towncrier log restore`: a copy of the running gateway's log, and the way back from it.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use clap::Args;
use serde::Deserialize;
use serde_json::json;

use super::admin::{AdminApi, TrustArguments, admin_url};
use crate::{
    clock::Clock,
    config::{Config, Role},
    ids::Platform,
    log::{
        cluster::OWN_BACKUP,
        embedded::{ErasureList, Restored, restore, restore_and_erase},
    },
};

/// A backup that makes no progress for this long is given up here. The gateway may still complete it.
const BACKUP_STALL_TIMEOUT: Duration = Duration::from_secs(600);
/// A gateway that answers at once is not asked more often than this.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Copies the log of the running gateway.
#[derive(Debug, Args)]
pub(super) struct BackupArguments {
    /// A directory on the gateway's machine: empty, or with the backup before, which is then brought up to date.
    #[arg(value_name = "DEST")]
    destination: PathBuf,
    /// The admin API; default: the configured gateway's.
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// A file with an administrator's token; default: the secrets of the configuration give one.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    trust: TrustArguments,
}

/// Makes a data directory from a backup.
#[derive(Debug, Args)]
pub(super) struct RestoreArguments {
    /// The directory of the backup. It is only read.
    #[arg(value_name = "SRC")]
    source: PathBuf,
    /// The file "erased" of a newer backup: users who were erased since SRC was made are erased again.
    #[arg(long, value_name = "FILE")]
    erased: Option<PathBuf>,
}

/// The answer of `/log/backup`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BackupAnswer {
    state: String,
    done_bytes: u64,
    all_bytes: u64,
    backup: Option<FinishedBackup>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct FinishedBackup {
    epoch: String,
    position: u64,
    segments: usize,
    copied_bytes: u64,
    took_ms: u64,
}

impl BackupArguments {
    pub(super) async fn run(&self, config: Config) -> anyhow::Result<ExitCode> {
        // The gateway may run in another directory.
        let destination = std::path::absolute(&self.destination)?;
        let destination = destination.to_str().context("DEST is not UTF-8")?;
        let trust = self.trust.read()?;
        let (client, token) = match &self.token_file {
            Some(file) => {
                let url = admin_url(&config, self.admin.as_deref());
                let client = towncrier_client::AdminClient::trusting(&url, &trust)?;
                (client, read_token(file)?)
            }
            None => {
                let admin = AdminApi::new(config, self.admin.as_deref(), &trust)?;
                let user = admin.administrator(Role::Operate)?;
                let token = admin.token(user, Platform::Admin).await?;
                (admin.client, token)
            }
        };
        let request = json!({
            "operationID": format!("backup-{}", uuid::Uuid::new_v4()),
            "destination": destination,
        });
        let mut moved = (0, Instant::now());
        loop {
            let asked = Instant::now();
            let answer: BackupAnswer = client
                .call("/log/backup", Some(&token), &request)
                .await
                .with_context(|| format!("no backup was made into {destination}"))?;
            if let Some(backup) = answer.backup {
                print(&backup, destination, answer.all_bytes);
                return Ok(ExitCode::SUCCESS);
            }
            if answer.done_bytes != moved.0 {
                moved = (answer.done_bytes, Instant::now());
            }
            ensure!(
                moved.1.elapsed() < BACKUP_STALL_TIMEOUT,
                "the backup into {destination} does not move: look at its disk"
            );
            tracing::info!(
                state = answer.state,
                done_bytes = answer.done_bytes,
                all_bytes = answer.all_bytes,
                "the backup is being made"
            );
            tokio::time::sleep(POLL_INTERVAL.saturating_sub(asked.elapsed())).await;
        }
    }
}

fn print(backup: &FinishedBackup, destination: &str, bytes: u64) {
    let FinishedBackup {
        epoch,
        position,
        segments,
        copied_bytes,
        took_ms,
    } = backup;
    println!(
        "backed up to {destination}: {segments} segments, {bytes} bytes, of which {copied_bytes} are new, up to position {position} \
         of epoch {epoch}, in {:.1} s",
        *took_ms as f64 / 1000.0
    );
}

fn read_token(file: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let token = text.trim();
    ensure!(!token.is_empty(), "{} holds no token", file.display());
    Ok(token.into())
}

impl RestoreArguments {
    pub(super) fn run(&self, config: &Config) -> anyhow::Result<ExitCode> {
        ensure!(config.log.store.url().is_none(), OWN_BACKUP);
        let data = &config.log.dir;
        // A list that cannot be used is refused before anything is done.
        let list = self.erased.as_ref().map(|file| {
            let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
            ErasureList::of_text(&text).with_context(|| file.display().to_string())
        });
        let list = list.transpose()?;
        let clock = Clock::system();
        let (restored, erased) = match &list {
            Some(list) => {
                let done = restore_and_erase(&self.source, &config.log, list, Arc::new(clock))?;
                (done.0, Some(done.1))
            }
            None => (restore(&self.source, data, clock.now_ms())?, None),
        };
        let Restored {
            epoch,
            segments,
            bytes,
            messages,
            ..
        } = restored;
        println!(
            "restored {} to {}: {segments} segments, {bytes} bytes, {messages} messages, in the new epoch {:016x} with openim_base {}",
            self.source.display(),
            data.display(),
            epoch.number.0,
            epoch.base
        );
        if let Some(erased) = erased {
            println!("erased {erased} users again");
        }
        Ok(ExitCode::SUCCESS)
    }
}
