//! A standby takes over, with all that was confirmed and without.

use std::time::Duration;

use tokio::time::sleep;

use super::{
    super::link::{ServerLink, Servers},
    bodies, gateway, seq_of,
    server::{Database, Server},
};
use crate::log::{AppendError, Log, cluster::ClusterLog, tests::conformance::message};

/// A primary, its standby, and a database on both.
struct Pair {
    primary: &'static Server,
    standby: &'static Server,
    database: Database,
}

impl Pair {
    /// `None` where PostgreSQL is not installed.
    async fn start() -> Option<Self> {
        let primary = Server::of_its_own().await?;
        let making = tokio::task::spawn_blocking(move || primary.database());
        let database = making.await.unwrap();
        let standby = primary.standby().await;
        let pair = Self {
            primary,
            standby,
            database,
        };
        Some(pair)
    }

    fn url(&self) -> String {
        self.database.url_with(self.standby)
    }

    /// Waits until the standby has all that the primary wrote.
    async fn follow(&self) {
        let behind = "SELECT count(*) - 2 * count(*) FILTER (WHERE replay_lsn >= pg_current_wal_lsn()) FROM pg_stat_replication";
        while self.database.number(behind).await != -1 {
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// The standby gets nothing any more.
    async fn cut(&self) {
        let text = "ALTER SYSTEM SET primary_conninfo = ''";
        self.standby.administer(text);
        self.standby.administer("SELECT pg_reload_conf()");
        while self
            .database
            .number("SELECT count(*) FROM pg_stat_replication")
            .await
            > 0
        {
            sleep(Duration::from_millis(10)).await;
        }
    }

    fn promote(&self) {
        self.primary.kill();
        self.standby.administer("SELECT pg_promote()");
    }
}

/// Sends until the store takes it.
async fn send(log: &ClusterLog, body: &str) -> u64 {
    loop {
        match seq_of(log, message(1, &["u1"], None, body)).await {
            Ok(seq) => return seq,
            Err(AppendError::Refusing(_)) => sleep(Duration::from_millis(10)).await,
            Err(error) => panic!("{error}"),
        }
    }
}

async fn epoch(log: &ClusterLog) -> crate::ids::Epoch {
    let user = crate::log::tests::conformance::user("u1");
    loop {
        if let Ok(inbox) = log.inbox(&user).wait().await {
            return inbox.epoch;
        }
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_promotion_that_lost_what_was_confirmed_begins_one_new_epoch_for_all_gateways() {
    let Some(pair) = Pair::start().await else {
        return;
    };
    let (log, _tasks) = gateway(&pair.url()).await;
    let (other, _other_tasks) = gateway(&pair.url()).await;
    assert_eq!(send(&log, "a").await, 1);
    let before = epoch(&other).await;
    pair.follow().await;
    pair.cut().await;
    assert_eq!(send(&log, "b").await, 2);
    assert_eq!(bodies(&other, "u1").await, ["a", "b"]);
    pair.promote();
    let after = epoch(&other).await;
    assert_ne!(after, before);
    assert_eq!(send(&log, "c").await, 2);
    assert_eq!((epoch(&log).await, epoch(&other).await), (after, after));
    assert_eq!(bodies(&other, "u1").await, ["a", "c"]);
}

#[tokio::test]
async fn a_promotion_that_kept_what_was_confirmed_keeps_the_epoch_and_raises_the_incarnation() {
    let Some(pair) = Pair::start().await else {
        return;
    };
    let (log, _tasks) = gateway(&pair.url()).await;
    assert_eq!(send(&log, "a").await, 1);
    let before = epoch(&log).await;
    let incarnation = async || {
        let link = ServerLink::new(Servers::new(&pair.url()).unwrap());
        let rows = link.query("SELECT incarnation FROM store", &[]).await;
        rows.unwrap()[0].get::<_, i64>(0)
    };
    let first = incarnation().await;
    pair.follow().await;
    pair.promote();
    assert_eq!(send(&log, "b").await, 2);
    assert_eq!(epoch(&log).await, before);
    assert_eq!(bodies(&log, "u1").await, ["a", "b"]);
    assert_eq!(incarnation().await, first + 1);
}
