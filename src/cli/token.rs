//! `towncrier token`: prints a token for a user on a platform, or a link that opens the inbox page with it.
//!
//! The link lets somebody on the gateway's own machine look into an inbox. It needs the secrets file, which only its owner
//! can read. The token stands behind the `#`; a browser sends this part to no server.

use std::process::ExitCode;

use anyhow::ensure;
use clap::Args;

use super::admin::{AdminApi, TrustArguments, reachable, secure};
use crate::{config::Config, ids::Platform};

/// Prints a token for a user on a platform.
#[derive(Debug, Args)]
pub(super) struct TokenCommand {
    /// The user that the token names.
    #[arg(long)]
    user: String,
    /// The platform, by name or number: web, ios, android …
    #[arg(long, default_value = "web")]
    platform: Platform,
    /// Print the address of the inbox page with the token in it. Everybody who has this link can read the inbox.
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
        let token = AdminApi::new(config, self.admin.as_deref(), &self.trust.read()?)?
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
