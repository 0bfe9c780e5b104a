//! A look at the servers' settings: what is wrong for a log, with the line that mends it.

use super::{
    super::engine::EngineError,
    PostgresEngine,
    link::{ServerLink, Servers, StoreSession},
    schema,
};

/// The oldest version of PostgreSQL that is supported, as the server counts.
const SERVER_VERSION_MIN: i32 = 150_000;
/// Above this age of the oldest transaction, vacuum is behind. The server refuses writes at two thousand millions.
const AGE_MAX: i64 = 1_000_000_000;
/// The connections of one gateway: two lanes, reads, barriers, writes, feeds, heartbeats, places.
const CONNECTIONS: i64 = 8;

const COPIES: &str =
    "SELECT current_setting('synchronous_standby_names'), current_setting('synchronous_commit')";

/// The setting for which a commit is on fewer copies than this, with the line that mends it; `None` if there is none.
async fn copies_fault(session: &StoreSession, copies: u8) -> Result<Option<Finding>, EngineError> {
    if copies < 2 {
        return Ok(None);
    }
    let rows = session.query(COPIES, &[]).await?;
    let setting = |at| rows.first().map_or("", |row| row.get::<_, &str>(at));
    let (standbys, commit) = (setting(0), setting(1));
    let finding = |text: String, remedy| Ok(Some(Finding { text, remedy }));
    if standbys.is_empty() {
        let text =
            format!("store.copies is {copies}, and synchronous_standby_names names no standby");
        let remedy =
            "ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (*)'; SELECT pg_reload_conf();";
        return finding(text, remedy);
    }
    if !["on", "remote_apply"].contains(&commit) {
        let text = format!("store.copies is {copies}, and synchronous_commit is {commit}");
        let remedy = "ALTER SYSTEM SET synchronous_commit = 'on'; SELECT pg_reload_conf();";
        return finding(text, remedy);
    }
    Ok(None)
}

impl PostgresEngine {
    /// The reason for which a commit is on fewer copies than this, with the line that mends it; `None` if there is none. Cancel safe.
    pub async fn copies_fault(&self, copies: u8) -> Result<Option<String>, EngineError> {
        let session = self.reads.session().await?;
        let fault = copies_fault(&session, copies).await?;
        Ok(fault.map(|fault| format!("{}: {}", fault.text, fault.remedy)))
    }
}

/// A setting that is wrong for a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The fault, and its effect.
    pub text: String,
    /// The line that mends it.
    pub remedy: &'static str,
}

/// The result of a look at a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreReport {
    /// The version of the server.
    pub version: String,
    /// The names of the standbys that a commit waits for; empty: none.
    pub standbys: String,
    /// Whatever is wrong.
    pub findings: Vec<Finding>,
}

/// Looks at the primary of these servers, which are to keep so many copies. Cancel safe.
pub async fn inspect(url: &str, copies: u8) -> Result<StoreReport, EngineError> {
    let link = ServerLink::new(Servers::new(url)?);
    let session = link.session().await?;
    let mut findings = Vec::new();
    let mut find = |is_wrong: bool, text: &str, remedy| {
        if is_wrong {
            let text = text.to_owned();
            findings.push(Finding { text, remedy });
        }
    };
    let setting = async |name: &str| setting(&session, name).await;
    let standbys = setting("synchronous_standby_names").await?;
    let commit = setting("synchronous_commit").await?;
    let is_synchronous = match standbys.is_empty() {
        true => commit != "off",
        false => ["on", "remote_apply"].contains(&&*commit),
    };
    find(
        !is_synchronous,
        &format!("synchronous_commit is {commit}: an accepted message is lost with the primary"),
        "ALTER SYSTEM SET synchronous_commit = 'on'; SELECT pg_reload_conf();",
    );
    find(
        setting("fsync").await? != "on",
        "fsync is off: a power cut loses accepted messages or the whole store",
        "ALTER SYSTEM SET fsync = 'on'; SELECT pg_reload_conf();",
    );
    find(
        setting("full_page_writes").await? != "on",
        "full_page_writes is off: a power cut may leave half a page",
        "ALTER SYSTEM SET full_page_writes = 'on'; SELECT pg_reload_conf();",
    );
    find(
        setting("data_checksums").await? != "on",
        "data_checksums is off: damage of indexes is not noticed",
        "stop the server, then: pg_checksums --enable -D DATA_DIRECTORY",
    );
    find(
        setting("autovacuum").await? != "on",
        "autovacuum is off: tables grow, and the server refuses writes in the end",
        "ALTER SYSTEM SET autovacuum = 'on'; SELECT pg_reload_conf();",
    );
    let number = async |text| number(&session, text).await;
    let version = number("SELECT current_setting('server_version_num')::bigint").await?;
    find(
        version < i64::from(SERVER_VERSION_MIN),
        "the server is older than PostgreSQL 15",
        "upgrade it with pg_upgrade",
    );
    let left = "SELECT current_setting('max_connections')::bigint - count(*) FROM pg_stat_activity";
    find(
        number(left).await? < CONNECTIONS,
        "there is no room for the connections of one more gateway",
        "ALTER SYSTEM SET max_connections = 200; then restart the server",
    );
    find(
        number("SELECT max(age(datfrozenxid))::bigint FROM pg_database").await? > AGE_MAX,
        "vacuum is behind: old transactions are not frozen",
        "VACUUM (FREEZE, VERBOSE); and look for transactions that stay open",
    );
    if let Some(fault) = copies_fault(&session, copies).await? {
        find(true, &fault.text, fault.remedy);
    }
    let tables = schema::check(&link).await;
    find(
        tables.is_err(),
        &tables.map_or_else(|error| error.to_string(), |()| String::new()),
        "towncrier store migrate",
    );
    Ok(StoreReport {
        version: setting("server_version").await?,
        standbys,
        findings,
    })
}

async fn setting(session: &StoreSession, name: &str) -> Result<String, EngineError> {
    let rows = session
        .query("SELECT current_setting($1::text)", &[&name])
        .await?;
    Ok(rows.first().map(|row| row.get(0)).unwrap_or_default())
}

async fn number(session: &StoreSession, text: &'static str) -> Result<i64, EngineError> {
    let rows = session.query(text, &[]).await?;
    Ok(rows.first().map(|row| row.get(0)).unwrap_or_default())
}
