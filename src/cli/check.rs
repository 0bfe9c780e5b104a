//! `towncrier check` and `towncrier config`: what the settings are, and whether the gateway could start with them.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use crate::{config::Config, tls::Tls};

/// Every key with default, unit and meaning; a test holds it equal to the code.
const ANNOTATED: &str = include_str!("../../config/towncrier.toml");

/// Prints every setting with its default and meaning.
#[derive(Debug, Args)]
pub(super) struct ConfigCommand {
    /// Instead: the settings in force, secrets masked.
    #[arg(long)]
    effective: bool,
}

impl ConfigCommand {
    pub(super) fn run(&self, config: &Config) -> anyhow::Result<ExitCode> {
        if self.effective {
            print!(
                "{}",
                toml::to_string(config).context("the settings cannot be written")?
            );
        } else {
            print!("{ANNOTATED}");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The configuration was read and checked on the way here; what is left are the files it names, and the data directory.
/// Changes nothing in it.
pub(super) fn run(mut config: Config) -> anyhow::Result<ExitCode> {
    Tls::load(&config.listener.tls_certificate, &config.listener.tls_key)?;
    Tls::load(&config.admin.tls_certificate, &config.admin.tls_key)?;
    let dir = &config.log.dir;
    if dir.exists() {
        tempfile_in(dir)
            .with_context(|| format!("the data directory {} cannot be written", dir.display()))?;
        if config.secrets_path().exists() {
            config.read_secrets()?;
        }
    }
    println!("the configuration is good");
    Ok(ExitCode::SUCCESS)
}

fn tempfile_in(dir: &std::path::Path) -> std::io::Result<()> {
    let probe = dir.join(format!("check-{}", std::process::id()));
    std::fs::write(&probe, b"")?;
    std::fs::remove_file(probe)
}
