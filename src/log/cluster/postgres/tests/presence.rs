//! The fleet on a real server.

use std::sync::Arc;

use super::{super::PostgresEngine, Database, database};
use crate::{
    ids::{Fence, Platform, Seq, SessionKey},
    log::{
        SessionRow,
        cluster::{
            engine::{Durability, Engine, Horizon, StoreChange},
            fleet_store::FleetStore,
        },
        tests::{
            conformance::user,
            fleet_store::{FleetSubject, conform},
        },
    },
};

struct OnServer {
    engine: Arc<PostgresEngine>,
    database: Database,
}

impl FleetSubject for OnServer {
    fn store(&self) -> Arc<dyn FleetStore> {
        self.engine.clone()
    }

    async fn fall_silent(&self) {
        let text = "UPDATE gateway SET seen = seen - interval '20 seconds'";
        self.database.command(text).await;
    }

    fn engine(&self) -> Arc<dyn Engine> {
        self.engine.clone()
    }

    async fn end_lease(&self) {
        let text = "UPDATE turn SET until = until - interval '20 seconds'";
        self.database.command(text).await;
    }

    async fn empty_places(&self) {
        self.database.command("TRUNCATE presence").await;
    }
}

async fn subject() -> Option<OnServer> {
    let database = database().await?;
    let engine = PostgresEngine::connect(&database.url()).await.unwrap();
    Some(OnServer { engine, database })
}

#[tokio::test]
async fn a_server_keeps_the_promises_of_a_fleet_store() {
    if let Some(subject) = subject().await {
        conform(&subject).await;
    }
}

#[tokio::test]
async fn a_replaced_sessions_cursor_never_moves_that_of_its_successor() {
    let Some(OnServer { engine, .. }) = subject().await else {
        return;
    };
    let key = SessionKey {
        user: user("u1"),
        platform: Platform::Web,
        device: "".into(),
    };
    let entered = async || {
        let entered = engine.enter(key.clone(), Horizon::default()).await;
        entered.unwrap().value
    };
    let epoch = entered().await.point.inbox.epoch;
    let row = |cursor| SessionRow {
        cursor: Seq(cursor),
        acked_at_ms: cursor,
    };
    for (fence, cursor, expected) in [(5, 3, 3), (7, 1, 1), (5, 9, 1), (7, 2, 2)] {
        let change = StoreChange::Cursor(key.clone(), epoch, Fence(fence), row(cursor));
        let written = engine.write(vec![change], Durability::WrittenBehind).await;
        assert_eq!(written, Ok(()));
        let entered = entered().await;
        let stored = entered.point.stored;
        assert_eq!(stored, Some(row(expected)), "{fence} {cursor}");
        assert_eq!(
            entered.fence,
            Fence(if fence == 5 && cursor == 3 { 5 } else { 7 })
        );
    }
}
