//! `towncrier health`: asks the running gateway how it is, for probes where there is no HTTP client, as in a container.

use std::{process::ExitCode, time::Duration};

use anyhow::Context;
use clap::Args;
use tokio::time::timeout;
use towncrier_client::AdminClient;

use super::admin::{TrustArguments, admin_url};
use crate::config::Config;

/// The longest wait for the answer. A gateway that moves answers from memory.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(4);

/// Asks the running gateway how it is: exit code 0 if it is well.
#[derive(Debug, Args)]
pub(super) struct HealthCommand {
    /// Ask if it takes sends (`/readyz`) and not only if its threads run (`/healthz`).
    #[arg(long)]
    ready: bool,
    /// The admin API; default: the configured gateway's.
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    #[command(flatten)]
    trust: TrustArguments,
}

impl HealthCommand {
    pub(super) async fn run(&self, config: &Config) -> anyhow::Result<ExitCode> {
        let url = admin_url(config, self.admin.as_deref());
        let client = AdminClient::trusting(&url, &self.trust.read()?)?;
        let path = if self.ready { "/readyz" } else { "/healthz" };
        let (status, text) = timeout(HEALTH_TIMEOUT, client.get(path))
            .await
            .with_context(|| format!("{url}{path} does not answer within {HEALTH_TIMEOUT:?}"))??;
        println!("{}", text.trim_end());
        let is_well = status == 200;
        Ok(ExitCode::from(u8::from(!is_well)))
    }
}
