//! `towncrier token`: a token for a user on a platform, or a link that opens the inbox with it.
//!
//! The link is how somebody on the gateway's own machine looks into an inbox: it takes the secrets file, which its owner can
//! read. The token stands behind the `#`, which a browser sends to nobody.

use std::process::ExitCode;

use anyhow::ensure;
use clap::Args;

use super::admin::{Admin, TrustArguments, reachable, secure};
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
    /// Prints the address of the inbox page with the token in it. Whoever has it reads the inbox, as with the token.
    #[arg(long, conflicts_with = "admin")]
    link: bool,
    /// The admin API; default: the configured gateway's.
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    #[command(flatten)]
    trust: TrustArguments,
}

impl TokenCommand {
    pub(super) async fn run(&self, config: Config) -> anyhow::Result<ExitCode> {
        ensure!(
            !self.link || config.listener.inbox,
            "there is no page for the link to open: listener.inbox is false"
        );
        let scheme = secure("http", &config.listener.tls_certificate);
        let page = format!("{scheme}://{}/", reachable(config.listener.listen));
        let token = Admin::new(config, self.admin.as_deref(), &self.trust.read()?)?
            .token(&self.user, self.platform)
            .await?;
        if self.link {
            println!("{page}#token={token}");
        } else {
            println!("{token}");
        }
        Ok(ExitCode::SUCCESS)
    }
}
