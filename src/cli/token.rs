//! `towncrier token`: a token for a user on a platform.

use std::process::ExitCode;

use clap::Args;

use super::admin::{Admin, TrustArguments};
use crate::{config::Config, ids::Platform};

/// Prints a token for a user on a platform.
#[derive(Debug, Args)]
pub(super) struct TokenCommand {
    /// Whom it stands for.
    #[arg(long)]
    user: String,
    /// On which platform, by name or number: web, ios, android …
    #[arg(long, default_value = "web")]
    platform: Platform,
    /// The admin API; default: the configured gateway's.
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    #[command(flatten)]
    trust: TrustArguments,
}

impl TokenCommand {
    pub(super) async fn run(&self, config: Config) -> anyhow::Result<ExitCode> {
        let token = Admin::new(config, self.admin.as_deref(), &self.trust.read()?)?
            .token(&self.user, self.platform)
            .await?;
        println!("{token}");
        Ok(ExitCode::SUCCESS)
    }
}
