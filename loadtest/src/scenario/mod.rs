//! The loads on the server.
//!
//! - `connect.rs`: many sessions connect, stay, and are reached
//! - `send.rs`: messages flow at a rate
//! - `storm.rs`: the server is killed under all sessions
//! - `outage/`: another program takes the gateway down and up again
//! - `push.rs`: most users are away, and their devices get pushes
//! - `failover.rs`: servers of the store and gateways of a fleet are struck while messages flow
//! - `churn.rs`: connections end and reconnect while messages flow
//! - `slow.rs`: some sessions read slowly or not at all, and the effect on the others
//! - `replay.rs`: a session that was away for long gets its backlog
//! - `soak.rs`: all of it at once, for any time

pub(crate) mod churn;
pub(crate) mod connect;
pub(crate) mod failover;
pub(crate) mod outage;
pub(crate) mod push;
pub(crate) mod replay;
pub(crate) mod send;
pub(crate) mod slow;
pub(crate) mod soak;
pub(crate) mod storm;

use std::{rc::Rc, time::Duration};

use crate::{
    crew::{Closed, Crew},
    crowd::Size,
    process::Usage,
    report::Report,
    target::Target,
};

/// Sessions started a second in scenarios that do not measure this.
const ARRIVALS: f64 = 2000.0;

/// The surroundings of a scenario.
#[derive(Debug)]
pub(crate) struct ScenarioStage {
    pub(crate) target: Target,
    pub(crate) crew: Rc<Crew>,
    /// The longest wait for events that should come at once.
    pub(crate) patience: Duration,
    pub(crate) report: Report,
}

/// The resources of server and rig at one moment.
#[derive(Debug, Clone, Copy)]
struct Look {
    server: Option<Usage>,
    /// The servers of a fleet's store.
    store: Option<Usage>,
    rig: Usage,
}

impl ScenarioStage {
    fn size(&self, users: u32, sessions_each: u32, content_bytes: (usize, usize)) -> Size {
        Size {
            users,
            sessions_each,
            content_bytes,
            is_lean: false,
            patience: self.patience,
        }
    }

    fn look(&self) -> anyhow::Result<Look> {
        Ok(Look {
            server: self.target.usage()?,
            store: self.target.store_usage()?,
            rig: self.crew.usage()?,
        })
    }

    /// A row for the server and one for the rig: µs of processor time since `before`, divided by `many`.
    fn cpu_rows(
        &mut self,
        what: &str,
        (before, after): (Look, Look),
        many: f64,
        unit: &'static str,
    ) {
        let share = |before: Usage, after: Usage| {
            after.cpu.saturating_sub(before.cpu).as_secs_f64() * 1e6 / many
        };
        if let (Some(before), Some(after)) = (before.server, after.server) {
            let row = format!("server CPU, {what}");
            self.report.row(row, share(before, after), unit);
        }
        if let (Some(before), Some(after)) = (before.store, after.store) {
            let row = format!("store CPU, {what}");
            self.report.row(row, share(before, after), unit);
        }
        let row = format!("rig CPU, {what}");
        self.report.row(row, share(before.rig, after.rig), unit);
    }

    /// A first batch to all users, for costs that a server has only once.
    async fn warm_up(&self) -> anyhow::Result<()> {
        self.crew.reach_all(1).await?;
        self.crew.settle().await?;
        self.crew.reset().await
    }

    /// Closes the books and adds them to the report.
    async fn close(&mut self) -> anyhow::Result<()> {
        let Closed { tally, incidents } = self.crew.close().await?;
        self.report.tally = tally;
        self.report.incidents = incidents;
        self.report.course = self.crew.take_course();
        Ok(())
    }
}

/// Parses `500` or `200..2000`.
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

/// Parses `0.25`.
fn share(text: &str) -> Result<f64, String> {
    let share = text
        .parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("{text}: expected a share from 0 to 1"))
}
