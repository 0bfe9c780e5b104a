//! `towncrier check` and `towncrier config`: what the settings are, and whether the gateway could start with them.

use std::{fs, io, path::Path, process::ExitCode};

use anyhow::Context;
use clap::Args;

use crate::{config::Config, log::is_in_use, tls::Tls};

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
/// Leaves everything as it was.
pub(super) fn run(mut config: Config) -> anyhow::Result<ExitCode> {
    Tls::load(&config.listener.tls_certificate, &config.listener.tls_key)?;
    Tls::load(&config.admin.tls_certificate, &config.admin.tls_key)?;
    let dir = config.log.dir.clone();
    let shown = dir.display();
    try_out(&dir).with_context(|| format!("the data directory {shown} cannot be used"))?;
    // With a gateway running the question is about its next start, so that is no failure.
    let is_in_use = is_in_use(&dir)?;
    // The first start makes a file of ours; one that is named has to be there.
    let is_named = !config.auth.secrets_file.as_os_str().is_empty();
    if is_named || config.secrets_path().exists() {
        config.read_secrets()?;
    }
    println!("the configuration is good");
    if is_in_use {
        println!("{shown} is in use: a gateway that runs with it has to be stopped first");
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes the directory as a start would, and a file in it; what was missing before is taken away again.
fn try_out(dir: &Path) -> io::Result<()> {
    let is_missing = |dir: &&Path| !dir.as_os_str().is_empty() && !dir.exists();
    let missing: Vec<_> = dir.ancestors().take_while(is_missing).collect();
    let tried = fs::create_dir_all(dir).and_then(|()| {
        let probe = dir.join(format!("check-{}", std::process::id()));
        fs::write(&probe, b"")?;
        fs::remove_file(probe)
    });
    for made in missing {
        // Not made after all, or taken into use in the meantime: then it stays.
        let _ = fs::remove_dir(made);
    }
    tried
}
