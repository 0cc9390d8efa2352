//! `doorman policy push`: adds a version of rules to the record, and finds out when nobody can decide by the one before.

use std::fmt::Write as _;

use super::address::ConnectionPurpose;
use super::session::DatabaseSession;
use super::{Address, usable};
use crate::ledger::pushed::{self, PushedVersion};
use crate::ledger::sql::{self, Connection};
use crate::ledger::{LedgerError, columns};
use crate::policy::rules::SourceText;

/// Tries of a transaction that met another one.
const TRIES: u32 = 8;

/// See the module.
#[derive(Debug)]
pub struct Pushing {
    session: DatabaseSession,
    address: Address,
}

/// How a push ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushOutcome {
    /// It is the head.
    Head(PushedVersion),
    /// Somebody else pushed meanwhile: this is the head now, and nothing was added.
    Meanwhile(Option<PushedVersion>),
}

/// Transactions that began before a head was there, and are still open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OlderTransactions {
    /// Each in words, for people.
    pub transactions: Vec<String>,
    /// Connections of doormen whose transactions this role may not see.
    pub unseen: u64,
}

impl OlderTransactions {
    /// Whether nothing is waited for any more.
    pub fn is_over(&self) -> bool {
        self.transactions.is_empty() && self.unseen == 0
    }
}

impl Pushing {
    /// Connects, and makes the schema if there is none.
    pub fn open(address: &Address) -> Result<Self, LedgerError> {
        Ok(Self { session: usable(address, ConnectionPurpose::Push)?, address: address.clone() })
    }

    /// Adds a version, if `before` is still the number of the head (0: nothing was pushed yet).
    pub fn add(&self, before: u64, new: &PushedVersion, texts: &[SourceText]) -> Result<PushOutcome, LedgerError> {
        let connection = Connection::Postgres(&self.session);
        let once = || -> sql::Result<PushOutcome> {
            self.session.begin("BEGIN")?;
            let head = pushed::head(connection, &new.name)?;
            if head.as_ref().map_or(0, |head| head.version) != before {
                self.session.rollback();
                return Ok(PushOutcome::Meanwhile(head));
            }
            pushed::add(connection, new, texts)?;
            self.session.commit()?;
            Ok(PushOutcome::Head(new.clone()))
        };
        let mut tries = 0;
        loop {
            let error = match once() {
                Ok(added) => return Ok(added),
                Err(error) => error,
            };
            self.session.rollback();
            tries += 1;
            // Somebody else stored the same text, or let go of it, or pushed: the next try sees what they did.
            let met = matches!(&error, sql::Error::Postgres(failure) if failure.collided()
                || matches!(failure.code(), Some("23503" | "23505" | "55P03")));
            if !met || tries == TRIES {
                return Err(columns::read_error(self.address.shown(), &error));
            }
        }
    }

    /// This moment, by the server's clock. After a push: a transaction that begins later sees the new head.
    pub fn moment(&self) -> Result<i64, LedgerError> {
        let sql = "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)";
        let moment = Connection::Postgres(&self.session).query_row(sql, [], |row| row.get(0));
        moment.map_err(|error| columns::read_error(self.address.shown(), &error))
    }

    /// The transactions of doormen that write, began before this moment, and are still open.
    pub fn older(&self, moment: i64) -> Result<OlderTransactions, LedgerError> {
        // Without `track_activities`, and of another role's connections, the server does not say what they do.
        let sql = "SELECT CAST(pid AS bigint), CAST(client_addr AS text), state,
                CAST(extract(epoch FROM clock_timestamp() - xact_start) * 1000 AS bigint),
                CAST(extract(epoch FROM xact_start) * 1000000 AS bigint)
             FROM pg_stat_activity
             WHERE application_name = 'doorman' AND datname = current_database() AND pid <> pg_backend_pid()
             ORDER BY xact_start, pid";
        let read = || -> sql::Result<OlderTransactions> {
            let mut older = OlderTransactions::default();
            let mut rows = Connection::Postgres(&self.session).prepare_cached(sql)?;
            let rows = rows.query_map([], |row| {
                let (pid, from): (i64, Option<String>) = (row.get(0)?, row.get(1)?);
                Ok((pid, from, row.get::<_, Option<String>>(2)?, row.get::<_, Option<i64>>(3)?, row.get(4)?))
            })?;
            for row in rows {
                let (pid, from, state, for_ms, began): (_, _, _, _, Option<i64>) = row?;
                match (state.as_deref(), began) {
                    (None | Some("disabled"), _) => older.unseen += 1,
                    (Some(_), Some(began)) if began <= moment => {
                        let mut said = format!("backend {pid}");
                        if let Some(from) = from {
                            let _ = write!(said, " (from {from})");
                        }
                        let _ = write!(said, ", open for {} ms", for_ms.unwrap_or(0));
                        older.transactions.push(said);
                    }
                    (Some(_), _) => {}
                }
            }
            Ok(older)
        };
        read().map_err(|error| columns::read_error(self.address.shown(), &error))
    }

    /// As this role from now on.
    #[cfg(test)]
    pub fn as_role(&self, role: &str) {
        let set = self.session.batch(&format!("SET ROLE {role}"));
        assert_eq!(set, Ok(()), "the role {role}");
    }

    /// Every version of a name, the newest first.
    pub fn versions(&self, name: &str) -> Result<Vec<PushedVersion>, LedgerError> {
        let read = pushed::versions(Connection::Postgres(&self.session), name);
        read.map_err(|error| columns::read_error(self.address.shown(), &error))
    }

    /// The texts of a version.
    pub fn texts(&self, version: &PushedVersion) -> Result<Vec<SourceText>, LedgerError> {
        let read = crate::ledger::texts::of_policy(Connection::Postgres(&self.session), &version.hash);
        read.map_err(|error| columns::read_error(self.address.shown(), &error))
    }
}
