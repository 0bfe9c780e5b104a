//! `towncrier check` and `towncrier config`: print the settings, and say if the gateway could start with them.

use std::{fs, io, path::Path, process::ExitCode};

use anyhow::Context;
use clap::Args;
use towncrier_client::Trust;

use super::{scratch::Scratch, serve::SHARED_SECRETS};
use crate::{config::Config, door::tls::Tls, jwks::KeySource, log::embedded::is_in_use};

/// Every key with its default, unit and meaning. A test holds it equal to the code.
const ANNOTATED: &str = include_str!("../../config/towncrier.toml");

/// Prints every setting with its default and meaning.
#[derive(Debug, Args)]
pub(super) struct ConfigCommand {
    /// Print the settings in force instead, secrets masked.
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

/// Says if the gateway could start. Leaves no trace on the disk.
pub(super) fn run(mut config: Config) -> anyhow::Result<ExitCode> {
    let Startable {
        is_in_use,
        is_shared,
    } = could_start(&mut config)?;
    let shown = config.log.dir.display();
    println!("the configuration is good");
    if is_shared {
        println!("{}: {SHARED_SECRETS}", config.secrets_path().display());
    }
    if is_in_use {
        println!("{shown} is in use: a gateway that runs with it has to be stopped first");
    }
    Ok(ExitCode::SUCCESS)
}

/// Facts about a gateway that could start.
pub(super) struct Startable {
    /// A gateway runs on the data directory. This is no failure, because the check is about the next start.
    pub(super) is_in_use: bool,
    /// The group of the secrets file may use the file.
    is_shared: bool,
}

/// Checks the files that the configuration names, and the data directory. The configuration itself was checked when it was
/// loaded.
pub(super) fn could_start(config: &mut Config) -> anyhow::Result<Startable> {
    Tls::load(&config.listener.tls_certificate, &config.listener.tls_key)?;
    Tls::load(&config.admin.tls_certificate, &config.admin.tls_key)?;
    KeySource::open(&config.auth, &Trust::default())?;
    let dir = &config.log.dir;
    try_out(dir).with_context(|| format!("the data directory {} cannot be used", dir.display()))?;
    let is_in_use = is_in_use(dir)?;
    // The first start creates our own secrets file. A file that the configuration names has to exist.
    let is_named = !config.auth.secrets_file.as_os_str().is_empty();
    let is_there = is_named || !config.has_secrets_in_store() && config.secrets_path().exists();
    let is_shared = is_there && config.read_secrets()?;
    Ok(Startable {
        is_in_use,
        is_shared,
    })
}

/// Creates the directory as a start would, and a file in it.
fn try_out(dir: &Path) -> io::Result<()> {
    let scratch = Scratch::make(dir, "check")?;
    fs::write(scratch.path().join("probe"), b"")
}
