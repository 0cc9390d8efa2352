//! A database that a command reads.

use super::address::ConnectionPurpose;
use super::session::DatabaseSession;
use super::{Address, schema};
use crate::ledger::read::TableSize;
use crate::ledger::{LedgerError, columns, sql};

/// See the module.
#[derive(Debug)]
pub struct PostgresReading {
    session: DatabaseSession,
    address: Address,
}

impl PostgresReading {
    /// Connects to a record that is there.
    pub fn open(address: &Address) -> Result<Self, LedgerError> {
        let session = address.connect(ConnectionPurpose::Read)?;
        let unusable = |why: String| Err(address.unusable(&why));
        let known = schema::known();
        match schema::found(&session).map_err(|failure| address.unusable(&failure))? {
            None => return unusable("there is no record in it: has doorman run with it?".to_owned()),
            Some(found) if found < known => {
                return unusable(format!(
                    "it has schema {found}, older than this doorman's {known}: start the daemon once, which brings it up to date"
                ));
            }
            Some(found) if found > known => {
                let oldest = schema::oldest(&session, "min_reader").map_err(|failure| address.unusable(&failure))?;
                if oldest > known {
                    return Err(LedgerError::Newer { path: address.shown().to_owned(), found, known });
                }
            }
            Some(_) => {}
        }
        Ok(Self { session, address: address.clone() })
    }

    /// What it is asked through.
    pub fn sql(&self) -> sql::Connection<'_> {
        sql::Connection::Postgres(&self.session)
    }

    /// Where it is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whether the connection has to be made again.
    pub fn is_broken(&self) -> bool {
        self.session.is_broken()
    }

    /// Changes with each batch that anybody commits: they all count their lease's row up.
    pub fn version(&self) -> Result<i64, LedgerError> {
        let sql = "SELECT CAST(coalesce(sum(epoch) * 1000000000000 + sum(seq), 0) AS bigint) FROM lease";
        self.number(sql)
    }

    /// The schema's number.
    pub fn schema(&self) -> Result<i64, LedgerError> {
        self.number("SELECT schema FROM meta")
    }

    fn number(&self, sql: &str) -> Result<i64, LedgerError> {
        let number = self.sql().query_row(sql, [], |row| row.get(0));
        number.map_err(|error| columns::read_error(self.address.shown(), &error))
    }

    /// That the server looks after its own pages.
    pub fn unchecked(&self) -> LedgerError {
        self.address.unusable(&"PostgreSQL checks a database itself: use `pg_amcheck`")
    }

    /// What each table holds and takes, the largest first.
    pub fn tables(&self) -> Result<Vec<TableSize>, LedgerError> {
        let read = || -> sql::Result<Vec<TableSize>> {
            let _moment = self.sql().moment()?;
            let mut sizes = self.sql().prepare_cached(
                "SELECT c.relname, pg_total_relation_size(c.oid) FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
                 WHERE s.nspname = 'doorman' AND c.relkind = 'r' ORDER BY 2 DESC, 1",
            )?;
            let sizes =
                sizes.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?;
            sizes
                .map(|size| {
                    let (name, bytes) = size?;
                    // The name is the schema's own, and quoted as one.
                    let count = format!("SELECT count(*) FROM \"{}\"", name.replace('"', "\"\""));
                    let rows = self.sql().query_row(&count, [], |row| row.get::<_, i64>(0))?.unsigned_abs();
                    Ok(TableSize { name, rows, bytes })
                })
                .collect()
        };
        read().map_err(|error| columns::read_error(self.address.shown(), &error))
    }
}
