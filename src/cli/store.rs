//! `towncrier store …`: the store of a fleet, `log.store`.

use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Subcommand};

use crate::{
    config::Config,
    log::cluster::postgres::{Migration, StoreRetention, inspect, migrate, new_epoch},
};

/// Prepares and checks the store that `log.store` names.
#[derive(Debug, Args)]
pub(super) struct StoreCommand {
    #[command(subcommand)]
    action: StoreAction,
}

#[derive(Debug, Subcommand)]
enum StoreAction {
    /// Makes the tables in an empty database, or brings older ones forward.
    Migrate,
    /// Says what is wrong with the server's settings, with the line that mends each. Exit code 1 if something is.
    Check,
    /// Gives the store a new epoch, so that every client starts over. Use it for a store restored from a backup.
    NewEpoch {
        /// Where clients of OpenIM go on counting: this much above every number that they have seen.
        #[arg(long, value_name = "N", default_value_t = 1_000_000)]
        openim_base_step: u32,
    },
}

impl StoreCommand {
    pub(super) async fn run(self, config: Config) -> anyhow::Result<ExitCode> {
        let Some(url) = config.log.store.url() else {
            bail!("log.store is \"embedded\": set it to the postgres:// URL of a database");
        };
        match self.action {
            StoreAction::Migrate => {
                let (messages, keys) = (config.log.retention, config.log.idempotency_retention);
                let retention = StoreRetention::of(messages, keys);
                println!(
                    "{}",
                    match migrate(url, retention).await? {
                        Migration::Created => "the tables were made",
                        Migration::Nothing => "the tables are those of this version",
                    }
                );
            }
            StoreAction::Check => {
                let report = inspect(url, config.store.copies).await?;
                println!("PostgreSQL {}", report.version);
                match &*report.standbys {
                    "" => println!("one server keeps each message: a commit waits for no standby"),
                    names => println!("a commit waits for a standby: {names}"),
                }
                for finding in &report.findings {
                    println!("WRONG {}\n      {}", finding.text, finding.remedy);
                }
                if !report.findings.is_empty() {
                    return Ok(ExitCode::FAILURE);
                }
                println!("nothing is wrong");
            }
            StoreAction::NewEpoch { openim_base_step } => {
                new_epoch(url, openim_base_step).await?;
                println!("every client starts over");
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
