//! What a database must be for a record to be safe in it, looked at before anything is written there.

use super::Address;
use super::address::ConnectionPurpose;
use super::schema;
use super::session::{DatabaseFailure, DatabaseSession};
use crate::ledger::LedgerError;
use crate::ops::log::events;

/// The oldest server: `client_connection_check_interval` came with it.
const OLDEST: i64 = 140_000;

/// A server whose database can be used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Server {
    /// The server's version, in its own words.
    pub version: String,
    /// The schema's number; `None`: nothing is there yet.
    pub schema: Option<i64>,
    /// Why an answer whose intent was confirmed may be missing after a fail-over, if so.
    pub loses: Option<String>,
}

/// Refuses a database in which a record would not be safe; warns of one that may lose what it confirmed, and returns why.
pub fn judge(session: &DatabaseSession, address: &Address) -> Result<Option<String>, LedgerError> {
    let server = server(session, address)?;
    if let Some(why) = &server.loses {
        warn(address, why);
    }
    Ok(server.loses)
}

/// The same of a connection that was made again, which may lead to another server. `said` is what was said of the one before.
pub fn look_again(session: &DatabaseSession, address: &Address, said: &mut Option<String>) -> Result<(), LedgerError> {
    let found = loses(session).map_err(|failure| address.unusable(&failure))?;
    if let Some(why) = found.as_ref().filter(|_| found != *said) {
        warn(address, why);
    }
    *said = found;
    Ok(())
}

fn warn(address: &Address, why: &str) {
    let database = address.shown();
    tracing::warn!(event = events::LEDGER_ASYNC, database, why, "the database may lose what it confirmed");
}

/// The same for `doorman doctor`, on a connection of its own.
pub fn inspect(address: &Address) -> Result<Server, LedgerError> {
    server(&address.connect(ConnectionPurpose::Write)?, address)
}

fn server(session: &DatabaseSession, address: &Address) -> Result<Server, LedgerError> {
    let said = |sql: &str| -> Result<String, LedgerError> {
        Ok(session.shown(sql).map_err(|failure| address.unusable(&failure))?.unwrap_or_default())
    };
    let encoding = said("SHOW server_encoding")?;
    if encoding != "UTF8" {
        let why =
            format!("its encoding is {encoding}: make one with `CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0`");
        return Err(address.unusable(&why));
    }
    if said("SELECT pg_is_in_recovery()")? != "f" {
        return Err(address.unusable(&"it is a standby, which nobody can write: name the primary"));
    }
    let version = said("SHOW server_version")?;
    if said("SHOW server_version_num")?.parse::<i64>().unwrap_or(0) < OLDEST {
        return Err(address.unusable(&format!("it is PostgreSQL {version}: doorman needs 14 or newer")));
    }
    if is_pooled(session, address)? {
        let why = "a pooler gives each transaction another connection, where doorman needs one of its own: connect to the server \
                   itself, or set the pooler's mode to `session`";
        return Err(address.unusable(&why));
    }
    let schema = schema::found(session).map_err(|failure| address.unusable(&failure))?;
    if let Some(found) = schema
        && found > schema::known()
        && schema::oldest(session, "min_writer").map_err(|failure| address.unusable(&failure))? > schema::known()
    {
        return Err(LedgerError::Newer { path: address.shown().to_owned(), found, known: schema::known() });
    }
    let loses = loses(session).map_err(|failure| address.unusable(&failure))?;
    Ok(Server { version, schema, loses })
}

/// Whether one connection of ours is served by several of the server's. While another holds the one that served ours, a pooler of
/// transactions gives ours a different one.
fn is_pooled(session: &DatabaseSession, address: &Address) -> Result<bool, LedgerError> {
    let backend = |session: &DatabaseSession| {
        session.shown("SELECT pg_backend_pid()").map_err(|failure| address.unusable(&failure))
    };
    let before = backend(session)?;
    let other = address.connect(ConnectionPurpose::Write)?;
    other.begin("BEGIN").map_err(|failure| address.unusable(&failure))?;
    let theirs = backend(&other)?;
    let after = backend(session)?;
    other.rollback();
    Ok(before != after || before == theirs)
}

/// Why what was confirmed may be lost.
fn loses(session: &DatabaseSession) -> Result<Option<String>, DatabaseFailure> {
    let commit = session.shown("SHOW synchronous_commit")?.unwrap_or_default();
    if matches!(commit.as_str(), "off" | "local") {
        return Ok(Some(format!("`synchronous_commit` is `{commit}`")));
    }
    let standbys = session.shown("SELECT count(*) FROM pg_stat_replication")?.unwrap_or_default();
    let synchronous = session.shown("SHOW synchronous_standby_names")?.unwrap_or_default();
    let lagging = standbys != "0" && synchronous.is_empty();
    Ok(lagging.then(|| {
        "it has a standby, and `synchronous_standby_names` is empty: after a fail-over the newest entries are missing".to_owned()
    }))
}
