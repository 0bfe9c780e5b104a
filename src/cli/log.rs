//! `towncrier log …`: an operator's view into a stopped data directory, and backups.

use std::{
    io::{self, BufWriter, Write},
    path::Path,
    process::ExitCode,
};

use clap::{Args, Subcommand};

use super::{
    backup::{BackupArguments, RestoreArguments},
    block_on,
};
use crate::{
    clock::Clock,
    config::Config,
    log::embedded::{
        inspect::{LogReport, inspect},
        renew_epoch,
    },
};

/// Looks into the log of a stopped gateway, backs up the log of a running one, restores a backup.
#[derive(Debug, Args)]
pub(super) struct LogCommand {
    #[command(subcommand)]
    action: LogAction,
}

#[derive(Debug, Subcommand)]
enum LogAction {
    /// Prints how much the log holds.
    Stat,
    /// Reads everything and names each damaged position by segment and offset. Exit code 1 if it finds one.
    Verify,
    /// Prints one line for each record, without bodies. Exit code 1 if something is damaged.
    Dump,
    /// Gives the log a new epoch, so that every client starts over. Use it for a directory restored from a backup.
    NewEpoch {
        /// Where clients of OpenIM go on counting: above every number that they have seen. Needed where the data directory was
        /// lost; otherwise the log knows.
        #[arg(long, value_name = "N")]
        openim_base: Option<u32>,
    },
    /// Copies the log of the running gateway into a directory of its machine, whole and checked. Into a directory with the backup
    /// before it copies only what is new. Secrets and keys are not in it.
    Backup(BackupArguments),
    /// Makes the data directory of a gateway from a backup, and gives the log a new epoch, so that every client starts over. Refuses
    /// a directory that is not empty.
    Restore(RestoreArguments),
}

impl LogCommand {
    pub(super) fn run(&self, config: Config) -> anyhow::Result<ExitCode> {
        let data = &config.log.dir;
        let mut out = BufWriter::new(io::stdout().lock());
        let report = match &self.action {
            LogAction::Backup(backup) => return block_on(backup.run(config)),
            LogAction::Restore(restore) => return restore.run(&config),
            LogAction::NewEpoch { openim_base } => {
                renew(data, *openim_base, &mut out)?;
                return Ok(ExitCode::SUCCESS);
            }
            LogAction::Dump => {
                let mut failed = Ok(());
                let mut print = |line: &str| {
                    if failed.is_ok() {
                        failed = writeln!(out, "{line}");
                    }
                };
                let report = inspect(data, Some(&mut print))?;
                // The reader of the dump may close it early.
                match failed {
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                        return Ok(ExitCode::SUCCESS);
                    }
                    failed => failed?,
                }
                report
            }
            LogAction::Stat | LogAction::Verify => inspect(data, None)?,
        };
        if matches!(self.action, LogAction::Stat) {
            print_stat(&report, &mut out)?;
        }
        for damage in &report.damages {
            writeln!(out, "DAMAGED {damage}")?;
        }
        if let Some((segment, offset)) = &report.unfinished {
            writeln!(
                out,
                "unfinished group at the end of {segment}, offset {offset}: the next start cuts it off"
            )?;
        }
        if matches!(self.action, LogAction::Verify) && report.damages.is_empty() {
            let LogReport {
                segments,
                records,
                messages,
                ..
            } = report;
            writeln!(
                out,
                "whole: {segments} segments, {records} records, {messages} messages"
            )?;
        }
        out.flush()?;
        Ok(if report.damages.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

fn renew(data: &Path, base: Option<u32>, out: &mut impl Write) -> anyhow::Result<()> {
    let epoch = renew_epoch(data, base, Clock::system().now_ms())?;
    writeln!(out, "epoch {:016x}", epoch.number.0)?;
    writeln!(out, "openim_base {}", epoch.base)?;
    Ok(out.flush()?)
}

fn print_stat(report: &LogReport, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "epoch       {:016x}", report.epoch)?;
    writeln!(out, "openim_base {}", report.base)?;
    writeln!(out, "segments    {}", report.segments)?;
    writeln!(out, "bytes       {}", report.bytes)?;
    writeln!(out, "records     {}", report.records)?;
    writeln!(out, "messages    {}", report.messages)?;
    writeln!(out, "entries     {}", report.entries)?;
    writeln!(out, "oldest_ms   {}", report.oldest_ms)?;
    writeln!(out, "newest_ms   {}", report.newest_ms)
}
