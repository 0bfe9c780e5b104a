//! One connection to the primary, made again when it is lost. The server's warnings make an outcome unknown.

use std::{
    collections::HashMap,
    future::poll_fn,
    sync::{
        Arc, Mutex as StdMutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    sync::{Mutex, MutexGuard, Notify},
    time::timeout,
};
use tokio_postgres::{
    AsyncMessage, Client, Config, Row, Statement,
    config::TargetSessionAttrs,
    error::{Severity, SqlState},
    types::ToSql,
};

use super::{
    super::{engine::EngineError, lock},
    tls::{self, StoreTls},
};

/// A server that takes no connection in this time is away.
const STORE_CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The settings of each connection, whatever those of its user are. The statements are short: to plan or to compile one takes
/// longer than many runs of it. A timeout of the server would cut off the wait for a standby.
const SESSION_OPTIONS: &str =
    "-c jit=off -c plan_cache_mode=force_generic_plan -c statement_timeout=0 -c lock_timeout=0";

/// The parameters of a statement.
pub(super) type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// The way to the servers.
pub(super) struct Servers {
    config: Config,
    tls: StoreTls,
    /// The number of connections so far. A read over a new connection may come from another primary.
    pub(super) connections: AtomicU64,
    /// The primary to which requests go: the one that was met last.
    met: StdMutex<Option<PrimaryId>>,
    /// The number of primaries that were met. A connection belongs to one of them.
    meetings: AtomicU64,
    /// Notified when a connection leads to a primary that was not met.
    pub(super) another: Notify,
}

/// A primary: a server on a timeline. A promotion begins another timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PrimaryId {
    /// The identifier that its data have since they were made.
    pub(super) server: i64,
    pub(super) timeline: i64,
}

/// A role without rights may ask this. A server that is no primary refuses it.
const PRIMARY: &str = "SELECT system_identifier, ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint \
    FROM pg_control_system()";

impl Servers {
    /// Reads a `postgres://` URL, with several hosts if there are more servers.
    pub(super) fn new(url: &str) -> Result<Arc<Self>, EngineError> {
        let (mut config, tls) = tls::read(url)?;
        let options = config.get_options().unwrap_or_default();
        let options = format!("{options} {SESSION_OPTIONS}");
        config
            .options(options)
            .application_name("towncrier")
            .connect_timeout(STORE_CONNECT_TIMEOUT)
            .target_session_attrs(TargetSessionAttrs::ReadWrite);
        Ok(Arc::new(Self {
            config,
            tls,
            connections: AtomicU64::new(0),
            met: StdMutex::new(None),
            meetings: AtomicU64::new(0),
            another: Notify::new(),
        }))
    }

    /// Allows requests to this primary, if it was met or is the first one.
    fn admit(&self, primary: PrimaryId) -> Result<(), EngineError> {
        let met = *lock(&self.met).get_or_insert(primary);
        if met == primary {
            return Ok(());
        }
        if met.server == primary.server && primary.timeline < met.timeline {
            // An old primary that came back has no say. A restored one is believed by a gateway that knows nothing else.
            let text = format!(
                "a primary of timeline {} answers, and timeline {} was met: stop the old primary, or restart the gateways if it \
                 was restored on purpose",
                primary.timeline, met.timeline
            );
            return Err(EngineError::Away(text.into()));
        }
        self.another.notify_one();
        let text = "another primary answers, and what it has is being checked";
        Err(EngineError::Away(text.into()))
    }

    /// Requests go to this primary from now on. Connections to the one before are not used again.
    pub(super) fn accept(&self, primary: PrimaryId) {
        let mut met = lock(&self.met);
        if met.replace(primary) != Some(primary) {
            self.meetings.fetch_add(1, SeqCst);
        }
    }
}

/// An open connection.
pub(super) struct StoreSession {
    pub(super) client: Client,
    pub(super) primary: PrimaryId,
    servers: Arc<Servers>,
    /// The number of meetings when it was opened.
    meetings: u64,
    /// The server gave a warning: a commit may be on fewer copies than it should be.
    is_warned: Arc<AtomicBool>,
    statements: Mutex<HashMap<&'static str, Statement>>,
}

impl StoreSession {
    /// Connects to the primary that was met. Cancel safe.
    pub(super) async fn open(servers: &Arc<Servers>) -> Result<Arc<Self>, EngineError> {
        let session = Self::open_any(servers).await?;
        servers.admit(session.primary)?;
        Ok(session)
    }

    /// Connects to the present primary, whether it was met or not. Cancel safe.
    pub(super) async fn open_any(servers: &Arc<Servers>) -> Result<Arc<Self>, EngineError> {
        let meetings = servers.meetings.load(SeqCst);
        let away = |text: String| EngineError::Away(text.into());
        let connecting = timeout(
            STORE_CONNECT_TIMEOUT,
            servers.config.connect(servers.tls.clone()),
        );
        let connected = connecting.await;
        let connected = connected.map_err(|_| away("no server answers in time".into()))?;
        let (client, mut connection) = connected.map_err(|error| away(text_of(&error)))?;
        servers.connections.fetch_add(1, SeqCst);
        let is_warned = Arc::new(AtomicBool::new(false));
        let warned = Arc::clone(&is_warned);
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await
            {
                if let AsyncMessage::Notice(notice) = message
                    && notice.parsed_severity() == Some(Severity::Warning)
                {
                    tracing::warn!(warning = notice.message(), "the store warns");
                    warned.store(true, SeqCst);
                }
            }
        });
        let asking = timeout(STORE_CONNECT_TIMEOUT, client.query_one(PRIMARY, &[])).await;
        let asked = asking.map_err(|_| away("the server does not answer in time".into()))?;
        let row = asked.map_err(|error| away(text_of(&error)))?;
        let primary = PrimaryId {
            server: row.get(0),
            timeline: row.get(1),
        };
        Ok(Arc::new(Self {
            client,
            primary,
            servers: Arc::clone(servers),
            meetings,
            is_warned,
            statements: Mutex::default(),
        }))
    }

    /// The statement, prepared once on this connection.
    async fn prepared(&self, text: &'static str) -> Result<Statement, EngineError> {
        let mut statements = self.statements.lock().await;
        if let Some(statement) = statements.get(text) {
            return Ok(statement.clone());
        }
        // Nothing was done yet, whatever the reason.
        let prepared = self.client.prepare(text).await;
        let statement = prepared.map_err(|error| match error_of(&error) {
            EngineError::Unknown(text) => EngineError::Away(text),
            error => error,
        })?;
        statements.insert(text, statement.clone());
        Ok(statement)
    }

    /// Makes one statement, which is a transaction of its own or a part of one. Not cancel safe: a drop leaves its outcome unknown.
    pub(super) async fn query(
        &self,
        text: &'static str,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>, EngineError> {
        let statement = self.prepared(text).await?;
        let rows = self.client.query(&statement, parameters).await;
        let rows = rows.map_err(|error| error_of(&error))?;
        self.check()?;
        Ok(rows)
    }

    /// Makes commands without parameters.
    pub(super) async fn command(&self, text: &str) -> Result<(), EngineError> {
        let made = self.client.batch_execute(text).await;
        made.map_err(|error| error_of(&error))?;
        self.check()
    }

    fn check(&self) -> Result<(), EngineError> {
        if self.is_warned.load(SeqCst) {
            return Err(EngineError::Unknown("the server gave a warning".into()));
        }
        if self.is_of_old() {
            let text = "another primary was met meanwhile";
            return Err(EngineError::Unknown(text.into()));
        }
        Ok(())
    }

    pub(super) fn is_over(&self) -> bool {
        self.client.is_closed() || self.is_warned.load(SeqCst) || self.is_of_old()
    }

    /// True if another primary was met since.
    fn is_of_old(&self) -> bool {
        self.servers.meetings.load(SeqCst) != self.meetings
    }
}

/// A place for one connection.
pub(super) struct ServerLink {
    servers: Arc<Servers>,
    session: Mutex<Option<Arc<StoreSession>>>,
    is_written_behind: bool,
}

impl ServerLink {
    pub(super) fn new(servers: Arc<Servers>) -> Self {
        Self {
            servers,
            session: Mutex::new(None),
            is_written_behind: false,
        }
    }

    /// A link whose transactions are answered before a standby or a disk has them.
    pub(super) fn written_behind(servers: Arc<Servers>) -> Self {
        Self {
            is_written_behind: true,
            ..Self::new(servers)
        }
    }

    async fn open(&self) -> Result<Arc<StoreSession>, EngineError> {
        let session = StoreSession::open(&self.servers).await?;
        if self.is_written_behind {
            session.command("SET synchronous_commit = off").await?;
        }
        Ok(session)
    }

    /// The connection, or a new one. Cancel safe.
    pub(super) async fn session(&self) -> Result<Arc<StoreSession>, EngineError> {
        let mut place = self.session.lock().await;
        if let Some(session) = place.as_ref().filter(|session| !session.is_over()) {
            return Ok(Arc::clone(session));
        }
        *place = None;
        let session = self.open().await?;
        *place = Some(Arc::clone(&session));
        Ok(session)
    }

    /// Makes one statement over the connection. Its statements are answered one after the other. Not cancel safe: a drop leaves its
    /// outcome unknown.
    pub(super) async fn query(
        &self,
        text: &'static str,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>, EngineError> {
        let session = self.session().await?;
        session.query(text, parameters).await
    }

    /// Takes the connection, or a new one, for one user alone. Cancel safe.
    pub(super) async fn take(&self) -> Result<Taken<'_>, EngineError> {
        let mut place = self.session.lock().await;
        let open = place.take().filter(|session| !session.is_over());
        let session = match open {
            Some(session) => session,
            None => self.open().await?,
        };
        Ok(Taken { place, session })
    }
}

/// A connection in the hands of one user. Dropped, it is closed: whatever it was in the middle of, nobody goes on behind it.
pub(super) struct Taken<'a> {
    place: MutexGuard<'a, Option<Arc<StoreSession>>>,
    pub(super) session: Arc<StoreSession>,
}

impl Taken<'_> {
    /// Gives the connection back, unless the outcome of its last work is unknown.
    pub(super) fn give_back<T>(mut self, outcome: &Result<T, EngineError>) {
        if !matches!(outcome, Err(EngineError::Unknown(_))) {
            *self.place = Some(self.session);
        }
    }

    /// Begins a transaction. Not cancel safe, as all work on it: a drop leaves the outcome unknown.
    pub(super) async fn begin(&self, text: &str) -> Result<(), EngineError> {
        self.session.command(text).await
    }

    /// Ends a transaction by the outcome of its work.
    pub(super) async fn end<T>(self, made: Result<T, EngineError>) -> Result<T, EngineError> {
        let made = match made {
            Ok(made) => self.session.command("COMMIT").await.map(|()| made),
            Err(error) => match self.session.command("ROLLBACK").await {
                Ok(()) => Err(error),
                Err(lost) => Err(lost),
            },
        };
        self.give_back(&made);
        made
    }
}

/// The meaning of a driver's error for the outcome of a transaction.
pub(super) fn error_of(error: &tokio_postgres::Error) -> EngineError {
    let text = text_of(error).into();
    let Some(of_server) = error.as_db_error() else {
        return EngineError::Unknown(text);
    };
    let code = of_server.code();
    if [SqlState::DATA_CORRUPTED, SqlState::INDEX_CORRUPTED].contains(code) {
        return EngineError::Damaged(text);
    }
    match of_server.parsed_severity() {
        // A transaction that ends with an error is nowhere.
        Some(Severity::Error) if *code == SqlState::READ_ONLY_SQL_TRANSACTION => {
            EngineError::Away(text)
        }
        Some(Severity::Error) => EngineError::Refused(text),
        _ => EngineError::Unknown(text),
    }
}

/// The texts of an error and its sources.
fn text_of(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
