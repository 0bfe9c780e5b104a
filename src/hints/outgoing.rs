//! From commits of this gateway to hints for others. One look-up at a time serves all commits that wait.
//!
//! Commits that find no room, or whose receivers cannot be looked up, become no hints. Then every link jumps over a number, so that the
//! other gateways look into the store.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, watch};

use crate::{
    fleet::{Fleet, FleetFrame, Teller as _},
    ids::{GatewayId, UserId},
    log::{Commit, Consumer, LogError},
    mesh::MeshLinks,
    message::Numbers,
};

/// The most commits that wait for a look-up of their receivers' gateways.
const HINTED_COMMITS_MAX: usize = 16_384;
/// The most bytes of these commits. One may come above.
const HINTED_BYTES_MAX: usize = 64 << 20;
/// The most users of one look-up: milliseconds of the store. One commit may come above.
const HINTED_USERS_MAX: usize = 1000;

/// The commits that become hints.
pub(super) struct CommitQueue {
    waiting: Mutex<WaitingCommits>,
    filled: Notify,
    /// The other gateways. Without any, nothing waits.
    gateways: watch::Receiver<Vec<(GatewayId, String)>>,
}

#[derive(Default)]
struct WaitingCommits {
    commits: VecDeque<Commit>,
    bytes: usize,
    has_dropped: bool,
}

/// The bytes that a commit takes while it waits, about.
fn bytes_of(commit: &Commit) -> usize {
    commit.body.len() + commit.entries.len() * size_of::<(UserId, Numbers)>()
}

impl CommitQueue {
    pub(super) fn new(gateways: watch::Receiver<Vec<(GatewayId, String)>>) -> Self {
        Self {
            waiting: Mutex::default(),
            filled: Notify::new(),
            gateways,
        }
    }

    fn waiting(&self) -> MutexGuard<'_, WaitingCommits> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The commits of the next look-up, and whether others before them were dropped; `None` while nothing waits.
    fn take_now(&self) -> Option<(Vec<Commit>, bool)> {
        let mut waiting = self.waiting();
        let has_dropped = std::mem::take(&mut waiting.has_dropped);
        let (mut batch, mut users) = (Vec::new(), 0);
        while users < HINTED_USERS_MAX
            && let Some(commit) = waiting.commits.pop_front()
        {
            waiting.bytes -= bytes_of(&commit);
            users += commit.entries.len();
            batch.push(commit);
        }
        (has_dropped || !batch.is_empty()).then_some((batch, has_dropped))
    }

    /// The same, once something waits. Cancel safe.
    async fn next(&self) -> (Vec<Commit>, bool) {
        loop {
            if let Some(taken) = self.take_now() {
                return taken;
            }
            self.filled.notified().await;
        }
    }
}

impl Consumer for CommitQueue {
    fn take(&self, commits: &[Commit]) {
        if self.gateways.borrow().is_empty() {
            // A gateway that comes later looks into the store when its link begins.
            return;
        }
        let mut waiting = self.waiting();
        for commit in commits {
            if waiting.commits.len() >= HINTED_COMMITS_MAX || waiting.bytes >= HINTED_BYTES_MAX {
                waiting.has_dropped = true;
                continue;
            }
            waiting.bytes += bytes_of(commit);
            waiting.commits.push_back(commit.clone());
        }
        drop(waiting);
        self.filled.notify_one();
    }
}

/// Makes hints of commits. Never ends by itself.
pub(super) async fn run(queue: Arc<CommitQueue>, fleet: Arc<Fleet>, links: MeshLinks) {
    loop {
        let (commits, has_dropped) = queue.next().await;
        let told = tell(&fleet, &links, &commits).await;
        if let Err(error) = &told {
            tracing::debug!(%error, "commits become no hints");
        }
        if has_dropped || told.is_err() {
            links.skip();
        }
    }
}

async fn tell(fleet: &Fleet, links: &MeshLinks, commits: &[Commit]) -> Result<(), LogError> {
    let entries = commits.iter().flat_map(|commit| &*commit.entries);
    let users: HashSet<_> = entries.map(|(user, _)| user.clone()).collect();
    let users: Vec<_> = users.into_iter().collect();
    let holders = fleet.holders(users.clone()).await?;
    let own = fleet.gateway();
    let elsewhere = users.into_iter().zip(holders).map(|(user, holders)| {
        let gateways = holders.into_iter().map(|holder| holder.gateway);
        let mut gateways: Vec<_> = gateways.filter(|gateway| *gateway != own).collect();
        gateways.sort_unstable();
        gateways.dedup();
        (user, gateways)
    });
    for (gateway, hint) in hints(commits, &elsewhere.collect()) {
        links.tell(gateway, hint);
    }
    Ok(())
}

/// The hints of these commits, in their order: one for each commit and gateway that holds a session of a receiver. Pure.
fn hints(
    commits: &[Commit],
    holders: &HashMap<UserId, Vec<GatewayId>>,
) -> Vec<(GatewayId, FleetFrame)> {
    let mut hints = Vec::new();
    for commit in commits {
        let mut entries_of: BTreeMap<GatewayId, Vec<_>> = BTreeMap::new();
        for entry in &*commit.entries {
            for gateway in holders.get(&entry.0).into_iter().flatten() {
                entries_of.entry(*gateway).or_default().push(entry.clone());
            }
        }
        hints.extend(entries_of.into_iter().map(|(gateway, entries)| {
            let hint = FleetFrame::Hint {
                lane: commit.group.lane,
                group: commit.group.number,
                epoch: commit.epoch,
                body: commit.body.clone(),
                entries,
            };
            (gateway, hint)
        }));
    }
    hints
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        ids::{Epoch, Seq},
        log::CommitGroup,
    };

    const A: GatewayId = GatewayId(1);
    const B: GatewayId = GatewayId(2);

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn commit(body: &'static [u8], users: &[&str]) -> Commit {
        let numbers = Numbers {
            seq: Seq(1),
            ..Numbers::default()
        };
        Commit {
            epoch: Epoch(7),
            body: Bytes::from_static(body),
            entries: users.iter().map(|name| (user(name), numbers)).collect(),
            group: CommitGroup { lane: 3, number: 4 },
        }
    }

    #[test]
    fn each_gateway_gets_the_body_once_with_those_receivers_that_it_holds() {
        let commits = [
            commit(b"one", &["a", "b", "c", "nobody"]),
            commit(b"two", &["b"]),
        ];
        let holders = [
            ("a", vec![A]),
            ("b", vec![A, B]),
            ("c", vec![B]),
            ("nobody", vec![]),
        ];
        let holders = holders.map(|(name, gateways)| (user(name), gateways));
        let told = hints(&commits, &holders.into());
        let told: Vec<_> = told
            .into_iter()
            .map(|(gateway, hint)| {
                let FleetFrame::Hint {
                    lane: 3,
                    group: 4,
                    epoch: Epoch(7),
                    body,
                    entries,
                } = hint
                else {
                    panic!("{hint:?}");
                };
                let names = entries.iter().map(|(user, _)| user.to_string());
                (gateway, body, names.collect::<String>())
            })
            .collect();
        let expected = [
            (A, "one", "ab"),
            (B, "one", "bc"),
            (A, "two", "b"),
            (B, "two", "b"),
        ];
        let expected = expected.map(|(gateway, body, names)| {
            (
                gateway,
                Bytes::from_static(body.as_bytes()),
                names.to_owned(),
            )
        });
        assert_eq!(told, expected);
    }

    #[tokio::test]
    async fn commits_wait_within_their_bounds_and_a_drop_is_told() {
        let (gateways, others) = watch::channel(Vec::new());
        let queue = CommitQueue::new(others);
        queue.take(&[commit(b"alone", &["a"])]);
        gateways.send_replace(vec![(A, String::new())]);
        for _ in 0..=HINTED_COMMITS_MAX {
            queue.take(&[commit(b"", &["a"])]);
        }
        let (batch, has_dropped) = queue.next().await;
        assert_eq!(batch.len(), HINTED_USERS_MAX);
        assert!(has_dropped, "one found no room");
        let large = Bytes::from(vec![0; HINTED_BYTES_MAX]);
        let body = large.clone();
        queue.take(&[Commit {
            body,
            ..commit(b"", &["a"])
        }]);
        queue.take(&[commit(b"", &["a"])]);
        let mut taken = 0;
        while taken < HINTED_COMMITS_MAX - HINTED_USERS_MAX + 1 {
            let (batch, has_dropped) = queue.next().await;
            assert_eq!(has_dropped, taken == 0, "there was no room for its bytes");
            taken += batch.len();
        }
        assert_eq!(queue.waiting().bytes, 0);
    }
}
