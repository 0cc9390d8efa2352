//! Blanks strangers' text that is older than the ledger keeps it, a few hundred rows a transaction.

use super::columns::Micros;
use super::sql::{self, Connection, params};
use jiff::Timestamp;

/// Rows looked at in one transaction: a millisecond or two.
const STEP: i64 = 500;

/// Goes through the requests in the order in which they came.
#[derive(Debug)]
pub struct Blanking {
    cutoff: Timestamp,
    /// The number of the last row looked at.
    after: i64,
    count: u64,
}

impl Blanking {
    /// Of what was first seen before `cutoff`.
    pub fn before(cutoff: Timestamp) -> Self {
        Self { cutoff, after: 0, count: 0 }
    }

    /// How many requests were blanked so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// One transaction. Returns whether that was the last.
    pub fn step(&mut self, connection: Connection<'_>) -> sql::Result<bool> {
        let end: Option<i64> = connection
            .prepare_cached("SELECT max(n) FROM (SELECT n FROM request WHERE n > ?1 ORDER BY n LIMIT ?2) step")?
            .query_row(params![self.after, STEP], |row| row.get(0))?;
        let transaction = connection.begin()?;
        let Some(end) = end else {
            connection
                .prepare_cached(
                    "UPDATE contact SET handle = NULL, name = NULL
                     WHERE removed_at < ?1 AND (handle IS NOT NULL OR name IS NOT NULL)",
                )?
                .execute([Micros(self.cutoff)])?;
            transaction.commit()?;
            return Ok(true);
        };
        let blanked = connection
            .prepare_cached(
                "UPDATE request SET handle = NULL, name = NULL, message = NULL, blanked = 1
                 WHERE n > ?1 AND n <= ?2 AND first_seen < ?3 AND blanked = 0",
            )?
            .execute(params![self.after, end, Micros(self.cutoff)])?;
        connection
            .prepare_cached(
                "UPDATE request_change SET handle = NULL, name = NULL, message = NULL WHERE request IN
                     (SELECT n FROM request WHERE n > ?1 AND n <= ?2 AND first_seen < ?3)",
            )?
            .execute(params![self.after, end, Micros(self.cutoff)])?;
        connection
            .prepare_cached(
                "UPDATE told SET reason = NULL WHERE reason IS NOT NULL AND request IN
                     (SELECT n FROM request WHERE n > ?1 AND n <= ?2 AND first_seen < ?3)",
            )?
            .execute(params![self.after, end, Micros(self.cutoff)])?;
        transaction.commit()?;
        self.after = end;
        self.count += u64::try_from(blanked).unwrap_or(0);
        Ok(false)
    }
}
