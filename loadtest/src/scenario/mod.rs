//! What is done to the server.
//!
//! - `connect.rs`: many sessions come, stay, and are reached
//! - `send.rs`: messages flow at a rate, among sessions that may be slow or come and go
//! - `storm.rs`: the server is killed under all of them

pub(crate) mod connect;
pub(crate) mod send;
pub(crate) mod storm;

use std::{rc::Rc, time::Duration};

use anyhow::bail;
use tokio::task::spawn_local;

use crate::{
    crowd::{Crowd, Size},
    process::{self, Usage},
    report::Report,
    target::Target,
};

/// Both processes at one moment.
#[derive(Debug, Clone, Copy)]
struct Look {
    server: Option<Usage>,
    rig: Usage,
}

impl Look {
    fn at(target: &Target) -> anyhow::Result<Self> {
        Ok(Self {
            server: target.process_id().map(process::usage).transpose()?,
            rig: process::usage(std::process::id())?,
        })
    }
}

/// A row for each process: µs of processor time since `before`, shared out among `many`.
fn cpu_rows(
    report: &mut Report,
    what: &str,
    (before, after): (Look, Look),
    many: f64,
    unit: &'static str,
) {
    let share = |before: Usage, after: Usage| (after.cpu - before.cpu).as_secs_f64() * 1e6 / many;
    if let (Some(before), Some(after)) = (before.server, after.server) {
        report.row(format!("server CPU, {what}"), share(before, after), unit);
    }
    report.row(
        format!("rig CPU, {what}"),
        share(before.rig, after.rig),
        unit,
    );
}

/// Brings in a crowd, all of it connected.
async fn gather(target: &Target, size: Size, rate: f64) -> anyhow::Result<Rc<Crowd>> {
    let crowd = Crowd::new(target.place(), size).await?;
    let tokens = crowd.tokens().await?;
    crowd.gather(tokens, rate).await;
    everyone_connected(&crowd).await?;
    Ok(crowd)
}

async fn everyone_connected(crowd: &Crowd) -> anyhow::Result<()> {
    if !crowd
        .until(crowd.size.patience, |crowd| {
            crowd.connected.get() == crowd.sessions()
        })
        .await
    {
        let (connected, sessions) = (crowd.connected.get(), crowd.sessions());
        bail!(
            "{connected} of {sessions} sessions connected: {:?}",
            crowd.incidents.borrow()
        );
    }
    Ok(())
}

/// Ends the course's seconds, until the crowd is dismissed.
fn keep_time(crowd: &Rc<Crowd>) -> tokio::task::JoinHandle<()> {
    let crowd = Rc::downgrade(crowd);
    spawn_local(async move {
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        seconds.tick().await;
        loop {
            seconds.tick().await;
            let Some(crowd) = crowd.upgrade() else { return };
            crowd.meter.borrow_mut().tick();
        }
    })
}

/// Closes the books into the report.
async fn close(crowd: &Crowd, report: &mut Report) {
    report.tally = crowd.close().await;
    report.course = std::mem::take(&mut crowd.meter.borrow_mut().course);
    report.incidents = crowd.incidents.borrow().clone();
    crowd.dismiss();
}

/// `500` or `200..2000`.
fn content_bytes(text: &str) -> Result<(usize, usize), String> {
    let (least, most) = text.split_once("..").unwrap_or((text, text));
    let number = |text: &str| {
        text.parse()
            .map_err(|_| format!("{text}: expected a number of bytes"))
    };
    let (least, most) = (number(least)?, number(most)?);
    if least > most {
        return Err(format!("{least} is more than {most}"));
    }
    Ok((least, most))
}
