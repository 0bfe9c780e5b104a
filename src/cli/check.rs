//! `towncrier check` and `towncrier config`: what the settings are, and whether the gateway could start with them.

use std::{fs, io, path::Path, process::ExitCode};

use anyhow::Context;
use clap::Args;

use super::{scratch::Scratch, serve::SHARED_SECRETS};
use crate::{config::Config, log::embedded::is_in_use, tls::Tls};

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

/// Says whether the gateway could start. Leaves everything as it was.
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

/// What is worth knowing of a gateway that could start.
pub(super) struct Startable {
    /// A gateway runs on the data directory. The question is about its next start, so that is no failure.
    pub(super) is_in_use: bool,
    /// The group of the secrets file may use it.
    is_shared: bool,
}

/// The configuration was read and checked on the way here; what is left are the files it names, and the data directory.
pub(super) fn could_start(config: &mut Config) -> anyhow::Result<Startable> {
    Tls::load(&config.listener.tls_certificate, &config.listener.tls_key)?;
    Tls::load(&config.admin.tls_certificate, &config.admin.tls_key)?;
    let dir = &config.log.dir;
    try_out(dir).with_context(|| format!("the data directory {} cannot be used", dir.display()))?;
    let is_in_use = is_in_use(dir)?;
    // The first start makes a file of ours; one that is named has to be there.
    let is_named = !config.auth.secrets_file.as_os_str().is_empty();
    let is_there = is_named || config.secrets_path().exists();
    let is_shared = is_there && config.read_secrets()?;
    Ok(Startable {
        is_in_use,
        is_shared,
    })
}

/// Makes the directory as a start would, and a file in it.
fn try_out(dir: &Path) -> io::Result<()> {
    let scratch = Scratch::make(dir, "check")?;
    fs::write(scratch.path().join("probe"), b"")
}
