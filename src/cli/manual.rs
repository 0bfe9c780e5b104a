//! `towncrier completions` and `towncrier man`: files for a package, made from the command line's own description.

use std::{io, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;

use super::Arguments;

/// The program's name in the files.
const PROGRAM: &str = "towncrier";

/// Prints a script that completes the words of a command line.
#[derive(Debug, clap::Args)]
pub(super) struct CompletionsCommand {
    /// The shell that runs the script.
    shell: Shell,
}

/// Writes the manual pages: `towncrier.1`, and one for each command.
#[derive(Debug, clap::Args)]
pub(super) struct ManCommand {
    /// The directory for the pages. It has to exist.
    dir: PathBuf,
}

impl CompletionsCommand {
    pub(super) fn run(&self) -> ExitCode {
        let mut command = Arguments::command();
        clap_complete::generate(self.shell, &mut command, PROGRAM, &mut io::stdout());
        ExitCode::SUCCESS
    }
}

impl ManCommand {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let command = Arguments::command().name(PROGRAM);
        clap_mangen::generate_to(command, &self.dir)
            .with_context(|| format!("the pages cannot be written into {}", self.dir.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}
